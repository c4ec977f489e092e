"""The VampPrior (Tomczak & Welling 2018): the prior is a mixture of posteriors of learned pseudo-inputs.

Purpose    better samples
Take it    for draws that look more like data, and a better ELBO: the prior learns where the codes lie. Not if you
           traverse latents on the scale of N(0, 1), which this prior does not have.
Command    vae-jax train --config=digits_vamp --workdir=runs/digits_vamp

    loss = E_q(z|x)[-log p(x|z)] + beta * E_q(z|x)[log q(z|x) - log p(z)]
    p(z) = 1/K sum_k q(z|u_k)

The prior that maximises the ELBO of all images is the aggregate posterior, the mean of q(z|x) over the data;
K pseudo-inputs u_k stand for the data. They are images, trained with the rest. The encoder serves twice, for q(z|x)
and, at u_k, for the prior, and gets the gradient of both.

A mixture has no closed-form KL: `rate` is log q(z|x) - log p(z) at the one z that is decoded, unbiased and
for a single image at times below 0. It is not a sum over latents, so no "kl" is reported, and there are no free bits:
no latent has a rate to free them in. Latents have no scale of their own either: z of size 3 is not far out here, and an
unused latent need not look like N(0, 1).

u_k = sigmoid(v_k) is in (0, 1) and can always move back. The paper's released code clips v_k to [0, 1] (a hard tanh),
and a pixel beyond has no gradient from there on. The code starts v_k at 0.05 +- 0.01 on MNIST, or from images; a
variant sees no data before the first step, so here v_k starts at N(-1, 1), dark grey: the pseudo-inputs must differ
from the start, or they would stay together. Its pictures decode the first pseudo-inputs one by one; `sample_prior`
draws k evenly, which is the prior.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import data, randomness
from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models.distributions import LOG_2PI, Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.typing import Codes, Images, Key, Params, PerExample
from vae_jax.variants import Variant, learned_prior_terms, refuse_labels

TITLE = "VAE with a VampPrior"
"""In the caption of a picture."""

START, SPREAD = -1.0, 1.0
"""Mean and standard deviation of the pseudo-inputs' logits at the start: most grey levels from 0.1 to 0.5."""


def pseudo_inputs(params: Params) -> Images:
    """u_k, grey levels in [0, 1], one image for each component of the prior."""
    return jax.nn.sigmoid(params["own"]["logits"])


def mixture(nets: Nets, params: Params) -> Gaussian:
    """q(z|u_k) of each pseudo-input: the components of the prior."""
    return Gaussian(*nets.encode(params["nets"], pseudo_inputs(params)))


def log_densities(z: Codes, components: Gaussian) -> Float[Array, "batch component"]:
    """log N(z; mean_k, sigma_k^2) of every z under every component, nats.

    (z - m)^2 / s^2 as z^2 / s^2 - 2 z m / s^2 + m^2 / s^2: two matrix products, 13 times (K = 500, 16 latents)
    to 100 times (40 latents) faster on a CPU than all pairs of differences. Terms of sum_j m_j^2 / s_j^2 cancel: the
    result is off by some 1e-7 of that, 0.01 nats where 40 means are 40 sigma from the middle.
    """
    centre = jax.lax.stop_gradient(jnp.mean(components.mean, axis=0, keepdims=True))
    z, mean, precision = z - centre, components.mean - centre, jnp.exp(-components.logvar)
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    cross = product(jnp.square(z), precision.T) - 2 * product(z, (mean * precision).T)
    constant = jnp.sum(jnp.square(mean) * precision + components.logvar + LOG_2PI, axis=-1)
    return -0.5 * (cross + constant[None, :])


def log_prior(nets: Nets, params: Params, z: Codes) -> PerExample:
    """log p(z) = log 1/K sum_k q(z|u_k), nats per example (Tomczak & Welling 2018, section 3)."""
    log_q = log_densities(z, mixture(nets, params))
    return jax.nn.logsumexp(log_q, axis=1) - math.log(log_q.shape[1])


def sample_prior(
    nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
) -> Codes:
    """`count` draws, k evenly from the K and z ~ q(z|u_k); draw i depends on key and i alone.

    Raises UserError where labels are given.
    """
    refuse_labels(labels)
    components, index = mixture(nets, params), jnp.arange(count)
    choice, noise = jax.random.split(key)

    def random_component(key):
        return jax.random.randint(key, (), 0, len(components.mean), jnp.int32)

    k = jax.vmap(random_component)(randomness.example_keys(choice, index))
    return Gaussian(components.mean[k], components.logvar[k]).sample(noise, index)


def check(split: Split) -> None:
    """Raises UserError for numbers of any size: a pseudo-input is of grey levels, a sigmoid of what is learned."""
    if data.image_dtype("train", split) is np.float32:
        raise UserError(
            "data.binarize: 'real' is not allowed; the pseudo-inputs of variant.name=vamp are grey levels, and these "
            "images are numbers of any size; take another variant"
        )


def make(likelihood: Likelihood, *, components: int = 500) -> Variant:
    """The VampPrior VAE of K = `components` under a pixel likelihood. Raises UserError unless K is at least 1."""
    if components < 1:
        raise UserError(f"components: {components} is not allowed; give a whole number of at least 1")

    def init(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        return {"logits": START + SPREAD * jax.random.normal(key, (components, *image_shape), jnp.float32)}

    def loss(nets, params, batch, key, step, *, beta=1.0):
        terms = learned_prior_terms(likelihood, log_prior, nets, params, batch, key)
        return jnp.mean(terms["distortion"] + beta * terms["rate"]), terms

    return Variant(loss, init=init, check=check, log_prior=log_prior, sample_prior=sample_prior)
