#!/usr/bin/env bash
# Evaluates a checkpoint on eight devices.
# usage: [PYTHON=python] bash torch_imagenet/test/train_eval_8p.sh --data_path=DIR [options]      --help lists them
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "$self")/../../scripts/documented_launcher.sh"
