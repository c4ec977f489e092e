"""What the train steps of a config take on a device: bytes, operations and memory, by the compiler's own counts."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jax.randomness import root_key
from vae_jax.training.executors import DataParallel, MemberParallel
from vae_jax.training.setup import Setup
from vae_jax.training.step import make_hyper


class StepCost(NamedTuple):
    """Of the program of many steps on one device.

    Attributes:
        bytes: what one step reads and writes, NaN where the compiler does not count it; of members in turn, what a step
            of one of them does.
        operations: floating-point operations of the same.
        memory: bytes of all that is there at once: data, states, what comes and goes.
        temporary: bytes of what comes and goes in it.
        seconds: what compiling took.
    """

    bytes: float
    operations: float
    memory: int
    temporary: int
    seconds: float


def lower_steps(
    setup: Setup, executor: DataParallel | MemberParallel, per_device: int = 1, platforms: Sequence[str] = ()
) -> jax.stages.Lowered:
    """The train steps of one run, or of `per_device` members on each device, lowered for shapes: nothing is placed.

    They are lowered for their devices, or for other `platforms`.
    """
    config, count = setup.config, 1
    lead: tuple[int, ...] = ()
    if isinstance(executor, MemberParallel):
        count = per_device * len(executor.devices)
        lead = (len(executor.devices), per_device)

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype)

    constants = root_key(config.seed), make_hyper(config, setup.model)
    state, key, hyper = jax.tree.map(shape, (setup.state_shape, *constants))
    split = jax.eval_shape(lambda split: split, setup.dataset.train)
    indices = np.zeros((count, config.train.dispatch, config.train.batch_size), np.int32)
    steps = executor.train_steps(setup.train_step, config.train.dispatch)
    return steps.lower(split, state, indices, key, hyper, np.ones(count, bool), platforms)


def step_cost(lowered: jax.stages.Lowered) -> StepCost:
    """Compiles, and asks the compiler. It counts the body of a loop once, however often that runs."""
    begun = time.monotonic()
    program: Any = lowered.compile()
    seconds = time.monotonic() - begun
    costs, memory = program.cost_analysis() or {}, program.memory_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporary = memory.temp_size_in_bytes
    step = costs.get("bytes accessed", math.nan), costs.get("flops", math.nan)
    return StepCost(*step, arrays + temporary, temporary, seconds)
