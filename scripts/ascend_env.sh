# shellcheck shell=bash
# Loads Ascend's set_env.sh files unless the caller has. Sourced, never run.

# Sources one of Ascend's files, which read unset variables and ignore failing commands.
source_ascend() { # FILE
    set +eu
    # shellcheck source=/dev/null
    . "$1"
    set -eu
}

# Every release's set_env.sh exports ASCEND_OPP_PATH, so it is set if one has been sourced.
load_ascend_environment() {
    [ -z "${ASCEND_OPP_PATH:-}" ] || return 0
    local base=${ASCEND_INSTALL_PATH:-/usr/local/Ascend} home=${HOME:-/nonexistent}/Ascend file
    for file in ${ASCEND_TOOLKIT_HOME:+"$ASCEND_TOOLKIT_HOME/set_env.sh" "$ASCEND_TOOLKIT_HOME/../set_env.sh"} \
        "$base/ascend-toolkit/set_env.sh" "$base/cann/set_env.sh" \
        "$home/ascend-toolkit/set_env.sh" "$home/cann/set_env.sh"; do
        if [ -r "$file" ]; then
            source_ascend "$file"
            break
        fi
    done
    # TensorFlow's adapter is a separate package, which puts npu_bridge on PYTHONPATH.
    for file in "$base/tfplugin/set_env.sh" "$home/tfplugin/set_env.sh"; do
        if [ -r "$file" ]; then
            source_ascend "$file"
            break
        fi
    done
}
