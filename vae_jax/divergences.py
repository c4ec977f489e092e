"""Quantities of a whole batch of codes, and the one gather that makes them whole over devices."""

import jax
import numpy as np
from jaxtyping import Array, Float

from vae_jax.typing import AXIS, Codes


def gather(local: Codes) -> Float[Array, "whole latent"]:
    """The codes of the whole batch, in the batch's order, from each device's share.

    A loss of gathered codes, with gradients averaged over devices, has the gradient of one device.
    """
    return jax.lax.all_gather(local, AXIS, tiled=True)


def active_units(code_variance: np.ndarray) -> int:
    """How many latents have Cov_x(E_q[z|x]) > 0.01 (Burda et al. 2016, section 5.2)."""
    return int(np.sum(np.asarray(code_variance) > 0.01))
