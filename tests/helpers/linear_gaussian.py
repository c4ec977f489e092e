"""A linear decoder with a Gaussian likelihood, whose evidence is known."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from vae_jax.metrics import likelihood
from vae_jax.model import Model
from vae_jax.models.likelihoods import gaussian
from vae_jax.models.networks import Nets
from vae_jax.variants import beta

LATENT, PIXELS, SIGMA = 2, 6, 0.5


RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(LATENT, PIXELS)).astype(np.float32)


IMAGES = (RANDOM.normal(size=(8, LATENT)) @ WEIGHT + SIGMA * RANDOM.normal(size=(8, PIXELS))).astype(np.float32)


BATCH = {"image": jnp.asarray(IMAGES).reshape(8, 1, PIXELS, 1), "index": jnp.arange(8)}


COVARIANCE = WEIGHT.T @ WEIGHT + SIGMA**2 * np.eye(PIXELS)


LOG_P = stats.multivariate_normal(np.zeros(PIXELS), COVARIANCE).logpdf(IMAGES)


def linear(narrower):
    """x = z W + noise, z ~ N(0, I), with q(z|x) the exact posterior's mean and `narrower` times its deviations."""
    precision = np.eye(LATENT) + WEIGHT @ WEIGHT.T / SIGMA**2
    to_mean = jnp.asarray(WEIGHT.T / SIGMA**2 @ np.linalg.inv(precision), jnp.float32)
    logvar = jnp.asarray(np.log(1 / np.diag(precision)) + 2 * math.log(narrower), jnp.float32)

    def encode(params, x):
        flat = x.reshape(len(x), -1)
        return flat @ to_mean, jnp.tile(logvar[None], (len(x), 1))

    def decode(params, z):
        return (z @ jnp.asarray(WEIGHT)).reshape(len(z), 1, PIXELS, 1)

    pixels = gaussian.make(sigma=SIGMA)
    return Model(Nets(None, encode, decode), beta.make(pixels), pixels, {})


@functools.cache
def compiled(narrower, k, at_once):
    return jax.jit(likelihood.streamed_bound(linear(narrower), k, at_once))


def bound(k, at_once, seed=0, narrower=1.0):
    found = compiled(narrower, k, at_once)({"nets": {}, "own": {}}, BATCH, jax.random.key(seed))
    return tuple(np.asarray(part, np.float64) for part in found)
