#!/usr/bin/env bash
# Trains and evaluates on an Ascend NPU, with the Python that has TensorFlow and npu_bridge (or npu_device).
# Installs nothing. usage: [PYTHON=python] bash run_npu.sh [MODE] [options]
set -eu
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/scripts/python_env.sh"

load_ascend_environment
python=$(named_python "${PYTHON-python3}") ||
    fail "PYTHON=${PYTHON-python3} is no program that can be started; set PYTHON to the Python that has TensorFlow and npu_bridge"
exec "$python" "$KIT_ROOT/tf_seresnet/main.py" --device npu "$@"
