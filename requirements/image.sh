#!/usr/bin/env bash
# The Dockerfile's steps: image.sh packages | module | torch DEVICE | weights DEVICE NAME [URL]
#
# What torch alone needs is installed apart: it is 5 GB, changes seldom, and an image for a CPU does without it, since
# OpenVINO runs the network there.
set -euo pipefail
env=/opt/fmcib
lock=$(dirname "${BASH_SOURCE[0]}")/runtime.lock
only_torch='^(torch|triton|sympy|mpmath|networkx|(nvidia|cuda)-[a-z0-9-]+)=='

# install PYTHON with|without [OPTION...]: the lock's packages that torch alone needs, or the others, by their hashes.
install() {
    local python=$1 part=$2 chosen
    shift 2
    chosen=$(mktemp)
    awk -v only_torch="$only_torch" -v part="$part" \
        '/^[a-z]/ { chosen = ($0 ~ only_torch) == (part == "with") } chosen' "$lock" >"$chosen"
    "$python" -m pip install -q --no-input --no-cache-dir --no-compile --no-deps "$@" --require-hashes -r "$chosen"
    rm "$chosen"
}

# Leave out what nothing here loads: tests, headers, OpenVINO's other devices and model formats, Arrow's services.
trim() {
    local site
    site=$(echo "$env/lib/"python3*/site-packages)
    rm -rf "$site"/{pandas,pyarrow}/tests "$site"/{pyarrow,openvino}/include \
        "$site/pyarrow/"{libarrow_flight,libarrow_s3}.so* "$site/pyarrow/_"{flight,s3fs}.*.so \
        "$site/openvino/libs/"libopenvino_intel_{gpu,npu}_plugin.so "$site/openvino/libs/"cache.json \
        "$site/openvino/libs/"libopenvino_{gguf,jax,onnx,paddle,pytorch,tensorflow,tensorflow_lite}_frontend.so*
}

# Nobody may write byte code there at run time.
compile() {
    "$env/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$env/lib" || true # templates are no code
}

case $1 in
    packages)
        python3 -m venv "$env"
        install "$env/bin/python" without
        trim
        ;;
    module)
        "$env/bin/python" -m pip install -q --no-cache-dir --no-compile --no-deps --no-build-isolation .
        "$env/bin/python" -m pip uninstall -q -y pip
        compile
        ;;
    torch)
        if [ "$2" = gpu ]; then
            python3 -m venv "$env"
            install "$env/bin/python" with
            "$env/bin/python" -m pip uninstall -q -y pip
            compile
        fi
        ;;
    weights)
        [ "$3" != none ] || exit 0
        if [ "$2/$3" = cpu/fmcib ]; then # torch reads the published file; safetensors are left behind
            python3 -m venv /tmp/pip
            install /tmp/pip/bin/python with --target /tmp/torch
            export PYTHONPATH=/tmp/torch
        fi
        "$env/bin/fmcib" weights fetch "$3" ${4:+--url "$4"}
        sed -i "s/^    weights: fmcib /    weights: $3 /" models/fmcib/config/*.yml
        rm -rf /tmp/pip /tmp/torch
        ;;
esac
