#!/usr/bin/env bash
# Trains on eight devices to the end, for the accuracy; --help lists the options.
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "$self")/../../../scripts/documented_launcher.sh"
