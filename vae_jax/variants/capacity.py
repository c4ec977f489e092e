"""The VAE of controlled capacity (Burgess et al. 2018, eq. 8): the rate is held at a target that grows.

Purpose    disentangled factors
Take it    to choose the rate yourself, in nats, and to let latents come into use one after another as it rises. Above
           the VAE's own rate the ELBO gets worse.
Command    vae-jax train --config=digits_capacity --workdir=runs/digits_capacity

    loss = E_q(z|x)[-log p(x|z)] + gamma * |KL(q(z|x) || p(z)) - C(step)|
    C(step) rises in a straight line from 0 to `capacity` nats over `ramp_steps` steps, and stays there

With gamma = 1 and C = 0 it is the VAE, with C = 0 the beta-VAE of beta = gamma. The rate lands on C
where gamma outweighs what another nat of rate saves in distortion; the paper takes gamma = 1000
and C up to 25 nats over 100,000 steps. The KL inside |.| is the mean over the whole batch, as in the code
of Locatello et al. 2019: C is the capacity of the channel, an average over images. Read for one image at a time, as eq.
8 is written, every image would have to cost C nats, easy or not. That is another model, and by Jensen's inequality its
loss is never lower. `free_bits` nats of each latent count towards C as spent, whether they are or not (Kingma et al.
2016, eq. 15). No `beta`: the ramp is its schedule.
"""

import jax.numpy as jnp

from vae_jax.models import schedules
from vae_jax.models.likelihoods import Likelihood
from vae_jax.variants import Variant, elbo_terms
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "VAE of controlled capacity"
"""In the caption of a picture."""


def make(likelihood: Likelihood) -> Variant:
    """The capacity-controlled VAE under a pixel likelihood."""

    def loss(nets, params, batch, key, step, *, gamma=1000.0, capacity=25.0, ramp_steps=100_000.0, free_bits=0.0):
        _, _, terms = elbo_terms(likelihood, nets, params, batch, key)
        target = schedules.ramp(step, 0.0, capacity, ramp_steps)
        rate = rate_with_free_bits(terms["kl"], free_bits)
        return jnp.mean(terms["distortion"]) + gamma * jnp.abs(rate - target), {**terms, "capacity": target}

    return Variant(loss)
