"""Workloads timed in turn, round after round: a slow moment of the machine falls on all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import jax
import numpy as np

from vae_jax.config.command_line import run_program

Rates = dict[str, np.ndarray]
"""Amount per second by workload, one number a round."""


@dataclass(frozen=True)
class Workload:
    """Something to time: `run()` does `amount` of work (images, FLOPs, calls) and returns once it is done."""

    run: Callable[[], object]
    amount: float


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure_rates(workloads: Mapping[str, Workload], rounds: int) -> Rates:
    """The rate of each workload in each round; all of them run once in every round."""
    rates = {name: np.zeros(rounds) for name in workloads}
    for index in range(rounds):
        for name, workload in workloads.items():
            rates[name][index] = workload.amount / seconds(workload.run)
    return rates


def median_ratio(rates: np.ndarray, reference: np.ndarray) -> float:
    """The median over rounds of the ratio within a round, which holds where single times do not."""
    return float(np.median(rates / reference))


def machine(devices: int) -> str:
    """The devices and the version of JAX, as tables name them."""
    return f"{devices} x {jax.devices()[0].device_kind}, jax {jax.__version__}"


def run_benchmark(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs a program without the cache of compiled programs, so that compiling is measured too."""
    jax.config.update("jax_enable_compilation_cache", False)
    run_program(main)
