"""Pixels that are coins, for images of two levels: the likelihood of the first VAE (Kingma & Welling 2014).

log p(x | z) = sum over pixels of x l - log(1 + e^l),    l the decoder's logit
"""

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.likelihoods._pixels import flatten_pixels, pixel_noise
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels


def make() -> Likelihood:
    """Pixels are coins: log p(x) = x l - log(1 + e^l), l the logit (Kingma & Welling 2014, eq. 11).

    Written as x l - relu(l) - log1p(e^-|l|): finite at any finite logit, and so is its gradient x - sigmoid(l),
    at 0 too, where relu has the slope 0 and log1p(e^l), the branch taken there, the slope 1/2.
    For x strictly between 0 and 1 this is a cross-entropy and no log-probability: binarise the data.
    """

    def log_prob(logits: Pixels, x: Images) -> PerExample:
        logits, x = flatten_pixels(logits), flatten_pixels(x)
        smaller = jnp.exp(jnp.where(logits > 0, -logits, logits))
        # Two sums: in one, XLA's CPU compiler fuses the logarithm with what makes the logits, and vectorises neither.
        return jnp.sum(x * logits - jax.nn.relu(logits), axis=1) - jnp.sum(jnp.log1p(smaller), axis=1)

    def sample(logits: Pixels, key: Key, index: Indices) -> Images:
        uniform = pixel_noise(jax.random.uniform, key, index, logits)
        return (uniform < jax.nn.sigmoid(logits)).astype(jnp.float32)

    return Likelihood(log_prob, jax.nn.sigmoid, sample, channels=1, levels=2)
