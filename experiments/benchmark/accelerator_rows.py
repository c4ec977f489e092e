"""How each row of an accelerator's tables is measured."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.accelerator_scale import (
    Scale,
    device,
    make_network,
    members,
    one_run,
    population,
    steps_per_second,
)
from experiments.benchmark.timing import Workload, measure_rates, median_ratio
from experiments.benchmark.workloads import CONVOLUTIONS, make_training, train_steps
from vae_jax import data, randomness
from vae_jax.config.parse import load_config
from vae_jax.models.networks import _convolution
from vae_jax.training import executors, memory
from vae_jax.training.executors import Executor, MemberParallel
from vae_jax.training.open_run import open_run
from vae_jax.training.placement import place
from vae_jax.training.scan import AT_ONCE, IN_TURN, MemberMap, with_singleton_axis
from vae_jax.training.setup import Setup, tree_bytes
from vae_jax.training.step import TrainState, make_hyper
from vae_jax.training.train_run import train_in_folder

Row = dict[str, Any]
"""A measurement: numbers by the columns of its part, or a `reason` why there are none."""

DOES_NOT_FIT = {"reason": "does not fit"}


@cache
def solo(name: str, scale: Scale) -> tuple[Workload, float]:
    """The dispatches of one run, and the seconds of compiling them."""
    setup = make_network(name, scale)
    return train_steps(setup, [setup.config], one_run())


@cache
def needed_bytes(name: str, scale: Scale) -> int:
    """What the plan of a population takes one member to add to the device."""
    setup = make_network(name, scale)
    return memory.member_bytes(setup, population(setup))


def matmul_row(scale: Scale, dtype: str, precision: str) -> Row:
    """The rate of products of square matrices, and by how much one differs from that of whole float32."""
    size, draw = scale.matmul, np.random.default_rng(0).standard_normal
    x, weights = (jnp.asarray(draw((size, size)) / np.sqrt(size), jnp.float32) for _ in range(2))

    def product(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.matmul(x, weights, precision=precision)

    def chain(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (product(x, weights), None), x, length=scale.products)[0]

    exact = jnp.matmul(x, weights, precision="highest")
    x, weights = x.astype(dtype), weights.astype(dtype)
    error = jnp.linalg.norm(jax.jit(product)(x, weights).astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
    compiled = jax.jit(chain)

    def run() -> None:
        jax.block_until_ready(compiled(x, weights))

    run()
    rates = measure_rates({"product": Workload(run, 2 * size**3 * scale.products)}, scale.rounds)
    return {"teraflops": float(np.median(rates["product"])) / 1e12, "error": float(error)}


def solo_row(name: str, scale: Scale) -> Row:
    """The steps a second of one run."""
    workload, compile_seconds = solo(name, scale)
    rates = measure_rates({"alone": workload}, scale.rounds)["alone"]
    return {"steps": steps_per_second(name, scale, rates), "ratio": 1.0, "compile": compile_seconds}


def population_row(name: str, scale: Scale, size: int) -> Row:
    """The steps a second of all members together, beside one run in turn, and their memory beside the forecast."""
    setup = make_network(name, scale)
    executor = population(setup)
    split = jax.eval_shape(lambda split: split, setup.dataset.train)
    forecast = size * needed_bytes(name, scale) + tree_bytes(split)
    if forecast > memory.FILLED * executors.free_bytes(executor.devices):
        return DOES_NOT_FIT
    alone, _ = solo(name, scale)
    before = peak_bytes()
    workload, compile_seconds = train_steps(setup, members(setup, size), executor)
    rates = measure_rates({"alone": alone, "together": workload}, scale.rounds)
    peak = peak_bytes()
    return {
        "steps": steps_per_second(name, scale, rates["together"]),
        "ratio": median_ratio(rates["together"], rates["alone"]),
        "compile": compile_seconds,
        "forecast": forecast / 2**20,
        "peak": peak / 2**20 if peak > before else None,  # else it is of what was measured before
    }


def peak_bytes() -> int:
    """The most memory that was in use on the device since the process began; 0 where it does not say."""
    return (device().memory_stats() or {}).get("peak_bytes_in_use", 0)


@dataclass
class Scan:
    """A compiled scan of train steps and the state that it takes on."""

    compiled: Callable[[Any, TrainState, np.ndarray], TrainState]
    split: Any
    state: TrainState
    indices: np.ndarray

    def run(self) -> None:
        """Takes the steps of one call and waits for them."""
        self.state = jax.block_until_ready(self.compiled(self.split, self.state, self.indices))


@cache
def unrolled_scan(name: str, scale: Scale, unroll: int) -> Workload:
    """The dispatch of one run with `unroll` steps in the body of its scan, in steps."""
    setup = make_network(name, scale)
    config = setup.config
    key, hyper = randomness.root_key(config.seed), make_hyper(config, setup.model)

    def scan(split: Any, state: TrainState, indices: jax.Array) -> TrainState:
        step = with_singleton_axis(setup.train_step(split))
        return jax.lax.scan(lambda state, batch: step(state, batch, key, hyper), state, indices, unroll=unroll)[0]

    steps = config.train.dispatch
    indices = data.index_stream(config.seed, 0, steps, setup.dataset.train.size, config.train.batch_size)
    split, state = place(setup.dataset.train, config, [device()]), setup.initial_state(key)
    split, state, indices = jax.device_put((split, state, indices), device())  # as what is computed lies, or the second
    call = Scan(jax.jit(scan, donate_argnums=1), split, state, indices)  # call is compiled anew
    call.run()
    return Workload(call.run, steps)


def unroll_row(name: str, scale: Scale, unroll: int) -> Row:
    """The steps a second, beside the first of the scale in turn."""
    workloads = {each: unrolled_scan(name, scale, each) for each in (scale.unroll[0], unroll)}
    rates = measure_rates({str(each): workload for each, workload in workloads.items()}, scale.rounds)
    own, first = rates[str(unroll)], rates[str(scale.unroll[0])]
    return {"steps": float(np.median(own)), "ratio": median_ratio(own, first)}


def command_row(measure: Callable[[], Row]) -> Row:
    """What is measured, on a GPU: nothing else has command buffers."""
    return measure() if device().platform == "gpu" else {"reason": "of GPUs alone"}


def convolution_row(scale: Scale, size: int, over: MemberMap) -> Row:
    """The steps a second of the convolutional network with either convolution, in turn; 0 members are one run."""
    setup, workloads = make_network("conv", scale), {}
    for kind, replaced in CONVOLUTIONS.items():
        with mock.patch.multiple(_convolution, **replaced):
            executor = MemberParallel([device()], map=over) if size else one_run()
            workloads[kind], _ = train_steps(setup, members(setup, size or 1), executor)
    rates = measure_rates(workloads, scale.rounds)
    steps = {kind: steps_per_second("conv", scale, own) for kind, own in rates.items()}
    return {**steps, "ratio": median_ratio(rates["blocks"], rates["windows"])}


def over_row(name: str, scale: Scale, size: int) -> Row:
    """The steps a second of all members together, one after another and all at once."""
    setup, workloads = make_network(name, scale), {}
    for way, over in {"in_turn": IN_TURN, "at_once": AT_ONCE}.items():
        executor = MemberParallel([device()], map=over)
        workloads[way], _ = train_steps(setup, members(setup, size), executor)
    rates = measure_rates(workloads, scale.rounds)
    steps = {way: steps_per_second(name, scale, own) for way, own in rates.items()}
    return {**steps, "ratio": median_ratio(rates["at_once"], rates["in_turn"])}


def repeated_row(name: str, scale: Scale) -> Row:
    """A run and the same run again."""
    setup = make_network(name, scale)
    first, again = (last_states(setup, [setup.config], one_run())[0] for _ in range(2))
    return difference(first, again) | {"steps": setup.config.train.dispatch}


def member_row(name: str, scale: Scale, size: int, precision: str | None) -> Row:
    """The last member of a population and the run that it would be alone, with products of this precision."""
    setup = make_network(name, scale)
    configs = members(setup, size)
    with jax.default_matmul_precision(precision):
        together = last_states(setup, configs, population(setup))[-1]
        alone = last_states(setup, configs[-1:], one_run())[0]
    return difference(together, alone) | {"steps": setup.config.train.dispatch}


def last_states(setup: Setup, configs: list[ConfigDict], executor: Executor) -> list[Any]:
    """The parameters of each run after one dispatch."""
    training = make_training(setup, configs, executor)
    training.dispatch()
    return [state.params for state in executor.to_host(training.state)[: len(configs)]]


def resumed_row(scale: Scale) -> Row:
    """A run of the digits that goes on from its checkpoint at half its steps, and one that is never stopped."""
    steps = scale.resumed
    usual = {"log.pictures": False, "checkpoint.every": steps // 2, "parallel.devices": 1}
    fields = usual | dict(scale.fields["digits"])
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence), tempfile.TemporaryDirectory() as folder:
        for name, until in (("stopped", steps // 2), ("stopped", steps), ("whole", steps)):
            train_in_folder(load_config("digits", **fields | {"train.steps": until}), Path(folder) / name)
        stopped, whole = (open_run(Path(folder) / name).params for name in ("stopped", "whole"))
    return difference(stopped, whole) | {"steps": steps}


def difference(params: Any, reference: Any) -> Row:
    """Whether two trees of parameters have the same bits, else how far they are apart at most."""
    pairs = list(zip(*map(jax.tree.leaves, jax.device_get((params, reference))), strict=True))
    largest = max(float(np.max(np.abs(b), initial=0)) for _, b in pairs)
    return {
        "equal": all(np.array_equal(a, b) for a, b in pairs),
        "difference": max(float(np.max(np.abs(a - b), initial=0)) for a, b in pairs) / largest,
    }
