#!/usr/bin/env bash
# Trains on several machines for a short time, for the throughput; start it on each.
# usage: [PYTHON=python] bash torch_imagenet/test/train_performance_multinodes.sh --data_path=DIR [options]      --help lists them
set -eu
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/documented_launcher.sh"
launch torch_imagenet torch train_performance_multinodes "$@"
