#!/usr/bin/env bash
# submission.sh FOLDER: lay out FOLDER/models/fmcib as a pull request to MHub's models repository wants it. The library
# and its lock go along in src/, so that its Dockerfile needs nothing else.
set -euo pipefail
model=$(realpath -m "${1:?usage: submission.sh FOLDER}")/models/fmcib
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rm -rf "$model"
mkdir -p "$model"/{config,src/requirements}
cp -r mhub/. "$model"
cp config/*.yml "$model/config"
cp -r pyproject.toml README.md LICENSE fmcib_module "$model/src"
cp requirements/runtime.lock "$model/src/requirements"
rm "$model/submission.sh"
find "$model" -name __pycache__ -prune -exec rm -r {} +
