#!/usr/bin/env bash
# Evaluates a checkpoint on the test set, on any device; the Python is chosen as in run_gpu.sh.
# usage: [PYTHON=python] bash eval.sh [--checkpoint PATH] [options]      default: the newest run
set -eu
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/scripts/python_env.sh"

choose_python
exec "$python" "$KIT_ROOT/tf_seresnet/main.py" evaluate "$@"
