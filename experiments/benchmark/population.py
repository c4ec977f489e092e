"""How much faster many runs are as one program than one after another.

    python -m experiments.benchmark_population --config=configs/digits.py [--members=1,8,32] [--rounds=5]
    python -m experiments.benchmark_population --config=configs/digits.py --whole=32 [--sample=4]

The first measures the compiled step in turn, round after round: one run of its own, populations of each size, and so
many separate dispatches of one run. The second launches so many members of the config's sweep (launch.local), beside a
sample of them as processes of experiments.train, and as runs one after another in one process that compiles each anew;
everything from the start to evaluation.json.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.__main__ import Work, in_turn
from vae_jax import data, model, randomness
from vae_jax.config.command_line import run_program
from vae_jax.config.parse import DEFAULT, load_sweep, parse_config
from vae_jax.errors import UserError
from vae_jax.training import executors
from vae_jax.training.loop import compile_program
from vae_jax.training.setup import initial_state_fn, prepare


def main(argv: list[str]) -> int:
    """Measures the config of the command line and prints what was found; the exit status."""
    config, own = parse_config(argv, ("config", "members", "rounds", "whole", "sample"))
    numbers = {name: _numbers(name, own.get(name, text)) for name, text in DEFAULTS.items()}
    if "whole" in own:
        whole(own, numbers["whole"][0], numbers["sample"][0])
    else:
        steps(config, numbers["members"], numbers["rounds"][0])
    return 0


DEFAULTS = {"members": "1,8,32", "rounds": "5", "whole": "32", "sample": "4"}


def _numbers(name: str, text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"--{name}: {text!r} is not allowed; give whole numbers of at least 1")
    return [int(word) for word in words]


def steps(config: ConfigDict, sizes: list[int], rounds: int) -> None:
    """Prints the steps a second of all members together, for populations of each size."""
    devices = executors.local_devices(config.parallel.devices)
    dataset, built = prepare(config)
    timed, compiling = {}, {}
    for size in sizes:
        timed[size], compiling[size] = dispatch(config, dataset, built, executors.member_parallel(devices), size)
    timed["alone"], compiling["alone"] = dispatch(config, dataset, built, executors.data_parallel(devices[:1]), 1)
    rates = in_turn(timed, rounds)
    where = f"{len(devices)} x {devices[0].device_kind}, jax {jax.__version__}"
    print(f"{config.variant.name} on {config.data.name}, {config.net.name}, batch {config.train.batch_size}; {where}")
    print("| members | steps/s of all together | times one alone | seconds to compile |\n|---|---|---|---|")
    for size, found in rates.items():
        ratio = np.median(np.asarray(found) / np.asarray(rates["alone"]))
        print(f"| {size} | {np.median(found):,.0f} | {ratio:.2f} | {compiling[size]:.1f} |")


def dispatch(
    config: ConfigDict, dataset: data.Dataset, built: model.Model, placement: executors.Placement, size: int
) -> tuple[Work, float]:
    """One dispatch of a population whose seeds differ, and the seconds that compiling it took."""
    configs = [ConfigDict({**config.to_dict(), "seed": seed}) for seed in range(size)]
    program = compile_program(configs, dataset, built, placement)
    start, many = initial_state_fn(config, dataset, built), config.train.dispatch
    state = placement.place([jax.device_get(start(randomness.root_key(seed))) for seed in range(size)])
    streams = [data.index_stream(seed, 0, many, dataset.train.size, config.train.batch_size) for seed in range(size)]
    rest = (np.stack(streams), program.key, program.hyper, np.ones(size, bool))
    began = time.perf_counter()
    program.take_steps.lower(program.split, state, *rest).compile()
    seconds = time.perf_counter() - began

    def call():
        nonlocal state
        state, _ = program.take_steps(program.split, state, *rest)
        jax.block_until_ready(state)

    call()
    return Work(call, many * size, "steps"), seconds


ANEW = """
import sys, jax
from experiments import settings, train
jax.config.update("jax_enable_compilation_cache", False)
for words in sys.argv[1:]:
    jax.clear_caches()
    assert train.main(words.split()) == 0
"""


def whole(own: dict[str, str], count: int, sample: int) -> None:
    """Prints the seconds for `count` members of the config's sweep, and for as many runs one after another."""
    from vae_jax.sweeps import algebra

    file = own.get("config", DEFAULT)
    runs = algebra.runs(file, [], load_sweep(file))[:count]
    if len(runs) < count:
        raise UserError(f"--whole: {count} is not allowed; the sweep of {file} has {len(runs)} runs")
    taken: dict[str, list[float]] = {"processes": [], "one process, each compiled anew": [], "population": []}
    with tempfile.TemporaryDirectory() as folder:
        words = [[*run.words, f"--workdir={folder}/alone{i}"] for i, run in enumerate(runs[:sample])]
        half = -(-sample // 2)
        for number, part in enumerate((words[:half], words[half:])):
            for some in part:
                taken["processes"].append(_seconds([sys.executable, "-m", "experiments.train", *some]))
            again = [" ".join(some) + "_anew" for some in part]
            if again:
                each = _seconds([sys.executable, "-c", ANEW, *again]) / len(again)
                taken["one process, each compiled anew"].append(each)
            if number == 0:
                members = Path(folder) / "members.json"
                write(members, runs, folder)
                cores = len(os.sched_getaffinity(0))
                flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={cores}"
                taken["population"].append(
                    _seconds([sys.executable, "-m", "experiments.population", f"--members={members}"], XLA_FLAGS=flags)
                )
    together = taken.pop("population")[0]
    print(f"{count} runs of {file}, start to evaluation.json\n\n| | seconds | times the population |\n|---|---|---|")
    print(f"| a population of {count} | {together:.0f} | 1.00 |")
    for name, seconds in taken.items():
        alone = count * float(np.median(seconds))
        print(f"| {name}, {count} x the median of {sample} | {alone:.0f} | {alone / together:.2f} |")


def write(file: Path, runs: list, folder: str) -> None:
    """The members' file of these runs."""
    from vae_jax.training.writers import write_json

    write_json(file, [{"workdir": f"{folder}/{run.id}", "words": run.words} for run in runs])


def _seconds(command: list[str], **environment: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{command[2]}: ended with status {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return time.perf_counter() - began


if __name__ == "__main__":
    if not any(word.startswith("--whole") for word in sys.argv):
        jax.config.update("jax_enable_compilation_cache", False)
    run_program(main, __doc__)
