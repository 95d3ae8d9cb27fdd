# shellcheck shell=bash
# Finds the Python for the launchers, or makes an environment, and loads Ascend's. Sourced, never run; works in bash 3.2
# and newer.
#
# An environment made here has these files besides the virtual environment:
#   .kit          this script made the folder, so it may empty and rebuild it
#   .lock         held while installing
#   .stamp-NAME   written last: requirements/NAME.txt, in the version hashed here, is completely installed
#   .constraints  the pins of the first of them, without hashes
#   install.log   the output of venv and pip

KIT_ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 2

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

say() {
    printf '%s\n' "$*" >&2
}

# The program of this name or path.
named_python() { # NAME -> path
    local path
    path=$(type -P -- "$1") || return 1
    [ -f "$path" ] && [ -x "$path" ] && printf '%s\n' "$path"
}

# Whether PYTHON has the module, which is not imported: that would take seconds.
has_module() { # PYTHON MODULE
    "$1" -c 'import importlib.util, sys
sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$2" </dev/null >/dev/null 2>&1
}

# Whether PYTHON runs, is exactly version X.Y, can make a virtual environment (Debian's may lack ensurepip), and is
# not in one of ours, which may be about to be emptied.
python_is() { # PYTHON X.Y
    "$1" -c 'import ensurepip, os, sys, venv
ours = os.path.realpath(sys.prefix).startswith(os.path.realpath(sys.argv[2]))
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or ours)' "$2" "$KIT_ROOT/.venv" </dev/null >/dev/null 2>&1
}

# The first usable Python of these versions: on the PATH (pyenv's shims may refuse to start), then pyenv's own.
find_python() { # X.Y ... -> path
    local version candidate
    for version in "$@"; do
        while IFS= read -r candidate; do
            if [ -n "$candidate" ] && python_is "$candidate" "$version"; then
                printf '%s\n' "$candidate"
                return 0
            fi
        done < <(
            type -aP "python$version"
            printf '%s\n' "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}/versions/$version."*/bin/python
            type -aP python3
        )
    done
    return 1
}

has_nvidia_gpu() {
    [ "$(uname -sm)" = "Linux x86_64" ] || return 1 # elsewhere TensorFlow has no CUDA wheels
    local tool
    for tool in nvidia-smi /usr/lib/wsl/lib/nvidia-smi; do
        "$tool" -L 2>/dev/null | grep -q '^GPU ' && return 0
    done
    [ -n "$(ls /proc/driver/nvidia/gpus 2>/dev/null)" ]
}

# The content of a stamp: the Python's version and the hash of the requirement file.
fingerprint() { # PYTHON REQUIREMENTS
    "$1" -c 'import hashlib, sys
print("%d.%d" % sys.version_info[:2], hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' \
        "$2" </dev/null 2>/dev/null
}

is_installed() { # FOLDER NAME
    local stamp=$1/.stamp-$2
    [ -f "$stamp" ] && [ -x "$1/bin/python" ] &&
        [ "$(fingerprint "$1/bin/python" "$KIT_ROOT/requirements/$2.txt")" = "$(cat "$stamp")" ]
}

# Runs a command with its output in the log; if it fails, shows the log's end and fails with WHAT. It runs in the
# background, so that a signal ends both at once; with traps set after its start, a signal in between would not.
logged() { # LOG WHAT COMMAND ...
    local log=$1 what=$2 status=0
    shift 2
    trap 'end_jobs; exit 130' INT
    trap 'end_jobs; exit 143' TERM
    "$@" </dev/null >>"$log" 2>&1 &
    wait "$!" || status=$?
    trap - INT TERM
    [ "$status" -ne 0 ] || return 0
    say "the last lines of $log:"
    tail -n 15 "$log" >&2
    fail "$what"
}

end_jobs() {
    local child
    for child in $(jobs -p); do
        kill "$child" 2>/dev/null || :
        wait "$child" || :
    done
}

# A requirement file without its hashes.
pins_of() { # FILE
    sed -e '/^ *--hash=/d' -e 's/ *\\$//' "$1"
}

# Makes or completes FOLDER under its lock: installs requirements NAME, then MORE.
install_environment() { # FOLDER "X.Y ..." NAME [MORE ...]
    local folder=$1 versions=$2 base=$3 log=$1/install.log python name short=${1##*/}
    shift 2
    { mkdir -p "$folder" && : >>"$folder/.lock"; } 2>/dev/null ||
        fail "$folder cannot be written; make it writable, or name a Python that has TensorFlow with PYTHON=..."
    if command -v flock >/dev/null 2>&1; then
        exec 9>>"$folder/.lock"
        if ! flock -n 9; then
            say "waiting for another command that is installing into $short"
            flock 9 || say "$folder cannot be locked; going on without"
        fi
    fi
    if [ ! -e "$folder/.kit" ] && [ -n "$(find "$folder" -mindepth 1 -maxdepth 1 ! -name .lock)" ]; then
        fail "$folder was not made by this script; use it with PYTHON=$folder/bin/python, or move it away"
    fi
    : >"$folder/.kit"

    if ! is_installed "$folder" "$base"; then
        # shellcheck disable=SC2086 # versions is a list
        python=$(find_python $versions) || fail "no Python of version ${versions// /, } with venv and ensurepip was" \
            "found; install one (on Debian and Ubuntu with its python3-venv package), or name a Python that has" \
            "TensorFlow with PYTHON=..."
        find "$folder" -mindepth 1 -maxdepth 1 ! -name .kit ! -name .lock -exec rm -rf {} +
        say "making $short with $python"
        logged "$log" "$python could not make $folder; see the lines above, or set PYTHON=..." \
            "$python" -m venv "$folder"
    fi
    for name in "$@"; do
        is_installed "$folder" "$name" && continue
        say "installing requirements/$name.txt into $short; takes a minute or two, log in $short/install.log"
        rm -f "$folder/.stamp-$name"
        # The pins of the first file constrain the others, without hashes, or pip would require them of every package.
        # The user's pip settings must not install outside the folder.
        pins_of "$KIT_ROOT/requirements/$base.txt" >"$folder/.constraints"
        logged "$log" "requirements/$name.txt could not be installed; check the network and the lines above, then start \
again, or name a Python that has TensorFlow with PYTHON=..." \
            env PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$folder/bin/python" -m pip install \
            --disable-pip-version-check --no-input --retries 2 \
            -c "$folder/.constraints" -r "$KIT_ROOT/requirements/$name.txt"
        fingerprint "$folder/bin/python" "$KIT_ROOT/requirements/$name.txt" >"$folder/.stamp-$name.new" &&
            mv "$folder/.stamp-$name.new" "$folder/.stamp-$name"
    done
    exec 9>&- # or the lock would be held during the training
}

# Makes or completes FOLDER if something is missing.
ensure_environment() { # FOLDER "X.Y ..." NAME [MORE ...]
    local folder=$1 versions=$2 name missing=
    shift 2
    for name in "$@"; do
        is_installed "$folder" "$name" || missing=yes
    done
    [ -z "$missing" ] || install_environment "$folder" "$versions" "$@"
}

# The requirements of the main environment. One with CUDA also works without a GPU: no rebuild if a driver is missing.
main_requirements() { # -> cpu or gpu
    if has_nvidia_gpu || is_installed "$KIT_ROOT/.venv" gpu; then
        printf 'gpu\n'
    else
        printf 'cpu\n'
    fi
}

# Sets python: the one that PYTHON names, else .venv's, which is made or completed first.
choose_python() {
    if [ -n "${PYTHON+named}" ]; then # an empty one is an error, not the default
        python=$(named_python "$PYTHON") ||
            fail "PYTHON=$PYTHON is no program that can be started; name one that has TensorFlow, or unset PYTHON"
        return 0
    fi
    ensure_environment "$KIT_ROOT/.venv" "3.11 3.12 3.13 3.10" "$(main_requirements)"
    python=$KIT_ROOT/.venv/bin/python
}

# Loads Ascend's set_env.sh files unless the caller has: every release's exports ASCEND_OPP_PATH.
load_ascend_environment() {
    [ -z "${ASCEND_OPP_PATH:-}" ] || return 0
    local base=${ASCEND_INSTALL_PATH:-/usr/local/Ascend} home=${HOME:-/nonexistent}/Ascend
    source_first ${ASCEND_TOOLKIT_HOME:+"$ASCEND_TOOLKIT_HOME/set_env.sh" "$ASCEND_TOOLKIT_HOME/../set_env.sh"} \
        "$base/ascend-toolkit/set_env.sh" "$base/cann/set_env.sh" \
        "$home/ascend-toolkit/set_env.sh" "$home/cann/set_env.sh"
    # TensorFlow's adapter is a separate package, which puts npu_bridge on PYTHONPATH.
    source_first "$base/tfplugin/set_env.sh" "$home/tfplugin/set_env.sh"
}

# Sources the first of these files that can be read. Ascend's read unset variables and ignore failing commands.
source_first() { # FILE ...
    while [ "$#" -gt 0 ] && [ ! -r "$1" ]; do
        shift
    done
    [ "$#" -gt 0 ] || return 0
    set +eu
    # shellcheck source=/dev/null
    . "$1"
    set -eu
}
