"""256 grey levels as bins of a mixture of logistics for each pixel (PixelCNN++, Salimans et al. 2017).

log P(x | z) = sum over pixels of log sum_k w_k P_k(x),    P_k the bin's mass under component k
"""

import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.models.likelihoods import Likelihood, Values
from vae_jax.models.likelihoods._levels import log_level, log_scale, nearest_level
from vae_jax.models.likelihoods._pixels import pixel_noise
from vae_jax.randomness import stream
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels


def make(*, components: int = 5) -> Likelihood:
    """256 grey levels under a mixture of discretised logistics for each channel of each pixel (Salimans et al. 2017).

    log P(x) = sum over pixels of log sum_k w_k P_k(x), w a softmax. Channels are independent given z: the
    paper's linear dependence of green on red and blue on both (its eq. 3) is for decoders that see the pixels before.

    Args:
        components: how many logistics are mixed, k = 1 ... components.

    Raises:
        UserError: unless there is at least one component.
    """
    if components < 1:
        raise UserError(f"components: {components} is not allowed; give a whole number of at least 1")
    # Equal components would stay equal: their means start spread over the grey levels.
    starts = (jnp.arange(components, dtype=jnp.float32) + 0.5) / components

    def split(parameters: Pixels) -> tuple[Values, Values, Values]:
        """(log weights, means, log scales), each (batch, height, width, channels, components)."""
        shape = (*parameters.shape[:-1], parameters.shape[-1] // (3 * components), 3, components)
        weights, means, raw = jnp.moveaxis(parameters.reshape(shape), -2, 0)
        return jax.nn.log_softmax(weights), means + starts.reshape(1, 1, 1, 1, -1), log_scale(raw)

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        weights, means, log_scales = split(parameters)
        pixels = jax.nn.logsumexp(weights + log_level(x[..., None], means, log_scales), axis=-1)
        return jnp.sum(pixels, axis=(1, 2, 3))

    def mean(parameters: Pixels) -> Images:
        weights, means, _ = split(parameters)
        return jnp.sum(jnp.exp(weights) * jnp.clip(means, 0.0, 1.0), axis=-1)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        weights, means, log_scales = split(parameters)
        gumbel = pixel_noise(jax.random.gumbel, stream(key, "logistic_mixture/component"), index, weights)
        component = jnp.argmax(weights + gumbel, axis=-1, keepdims=True)
        mean, log_scale = (jnp.take_along_axis(values, component, axis=-1)[..., 0] for values in (means, log_scales))
        return nearest_level(mean + jnp.exp(log_scale) * pixel_noise(jax.random.logistic, key, index, mean))

    return Likelihood(log_prob, mean, sample, channels=3 * components, levels=256, binarize=("none",))
