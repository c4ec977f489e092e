"""The beta-VAE (Higgins et al. 2017, eq. 4); beta = 1 is the VAE (Kingma & Welling 2014, eq. 10).

    loss = E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || p(z))
         =      distortion       + beta *       rate

With beta = 0 nothing holds the codes to the prior: an autoencoder that may choose its own noise,
and chooses none. `free_bits` nats of each latent's rate go unpenalised (Kingma et al. 2016, eq. 15).
`elbo` is reported unweighted, -(distortion + rate), whatever beta is.
"""

import jax.numpy as jnp

from vae_jax import divergences
from vae_jax.distributions import Gaussian, Likelihood
from vae_jax.variants import Variant


def make(likelihood: Likelihood) -> Variant:
    """The beta-VAE under a pixel likelihood."""

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        posterior = Gaussian(*nets.encode(params["nets"], batch["image"]))
        z = posterior.sample(key, batch["index"])
        distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
        kl = posterior.kl()
        rate = jnp.sum(kl, axis=-1)
        terms = {
            "elbo": -(distortion + rate),
            "distortion": distortion,
            "rate": rate,
            "kl": kl,
            "code": posterior.mean,
        }
        return jnp.mean(distortion) + beta * divergences.free_bits(kl, free_bits), terms

    return Variant(loss)
