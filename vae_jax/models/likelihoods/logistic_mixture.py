"""X."""

import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.likelihoods._levels import log_level, log_scale, nearest_level
from vae_jax.models.likelihoods._pixels import pixel_noise
from vae_jax.randomness import stream
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels


def make(*, components: int = 5) -> Likelihood:
    """256 grey levels under a mixture of discretised logistics for each channel of each pixel (Salimans et al. 2017).

    log p(x) = sum over pixels of log sum_k w_k P_k(x), w a softmax. Channels are independent given z: the
    paper's linear dependence of green on red and blue on both is for decoders that see the pixels before.
    Raises UserError unless there is at least one component.
    """
    if components < 1:
        raise UserError(f"config.likelihood.components: {components} is not allowed; give a whole number of at least 1")
    # Equal components would stay equal: their means start spread over the grey levels.
    starts = (jnp.arange(components) + 0.5) / components

    def parts(parameters: Pixels):
        shape = (*parameters.shape[:-1], parameters.shape[-1] // (3 * components), 3, components)
        weights, means, raw = jnp.moveaxis(parameters.reshape(shape), -2, 0)
        return jax.nn.log_softmax(weights), means + starts.reshape(1, 1, 1, 1, -1), log_scale(raw)

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        weights, means, log_scales = parts(parameters)
        pixels = jax.nn.logsumexp(weights + log_level(x[..., None], means, log_scales), axis=-1)
        return jnp.sum(pixels, axis=(1, 2, 3))

    def mean(parameters: Pixels) -> Images:
        weights, means, _ = parts(parameters)
        return jnp.sum(jnp.exp(weights) * jnp.clip(means, 0.0, 1.0), axis=-1)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        weights, means, log_scales = parts(parameters)
        gumbel = pixel_noise(jax.random.gumbel, stream(key, "logistic_mixture/component"), index, weights)
        chosen = jnp.argmax(weights + gumbel, axis=-1, keepdims=True)
        mean, log_scale = (jnp.take_along_axis(part, chosen, axis=-1)[..., 0] for part in (means, log_scales))
        return nearest_level(mean + jnp.exp(log_scale) * pixel_noise(jax.random.logistic, key, index, mean))

    return Likelihood(log_prob, mean, sample, channels=3 * components, levels=256, binarize=("none",))
