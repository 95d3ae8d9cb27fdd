# shellcheck shell=bash
# The rest of every documented launcher, whose own path is in `self`: finds the Python, loads Ascend's environment and
# starts documented_launcher.py, which parses the options. Sourced, never run.
set -eu
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/python_env.sh"

folder=$(CDPATH='' cd -- "$(dirname -- "${self:?}")" && pwd -P)
network=() # HALF/test/NETWORK/LAUNCHER.sh names it, HALF/test/LAUNCHER.sh does not
if [ "${folder##*/}" != test ]; then
    network=("--network=${folder##*/}")
    folder=${folder%/*}
fi
half=${folder%/test}
half=${half##*/}
launcher=${self##*/}
module=tensorflow
[ "$half" != torch_imagenet ] || module=torch
[ "${etp_running_flag:-}" = true ] || load_ascend_environment

# The Python: the one that PYTHON names, else one on the PATH that has the framework, else the checkout's own.
for name in python3 python; do
    [ -z "${PYTHON+named}" ] || break
    if python=$(named_python "$name") && has_module "$python" "$module"; then
        PYTHON=$python
    fi
done
if [ -z "${PYTHON+named}" ] && [ "$module" = torch ]; then
    PYTHON=$KIT_ROOT/.venv-torch/bin/python
    [ -x "$PYTHON" ] || fail "no python3 or python on the PATH has torch; install it with python3 -m pip install" \
        "-r requirements/torch.txt (torch-cpu.txt without an NVIDIA GPU), or name a Python that has it with PYTHON=..."
fi
choose_python
exec "$python" "$KIT_ROOT/scripts/documented_launcher.py" "$half" "${launcher%.sh}" ${network[@]+"${network[@]}"} "$@"
