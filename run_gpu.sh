#!/usr/bin/env bash
# Trains and evaluates on the NVIDIA GPU if there is one, else NPU, else CPU. On a fresh machine it makes .venv first.
# usage: [PYTHON=python] bash run_gpu.sh [MODE] [options]      --help lists them
set -eu
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/scripts/python_env.sh"

choose_python
exec "$python" "$KIT_ROOT/tf_seresnet/main.py" "$@"
