"""Grey levels under a Bernoulli made a density by its normaliser (Loaiza-Ganem & Cunningham 2019).

log p(x | z) = sum over pixels of x l - log(1 + e^l) + log C(l),    l the decoder's logit
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood, Values, bernoulli
from vae_jax.models.likelihoods._pixels import flatten_pixels, pixel_noise
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels

NEAR_HALF = 0.5
"""|logit| below which the continuous Bernoulli's normaliser is its series: 1e-9 off, and no 0 / 0."""


def log_normalizer(logit: Values) -> Values:
    """log C of the continuous Bernoulli at lambda = sigmoid(logit) (Loaiza-Ganem & Cunningham 2019, eq. 9).

        C = 2 artanh(1 - 2 lambda) / (1 - 2 lambda) = logit / tanh(logit / 2),    2 at lambda = 1/2

    In the logit l: log 2 + log((l/2) / tanh(l/2)), even in l; near 0 the series
    log 2 + l^2/12 - 7 l^4/1440 + 31 l^6/90720 ..., and log|l| far away, where lambda itself would round to 0 or 1.
    """
    near = jnp.abs(logit) < NEAR_HALF
    # Each branch sees only arguments it is good at, or the other's NaN would leak into the gradient.
    far = jnp.where(near, 1.0, jnp.abs(logit))
    closed = jnp.log(far) - jnp.log(jnp.tanh(0.5 * far))
    square = jnp.square(jnp.where(near, logit, 0.0))
    terms = 1 / 12 + square * (-7 / 1440 + square * (31 / 90720 + square * (-127 / 4838400 + square * 73 / 34214400)))
    return jnp.where(near, math.log(2) + square * terms, closed)


def make() -> Likelihood:
    """Grey levels in [0, 1] with density C lambda^x (1 - lambda)^(1 - x) (Loaiza-Ganem & Cunningham 2019, eq. 6).

    The Bernoulli's formula with the normaliser that makes it a density. A draw is the quantile of a uniform u,
    -log(1 - u (1 - e^-|l|)) / |l|, counted from the end of [0, 1] that has more density. The expected grey level is not
    lambda but lambda / (2 lambda - 1) + 1 / (2 artanh(1 - 2 lambda)) (eq. 8), the derivative of
    log(1 + e^l) - log C by the logit.
    """
    cross_entropy = bernoulli.make().log_prob

    def log_prob(logits: Pixels, x: Images) -> PerExample:
        return cross_entropy(logits, x) + jnp.sum(log_normalizer(flatten_pixels(logits)), axis=1)

    def mean(logits: Pixels) -> Images:
        slope = jax.grad(lambda logits: jnp.sum(log_normalizer(logits)))(logits)
        return jnp.clip(jax.nn.sigmoid(logits) - slope, 0.0, 1.0)

    def sample(logits: Pixels, key: Key, index: Indices) -> Images:
        uniform = pixel_noise(jax.random.uniform, key, index, logits)
        size = jnp.maximum(jnp.abs(logits), 1e-6)  # flat there to 1e-6, and no 0 / 0
        from_end = -jnp.log1p(uniform * jnp.expm1(-size)) / size
        return jnp.clip(jnp.where(logits > 0, 1 - from_end, from_end), 0.0, 1.0)

    return Likelihood(log_prob, mean, sample, channels=1, levels=0, binarize=("none",))
