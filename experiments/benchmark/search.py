"""Whether a sampler searches better than chance, and how much faster a search is than its trials one by one.

    python -m experiments.benchmark.search --config=configs/digits.py --workdir=runs/samplers [--samplers=tpe,random]
    python -m experiments.benchmark.search --config=configs/digits.py --workdir=runs/speed --sample=8

The first searches with each sampler as often as --repetitions says, and prints the best score of the validation split
after so many trials, the test score of the trial that is chosen in the end, and the paired difference from the last
sampler with its 95% interval. The second searches once, and beside it trains a sample of the trials as processes of
vae-jax train, from the start to evaluation.json.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_jax.comparison.intervals import paired_test
from vae_jax.config.command_line import Parser, path, run_program, whole, words
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.sweeps.study import read_plan
from vae_jax.sweeps.trial_records import SearchTrials, read_trials

PARTS = 4
"""Into how many a search is divided whose best scores are shown."""


def main(argv: list[str]) -> int:
    """Searches, and prints a table; the exit status."""
    parser = Parser("experiments.benchmark.search", __doc__, config=True, launcher="python -m")
    parser.flag("workdir", path, None, "FOLDER", "where the searches lie; what has ended there is not searched again")
    parser.flag("samplers", words, ("tpe", "random"), "NAME,...", "the last is what the others are held against")
    parser.flag("trials", whole(1), 64, "N", "of each search")
    parser.flag("at_once", whole(1), 16, "N", "trials of a generation")
    parser.flag("repetitions", whole(2), 5, "N", "searches with each sampler, of other seeds")
    parser.flag("sample", whole(1), None, "N", "trials to train as processes, to time one search instead")
    flags, overrides = parser.parse(argv)
    if flags.workdir is None:
        raise UserError("--workdir: give a folder for the searches")
    shared = [f"--config={flags.config}", f"--trials={flags.trials}", f"--at_once={flags.at_once}"]
    shared += [f"--config.{field}={value}" for field, value in overrides]
    if flags.sample is not None:
        print_speed(flags.workdir, shared, flags.sample)
        return 0
    searches = {
        sampler: [_search(flags.workdir, shared, sampler, seed) for seed in range(flags.repetitions)]
        for sampler in flags.samplers
    }
    print("\n".join(sampler_table(searches)))
    return 0


def _search(folder: Path, shared: Sequence[str], sampler: str, seed: int) -> Path:
    """The folder of a search, which is there or is made now."""
    workdir = folder / f"{sampler}_{seed}"
    command = [sys.executable, "-m", "vae_jax", "search", *shared, f"--sampler={sampler}", f"--seed={seed}"]
    subprocess.run([*command, f"--workdir={workdir}"], check=True, stdout=subprocess.DEVNULL)
    return workdir


def sampler_table(searches: dict[str, list[Path]]) -> list[str]:
    """The rows of a table: a sampler's means over its searches, and the differences from the last sampler."""
    rows = {sampler: np.array([_scores(folder) for folder in folders]) for sampler, folders in searches.items()}
    last = list(rows)[-1]
    counts = _counts(next(iter(searches.values()))[0])
    head = ["sampler", *(f"best of {count}" for count in counts), "test, of the best of all"]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for sampler, scores in rows.items():
        lines.append(" | ".join([sampler, *(f"{mean:.3f}" for mean in scores.mean(axis=0))]))
    for sampler in list(rows)[:-1]:
        tests = [paired_test(pairs) for pairs in (rows[sampler] - rows[last]).T]
        cells = [f"{test.mean:+.3f} ({test.low:+.3f} to {test.high:+.3f})" for test in tests]
        lines.append(" | ".join([f"{sampler} - {last}", *cells]))
    return [f"| {line} |" for line in lines]


def _trials(folder: Path) -> SearchTrials:
    trials = read_trials(folder)
    if trials is None:
        raise UserError(f"{folder}: no trial of this search is complete")
    return trials


def _counts(folder: Path) -> list[int]:
    """After how many trials the best score is shown."""
    total = len(read_json(folder / "trials.json")["trials"])
    return [total * part // PARTS for part in range(1, PARTS + 1)]


def _scores(folder: Path) -> list[float]:
    """The best validation scores of a search after parts of its trials, and the test score of the best of all."""
    trials = _trials(folder)
    ((name, maximize),) = trials.objectives.items()
    choose = max if maximize else min
    best = [
        choose(trial["values"][name] for trial in trials.trials if trial["number"] < count) for count in _counts(folder)
    ]
    runs = trials.ranked()[0]["runs"]
    return [*best, float(np.mean([read_json(folder / run / "evaluation.json")[name] for run in runs]))]


def print_speed(folder: Path, shared: Sequence[str], sample: int) -> None:
    """Times one search, and a sample of its trials as processes; prints the ratio."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "vae_jax", "search", *shared, f"--workdir={folder / 'search'}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    together = time.perf_counter() - start
    plan = {run.id: run.words for run in read_plan(folder / "search")}
    runs = [run for trial in _trials(folder / "search").trials for run in trial["runs"]]
    start = time.perf_counter()
    for i, run in enumerate(runs[:: max(1, len(runs) // sample)][:sample]):
        words = [*plan[run], f"--workdir={folder / f'alone_{i}'}"]
        subprocess.run([sys.executable, "-m", "vae_jax", "train", *words], check=True, stdout=subprocess.DEVNULL)
    alone = (time.perf_counter() - start) / sample * len(runs)
    sampler = next(line for line in output.splitlines() if "the sampler took" in line)
    print(f"{len(runs)} runs: {together:.0f} s as a search, {alone:.0f} s as processes (from {sample} of them)")
    print(f"{together / alone:.2f} of their time; {sampler.rpartition(', ')[2]}")


if __name__ == "__main__":
    run_program(main)
