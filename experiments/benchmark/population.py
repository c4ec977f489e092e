"""How much faster many runs are as one program than one after another.

    python -m experiments.benchmark.population --config=configs/digits.py [--members=1,8,32] [--rounds=5]
    python -m experiments.benchmark.population --config=configs/digits.py --sweep=32 [--sample=4]

The first measures the compiled step in turn, round after round: one run of its own, populations of each size, and so
many separate dispatches of one run. The second trains so many members of the config's sweep as one population, beside a
sample of them as processes of experiments.train, and as runs one after another in one process that compiles each anew;
everything from the start to evaluation.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.timing import machine, measure_rates, median_ratio, seconds
from experiments.benchmark.workloads import train_steps
from vae_jax.config.command_line import Parser, run_program, whole
from vae_jax.config.parse import checked_config, load_sweep
from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.sweeps import groups
from vae_jax.training import executors
from vae_jax.training.setup import prepare

SOLO = "alone"


def main(argv: list[str]) -> int:
    """Measures the config of the command line and prints a table; the exit status."""
    parser = Parser("experiments.benchmark.population", __doc__, config=True, launcher="python -m")
    parser.flag("members", sizes, (1, 8, 32), "N,...", "sizes of the populations whose steps are timed")
    parser.flag("rounds", whole(1), 5, "N", "times that everything is timed")
    parser.flag("sweep", whole(1), None, "N", "members of the config's sweep to train from start to end instead")
    parser.flag("sample", whole(1), 4, "N", "of these, how many are trained one after another too")
    flags, overrides = parser.parse(argv)
    if flags.sweep is not None:
        time_sweep(flags.config, flags.sweep, flags.sample)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
        time_steps(checked_config(flags.config, overrides), flags.members, flags.rounds)
    return 0


def sizes(value: str) -> tuple[int, ...]:
    """A flag of whole numbers of at least 1 with commas between."""
    words = value.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"{value!r} is not allowed; give whole numbers of at least 1")
    return tuple(int(word) for word in words)


def time_steps(config: ConfigDict, members: Sequence[int], rounds: int) -> None:
    """Prints the steps a second of all members together, for populations of each size."""
    devices = executors.local_devices(config.parallel.devices)
    setup = prepare(config)
    workloads, compile_seconds = {}, {}
    for size in members:
        configs, name = [with_seed(config, seed) for seed in range(size)], str(size)
        workloads[name], compile_seconds[name] = train_steps(setup, configs, setup.member_executor(devices))
    solo, executor = [with_seed(config, 0)], executors.DataParallel(devices[:1])
    workloads[SOLO], compile_seconds[SOLO] = train_steps(setup, solo, executor)
    rates = measure_rates(workloads, rounds)
    batch = config.train.batch_size
    print(f"{config.variant.name} on {config.data.name}, {config.net.name}, batch {batch}; {machine(len(devices))}")
    print("| members | steps/s of all together | times one alone | seconds to compile |\n|---|---|---|---|")
    for name, images in rates.items():
        ratio = median_ratio(images, rates[SOLO])
        print(f"| {name} | {np.median(images) / batch:,.0f} | {ratio:.2f} | {compile_seconds[name]:.1f} |")


def with_seed(config: ConfigDict, seed: int) -> ConfigDict:
    """The config of another seed."""
    return ConfigDict({**config.to_dict(), "seed": seed})


TRAIN_ALL = """
import sys, jax
from vae_jax import cli
jax.config.update("jax_enable_compilation_cache", False)
for words in sys.argv[1:]:
    jax.clear_caches()
    assert cli.train(words.split()) == 0
"""
"""Trains the runs of its command lines one after another, each compiled anew."""


def time_sweep(file: str, count: int, sample: int) -> None:
    """Prints the seconds for `count` members of the config's sweep, and for as many runs one after another.

    Raises UserError where the sweep has fewer.
    """
    runs = groups.plan_runs(file, [], load_sweep(file))[:count]
    if len(runs) < count:
        raise UserError(f"--sweep: {count} is not allowed; the sweep of {file} has {len(runs)} runs")
    half = -(-sample // 2)
    with tempfile.TemporaryDirectory() as folder:
        words = [[*run.words, f"--workdir={folder}/solo{i}"] for i, run in enumerate(runs[:sample])]
        before = [time_processes(words[:half]), time_one_process(words[:half])]
        population = time_population(Path(folder), runs)
        after = [time_processes(words[half:]), time_one_process(words[half:])]
    print(f"{count} runs of {file}, start to evaluation.json\n\n| | seconds | times the population |\n|---|---|---|")
    print(f"| a population of {count} | {population:.0f} | 1.00 |")
    names = "processes of `experiments.train`", "runs one after another in one process, each compiled anew"
    for name, *halves in zip(names, before, after, strict=True):
        total = count * float(np.median(np.concatenate(halves)))
        print(f"| {name}, {count} x the median of {sample} | {total:.0f} | {total / population:.2f} |")


def time_processes(words: Sequence[list[str]]) -> list[float]:
    """The seconds of each of these runs as a process of its own."""
    return [seconds(partial(call, [sys.executable, "-m", "experiments.train", *line])) for line in words]


def time_one_process(words: Sequence[list[str]]) -> list[float]:
    """The mean seconds of these runs one after another in one process; nothing where there are none."""
    if not words:
        return []
    lines = [" ".join(line) + "_one_process" for line in words]
    return [seconds(partial(call, [sys.executable, "-c", TRAIN_ALL, *lines])) / len(lines)]


def time_population(folder: Path, runs: Sequence[groups.PlannedRun]) -> float:
    """The seconds of these runs as one population, with a core a device."""
    members = folder / "members.json"
    write_json(members, [{"workdir": f"{folder}/{run.id}", "words": run.words} for run in runs])
    cores = len(os.sched_getaffinity(0))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={cores}"
    command = [sys.executable, "-m", "experiments.population", f"--members={members}"]
    return seconds(partial(call, command, XLA_FLAGS=flags))


def call(command: Sequence[str], **environment: str) -> None:
    """Runs a program to its end. Raises UserError where it fails."""
    process = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if process.returncode:
        ending = f"{process.stdout[-500:]}{process.stderr[-500:]}"
        raise UserError(f"{command[2]}: ended with status {process.returncode}: {ending}")


if __name__ == "__main__":
    run_program(main)
