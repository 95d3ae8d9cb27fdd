#!/usr/bin/env bash
# Evaluates a checkpoint on eight devices.
# usage: [PYTHON=python] bash torch_imagenet/test/train_eval_8p.sh --data_path=DIR [options]      --help lists them
set -eu
# shellcheck source=scripts/documented_launcher.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/documented_launcher.sh"
launch torch_imagenet torch train_eval_8p "$@"
