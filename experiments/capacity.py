"""How many members of a population fit on a device, from the compiled program of one and the memory that is free."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.evaluate import fetcher, hyper
from vae_jax import data, model, parallel, train
from vae_jax.registry import UserError

SHARE = 0.8
"""Of the free memory that a population may fill: the rest is for evaluation and for what the analysis does not see."""


def members_at_once(
    config: ConfigDict, dataset: data.Dataset, built: model.Model, placement: parallel.Placement, count: int
) -> int:
    """How many of `count` members train at once on all devices together, the rounds being as even as can be.

    Raises UserError where not one fits.
    """
    devices = placement.devices
    each = config.sweep.members_per_device
    if not each:
        one = bytes_of_member(config, dataset, built, placement)
        free = SHARE * parallel.free_bytes(devices) - bytes_of(jax.eval_shape(lambda split: split, dataset.train))
        each = int(free // one)
        if each < 1:
            raise UserError(
                f"config.train.batch_size: one member takes {one / 2**30:.2f} GiB with batches of "
                f"{config.train.batch_size}, and {max(free, 0) / 2**30:.2f} GiB of a device are free for it; "
                "take smaller batches or a smaller network"
            )
    most = min(count, each * len(devices))
    return -(-count // -(-count // most))


def bytes_of(tree: Any) -> int:
    """The size of a tree's arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def bytes_of_member(
    config: ConfigDict, dataset: data.Dataset, built: model.Model, placement: parallel.Placement
) -> int:
    """What one member adds to a device: its state, and what its step keeps for a while, by XLA's own analysis."""
    fetch = fetcher(config)
    steps = placement.train_steps(
        lambda split: train.make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        config.train.dispatch,
    )
    count = len(placement.devices)
    key = train.root_key(config.seed)
    state = jax.eval_shape(lambda: model.initial_state(built, config, dataset.image_shape))
    wide = lambda leaf: jax.ShapeDtypeStruct((count, 1, *leaf.shape), leaf.dtype)  # noqa: E731
    indices = np.zeros((count, config.train.dispatch, config.train.batch_size), np.int32)
    constants = jax.tree.map(wide, (key, hyper(config, built)))
    split = jax.tree.map(jnp.asarray, dataset.train)
    program = steps.lower(split, jax.tree.map(wide, state), indices, *constants, np.ones(count, bool)).compile()
    found = program.memory_analysis()
    return bytes_of(state) + found.temp_size_in_bytes + indices.nbytes // count
