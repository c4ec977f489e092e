"""Quantities of a whole batch, and how they are made whole over devices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from vae_jax.typing import AXIS, Indices


def all_gather(local: Float[Array, "batch ..."]) -> Float[Array, "whole ..."]:
    """The codes, or other numbers, of the whole batch, in the batch's order, from each device's share.

    A loss of gathered codes, with gradients averaged over devices, has the gradient of one device.
    """
    return local if jax.lax.axis_size(AXIS) == 1 else jax.lax.all_gather(local, AXIS, tiled=True)


def mean_over_devices(tree: PyTree) -> PyTree:
    """The mean of each leaf over devices; on one device the leaf itself, which XLA's CPU would copy."""
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def batch_positions(share: int) -> Indices:
    """Where in the whole batch this device's `share` examples lie."""
    index = jnp.arange(share)
    return index if jax.lax.axis_size(AXIS) == 1 else jax.lax.axis_index(AXIS) * share + index
