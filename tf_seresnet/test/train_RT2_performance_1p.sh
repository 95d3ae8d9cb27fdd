#!/usr/bin/env bash
# Trains ten steps on one device with the second runtime of CANN, for the throughput.
# usage: [PYTHON=python] bash tf_seresnet/test/train_RT2_performance_1p.sh --data_path=DIR [options]      --help lists them
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "$self")/../../scripts/documented_launcher.sh"
