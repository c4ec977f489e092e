"""How fast a config trains here, against this machine's own limit.

    python -m experiments.benchmark --config=configs/mnist.py --config.data.path=FOLDER [--torch] [--rounds=7]
    python -m experiments.benchmark --config=configs/dsprites.py --config.data.path=FILE --layers [--torch] [--rounds=7]

Everything that is compared is measured in turn, round after round, and medians are printed: machines
are noisy, and ratios taken in one run hold where single times do not. --torch adds PyTorch's loop (benchmark_torch.py),
and the memory that both take; --layers measures the network's convolutions one by one instead (benchmark_layers.py).
"""

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.config.command_line import Arguments, run_program
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.training import executors
from vae_jax.training.evaluation import fetch_fn, make_hyper
from vae_jax.training.loop import compile_program
from vae_jax.training.setup import prepare
from vae_jax.training.signals import StopSignal
from vae_jax.training.step import initial_state, make_train_step
from vae_jax.training.train_run import train_run
from vae_jax.typing import AXIS

KNOWN, SWITCHES = ("config", "rounds"), ("torch", "layers")


def main(argv: list[str]) -> int:
    """Measures the config of the command line and prints what was found; the exit status."""
    config, own = parse_config(argv, KNOWN, SWITCHES)
    rounds = int(own.get("rounds", "7")) if own.get("rounds", "7").isdecimal() else 0
    if rounds < 1:
        raise UserError(f"--rounds: {own['rounds']!r} is not allowed; give a whole number of at least 1")
    devices = executors.local_devices(config.parallel.devices)
    dataset, built = prepare(config)
    executors.check_divides("config.train.batch_size", config.train.batch_size, devices)
    if own.get("layers") == "true":
        from experiments.benchmark import layers

        layers.table(config, built, dataset.image_shape, rounds, own.get("torch") == "true")
        return 0

    compiled, compile_seconds = compiled_steps(config, dataset, built, devices)
    flops = flops_per_step(config, dataset, built)
    timed = {"step": compiled, "matmul of the widest layer": layer_matmul(config, built, dataset.image_shape, devices)}
    timed["matmul 1024 x 1024"] = square_matmul(devices)
    if config.data.binarize != "none":
        grey = config.copy_and_resolve_references()
        grey.data.binarize = "none"
        timed["step without binarisation"] = compiled_steps(grey, dataset, built, devices)[0]
    with contextlib.ExitStack() as processes:
        if own.get("torch") == "true":
            from experiments.benchmark import pytorch

            pytorch.check(config, dataset.image_shape)
            command = pytorch.command(of_config(argv))
            for name, environment in pytorch.LOOPS.items():
                started = processes.enter_context(pytorch.started(command, environment))
                timed[name] = Work(*started, "images")
        before = in_turn(timed, rounds)
    whole = whole_runner(config, dataset, built, devices)
    after = in_turn({"step": timed["step"]}, rounds)
    report(config, devices, compile_seconds, flops, before, whole, before["step"] + after["step"])
    if own.get("torch") == "true":
        report_memory(of_config(argv))
    return 0


@dataclasses.dataclass
class Work:
    """Something to time: `call()` does `amount` of `unit` and returns when it is done."""

    call: Callable[[], None]
    amount: float
    unit: str


def in_turn(timed: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """The rates of each work, all of them once in every round."""
    rates: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, work in timed.items():
            began = time.perf_counter()
            work.call()
            rates[name].append(work.amount / (time.perf_counter() - began))
    return rates


def compiled_steps(config: ConfigDict, dataset: data.Dataset, built: model.Model, devices: list) -> tuple[Work, float]:
    """One dispatch of the compiled train step, and the seconds that compiling it took."""
    steps, placement = config.train.dispatch, executors.data_parallel(devices)
    program = compile_program([config], dataset, built, placement)
    state = placement.place([jax.jit(lambda: initial_state(built, config, dataset.image_shape))()])
    indices = data.index_stream(config.seed, 0, steps, dataset.train.size, config.train.batch_size)[None]
    rest = (indices, program.key, program.hyper, np.ones(1, bool))
    began = time.perf_counter()
    program.take_steps.lower(program.split, state, *rest).compile()
    seconds = time.perf_counter() - began

    def call():
        nonlocal state
        state, _ = program.take_steps(program.split, state, *rest)
        jax.block_until_ready(state)

    call()
    return Work(call, steps * config.train.batch_size, "images"), seconds


def flops_per_step(config: ConfigDict, dataset: data.Dataset, built: model.Model) -> float:
    """Floating-point operations of one step on the whole batch, by XLA's own cost analysis.

    Of a lone step: XLA counts the body of a loop once, however often it runs.
    """
    split = jax.tree.map(jnp.asarray, dataset.train)
    step = make_train_step(built.nets, built.variant, built.optimizer, fetch_fn(config)(split), config.train.ema)
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None), axis_name=AXIS))
    state = jax.eval_shape(lambda: initial_state(built, config, dataset.image_shape))
    indices = jax.ShapeDtypeStruct((1, config.train.batch_size), jnp.int32)
    cost = (
        lifted.lower(state, indices, randomness.root_key(config.seed), make_hyper(config, built))
        .compile()
        .cost_analysis()
    )
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def layer_matmul(config: ConfigDict, built: model.Model, image_shape: tuple[int, int, int], devices: list) -> Work:
    """The batch through the widest dense layer and back, over and over: this network's own limit."""
    params = jax.eval_shape(lambda: initial_state(built, config, image_shape)).params
    rows, columns = max((leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2), key=np.prod)
    batch, repeats = config.train.batch_size // len(devices), 50
    dtype = jnp.dtype(config.net.dtype)
    weights, x = jnp.full((rows, columns), 1 / rows, dtype), jnp.ones((len(devices), batch, rows), dtype)

    def chain(x, weights):
        there_and_back = lambda x, _: ((x @ weights) @ weights.T, None)  # noqa: E731
        return jax.lax.scan(there_and_back, x, None, length=repeats)[0]

    lifted = jax.pmap(chain, in_axes=(0, None), devices=devices)
    return _matmul_work(lambda: lifted(x, weights), 4 * repeats * len(devices) * batch * rows * columns)


def square_matmul(devices: list) -> Work:
    """A product of two 1024 x 1024 float32 matrices: the usual yardstick of a machine."""
    size, repeats = 1024, 5
    a, b = jnp.ones((len(devices), size, size)), jnp.full((size, size), 1 / size)
    chain = lambda a, b: jax.lax.scan(lambda a, _: (a @ b, None), a, None, length=repeats)[0]  # noqa: E731
    lifted = jax.pmap(chain, in_axes=(0, None), devices=devices)
    return _matmul_work(lambda: lifted(a, b), 2 * repeats * len(devices) * size**3)


def _matmul_work(call: Callable, flops: float) -> Work:
    jax.block_until_ready(call())
    return Work(lambda: jax.block_until_ready(call()), flops, "FLOP")


def whole_runner(config: ConfigDict, dataset: data.Dataset, built: model.Model, devices: list) -> float:
    """Images per second of the runner, logging, checkpoints and evaluation included, once it has compiled.

    Runs in a folder of its own, and counts from the first evaluation, when all is compiled, over two more periods.
    """
    config = config.copy_and_resolve_references()
    config.train.steps = 3 * config.evaluation.every
    never = StopSignal(lambda number: number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        print(f"the whole runner, {config.train.steps} steps ...", flush=True)
        with open(path / "log", "w") as log, contextlib.redirect_stdout(log):
            train_run(config, path, dataset, model.build(config, dataset.image_shape), devices, never)
        records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    first = next(record for record in records if record["split"] == "test")
    steps = records[-1]["step"] - first["step"]
    return steps * config.train.batch_size / (records[-1]["seconds"] - first["seconds"])


def report(config, devices, compile_seconds, flops, rates, whole, step_rates) -> None:
    """Prints medians, and the ratios that the project holds itself to."""
    median = {name: float(np.median(values)) for name, values in rates.items()}
    step, batch = median["step"], config.train.batch_size
    flops_per_image = flops / batch
    where = f"{len(devices)} x {devices[0].device_kind}, jax {jax.__version__}"
    print(f"{config.variant.name} on {config.data.name}, {config.net.name}, batch {batch}; {where}")
    rows = [
        ("compile", f"{compile_seconds:.2f} s", "the program of one dispatch, without a cache"),
        (
            "compiled step",
            f"{step:,.0f} images/s",
            f"{step / batch:,.1f} steps/s, {config.train.dispatch} steps a dispatch",
        ),
        ("FLOPs", f"{flops:.4g} a step", "XLA's cost analysis"),
        ("step", f"{step * flops_per_image / 1e9:,.1f} GFLOP/s", ""),
    ]
    for name in ("matmul of the widest layer", "matmul 1024 x 1024"):
        share = _paired(rates["step"], rates[name]) * flops_per_image
        rows.append((name, f"{median[name] / 1e9:,.1f} GFLOP/s", f"the step reaches {share:.0%} of it"))
    if "step without binarisation" in rates:
        share = _paired(rates["step without binarisation"], rates["matmul of the widest layer"]) * flops_per_image
        rows.append(
            (
                "without binarisation",
                f"{median['step without binarisation']:,.0f} images/s",
                f"{share:.0%} of the widest layer's matmul; {config.data.binarize} binarisation costs "
                f"{1 - _paired(rates['step'], rates['step without binarisation']):.1%}",
            )
        )
    rows.append(
        (
            "whole runner",
            f"{whole:,.0f} images/s",
            f"{whole / np.median(step_rates):.0%} of the compiled step before and after",
        )
    )
    for name in [name for name in rates if name.startswith("PyTorch")]:
        ratio = _paired(rates["step"], rates[name])
        steps = f"{median[name] / batch:,.1f} steps/s"
        rows.append((name, f"{median[name]:,.0f} images/s", f"{steps}; ours is {ratio:.2f} times as fast"))
    for name, value, note in rows:
        print(f"  {name:<27}{value:>20}  {note}")


def of_config(argv: list[str]) -> list[str]:
    """The words of a command line that make its config, each in one piece."""
    own, overrides = Arguments(KNOWN, SWITCHES).parse(argv)
    file = [f"--config={own['config']}"] if "config" in own else []
    return [*file, *(f"--config.{field}={value}" for field, value in overrides)]


def report_memory(words: list[str]) -> None:
    """Prints the most memory that training takes in a process of its own, ours and PyTorch's."""
    from experiments.benchmark.memory import OF, peak

    ours, steps, theirs = (peak(of, words) / 2**20 for of in OF)
    print(f"  {'memory of training':<27}{steps:>16,.0f} MiB  {steps / theirs:.2f} times PyTorch's {theirs:,.0f} MiB")
    print(f"  {'with compiling':<27}{ours:>16,.0f} MiB  {ours / theirs:.2f} times")


def _paired(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return float(np.median(np.asarray(ours) / np.asarray(theirs)))


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    run_program(main, __doc__)
