"""How many members of a population fit on a device, from the compiled program of one and the memory that is free."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.errors import UserError
from vae_jax.training import executors
from vae_jax.training.evaluation import fetch_fn, make_hyper
from vae_jax.training.step import initial_state, make_train_step

SHARE = 0.8
"""Of the free memory that a population may fill: the rest is for evaluation and for what the analysis does not see."""


def members_at_once(
    config: ConfigDict, dataset: data.Dataset, built: model.Model, placement: executors.Placement, count: int
) -> int:
    """How many of `count` members train at once on all devices together, the rounds being as even as can be.

    Raises UserError where not one fits.
    """
    devices = placement.devices
    each = config.sweep.members_per_device
    if not each:
        one = member_bytes(config, dataset, built, placement)
        free = SHARE * executors.free_bytes(devices) - tree_bytes(jax.eval_shape(lambda split: split, dataset.train))
        each = int(free // one)
        if each < 1:
            raise UserError(
                f"config.train.batch_size: one member takes {one / 2**30:.2f} GiB with batches of "
                f"{config.train.batch_size}, and {max(free, 0) / 2**30:.2f} GiB of a device are free for it; "
                "take smaller batches or a smaller network"
            )
    most = min(count, each * len(devices))
    return -(-count // -(-count // most))


def tree_bytes(tree: Any) -> int:
    """The size of a tree's arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def member_bytes(config: ConfigDict, dataset: data.Dataset, built: model.Model, placement: executors.Placement) -> int:
    """What one member adds to a device: its state, and what its step keeps for a while, by XLA's own analysis."""
    fetch = fetch_fn(config)
    steps = placement.train_steps(
        lambda split: make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        config.train.dispatch,
    )
    count = len(placement.devices)
    key = randomness.root_key(config.seed)
    state = jax.eval_shape(lambda: initial_state(built, config, dataset.image_shape))
    wide = lambda leaf: jax.ShapeDtypeStruct((count, 1, *leaf.shape), leaf.dtype)  # noqa: E731
    indices = np.zeros((count, config.train.dispatch, config.train.batch_size), np.int32)
    constants = jax.tree.map(wide, (key, make_hyper(config, built)))
    split = jax.tree.map(jnp.asarray, dataset.train)
    program = steps.lower(split, jax.tree.map(wide, state), indices, *constants, np.ones(count, bool)).compile()
    found = program.memory_analysis()
    return tree_bytes(state) + found.temp_size_in_bytes + indices.nbytes // count
