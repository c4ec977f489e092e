"""The Gaussian posterior, and noise that belongs to an example.

Log-densities and divergences are in nats. Nothing here reduces over examples.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Indices, Key, PerExample

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """The diagonal Gaussian N(mean, diag(exp(logvar))), one for each example."""

    mean: Codes
    logvar: Codes

    def sample(self, key: Key, index: Indices) -> Codes:
        """z = mean + sigma * epsilon, epsilon ~ N(0, I) (Kingma & Welling 2014, eq. 10)."""
        noise = example_normal(key, index, self.mean.shape[-1])
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def log_densities(self, z: Codes) -> Codes:
        """log N(z_j; mean_j, exp(logvar_j)) of each latent, nats."""
        return -0.5 * (jnp.square(z - self.mean) * jnp.exp(-self.logvar) + self.logvar + LOG_2PI)

    def log_prob(self, z: Codes) -> PerExample:
        """log N(z; mean, diag(exp(logvar))), nats per example."""
        return jnp.sum(self.log_densities(z), axis=-1)

    def kl(self) -> Codes:
        """KL(N(mean, sigma^2) || N(0, 1)) of each latent, nats (Kingma & Welling 2014, appendix B).

        0.5 * (mean^2 + sigma^2 - 1 - log sigma^2), with sigma^2 - 1 as expm1(logvar), whose
        error is absolute and below 1e-8 where the posterior is close to the prior.
        """
        return 0.5 * (jnp.square(self.mean) + jnp.expm1(self.logvar) - self.logvar)


def kl(q: Gaussian, p: Gaussian) -> Codes:
    """KL(q || p) of each latent, nats: 0.5 * ((mean_q - mean_p)^2 / var_p + r - 1 - log r), r = var_q / var_p."""
    log_ratio = q.logvar - p.logvar
    return 0.5 * (jnp.square(q.mean - p.mean) * jnp.exp(-p.logvar) + jnp.expm1(log_ratio) - log_ratio)


def product(one: Gaussian, other: Gaussian) -> Gaussian:
    """The normalised product of two Gaussian densities: precisions add, means weighted by precision.

    With w = sigmoid(logvar' - logvar) the share of `one` in the precision, mean' + w (mean - mean') and
    logvar' - log(1 + exp(logvar' - logvar)): no variance or precision is formed that could overflow.
    """
    gain = other.logvar - one.logvar
    mean = other.mean + jax.nn.sigmoid(gain) * (one.mean - other.mean)
    return Gaussian(mean, other.logvar - jax.nn.softplus(gain))


def standard_normal(like: Codes) -> Gaussian:
    """N(0, I) in the shape of `like`."""
    return Gaussian(jnp.zeros_like(like), jnp.zeros_like(like))
