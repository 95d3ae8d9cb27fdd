# shellcheck shell=bash
# Finds or makes the Python that the launchers start. Sourced, never run; works in bash 3.2 and newer.
#
# An environment that this file makes holds, beside the virtual environment itself:
#   .kit          we made this folder, so we may empty and rebuild it
#   .lock         held while installing
#   .stamp-NAME   written last: requirements/NAME.txt, in the version hashed here, is installed whole
#   .constraints  the pins of the first of them, without hashes
#   install.log   what venv and pip said

KIT_ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 2

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

say() {
    printf '%s\n' "$*" >&2
}

# The Python that the user named with PYTHON, as it is.
named_python() { # NAME -> path
    local path
    path=$(type -P -- "$1") || return 1
    [ -f "$path" ] && [ -x "$path" ] && printf '%s\n' "$path"
}

# Whether PYTHON has TensorFlow and Ascend's adapter. They are looked for and not imported, which would take seconds.
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

# The first usable Python of the wanted versions: on the PATH (pyenv's shims may refuse to start), then pyenv's own.
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

# What a stamp must say: the Python's version and the hash of the requirement file.
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

# Runs a command with its output in the log. In the background, so that a signal ends it and us at once; the traps are
# there before it starts, or a signal between the two would end us alone.
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

# Makes or completes FOLDER, with requirements NAME installed, then MORE on top, holding the lock.
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
        # The base's pins constrain what comes on top, without hashes: with them pip would want one of everything. A
        # user's own pip settings must not lead out of the folder.
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
    exec 9>&- # or the lock would be held for as long as the training runs
}

# Makes sure that FOLDER holds everything named; says nothing where it already does.
ensure_environment() { # FOLDER "X.Y ..." NAME [MORE ...]
    local folder=$1 versions=$2 name missing=
    shift 2
    for name in "$@"; do
        is_installed "$folder" "$name" || missing=yes
    done
    [ -z "$missing" ] || install_environment "$folder" "$versions" "$@"
}

# The requirements of the main environment. One with CUDA serves without a GPU too: no rebuild when a driver is away.
main_requirements() { # -> cpu or gpu
    if has_nvidia_gpu || is_installed "$KIT_ROOT/.venv" gpu; then
        printf 'gpu\n'
    else
        printf 'cpu\n'
    fi
}

# Sets python: the one that PYTHON names, else .venv's, made first where it is not there or not whole.
choose_python() {
    if [ -n "${PYTHON+named}" ]; then # an empty one is refused: it must not mean another Python
        python=$(named_python "$PYTHON") ||
            fail "PYTHON=$PYTHON is no program that can be started; name one that has TensorFlow, or unset PYTHON"
        return 0
    fi
    ensure_environment "$KIT_ROOT/.venv" "3.11 3.12 3.13 3.10" "$(main_requirements)"
    python=$KIT_ROOT/.venv/bin/python
}

# Splits the options: the first word is the mode where it is no option. Sets mode and rest.
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
