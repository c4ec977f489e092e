#!/usr/bin/env bash
# Measures an accelerator, in parts of at most two minutes each, into one JSON file, without a network:
#
#     experiments/benchmark/accelerator.sh [accelerator.json] [--tiny]
#
# Each part is a process of its own with a limit of two minutes. A part that fails or is stopped is recorded with its
# reason and the others go on; the same command again measures only what is missing. --tiny tries it on a CPU.
# docs/accelerators.md is then written by: python -m experiments.benchmark.accelerator --page --json=accelerator.json
#
# What must be there: Python 3.11 or newer, JAX with its plugin for the device (jax[cuda12] or jax[tpu]; of a GPU the
# driver too), and the dependencies in pyproject.toml. To carry them to a machine without a network, download once for
# its Python and processor, on one that is like it, and install from the folder:
#
#     python3 -m pip download --dest wheels '.[cuda]' setuptools wheel
#     python3 -m pip install --no-index --find-links wheels '.[cuda]'
#
# Environment: PYTHON (python3), PARTS (names with spaces between; all), LIMIT (seconds of a part; 120), COMMIT (what the
# file says where the clone is carried without git).
set -euo pipefail

file=accelerator.json
if [[ $# -gt 0 && $1 != --* ]]; then
    file=$1
    shift
fi
file=$(realpath -m -- "$file")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export XLA_PYTHON_CLIENT_PREALLOCATE=false # or the peak of memory is that of the allocator
export WANDB_MODE=disabled TPU_SKIP_MDS_QUERY="${TPU_SKIP_MDS_QUERY:-1}" # nothing asks a server
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
program=("${PYTHON:-python3}" -m experiments.benchmark.accelerator)
limit=${LIMIT:-120}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

names=${PARTS:-$("${program[@]}" --list)}
read -r -a parts <<< "${names//$'\n'/ }"
failed=()
for part in "${parts[@]}"; do
    status=0
    timeout --kill-after=10 "$limit" "${program[@]}" --part="$part" --json="$file" "$@" 2> "$errors" || status=$?
    if [[ $status -eq 2 ]]; then # what was asked for is wrong, for every part alike
        cat "$errors" >&2
        exit 2
    elif [[ $status -ne 0 ]]; then
        failed+=("$part")
        cat "$errors" >> "$file.log"
        reason=$(grep -v '^ *$' "$errors" | tail -n 1 | tr -d '\000-\037' | cut -c 1-200 || true)
        [[ $status -eq 124 || $status -eq 137 ]] && reason="stopped after $limit s"
        echo "$part: ${reason:=ended with status $status}" >&2
        "${program[@]}" --part="$part" --json="$file" --failed="$reason"
    fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "$file: without ${failed[*]} (see $file.log); the same command measures what is missing" >&2
    exit 1
fi
echo "$file"
