"""JointVAE (Dupont 2018): continuous latents z and categorical ones c, each kind held to a capacity of its own.

    loss = E_q[-log p(x|z,c)] + gamma * |KL(q(z|x) || p(z)) - C_z(step)| + gamma * |KL(q(c|x) || p(c)) - C_c(step)|
    C_z, C_c rise in a straight line from 0 to `capacity` and `discrete_capacity` nats over `ramp_steps` steps

q(c|x) has one categorical for each number K of `categories`, p(c) is uniform: KL = log K - H(q(c|x)), the sum over
categoricals. It is at most sum log K, where every image is sure of its category, and C_c is cut there as in
the paper. Without a capacity of its own c may be left unused, for z can say all that c can.

Trap: the capacity asks that q(c|x) be far from uniform and not that it depend on x. A q that is sure of one and
the same category for every image meets it and says nothing, and is found first where a large gamma or
a steep ramp pulls harder than the distortion does; little leads back from there. "perplexity" tells: exp of
the entropy of the batch's mean q(c|x), how many of the K categories are in use, 1 after such a collapse.
That categories are classes of the data is hoped for, and not asked for by any term.

The expectation takes a relaxed c (Gumbel-softmax: Jang et al. 2017; Maddison et al. 2017), for its gradient:

    c = softmax((logits + g) / temperature),  g Gumbel noise;  temperature to 0: the one-hot of the largest,
    which has the categorical's own frequencies at any temperature

A relaxed c is not drawn from the categorical whose KL is taken. The KL between relaxed densities is never below
the categorical's (data processing: the largest is a function of c), so distortion_relaxed + rate is no
bound on any -log p(x) and may look too good. What is logged as "distortion", "elbo" and "rate" is of the
model with one-hot c: distortion at the one-hot of the same draw, one more pass of the decoder, and
elbo = -(distortion + rate), a bound. "kl" is of each latent, "kl_discrete" of each categorical.

Both KLs inside |.| are means over the whole batch, as in the author's code and for the reasons of the variant
`capacity`. There are no free bits and no `beta`: the capacities say what is free. A code is z and then c; the
code that stands for an image is the mean of q(z|x) and the one-hot of its most likely category, of the
kind that the prior gives.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models import collectives, schedules
from vae_jax.models.distributions import Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.randomness import example_keys, example_normal
from vae_jax.typing import Images, Indices, Key, Params, Scalar
from vae_jax.variants import Variant, image_and_code, refuse_labels
from vae_jax.variants._free_bits import rate_with_free_bits

Scores = Float[Array, "batch score"]
"""One number for each category of each categorical, side by side."""


def example_gumbel(key: Key, index: Indices, size: int) -> Scores:
    """Gumbel noise -log(-log u), `size` numbers for each example, a function of key and index alone.

    u is at least float32's smallest normal number and below 1: between -4.5 and 16, never infinite.
    """
    return jax.vmap(lambda k: jax.random.gumbel(k, (size,)))(example_keys(key, index))


def groups(scores: Scores, categories: tuple[int, ...]) -> list[Float[Array, "batch _"]]:
    """Each categorical's part of the scores."""
    return jnp.split(scores, np.cumsum(categories)[:-1], axis=-1)


def relaxed(scores: Scores, categories: tuple[int, ...], temperature: Scalar | float) -> Scores:
    """softmax(scores / temperature) of each categorical: a point of its simplex."""
    return jnp.concatenate([jax.nn.softmax(part / temperature) for part in groups(scores, categories)], axis=-1)


def largest(scores: Scores, categories: tuple[int, ...]) -> Scores:
    """The one-hot of each categorical's largest score: with Gumbel noise in them a draw from softmax(logits)."""
    parts = groups(scores, categories)
    return jnp.concatenate([jax.nn.one_hot(jnp.argmax(part, axis=-1), part.shape[-1]) for part in parts], axis=-1)


def kl_to_uniform(logits: Scores, categories: tuple[int, ...]) -> Float[Array, "batch categorical"]:
    """KL(softmax(logits) || uniform) = sum_k q_k (log q_k + log K) of each categorical, nats."""

    def kl(part: Scores):
        log_q = jax.nn.log_softmax(part)
        return jnp.sum(jnp.exp(log_q) * (log_q + math.log(part.shape[-1])), axis=-1)

    return jnp.stack([kl(part) for part in groups(logits, categories)], axis=-1)


def perplexity(logits: Scores, categories: tuple[int, ...]) -> Float[Array, "1 categorical"]:
    """exp(H(E_x q(c | x))) of each categorical over the whole batch: how many categories are in use, 1 to K."""

    def of(part: Scores):
        mean = jnp.mean(collectives.all_gather(jax.nn.softmax(part)), axis=0, keepdims=True)
        return jnp.exp(jnp.sum(jax.scipy.special.entr(mean), axis=-1))

    return jnp.stack([of(part) for part in groups(logits, categories)], axis=-1)


def posterior_of(nets: Nets, params: Params, images: Images, width: int) -> tuple[Gaussian, Scores]:
    """q(z | x), and the logits of q(c | x): the last `width` of the encoder's means, their log variances unused."""
    mean, logvar = nets.encode(params["nets"], images)
    latents = mean.shape[-1] - width
    return Gaussian(mean[:, :latents], logvar[:, :latents]), mean[:, latents:]


def make(likelihood: Likelihood, *, categories: tuple[int, ...] = (10,)) -> Variant:
    """JointVAE with a categorical of each number in `categories`. Raises UserError unless each is at least 1."""
    if not categories or not all(isinstance(count, int) and count >= 1 for count in categories):
        raise UserError(f"categories: {categories} is not allowed; give whole numbers of at least 1, such as (10,)")
    width, most = sum(categories), sum(map(math.log, categories))

    def loss(
        nets,
        params,
        batch,
        key,
        step,
        *,
        gamma=30.0,
        capacity=5.0,
        discrete_capacity=5.0,
        ramp_steps=25_000.0,
        temperature=0.67,
    ):
        posterior, logits = posterior_of(nets, params, batch["image"], width)
        z = posterior.sample(key, batch["index"])
        scores = logits + example_gumbel(randomness.stream(key, "joint/category"), batch["index"], width)

        def distortion(c):
            return -likelihood.log_prob(nets.decode(params["nets"], jnp.concatenate([z, c], axis=-1)), batch["image"])

        kl, kl_discrete = posterior.kl(), kl_to_uniform(logits, categories)
        target = schedules.ramp(step, 0.0, capacity, ramp_steps)
        discrete_target = jnp.minimum(schedules.ramp(step, 0.0, discrete_capacity, ramp_steps), most)
        terms = {
            "distortion": distortion(largest(scores, categories)),
            "distortion_relaxed": distortion(relaxed(scores, categories, temperature)),
            "rate": jnp.sum(kl, axis=-1) + jnp.sum(kl_discrete, axis=-1),
            "kl": kl,
            "kl_discrete": kl_discrete,
            "perplexity": perplexity(logits, categories),
            "capacity": target,
            "discrete_capacity": discrete_target,
            "code": posterior.mean,
        }
        terms["elbo"] = -(terms["distortion"] + terms["rate"])
        off = jnp.abs(rate_with_free_bits(kl) - target)
        discrete_off = jnp.abs(rate_with_free_bits(kl_discrete) - discrete_target)
        return jnp.mean(terms["distortion_relaxed"]) + gamma * (off + discrete_off), terms

    def sample_with_log_ratio(nets, params, batch, key):
        posterior, logits = posterior_of(nets, params, batch["image"], width)
        z = posterior.sample(key, batch["index"])
        c = largest(
            logits + example_gumbel(randomness.stream(key, "joint/category"), batch["index"], width), categories
        )
        # log p(c) - log q(c|x), of the categories that were drawn.
        log_q = jnp.concatenate([jax.nn.log_softmax(part) for part in groups(logits, categories)], axis=-1)
        of_c = -most - jnp.sum(jnp.where(c > 0, log_q, 0.0), axis=-1)
        return jnp.concatenate([z, c], axis=-1), standard_normal(z).log_prob(z) - posterior.log_prob(z) + of_c

    def encode(nets, params, batch):
        posterior, logits = posterior_of(nets, params, batch["image"], width)
        return jnp.concatenate([posterior.mean, largest(logits, categories)], axis=-1)

    def log_prior(nets, params, code):
        z = code[:, : code.shape[-1] - width]
        return standard_normal(z).log_prob(z) - most

    def sample_prior(nets, params, key, count, latent_dim, labels=None):
        refuse_labels(labels)
        index = jnp.arange(count)
        c = largest(example_gumbel(randomness.stream(key, "joint/category"), index, width), categories)
        return jnp.concatenate([example_normal(key, index, latent_dim), c], axis=-1)

    def code_dim(latent_dim):
        return latent_dim + width

    def dummy_inputs(image_shape, latent_dim):
        return image_and_code(image_shape, code_dim(latent_dim))

    return Variant(
        loss,
        encoder_outputs=code_dim,
        dummy_inputs=dummy_inputs,
        encode=encode,
        log_prior=log_prior,
        sample_prior=sample_prior,
        posterior=None,
        sample_with_log_ratio=sample_with_log_ratio,
    )
