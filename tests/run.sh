#!/usr/bin/env bash
# Sets up what the tests need and runs them: in minutes what every change should pass, with --full everything.
set -u
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0 # a link to this file may stand anywhere
# shellcheck source=scripts/python_env.sh
. "$(dirname -- "$self")/../scripts/python_env.sh"
# shellcheck source=tests/support/browser.sh
. "$KIT_ROOT/tests/support/browser.sh"

usage() {
    cat <<'EOF'
usage: bash tests/run.sh [--full] [--durations] [pytest options] [paths]

Runs, each in an environment of its own that is made once in the checkout and reused:
  main    ruff, mypy, shellcheck, and the quick tests of tests/{shared,tf_seresnet,end_to_end,benchmarks,faults,support} under
          TensorFlow 2.21                                                      (.venv, Python 3.11 to 3.13)
  torch   mypy and the quick tests of tests/{torch_imagenet,benchmarks,faults} under torch 2.13, with timm, pretrainedmodels
                                                                               (.venv-torch, Python 3.11)
Quick are the tests that are not marked slow: up to 2 s of processor time each.

  --full       the tests marked slow too, the Keras model on torch, and these environments:
    audit   pip-audit: the pins are looked up among the known vulnerabilities, where a service can be asked
                                                                               (.venv-audit, Python 3.10 to 3.13)
    tf115   what depends on the TensorFlow, under 1.15.5                       (.venv-tf115, Python 3.7)
    tf26    the same without tests/shared, under 2.6.5                         (.venv-tf26, Python 3.8)
               The last two where their Python is found (on the PATH or pyenv's), on x86_64 Linux. The summary names
               what did not run.
  --durations  also the slowest tests of each part, and at the end a table of what each part took
And only where KIT_TEST_ENVS names it:
  torch-npu  tests/fakes/torch_npu_names: the names and operators that the program uses of the real torch_npu 2.13, beside
             empty libraries in the place of CANN's                           (.venv-torch-npu, Python 3.11, 1 GB)

Options go to every pytest; paths (below tests/, relative to the checkout) replace the ones above.

environment variables
  KIT_TEST_BROWSER
                  1 makes the tests of the results page fail, instead of skip, where there is no Chromium
  KIT_TEST_DATA   folder with the real test data               (default: ../shared/data beside the checkout)
  KIT_TEST_ENVS   which to run, e.g. "main tf115"; one named here that cannot run is a failure
                                                               (default: those that this machine can run)
  KIT_TEST_NPU    1 makes the tests of the simulated NPU fail, instead of skip, where there is no C++ compiler
  KIT_TEST_TORCH  1 installs torch too and tests the Keras model's torch backend, 0 does not (on Linux, pip brings
                  CUDA: 3 GB)                                  (default: 1 with --full, else 0)

exit status: 0 all passed; 1 something failed, or could not be installed
EOF
}

user_args=()
full=
durations=
for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
        --full) full=yes ;;
        --durations) durations=yes ;;
        *) user_args+=("$argument") ;;
    esac
done
if [ -n "$full" ]; then
    environments="main audit torch tf115 tf26"
    export KIT_TEST_TORCH=${KIT_TEST_TORCH:-1}
else
    environments="main torch"
fi
environments=${KIT_TEST_ENVS:-$environments}

summary=()
rows=()
failed=
installer=
scratch=$(mktemp -d) || exit 2
trap 'end_installer; rm -rf "$scratch"' EXIT
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

# What a part took, for the table of --durations.
took() { # PART SECONDS
    rows+=("| $1 | $2 |")
}

# Whether an environment is to be run.
wanted() { # NAME
    case " $environments " in
        *" $1 "*) return 0 ;;
    esac
    [ -z "${KIT_TEST_ENVS:-}" ] || outcome "$1: NOT RUN (KIT_TEST_ENVS leaves it out)"
    return 1
}

# Something that this machine cannot run: loud, and a failure where it was asked for by name.
not_run() { # NAME WHY
    title "$1: NOT RUN: $2"
    outcome "$1: NOT RUN ($2)" "${KIT_TEST_ENVS:+failed}"
}

# What an environment is: its folder, the Pythons it may have, its requirements.
describe() { # NAME -> array environment
    local folder=$KIT_ROOT/.venv-$1
    case $1 in
        main)
            environment=("$KIT_ROOT/.venv" "3.11 3.12 3.13 3.10" "$(main_requirements)" test)
            [ "${KIT_TEST_TORCH:-0}" != 1 ] || environment+=(test-torch)
            ;;
        audit) environment=("$folder" "3.11 3.12 3.13 3.10" audit) ;;
        torch) environment=("$folder" 3.11 beside-torch test-torch test-imagenet) ;;
        torch-npu) environment=("$folder" 3.11 beside-torch test-torch test-torch-npu) ;;
        tf115) environment=("$folder" 3.7 tf115) ;;
        tf26) environment=("$folder" 3.8 tf26) ;;
    esac
}

# Why this machine cannot run an environment; nothing where it can.
hindrance() { # NAME
    local environment
    describe "$1"
    case $1,$(uname -sm) in
        tf*,"Linux x86_64" | torch-npu,Linux* | audit,* | torch,*) ;;
        tf*) printf 'its TensorFlow has wheels for x86_64 Linux only' && return 0 ;;
        torch-npu,*) printf 'torch_npu has wheels for Linux only' && return 0 ;;
    esac
    # shellcheck disable=SC2086 # a list of versions
    is_installed "${environment[0]}" "${environment[2]}" || find_python ${environment[1]} >/dev/null ||
        printf 'no Python %s with venv found on the PATH or in pyenv' "${environment[1]// /, }"
}

# Installs in a subshell, so that its `exit 2` ends this environment and not the others.
prepared() { # NAME -> array environment
    local began=$SECONDS
    title "$1"
    describe "$1"
    if (
        trap - EXIT
        ensure_environment "${environment[@]}"
    ); then
        took "$1: installation, or the wait for it" $((SECONDS - began))
        return 0
    fi
    outcome "$1: FAILED (its environment could not be installed)" failed
    return 1
}

# Installs the other environments while the first one is tested: an installation keeps one core busy, and not all the
# time. What fails here is tried again, and told, when its turn comes; what is not ready by then is waited for.
install_meanwhile() { # NAME ...
    command -v flock >/dev/null || return 0 # which makes the one wait for the other
    set -m                                  # in a process group, so that pip can be ended too
    (
        trap - EXIT
        for name in "$@"; do
            [ -n "$(hindrance "$name")" ] || prepared "$name"
        done
    ) </dev/null >/dev/null 2>&1 &
    set +m
    installer=$!
}

end_installer() {
    [ -z "$installer" ] || kill -- "-$installer" 2>/dev/null || :
}

# One of the checks that are no tests.
check() { # NAME COMMAND ...
    local name=$1 began=$SECONDS
    shift
    title "$name"
    if "$@"; then
        outcome "$name: passed"
    else
        outcome "$name: FAILED" failed
    fi
    took "$name" $((SECONDS - began))
}

# Runs pytest and counts from its report. No report, no test or a status other than 0 never counts as passed.
run_pytest() { # NAME PYTHON ARGUMENT ...
    local name=$1 python=$2 report=$scratch/$1.xml status=0 counts began=$SECONDS
    shift 2
    title "$name: pytest $*"
    "$python" -m pytest -n "$workers" --dist loadfile "$@" --junitxml="$report" </dev/null || status=$?
    took "$name: tests" $((SECONDS - began))
    if ! counts=$("$python" "$KIT_ROOT/tests/support/count_tests.py" "$report" 2>/dev/null); then
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
    [ -z "$durations" ] || args+=(--durations=25 --durations-min=0.5)
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

# Runs the tests that the user asked for, as far as they are this environment's and, without --full, not slow.
run_own_tests() { # NAME FOLDER MARKERS PATH ...
    local name=$1 folder=$2 markers=$3
    shift 3
    [ -n "$full" ] || markers="not slow${markers:+ and $markers}"
    if arguments ${markers:+-m "$markers"} "$@"; then
        run_pytest "$name" "$folder/bin/python" "${args[@]}"
    else
        outcome "$name: NOT RUN (none of the paths asked for is tested there)"
    fi
}

run_main() {
    wanted main || return 0
    if [ -n "$full" ] && [ "$KIT_TEST_TORCH" != 1 ]; then
        title "main: NOT RUN: the Keras model on torch; KIT_TEST_TORCH=1 installs torch and tests it"
        outcome "main, torch backend: NOT RUN (set KIT_TEST_TORCH=1)"
    fi
    if [ -n "$full" ] && [ "${KIT_TEST_BROWSER:-0}" != 1 ] && ! find_browser >/dev/null; then
        title "main: NOT RUN: the results page in a browser, for there is none; KIT_TEST_BROWSER=1 makes that a failure"
        outcome "main, browser: NOT RUN (no Chromium found; apt-get install chromium)"
    fi
    prepared main || return 0
    local folder=${environment[0]}
    check ruff "$folder/bin/python" -m ruff check --output-format concise .
    check "ruff format" "$folder/bin/python" -m ruff format --check --diff --quiet .
    check mypy "$folder/bin/python" -m mypy shared tf_seresnet
    check shellcheck "$folder/bin/shellcheck" -x run_gpu.sh run_npu.sh eval.sh tests/run.sh benchmarks/run.sh .ci/run scripts/*.sh \
        torch_imagenet/test/*.sh torch_imagenet/test/*/*.sh tf_seresnet/test/*.sh tests/faults/run.sh tests/support/browser.sh
    run_own_tests main "$folder" '' tests/shared tests/tf_seresnet tests/end_to_end \
        tests/benchmarks tests/faults tests/support tests/test_architecture.py
}

run_audit() {
    wanted audit || return 0
    local status=0 said
    prepared audit || return 0
    said=$("${environment[0]}/bin/python" "$KIT_ROOT/scripts/audit.py") || status=$?
    printf '%s\n' "$said"
    said=${said##*$'\n'}
    case $status in
        0) outcome "audit: passed ($said)" ;;
        3) not_run audit "$said" ;;
        *) outcome "audit: FAILED ($said)" failed ;;
    esac
}

run_torch() {
    can_run torch || return 0
    check "torch: mypy" "${environment[0]}/bin/python" -m mypy torch_imagenet
    # The last has tests that need aiohttp, which is the ImageNet half's.
    run_own_tests torch "${environment[0]}" '' tests/torch_imagenet tests/benchmarks tests/scaling tests/faults \
        tests/shared/imagenet/test_download_cache.py
    ! grep -qs "no GPU that torch can use" "$scratch/torch.xml" ||
        outcome "torch, gpu: NOT RUN (no GPU that torch can use: the tests marked gpu)"
}

run_torch_npu() {
    case " $environments " in
        *" torch-npu "*) ! can_run torch-npu || run_own_tests torch-npu "${environment[0]}" '' tests/fakes/torch_npu_names ;;
    esac
}

run_old() { # NAME MARKERS PATH ...
    local name=$1
    shift
    ! can_run "$name" || run_own_tests "$name" "${environment[0]}" "$@"
}

# Makes an environment ready; not where it is left out, or this machine cannot run it.
can_run() { # NAME -> array environment
    wanted "$1" || return 1
    local why
    why=$(hindrance "$1")
    if [ -n "$why" ]; then
        not_run "$1" "$why"
        return 1
    fi
    prepared "$1"
}

args=()
workers=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || workers=2
[ "$workers" -le 8 ] || workers=8 # each worker holds a TensorFlow

others=()
for name in $environments; do
    case $name in
        main | torch-npu) ;;
        audit | torch | tf115 | tf26) others+=("$name") ;;
        *) fail "KIT_TEST_ENVS has no environment called $name; choose from main, audit, torch, tf115, tf26 and" \
            "torch-npu" ;;
    esac
done
install_meanwhile ${others[@]+"${others[@]}"}
run_main
run_torch
run_torch_npu
run_old tf115 "not once" tests/shared tests/tf_seresnet tests/end_to_end tests/test_architecture.py
run_old tf26 "not once" tests/tf_seresnet tests/end_to_end/test_run.py
run_audit

title "summary"
printf '%s\n' "${summary[@]}"
if [ -n "$durations" ]; then
    printf '\n| part, %s workers | seconds |\n|---|---:|\n' "$workers"
    printf '%s\n' ${rows[@]+"${rows[@]}"} "| all | $SECONDS |"
fi
if [ -z "$full" ]; then
    printf '\nbash tests/run.sh --full also runs the tests marked slow, the Keras model on torch, TensorFlow 1.15.5 and'
    printf ' 2.6.5, and looks the pins up among the known vulnerabilities.\n'
fi
[ -z "$failed" ] || exit 1
