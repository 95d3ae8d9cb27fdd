#!/usr/bin/env bash
# Trains somebody's weights further on one device.
# usage: [PYTHON=python] bash torch_imagenet/test/train_finetune_1p.sh --data_path=DIR [options]      --help lists them
set -eu
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/documented_launcher.sh"
launch torch_imagenet torch train_finetune_1p "$@"
