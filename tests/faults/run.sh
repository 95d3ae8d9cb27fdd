#!/usr/bin/env bash
# Runs all fault cases of both halves in parallel and writes the table into docs/reliability.md.
set -u
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may be anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/../../scripts/python_env.sh"

case ${1:-} in
    -h | --help)
        cat <<'END'
usage: bash tests/faults/run.sh [--rounds N] [--only NAME ...]

Injects faults into real runs and real files, with all rounds of each case, in .venv and .venv-torch (see tests/run.sh).
Prints a table; without options also updates the table in docs/reliability.md. Exit status 1 if anything was lost.
END
        exit 0
        ;;
esac

cd "$KIT_ROOT" || exit 2
for folder in .venv .venv-torch; do
    [ -x "$folder/bin/python" ] || fail "there is no $folder; make it with KIT_TEST_ENVS=\"main torch\" bash tests/run.sh"
done
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'end_jobs; exit 130' INT
trap 'end_jobs; exit 143' TERM
export OMP_NUM_THREADS=1 # both halves run at once
status=0
.venv/bin/python -m tests.faults --json "$scratch/tf.json" "$@" &
tensorflow=$!
.venv-torch/bin/python -m tests.faults --json "$scratch/torch.json" "$@" &
torch=$!
wait "$tensorflow" || status=1
wait "$torch" || status=1
if [ "$#" -eq 0 ]; then
    .venv/bin/python -m tests.faults --document docs/reliability.md "$scratch/tf.json" "$scratch/torch.json" || status=1
fi
exit "$status"
