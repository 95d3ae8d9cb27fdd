#!/usr/bin/env bash
# Evaluates a checkpoint on the test set, on any device. The Python is that of run_npu.sh where it has Ascend's adapter,
# and the device then the NPU; else it is chosen as in run_gpu.sh.
# usage: [PYTHON=python] bash eval.sh [--checkpoint PATH] [options]      default: the newest run
set -eu
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/scripts/python_env.sh"

load_ascend_environment
device=()
if python=$(named_python "${PYTHON-python3}") && has_module "$python" tensorflow &&
    { has_module "$python" npu_bridge || has_module "$python" npu_device; }; then
    device=(--device npu)
else
    choose_python
fi
exec "$python" "$KIT_ROOT/tf_seresnet/main.py" evaluate ${device[@]+"${device[@]}"} "$@"
