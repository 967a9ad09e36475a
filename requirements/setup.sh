#!/usr/bin/env bash
# Make .venv as requirements/$1.lock says, with this project installed in place. Does nothing when that is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
lock=requirements/${1:?usage: setup.sh runtime|dev}.lock

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.11}" python3 python3.12; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: needs Python 3.11 or 3.12; found $(python3 --version 2>/dev/null || echo no python3). Name one with PYTHON=..." >&2
    return 1
}

# dev.lock holds everything that runtime.lock holds, so either stamp will do for the runtime.
stamp() { echo ".venv/.$1-$(cat "requirements/$1.lock" pyproject.toml | sha256sum | cut -c1-16)"; }
if [ -e "$(stamp "$1")" ] || [ -e "$(stamp dev)" ]; then
    exit 0
fi

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "setup: $python has no venv module; on Debian: apt install python3-venv" >&2
    exit 1
fi
echo "setup: installing $(grep -c '==' "$lock") packages into .venv (several GB, minutes the first time)"
.venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install --no-deps --no-compile -q)
"${pip[@]}" --require-hashes -r "$lock"
"${pip[@]}" --no-build-isolation -e .
rm -f ".venv/.$1-"*
touch "$(stamp "$1")"
