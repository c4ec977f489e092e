"""The plain autoencoder: the baseline that every variant is held against.

    loss = -log p(x | z),    z = the encoder's mean

Codes are points: no noise, and no prior that they pay for, so there is no rate and no ELBO to report
(a point posterior is infinitely far from any prior). The encoder's log variance is not used.
"""

import jax.numpy as jnp

from vae_jax.distributions import Likelihood
from vae_jax.variants import Variant


def make(likelihood: Likelihood) -> Variant:
    """The autoencoder under a pixel likelihood."""

    def loss(nets, params, batch, key, step):
        code, _ = nets.encode(params["nets"], batch["image"])
        distortion = -likelihood.log_prob(nets.decode(params["nets"], code), batch["image"])
        return jnp.mean(distortion), {"distortion": distortion, "code": code}

    return Variant(loss)
