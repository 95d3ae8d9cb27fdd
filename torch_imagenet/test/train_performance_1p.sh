#!/usr/bin/env bash
# Trains on one device, for the throughput.
# usage: [PYTHON=python] bash torch_imagenet/test/train_performance_1p.sh --data_path=DIR [options]      --help lists them
set -eu
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/documented_launcher.sh"
launch torch_imagenet torch train_performance_1p "$@"
