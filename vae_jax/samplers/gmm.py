"""A mixture of Gaussians with full covariances, by EM from k-means (Ghosh et al. 2020, section 4).

    p(z) = sum_k w_k N(z; m_k, L_k L_k^T)

Ten components, the paper's number. The variant rae ends with one. Latents are brought to unit variance first, and
1e-6 is added to the diagonal of each covariance, so that latents which do not vary have a density too.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.models.distributions import LOG_2PI
from vae_jax.randomness import example_keys
from vae_jax.samplers import HostCodes, Sampler, _training
from vae_jax.typing import Codes, Key, Params, PerExample


def standard_mixture(components: int, latent_dim: int) -> Params:
    """`components` equal parts, each N(0, I): weights as logarithms, means, Cholesky factors of the covariances."""
    return {
        "log_weights": jnp.full(components, -math.log(components), jnp.float32),
        "means": jnp.zeros((components, latent_dim), jnp.float32),
        "factors": jnp.tile(jnp.eye(latent_dim, dtype=jnp.float32)[None], (components, 1, 1)),
    }


def fitted_mixture(codes: HostCodes, components: int, seed: int = 0) -> Params:
    """The mixture of full-covariance Gaussians that EM from k-means finds for `codes`; `seed` is of k-means."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(components, max_iter=1000, random_state=seed).fit(np.float64(codes))
    return {
        "log_weights": np.float32(np.log(mixture.weights_)),
        "means": np.float32(mixture.means_),
        "factors": np.float32(np.linalg.cholesky(mixture.covariances_)),
    }


@jax.jit
def mixture_log_density(mixture: Params, z: Codes) -> PerExample:
    """log sum_k w_k N(z; m_k, L_k L_k^T), nats per example."""
    log_weights, means, factors = map(jnp.asarray, (mixture["log_weights"], mixture["means"], mixture["factors"]))

    def component(mean, factor):
        whitened = jax.scipy.linalg.solve_triangular(factor, (z - mean[None]).T, lower=True)
        log_volume = jnp.sum(jnp.log(jnp.diag(factor)))
        return -0.5 * jnp.sum(jnp.square(whitened), axis=0) - log_volume - 0.5 * len(mean) * LOG_2PI

    return jax.nn.logsumexp(log_weights[:, None] + jax.vmap(component)(means, factors), axis=0)


@partial(jax.jit, static_argnames="count")
def mixture_draws(mixture: Params, key: Key, count: int) -> Codes:
    """`count` draws of the mixture; draw i depends on key and i alone."""
    log_weights, means, factors = map(jnp.asarray, (mixture["log_weights"], mixture["means"], mixture["factors"]))

    def draw(key):
        component, noise = jax.random.split(key)
        k = jax.random.categorical(component, log_weights.astype(jnp.float32))
        return means[k] + factors[k] @ jax.random.normal(noise, means.shape[1:], jnp.float32)

    return jax.vmap(draw)(example_keys(key, jnp.arange(count)))


def fit(codes: HostCodes, key: Key, *, components: int = 10) -> Params:
    """The mixture of `components` Gaussians of these codes; `key` begins k-means.

    Raises UserError for fewer codes than components.
    """
    if not 1 <= components <= len(codes):
        raise UserError(f"components: {components} is not allowed; give 1 to {len(codes)}, the codes there are")
    moments, standard = _training.standardize(codes)
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1, jnp.int32))
    mixture = fitted_mixture(np.asarray(standard), components, seed)
    mean, spread = moments["mean"], moments["spread"]
    return {
        "log_weights": mixture["log_weights"],
        "means": mean[None] + spread[None] * mixture["means"],
        "factors": spread[None, :, None] * mixture["factors"],
    }


SAMPLER = Sampler(fit, mixture_draws, mixture_log_density)
