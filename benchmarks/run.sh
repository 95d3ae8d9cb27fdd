#!/usr/bin/env bash
# Measures this program beside its peers: bash benchmarks/run.sh --help
set -eu
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/../scripts/python_env.sh"

# The driver needs NumPy alone; the rows run in the environments that have their packages.
for python in ${PYTHON+"$PYTHON"} "$KIT_ROOT/.venv/bin/python" "$KIT_ROOT/.venv-torch/bin/python" python3 python; do
    python=$(named_python "$python") && has_module "$python" numpy && break
    [ -z "${PYTHON+named}" ] || fail "PYTHON=$PYTHON is no Python with NumPy; name another, or unset PYTHON"
    python=
done
[ -n "$python" ] ||
    fail "no Python with NumPy was found; bash tests/run.sh makes .venv and .venv-torch, or name one with PYTHON=..."
exec "$python" "$KIT_ROOT/benchmarks/run.py" "$@"
