"""The plain autoencoder: the baseline of every comparison.

Purpose    sharp reconstructions
Take it    as the baseline, or where reconstructions are all that matters: no rate competes with them. Not for draws
           from the prior, which do not look like data; a fitted sampler draws better (docs/samplers.md).
Command    vae-jax train --config=digits:autoencoder --workdir=runs/digits_autoencoder

    loss = -log p(x | z),    z = the encoder's mean + noise * epsilon,    epsilon ~ N(0, I)

With noise = 0 codes are points. Nothing holds them to a prior, so there is no rate and no ELBO to
report (a point posterior is infinitely far from any prior), and the encoder's log variance is not
used. With noise > 0 this is "an autoencoder plus noise": the codes may answer by growing apart.
"""

import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood
from vae_jax.randomness import example_normal
from vae_jax.variants import Variant

TITLE = "autoencoder"
"""In the caption of a picture."""


def make(likelihood: Likelihood) -> Variant:
    """The autoencoder under a pixel likelihood."""

    def loss(nets, params, batch, key, step, *, noise=0.0):
        code, _ = nets.encode(params["nets"], batch["image"])
        z = code + noise * example_normal(key, batch["index"], code.shape[-1])
        distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
        return jnp.mean(distortion), {"distortion": distortion, "code": code}

    return Variant(loss, posterior=None, bounds="")
