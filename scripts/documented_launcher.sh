# shellcheck shell=bash
# Shared by all documented launchers: finds the Python, loads Ascend's environment and starts documented_launcher.py,
# which parses the options. Sourced, never run.

# shellcheck source=scripts/python_env.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/python_env.sh"
# shellcheck source=scripts/ascend_env.sh
. "$KIT_ROOT/scripts/ascend_env.sh"

# The first of python3 and python that has the module, which is not imported: that would take seconds.
python_with() { # MODULE -> path
    local candidate
    for candidate in python3 python; do
        candidate=$(named_python "$candidate") || continue
        if "$candidate" -c 'import importlib.util, sys
sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$1" </dev/null >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# Sets python: the one that PYTHON names, else one on the PATH that has the framework, else the checkout's own.
choose_python_with() { # MODULE
    if [ -n "${PYTHON+named}" ]; then
        choose_python
    elif ! python=$(python_with "$1"); then
        if [ "$1" = tensorflow ]; then
            choose_python
        else
            python=$KIT_ROOT/.venv-$1/bin/python
            [ -x "$python" ] || fail "no python3 or python on the PATH has $1; install it with python3 -m pip install" \
                "-r requirements/$1.txt, or name a Python that has it with PYTHON=..."
        fi
    fi
}

launch() { # HALF MODULE LAUNCHER [OPTION ...]
    local half=$1 module=$2
    shift 2
    [ "${etp_running_flag:-}" = true ] || load_ascend_environment
    choose_python_with "$module"
    exec "$python" "$KIT_ROOT/scripts/documented_launcher.py" "$half" "$@"
}
