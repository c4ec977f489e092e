"""The beta-VAE (Higgins et al. 2017, eq. 4); beta = 1 is the VAE (Kingma & Welling 2014, eq. 10).

Purpose    a first model
Take it    first: beta = 1 is the VAE, the model that every other variant changes. Lower beta for sharper
           reconstructions, raise it for fewer and simpler latents. Too large a beta leaves no latent in use.
Command    vae-jax train --config=digits --workdir=runs/digits

    loss = E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || p(z))
         =      distortion       + beta *       rate

With beta = 0 nothing holds the codes to the prior: an autoencoder that may choose its own noise,
and chooses none. `free_bits` nats of each latent's rate go unpenalised (Kingma et al. 2016, eq. 15).
`elbo` is reported unweighted, -(distortion + rate), whatever beta is.
"""

import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood
from vae_jax.variants import Variant, elbo_terms
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "beta-VAE"
"""In the caption of a picture."""


def make(likelihood: Likelihood) -> Variant:
    """The beta-VAE under a pixel likelihood."""

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        _, _, terms = elbo_terms(likelihood, nets, params, batch, key)
        return jnp.mean(terms["distortion"]) + beta * rate_with_free_bits(terms["kl"], free_bits), terms

    return Variant(loss)
