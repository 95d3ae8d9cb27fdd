# shellcheck shell=bash
# Finds the Python for the launchers, or makes an environment. Sourced, never run; works in bash 3.2 and newer.
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

# The Python that the user named with PYTHON.
named_python() { # NAME -> path
    local path
    path=$(type -P -- "$1") || return 1
    [ -f "$path" ] && [ -x "$path" ] && printf '%s\n' "$path"
}

# Whether PYTHON has TensorFlow and Ascend's adapter, which are not imported: that would take seconds.
has_npu_adapter() { # PYTHON
    [ "$("$1" -c 'from importlib.util import find_spec
found = find_spec("tensorflow") and (find_spec("npu_bridge") or find_spec("npu_device"))
print("yes" if found else "no")' </dev/null 2>/dev/null)" = yes ]
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
    local version candidate pyenv_root
    pyenv_root=${PYENV_ROOT:-}
    if [ -z "$pyenv_root" ] && command -v pyenv >/dev/null 2>&1; then
        pyenv_root=$(pyenv root 2>/dev/null) || pyenv_root=
    fi
    pyenv_root=${pyenv_root:-${HOME:-/nonexistent}/.pyenv}
    for version in "$@"; do
        while IFS= read -r candidate; do
            if [ -n "$candidate" ] && python_is "$candidate" "$version"; then
                printf '%s\n' "$candidate"
                return 0
            fi
        done < <(
            type -aP "python$version"
            printf '%s\n' "$pyenv_root/versions/$version."*/bin/python
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

# Runs a command with its output in the log. It runs in the background, so that a signal ends both at once; the traps are
# set before it starts, or a signal in between would end this script alone.
logged() { # LOG COMMAND ...
    local log=$1 status=0
    shift
    trap 'end_jobs; exit 130' INT
    trap 'end_jobs; exit 143' TERM
    "$@" </dev/null >>"$log" 2>&1 &
    wait "$!" || status=$?
    trap - INT TERM
    return "$status"
}

end_jobs() {
    local child
    for child in $(jobs -p); do
        kill "$child" 2>/dev/null || :
        wait "$child" || :
    done
}

install_failed() { # LOG WHAT
    say "the last lines of $1:"
    tail -n 15 "$1" >&2
    fail "$2"
}

empty_environment() { # FOLDER
    find "$1" -mindepth 1 -maxdepth 1 ! -name .kit ! -name .lock -exec rm -rf {} +
}

# A requirement file without its hashes.
pins_of() { # FILE
    sed -e '/^ *--hash=/d' -e 's/ *\\$//' "$1"
}

# Makes or completes FOLDER under its lock: installs requirements NAME, then MORE.
install_environment() { # FOLDER "X.Y ..." NAME [MORE ...]
    local folder=$1 versions=$2 base=$3 log=$1/install.log python name short=${1##*/}
    shift 2
    if ! mkdir -p "$folder" 2>/dev/null || ! { : >>"$folder/.lock"; } 2>/dev/null; then
        fail "$folder cannot be written; make it writable, or name a Python that has TensorFlow with PYTHON=..."
    fi
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
        empty_environment "$folder"
        say "making $short with $python"
        logged "$log" "$python" -m venv "$folder" ||
            install_failed "$log" "$python could not make $folder; see the lines above, or set PYTHON=..."
    fi
    for name in "$@"; do
        is_installed "$folder" "$name" && continue
        say "installing requirements/$name.txt into $short; takes a minute or two, log in $short/install.log"
        rm -f "$folder/.stamp-$name"
        # The pins of the first file constrain the others, without hashes, which pip would then require of every package.
        # The user's pip settings must not install outside the folder.
        pins_of "$KIT_ROOT/requirements/$base.txt" >"$folder/.constraints"
        logged "$log" env PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$folder/bin/python" -m pip install \
            --disable-pip-version-check --no-input --retries 2 \
            -c "$folder/.constraints" -r "$KIT_ROOT/requirements/$name.txt" ||
            install_failed "$log" "requirements/$name.txt could not be installed; check the network and the lines" \
                "above, then start again, or name a Python that has TensorFlow with PYTHON=..."
        if ! fingerprint "$folder/bin/python" "$KIT_ROOT/requirements/$name.txt" >"$folder/.stamp-$name.new" ||
            ! mv "$folder/.stamp-$name.new" "$folder/.stamp-$name"; then
            fail "$folder/.stamp-$name could not be written; free some space on the disk and start again"
        fi
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

# Splits the arguments: the first is the mode unless it is an option. Sets mode and rest.
# shellcheck disable=SC2034 # used by the launchers
split_mode() { # [MODE] [OPTION ...]
    mode=train
    case ${1:-} in
        '' | -*) ;;
        *)
            mode=$1
            shift
            ;;
    esac
    rest=("$@")
}
