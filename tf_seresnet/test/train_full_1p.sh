#!/usr/bin/env bash
# Trains on one device, for the accuracy.
# usage: [PYTHON=python] bash tf_seresnet/test/train_full_1p.sh --data_path=DIR [options]      --help lists them
set -eu
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/documented_launcher.sh"
launch tf_seresnet tensorflow train_full_1p "$@"
