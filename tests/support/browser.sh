# shellcheck shell=bash
# Finds the browser in which the tests load the results page, or installs one. Sourced, never run.

# The names are those that tests/shared/results/test_page_in_chromium.py looks for.
find_browser() { # -> path
    type -P chromium || type -P chromium-browser || type -P google-chrome || type -P chrome
}

# Makes sure that there is a browser: Debian's Chromium, where this is root and has apt-get. Where there is none then,
# says why in one line and returns 1: the tests can go on without.
provide_browser() {
    find_browser >/dev/null && return 0
    local said why='this is not root, or there is no apt-get'
    if [ "$EUID" = 0 ] && type -P apt-get >/dev/null; then
        said=$(install_chromium 2>&1) && find_browser >/dev/null && return 0
        why="apt-get did not install chromium: ${said##*$'\n'}"
    fi
    printf 'NO BROWSER: %s\n' "$why" >&2
    return 1
}

# Not without an end: a package server may hang, and CI has more to do.
install_chromium() {
    local apt=(env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq -o DPkg::Lock::Timeout=60)
    "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends chromium
}
