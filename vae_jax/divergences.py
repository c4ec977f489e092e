"""Quantities of a whole batch, and how they are made whole over devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from vae_jax.typing import AXIS, Codes, Indices, Scalar


def gather(local: Codes) -> Float[Array, "whole latent"]:
    """The codes of the whole batch, in the batch's order, from each device's share.

    A loss of gathered codes, with gradients averaged over devices, has the gradient of one device.
    """
    return local if jax.lax.axis_size(AXIS) == 1 else jax.lax.all_gather(local, AXIS, tiled=True)


def mean_over_devices(tree: PyTree) -> PyTree:
    """The mean of each leaf over devices; on one device the leaf itself, which XLA's CPU would copy."""
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def places(share: int) -> Indices:
    """Where in the whole batch this device's `share` examples lie."""
    index = jnp.arange(share)
    return index if jax.lax.axis_size(AXIS) == 1 else jax.lax.axis_index(AXIS) * share + index


def free_bits(kl: Codes, floor: Scalar | float = 0.0) -> Scalar:
    """The rate with `floor` nats free in each latent: sum_j max(floor, E_x KL_j) (Kingma et al. 2016, eq. 15).

    `kl` is nats per example and latent; the mean is over the whole batch. Zero leaves the mean rate.
    """
    return jnp.sum(jnp.maximum(floor, jnp.mean(gather(kl), axis=0)))


def active_units(code_variance: np.ndarray) -> int:
    """How many latents have Cov_x(E_q[z|x]) > 0.01 (Burda et al. 2016, section 5.2)."""
    return int(np.sum(np.asarray(code_variance) > 0.01))
