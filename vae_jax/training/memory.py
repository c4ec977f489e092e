"""How many members of a population fit on a device, from the compiled program of one and the memory that is free."""

from typing import Any

import jax
import numpy as np

from vae_jax.data._splits import host_split, on_host
from vae_jax.errors import UserError
from vae_jax.randomness import root_key
from vae_jax.training import executors
from vae_jax.training.executors import MemberParallel
from vae_jax.training.placement import fits_devices
from vae_jax.training.prefetch import BLOCK_BYTES
from vae_jax.training.setup import Setup, tree_bytes
from vae_jax.training.step import make_hyper

FILLED = 0.8
"""Of the free memory that a population may fill: the rest is for evaluation and for what the analysis does not see."""


def members_at_once(setup: Setup, executor: MemberParallel, count: int) -> int:
    """How many of `count` members train at once on all devices together, the rounds being as even as can be.

    Raises UserError where not one fits.
    """
    devices = executor.devices
    per_device = setup.config.sweep.members_per_device or _members_that_fit(setup, executor)
    most = min(count, per_device * len(devices))
    rounds = -(-count // most)
    return -(-count // rounds)


def _members_that_fit(setup: Setup, executor: MemberParallel) -> int:
    needed = member_bytes(setup, executor)
    train = setup.dataset.train
    data_bytes = tree_bytes(jax.eval_shape(lambda split: split, train))
    if not fits_devices(train, setup.config, executor.devices):
        data_bytes = 3 * BLOCK_BYTES  # blocks of images that are there at once
    elif on_host(host := host_split(train)):
        data_bytes = host.fetch.nbytes  # type: ignore[attr-defined]
    free = FILLED * executors.free_bytes(executor.devices) - data_bytes
    if free < needed:
        raise UserError(
            f"config.train.batch_size: one member takes {needed / 2**30:.2f} GiB with batches of "
            f"{setup.config.train.batch_size}, and {max(free, 0) / 2**30:.2f} GiB of a device are free for it; "
            "take smaller batches or a smaller network"
        )
    return int(free // needed)


def member_bytes(setup: Setup, executor: MemberParallel) -> int:
    """What one member adds to a device: its state, and what its step keeps for a while, by XLA's own analysis."""
    config, count = setup.config, len(executor.devices)
    steps = executor.train_steps(setup.train_step, config.train.dispatch)
    state = jax.eval_shape(setup.initial_state, root_key(config.seed))

    def one_a_device(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, 1, *leaf.shape), leaf.dtype)

    indices = np.zeros((count, config.train.dispatch, config.train.batch_size), np.int32)
    key, hyper = jax.tree.map(one_a_device, (root_key(config.seed), make_hyper(config, setup.model)))
    split, states = jax.eval_shape(lambda split: split, setup.dataset.train), jax.tree.map(one_a_device, state)
    program = steps.lower(split, states, indices, key, hyper, np.ones(count, bool)).compile()
    analysis: Any = program.memory_analysis()
    return tree_bytes(state) + analysis.temp_size_in_bytes + indices.nbytes // count
