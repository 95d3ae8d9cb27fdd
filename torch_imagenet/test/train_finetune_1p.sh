#!/usr/bin/env bash
# Trains somebody's weights further on one device.
# usage: [PYTHON=python] bash torch_imagenet/test/train_finetune_1p.sh --data_path=DIR [options]      --help lists them
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "$self")/../../scripts/documented_launcher.sh"
