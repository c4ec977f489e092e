"""The Gaussian posterior, the pixel likelihoods, and noise that belongs to an example.

Log-likelihoods and divergences are in nats. Nothing here reduces over examples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.typing import Codes, Images, Indices, Key, Keys, PerExample, Pixels

LOG_2PI = math.log(2 * math.pi)


def example_keys(key: Key, index: Indices) -> Keys:
    """One key for each example, folded from its index, so that its noise is the same on any device."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def example_normal(key: Key, index: Indices, size: int) -> Float[Array, "batch size"]:
    """Standard normal noise, `size` numbers for each example, a function of key and index alone."""
    return jax.vmap(lambda k: jax.random.normal(k, (size,)))(example_keys(key, index))


class Gaussian(NamedTuple):
    """The diagonal Gaussian N(mean, diag(exp(logvar))), one for each example."""

    mean: Codes
    logvar: Codes

    def sample(self, key: Key, index: Indices) -> Codes:
        """z = mean + sigma * epsilon, epsilon ~ N(0, I) (Kingma & Welling 2014, eq. 10)."""
        noise = example_normal(key, index, self.mean.shape[-1])
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def log_prob(self, z: Codes) -> PerExample:
        """log N(z; mean, diag(exp(logvar))), nats per example."""
        square = jnp.square(z - self.mean) * jnp.exp(-self.logvar)
        return -0.5 * jnp.sum(square + self.logvar + LOG_2PI, axis=-1)

    def kl(self) -> Codes:
        """KL(N(mean, sigma^2) || N(0, 1)) of each latent, nats (Kingma & Welling 2014, appendix B).

        0.5 * (mean^2 + sigma^2 - 1 - log sigma^2), with sigma^2 - 1 as expm1(logvar), whose
        error is absolute and below 1e-8 where the posterior is close to the prior.
        """
        return 0.5 * (jnp.square(self.mean) + jnp.expm1(self.logvar) - self.logvar)


def standard_normal(like: Codes) -> Gaussian:
    """N(0, I) in the shape of `like`."""
    return Gaussian(jnp.zeros_like(like), jnp.zeros_like(like))


class Likelihood(NamedTuple):
    """p(x | z) over pixels, given what the decoder returns.

    `log_prob(parameters, x)` is in nats per image, summed over pixels; `mean(parameters)` is the
    expected image. Parameters are (batch, height, width, channels of an image * `channels` + `shared`):
    what the decoder gives for each pixel, then `shared` learned numbers that are the same everywhere.
    `discrete` likelihoods give probabilities, not densities, so their bits/dim mean something.
    """

    log_prob: Callable[[Pixels, Images], PerExample]
    mean: Callable[[Pixels], Images]
    channels: int
    discrete: bool
    shared: int = 0


def _flat(x: Images) -> Float[Array, "batch pixels"]:
    # Vectorised loops run along the last axis, which for grey images has one channel.
    return x.reshape(len(x), -1)


def bernoulli() -> Likelihood:
    """Pixels are coins: log p(x) = x l - log(1 + e^l), l the logit (Kingma & Welling 2014, eq. 11).

    Written as x l - max(l, 0) - log1p(e^min(l, -l)): finite at any finite logit, and so is its
    gradient x - sigmoid(l), at 0 too, where JAX halves ties but gives |l| a slope of 1.
    For x strictly between 0 and 1 this is a cross-entropy and no log-probability: binarise the data.
    """

    def log_prob(logits: Pixels, x: Images) -> PerExample:
        logits, x = _flat(logits), _flat(x)
        softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(jnp.minimum(logits, -logits)))
        return jnp.sum(x * logits - softplus, axis=1)

    return Likelihood(log_prob, jax.nn.sigmoid, channels=1, discrete=True)


def gaussian(*, sigma: float = 0.1) -> Likelihood:
    """Pixels are N(mean, sigma^2) with one fixed sigma, the decoder giving the mean.

    log p(x) = -sum (x - mean)^2 / (2 sigma^2) - pixels * log(sigma sqrt(2 pi)). The squared error
    of the textbooks, summed over pixels and halved, is sigma = 1 without the constant.
    Raises UserError unless sigma is positive and finite.
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise registry.UserError(f"config.likelihood.sigma: {sigma} is not allowed; give a positive number")

    def log_prob(mean: Pixels, x: Images) -> PerExample:
        square = jnp.square((_flat(x) - _flat(mean)) / sigma)
        return -jnp.sum(0.5 * square + math.log(sigma) + 0.5 * LOG_2PI, axis=1)

    return Likelihood(log_prob, lambda mean: mean, channels=1, discrete=False)


LIKELIHOODS = {"bernoulli": bernoulli, "gaussian": gaussian}


def get(name: str) -> Callable[..., Likelihood]:
    """The likelihood `name`; call it with its fields. Raises UserError for an unknown name."""
    return registry.choose("config.likelihood.name", name, LIKELIHOODS)
