"""How many members of a population fit on a device, from the compiled program of one and the memory that is free."""

import jax

from vae_jax.data._splits import host_split, on_host
from vae_jax.errors import UserError
from vae_jax.training import executors
from vae_jax.training.executors import MemberParallel
from vae_jax.training.placement import fits_devices
from vae_jax.training.prefetch import BLOCK_BYTES
from vae_jax.training.setup import Setup, tree_bytes
from vae_jax.training.step_cost import lower_steps, step_cost

FILLED = 0.8
"""Of the free memory that a population may fill: the rest is for evaluation and for what the analysis does not see."""


def members_at_once(setup: Setup, executor: MemberParallel, count: int) -> int:
    """How many of `count` members train at once on all devices together, the rounds being as even as can be.

    Raises UserError where not one fits.
    """
    devices = executor.devices
    per_device = setup.config.sweep.members_per_device or setup.once(
        ("members", executor), lambda: _members_that_fit(setup, executor)
    )
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
    train = setup.config.train
    cost = step_cost(lower_steps(setup, executor))
    return tree_bytes(setup.state_shape) + cost.temporary + 4 * train.dispatch * train.batch_size
