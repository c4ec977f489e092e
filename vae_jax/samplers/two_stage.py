"""A second VAE, of the codes (Dai & Wipf 2019, section 4): u ~ N(0, I), z ~ N(mean(u), gamma^2 I).

    loss = E_q(u|z)[-log N(z; mean(u), gamma^2 I)] + KL(q(u|z) || N(0, I))

The codes fill all their dimensions, so that there a VAE with as many latents can be exact, where the first one, of
images near a manifold, cannot. gamma is learned. Codes are standardised; the networks have two layers of 256; of 50
moments on the way of Adam that with the least loss on a held-out tenth of the codes is kept. The paper's networks
have three layers of 1,024.
"""

import jax
import jax.numpy as jnp

from vae_jax.models.distributions import Gaussian
from vae_jax.models.networks._parts import Part, dense
from vae_jax.randomness import example_normal, stream
from vae_jax.samplers import HostCodes, Sampler, _training
from vae_jax.typing import Codes, Key, Params, PerExample

HIDDEN = (256, 256)
LOG_GAMMA = -1.0
"""At first, of standardised codes: with gamma = 1, their own spread, the best at once is to tell nothing by u."""


def network(outputs: int) -> Part:
    """Dense layers to so many outputs."""
    return dense(*HIDDEN, outputs, activation=jax.nn.silu)


def decode(params: Params, u: Codes) -> Gaussian:
    """p(z | u), of standardised codes."""
    mean = network(u.shape[1]).apply(params["decoder"], u)
    return Gaussian(mean, jnp.broadcast_to(2 * params["log_gamma"][None, None], mean.shape))


def negative_elbo(params: Params, codes: Codes, key: Key) -> PerExample:
    """-ELBO of standardised codes at one draw of u each, nats per example."""
    latents = codes.shape[1]
    mean, logvar = jnp.split(network(2 * latents).apply(params["encoder"], codes), 2, axis=1)
    posterior = Gaussian(mean, logvar)
    u = posterior.sample(key, jnp.arange(len(codes)))
    return -decode(params, u).log_prob(codes) + jnp.sum(posterior.kl(), axis=1)


def fit(codes: HostCodes, key: Key, *, steps: int = 3000, learning_rate: float = 3e-3) -> Params:
    """The second VAE, by `steps` steps of Adam. Raises UserError as `_training.fit` does.

    Args:
        codes: (n, latent).
        key: of the networks at first, the batches, the noise and the held-out tenth.
        steps: how many.
        learning_rate: at first.
    """
    latents = codes.shape[1]
    moments, standard = _training.standardize(codes)
    start = {
        "encoder": network(2 * latents).init(stream(key, "encoder"), standard[:1]),
        "decoder": network(latents).init(stream(key, "decoder"), standard[:1]),
        "log_gamma": jnp.float32(LOG_GAMMA),
    }
    return {**moments, "vae": _training.fit(negative_elbo, start, standard, key, steps, learning_rate)}


def sample(params: Params, key: Key, count: int) -> Codes:
    """`count` codes; draw i depends on key and i alone."""
    index, latents = jnp.arange(count), len(params["mean"])
    u = example_normal(stream(key, "latent"), index, latents)
    z = decode(params["vae"], u).sample(stream(key, "noise"), index)
    return params["mean"][None] + params["spread"][None] * z


SAMPLER = Sampler(fit, sample)
