#!/usr/bin/env bash
# Sets up what the tests need and runs all of them, under every TensorFlow that this machine can run.
set -u
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/python_env.sh"
# shellcheck source=scripts/browser.sh
. "$KIT_ROOT/scripts/browser.sh"

usage() {
    cat <<'EOF'
usage: bash tests/run.sh [pytest options] [paths]

Runs, each in an environment of its own that is made once in the checkout and reused:
  main    ruff, mypy, shellcheck, tests/{shared,tf_seresnet,end_to_end,faults} under TensorFlow 2.21
                                                                               (.venv, Python 3.11 to 3.13)
  audit   pip-audit: the pins are looked up among the known vulnerabilities, where a service can be asked
                                                                               (.venv-audit, Python 3.10 to 3.13)
  torch   mypy, tests/{torch_imagenet,faults} under torch 2.13, with timm, pretrainedmodels  (.venv-torch, Python 3.11)
  tf115   tests/shared, tests/tf_seresnet, tests/end_to_end under TensorFlow 1.15.5   (.venv-tf115, Python 3.7)
  tf26    the quick tests of tests/tf_seresnet and test_run.py, TensorFlow 2.6.5      (.venv-tf26, Python 3.8)
The last two where their Python is found (on the PATH or pyenv's), on x86_64 Linux. The summary names what did not run.
And only where KIT_TEST_ENVS names it:
  torch-npu  tests/torch_npu_names: the names and operators that the program uses of the real torch_npu 2.13, beside
             empty libraries in the place of CANN's                           (.venv-torch-npu, Python 3.11, 1 GB)

Options go to every pytest; paths (below tests/, relative to the checkout) replace the ones above.

environment variables
  KIT_TEST_BROWSER
                  1 makes the tests of the results page fail, instead of skip, where there is no Chromium
  KIT_TEST_DATA   folder with the real test data               (default: ../shared/data beside the checkout)
  KIT_TEST_ENVS   which to run, e.g. "main tf115"; one named here that cannot run is a failure
                                                               (default: those that this machine can run)
  KIT_TEST_NPU    1 makes the tests of the simulated NPU fail, instead of skip, where there is no C++ compiler
  KIT_TEST_TORCH  1 installs torch too and tests the Keras model's torch backend (on Linux, pip brings CUDA: 3 GB)

exit status: 0 all passed; 1 something failed, or could not be installed
EOF
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

summary=()
failed=
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export KIT_TEST_DATA=${KIT_TEST_DATA:-$KIT_ROOT/../shared/data}
cd "$KIT_ROOT" || exit 2

title() {
    printf '\n=== %s\n' "$*"
}

outcome() { # TEXT [failed]
    summary+=("$1")
    failed=$failed${2:-}
}

# Whether an environment is to be run; without KIT_TEST_ENVS, all are.
wanted() { # NAME
    case " ${KIT_TEST_ENVS:-$1} " in
        *" $1 "*) return 0 ;;
        *)
            outcome "$1: NOT RUN (KIT_TEST_ENVS leaves it out)"
            return 1
            ;;
    esac
}

# Something that this machine cannot run: loud, and a failure where it was asked for by name.
not_run() { # NAME WHY
    title "$1: NOT RUN: $2"
    outcome "$1: NOT RUN ($2)" "${KIT_TEST_ENVS:+failed}"
}

# Installs in a subshell, so that its `exit 2` ends this environment and not the others.
prepared() { # NAME FOLDER "X.Y ..." REQUIREMENTS ...
    local name=$1
    shift
    title "$name"
    (
        trap - EXIT
        ensure_environment "$@"
    ) && return 0
    outcome "$name: FAILED (its environment could not be installed)" failed
    return 1
}

# One of the checks that are no tests.
check() { # NAME COMMAND ...
    local name=$1
    shift
    title "$name"
    if "$@"; then
        outcome "$name: passed"
    else
        outcome "$name: FAILED" failed
    fi
}

# Runs pytest and counts from its report. No report, no test or a status other than 0 never counts as passed.
run_pytest() { # NAME PYTHON ARGUMENT ...
    local name=$1 python=$2 report=$scratch/$1.xml status=0 counts
    shift 2
    title "$name: pytest $*"
    "$python" -m pytest -n "$workers" --dist loadfile "$@" --junitxml="$report" </dev/null || status=$?
    if ! counts=$("$python" "$KIT_ROOT/scripts/count_tests.py" "$report" 2>/dev/null); then
        outcome "$name: FAILED (pytest ended with status $status and no report)" failed
    elif [ "$status" -ne 0 ] && [ "${counts#*, 0 failed}" != "$counts" ]; then
        outcome "$name: FAILED (pytest ended with status $status; $counts)" failed
    elif [ "$status" -ne 0 ] || [ "${counts%% *}" = 0 ]; then
        outcome "$name: $counts" failed
    else
        outcome "$name: $counts"
    fi
}

# The user's options with the environment's own paths, or with those of the user's paths that lie below them.
arguments() { # [OPTION ...] PATH ... -> array args; 1 where none of the paths that the user has named is its own
    local argument path paths_given='' paths=()
    args=()
    for argument in "$@"; do
        case $argument in
            tests/*) paths+=("$argument") ;;
            *) args+=("$argument") ;;
        esac
    done
    for argument in ${user_args[@]+"${user_args[@]}"}; do
        case $argument in
            tests | tests/)
                paths_given=yes
                args+=("${paths[@]}")
                ;;
            tests/*)
                paths_given=yes
                for path in "${paths[@]}"; do
                    case $argument in
                        "$path" | "$path"/* | "$path"::*) args+=("$argument") ;;
                    esac
                done
                ;;
            *) args+=("$argument") ;;
        esac
    done
    [ -n "$paths_given" ] || args+=("${paths[@]}")
    case " ${args[*]-}" in
        *" tests/"*) ;;
        *) return 1 ;;
    esac
}

# Runs the tests that the user asked for, as far as they are this environment's.
run_own_tests() { # NAME FOLDER PATH ...
    local name=$1 folder=$2
    shift 2
    if arguments "$@"; then
        run_pytest "$name" "$folder/bin/python" "${args[@]}"
    else
        outcome "$name: NOT RUN (none of the paths asked for is tested there)"
    fi
}

run_torch() {
    wanted torch || return 0
    local folder=$KIT_ROOT/.venv-torch
    if ! is_installed "$folder" beside-torch && ! find_python 3.11 >/dev/null; then
        not_run torch "no Python 3.11 with venv found on the PATH or in pyenv"
    elif prepared torch "$folder" "3.11" beside-torch test-torch test-imagenet; then
        check "torch: mypy" "$folder/bin/python" -m mypy torch_imagenet
        run_own_tests torch "$folder" tests/torch_imagenet tests/faults
    fi
}

run_torch_npu() {
    case " ${KIT_TEST_ENVS:-} " in
        *" torch-npu "*) ;;
        *) return 0 ;;
    esac
    local folder=$KIT_ROOT/.venv-torch-npu
    if [ "$(uname -s)" != Linux ] || { ! is_installed "$folder" beside-torch && ! find_python 3.11 >/dev/null; }; then
        not_run torch-npu "torch_npu needs Linux, and here Python 3.11 with venv, on the PATH or in pyenv"
    elif prepared torch-npu "$folder" "3.11" beside-torch test-torch test-torch-npu; then
        run_own_tests torch-npu "$folder" tests/torch_npu_names
    fi
}

run_main() {
    wanted main || return 0
    local folder=$KIT_ROOT/.venv more=(test)
    if [ "${KIT_TEST_TORCH:-0}" = 1 ]; then
        more+=(test-torch)
    else
        title "main: NOT RUN: the Keras model on torch; KIT_TEST_TORCH=1 installs torch and tests it"
        outcome "main, torch backend: NOT RUN (set KIT_TEST_TORCH=1)"
    fi
    if [ "${KIT_TEST_BROWSER:-0}" != 1 ] && ! find_browser >/dev/null; then
        title "main: NOT RUN: the results page in a browser, for there is none; KIT_TEST_BROWSER=1 makes that a failure"
        outcome "main, browser: NOT RUN (no Chromium found; apt-get install chromium)"
    fi
    prepared main "$folder" "3.11 3.12 3.13 3.10" "$(main_requirements)" "${more[@]}" || return 0
    check ruff "$folder/bin/python" -m ruff check --output-format concise .
    check mypy "$folder/bin/python" -m mypy shared tf_seresnet
    check shellcheck "$folder/bin/shellcheck" -x run_gpu.sh run_npu.sh eval.sh tests/run.sh .ci/run scripts/*.sh \
        torch_imagenet/test/*.sh tf_seresnet/test/*.sh tests/faults/run.sh
    run_own_tests main "$folder" tests/shared tests/tf_seresnet tests/end_to_end tests/faults
}

run_audit() {
    wanted audit || return 0
    local folder=$KIT_ROOT/.venv-audit status=0 said
    prepared audit "$folder" "3.11 3.12 3.13 3.10" audit || return 0
    said=$("$folder/bin/python" "$KIT_ROOT/scripts/audit.py") || status=$?
    printf '%s\n' "$said"
    said=${said##*$'\n'}
    case $status in
        0) outcome "audit: passed ($said)" ;;
        3) not_run audit "$said" ;;
        *) outcome "audit: FAILED ($said)" failed ;;
    esac
}

run_old() { # NAME X.Y PYTEST-ARGUMENT ...
    local name=$1 version=$2 folder=$KIT_ROOT/.venv-$1
    shift 2
    wanted "$name" || return 0
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        not_run "$name" "its TensorFlow has wheels for x86_64 Linux only"
    elif ! is_installed "$folder" "$name" && ! find_python "$version" >/dev/null; then
        not_run "$name" "no Python $version with venv found on the PATH or in pyenv"
    elif prepared "$name" "$folder" "$version" "$name"; then
        run_own_tests "$name" "$folder" "$@"
    fi
}

user_args=("$@")
args=()
workers=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || workers=2
[ "$workers" -le 8 ] || workers=8 # each worker holds a TensorFlow

for name in ${KIT_TEST_ENVS:-}; do
    case $name in
        main | audit | torch | tf115 | tf26 | torch-npu) ;;
        *) fail "KIT_TEST_ENVS has no environment called $name; choose from main, audit, torch, tf115, tf26 and" \
            "torch-npu" ;;
    esac
done
run_main
run_audit
run_torch
run_torch_npu
run_old tf115 3.7 -m "not once" tests/shared tests/tf_seresnet tests/end_to_end
run_old tf26 3.8 -m "not slow and not once" tests/tf_seresnet tests/end_to_end/test_run.py

title "summary"
printf '%s\n' "${summary[@]}"
[ -z "$failed" ] || exit 1
