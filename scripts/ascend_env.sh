# shellcheck shell=bash
# Loads Ascend's own set_env.sh files where the caller has not. Sourced, never run.

# Sources one of Ascend's files: they read unset variables and let commands fail.
source_ascend() { # FILE
    set +eu
    # shellcheck source=/dev/null
    . "$1"
    set -eu
}

# ASCEND_OPP_PATH is what every release's set_env.sh exports, so it tells whether one has been sourced.
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
    # TensorFlow's adapter is a package of its own and puts npu_bridge on PYTHONPATH.
    for file in "$base/tfplugin/set_env.sh" "$home/tfplugin/set_env.sh"; do
        if [ -r "$file" ]; then
            source_ascend "$file"
            break
        fi
    done
}
