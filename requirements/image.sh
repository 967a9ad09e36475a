#!/usr/bin/env bash
# The Dockerfile's steps: image.sh packages BATCH | module | torch DEVICE | weights DEVICE NAME [URL]
#
# What torch alone needs is installed apart: it is 5 GB, changes seldom, and an image for a CPU does without it, since
# OpenVINO runs the network there.
set -euo pipefail
env=/opt/fmcib
requirements=$(dirname "${BASH_SOURCE[0]}")
lock=$requirements/runtime.lock
unused='^$'
only_torch='^(torch|monai|triton|sympy|mpmath|networkx|(nvidia|cuda)-[a-z0-9-]+)=='

# install PYTHON with|without [OPTION...]: the lock's packages that torch alone needs, or the others, by their hashes.
install() {
    local python=$1 part=$2 chosen
    shift 2
    chosen=$(mktemp)
    awk -v only_torch="$only_torch" -v unused="$unused" -v part="$part" \
        '/^[a-z]/ { chosen = ($0 ~ only_torch) == (part == "with") && $0 !~ unused } chosen' "$lock" >"$chosen"
    "$python" -m pip install -q --no-input --no-cache-dir --no-compile --no-deps "$@" --require-hashes -r "$chosen"
    rm "$chosen"
}

# Leave out what nothing here loads: tests, headers, OpenVINO's other devices and model formats, Arrow's services, numpy's
# Fortran wrapper, what of Ray trains and serves, and all of Amazon's services but storage.
trim() {
    local site service table
    site=$(echo "$env/lib/"python3*/site-packages)
    find "$site" -depth -type d \( -name tests -o -path '*/pydicom/data/test_files' \) -exec rm -rf {} +
    rm -rf "$site"/{pyarrow,openvino}/include "$site"/numpy/{f2py,distutils} \
        "$site/pyarrow/"{libarrow_flight,libarrow_s3}.so* "$site/pyarrow/_"{flight,s3fs}.*.so \
        "$site/openvino/libs/"libopenvino_intel_{gpu,npu}_plugin.so "$site/openvino/libs/"cache.json \
        "$site/openvino/libs/"libopenvino_{gguf,jax,onnx,paddle,pytorch,tensorflow,tensorflow_lite}_frontend.so* \
        "$site"/ray/{jars,rllib,llm,dashboard/client} "$site/pillow.libs/"libavif-*
    for service in "$site/botocore/data/"*/; do
        case $(basename "$service") in s3 | sts | sso | sso-oidc | signin) ;; *) rm -rf "$service" ;; esac
    done
    find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.p[xy]d' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' \
        -o -name '*.h' -o -name '*.a' \) -delete
    # what a linker or a debugger would want; libraries in *.libs were moved by patchelf and must stay as they are
    find "$site" -name '*.so*' -type f -not -path '*.libs/*' -not -path '*/openvino/*' -exec strip --strip-unneeded {} +
    for table in "$site/highdicom/_standard/"*.json; do # 7 MB of white space
        python3 -c 'import json, sys
path = sys.argv[1]
table = json.load(open(path))
json.dump(table, open(path, "w"), separators=(",", ":"))' "$table"
    done
    link_copies "$site/pyarrow" "$site/openvino/libs"
}

# One file under several names (wheels hold no links): keep it once.
link_copies() {
    local previous_sum= previous_file= sum file
    find "$@" -type f -name '*.so*' -exec sha256sum {} + | sort | while read -r sum file; do
        if [ "$sum" = "$previous_sum" ]; then
            ln -f "$previous_file" "$file"
        else
            previous_sum=$sum previous_file=$file
        fi
    done
}

# Nobody may write byte code there at run time.
compile() {
    "$env/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$env/lib" || true # templates are no code
}

case $1 in
    packages)
        if [ "$2" = 1 ]; then
            lock=$requirements/batch.lock
        else
            unused='^(pandas|python-dateutil|pytz|tzdata)==' # mhubio's own exporter of reports and Ray Data ask for it
        fi
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
