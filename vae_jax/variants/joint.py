"""JointVAE (Dupont 2018): continuous latents z and categorical ones c, each kind with a target capacity of its own.

Purpose    discrete codes
Take it    for categories beside continuous latents, where data have classes but no labels. Nothing forces the
           categories to be those classes: watch `perplexity` for a collapse.
Command    vae-jax train --config=digits_joint --workdir=runs/digits_joint

    loss = E_q[-log p(x|z,c)] + gamma * |KL(q(z|x) || p(z)) - C_z(step)| + gamma * |KL(q(c|x) || p(c)) - C_c(step)|
    C_z, C_c rise in a straight line from 0 to `capacity` and `discrete_capacity` nats over `ramp_steps` steps

q(c|x) has one categorical for each number K of `categories`, p(c) is uniform: KL = log K - H(q(c|x)), the sum over
categoricals. It is at most sum log K, where every image is sure of its category, and C_c is capped there as in the
paper. Without a capacity of its own c may be left unused, because z can hold all that c can.

Trap: the capacity asks that q(c|x) be far from uniform, not that it depend on x. A q that is sure of the same category
for every image meets it and carries nothing. Training finds such a q first if a large gamma or a steep ramp pulls
harder than the distortion, and hardly ever leaves it. "perplexity" shows it: exp of the entropy of the batch's mean
q(c|x), how many of the K categories are in use, 1 after such a collapse. No term of the loss makes the categories
classes of the data.

The expectation takes a relaxed c (Gumbel-softmax: Jang et al. 2017; Maddison et al. 2017), for its gradient:

    c = softmax((logits + g) / temperature),  g Gumbel noise;  temperature to 0: the one-hot of the largest,
    which has the categorical's own frequencies at any temperature

A relaxed c is not drawn from the categorical whose KL is taken. The KL between relaxed densities is never below the
categorical's (data processing: the largest is a function of c), so distortion_relaxed + rate does not bound any -log
p(x) and may look too good. The logged "distortion", "elbo" and "rate" are those of the model with one-hot c: the
distortion is at the one-hot of the same draw, one more pass of the decoder, and elbo = -(distortion + rate) is a bound.
"kl" is of each latent, "kl_discrete" of each categorical.

Both KLs inside |.| are means over the whole batch, as in the author's code and for the reasons of the variant
`capacity`. There are no free bits and no `beta`: the capacities say what is free. A code is z and then c. The code that
stands for an image is the mean of q(z|x) and the one-hot of its most likely category, the kind of code that the prior
draws.
"""

import math
from dataclasses import dataclass

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
from vae_jax.typing import Batch, Codes, Images, Indices, Key, Params, PerExample, Scalar
from vae_jax.variants import Variant, image_and_code, refuse_labels
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "JointVAE"
"""In the caption of a picture."""

Scores = Float[Array, "batch score"]
"""One number for each category of each categorical, side by side."""


def example_gumbel(key: Key, index: Indices, size: int) -> Scores:
    """Gumbel noise -log(-log u), `size` numbers for each example, a function of key and index alone.

    u is at least float32's smallest normal number and below 1: between -4.5 and 16, never infinite.
    """
    return jax.vmap(lambda k: jax.random.gumbel(k, (size,), jnp.float32))(example_keys(key, index))


def split_scores(scores: Scores, categories: tuple[int, ...]) -> list[Float[Array, "batch _"]]:
    """Each categorical's part of the scores."""
    return jnp.split(scores, np.cumsum(categories)[:-1], axis=-1)


def relaxed(scores: Scores, categories: tuple[int, ...], temperature: Scalar | float) -> Scores:
    """softmax(scores / temperature) of each categorical: a point of its simplex."""
    parts = split_scores(scores, categories)
    return jnp.concatenate([jax.nn.softmax(part / temperature) for part in parts], axis=-1)


def one_hot_of_largest(scores: Scores, categories: tuple[int, ...]) -> Scores:
    """The one-hot of each categorical's largest score: with Gumbel noise in them a draw from softmax(logits)."""
    parts = split_scores(scores, categories)
    return jnp.concatenate([jax.nn.one_hot(jnp.argmax(part, axis=-1), part.shape[-1]) for part in parts], axis=-1)


def kl_to_uniform(logits: Scores, categories: tuple[int, ...]) -> Float[Array, "batch categorical"]:
    """KL(softmax(logits) || uniform) = sum_k q_k (log q_k + log K) of each categorical, nats."""

    def kl(part: Scores) -> PerExample:
        log_q = jax.nn.log_softmax(part)
        return jnp.sum(jnp.exp(log_q) * (log_q + math.log(part.shape[-1])), axis=-1)

    return jnp.stack([kl(part) for part in split_scores(logits, categories)], axis=-1)


def perplexity(logits: Scores, categories: tuple[int, ...]) -> Float[Array, "1 categorical"]:
    """exp(H(E_x q(c | x))) of each categorical over the whole batch: how many categories are in use, 1 to K."""

    def exp_entropy(part: Scores) -> Float[Array, " 1"]:
        mean = jnp.mean(collectives.all_gather(jax.nn.softmax(part)), axis=0, keepdims=True)
        return jnp.exp(jnp.sum(jax.scipy.special.entr(mean), axis=-1))

    return jnp.stack([exp_entropy(part) for part in split_scores(logits, categories)], axis=-1)


@dataclass(frozen=True)
class Joint:
    """The loss and what surrounds it, for a categorical of each number in `categories`."""

    likelihood: Likelihood
    categories: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many numbers c has."""
        return sum(self.categories)

    @property
    def largest_kl(self) -> float:
        """KL(q(c|x) || p(c)) at most: sum log K, nats."""
        return sum(map(math.log, self.categories))

    def posterior_and_logits(self, nets: Nets, params: Params, images: Images) -> tuple[Gaussian, Scores]:
        """q(z | x), and the logits of q(c | x): the last of the encoder's means, their log variances unused."""
        mean, logvar = nets.encode(params["nets"], images)
        latents = mean.shape[-1] - self.width
        return Gaussian(mean[:, :latents], logvar[:, :latents]), mean[:, latents:]

    def gumbel(self, key: Key, index: Indices) -> Scores:
        """The noise that draws c."""
        return example_gumbel(randomness.stream(key, "joint/category"), index, self.width)

    def loss(
        self,
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
        """distortion_relaxed + gamma * |rate of z - C_z| + gamma * |rate of c - C_c|."""
        posterior, logits = self.posterior_and_logits(nets, params, batch["image"])
        z = posterior.sample(key, batch["index"])
        scores = logits + self.gumbel(key, batch["index"])

        def distortion(c):
            decoded = nets.decode(params["nets"], jnp.concatenate([z, c], axis=-1))
            return -self.likelihood.log_prob(decoded, batch["image"])

        kl, kl_discrete = posterior.kl(), kl_to_uniform(logits, self.categories)
        target = schedules.ramp(step, 0.0, capacity, ramp_steps)
        discrete_target = jnp.minimum(schedules.ramp(step, 0.0, discrete_capacity, ramp_steps), self.largest_kl)
        terms = {
            "distortion": distortion(one_hot_of_largest(scores, self.categories)),
            "distortion_relaxed": distortion(relaxed(scores, self.categories, temperature)),
            "rate": jnp.sum(kl, axis=-1) + jnp.sum(kl_discrete, axis=-1),
            "kl": kl,
            "kl_discrete": kl_discrete,
            "perplexity": perplexity(logits, self.categories),
            "capacity": target,
            "discrete_capacity": discrete_target,
            "code": posterior.mean,
        }
        terms["elbo"] = -(terms["distortion"] + terms["rate"])
        gap = jnp.abs(rate_with_free_bits(kl) - target)
        discrete_gap = jnp.abs(rate_with_free_bits(kl_discrete) - discrete_target)
        return jnp.mean(terms["distortion_relaxed"]) + gamma * (gap + discrete_gap), terms

    def sample_with_log_ratio(self, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
        """One z and c for each image, and log p(z, c) - log q(z, c | x)."""
        posterior, logits = self.posterior_and_logits(nets, params, batch["image"])
        z = posterior.sample(key, batch["index"])
        c = one_hot_of_largest(logits + self.gumbel(key, batch["index"]), self.categories)
        log_q = jnp.concatenate([jax.nn.log_softmax(part) for part in split_scores(logits, self.categories)], axis=-1)
        # log p(c) - log q(c|x), of the categories that were drawn.
        log_ratio_c = -self.largest_kl - jnp.sum(jnp.where(c > 0, log_q, 0.0), axis=-1)
        log_ratio_z = standard_normal(z).log_prob(z) - posterior.log_prob(z)
        return jnp.concatenate([z, c], axis=-1), log_ratio_z + log_ratio_c

    def encode(self, nets: Nets, params: Params, batch: Batch) -> Codes:
        """The mean of q(z | x), and the one-hot of the most likely category."""
        posterior, logits = self.posterior_and_logits(nets, params, batch["image"])
        return jnp.concatenate([posterior.mean, one_hot_of_largest(logits, self.categories)], axis=-1)

    def log_prior(self, nets: Nets, params: Params, code: Codes) -> PerExample:
        """log N(z; 0, I) - sum log K."""
        z = code[:, : code.shape[-1] - self.width]
        return standard_normal(z).log_prob(z) - self.largest_kl

    def sample_prior(
        self, nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
    ) -> Codes:
        """z ~ N(0, I) and evenly drawn categories. Raises UserError where labels are given."""
        refuse_labels(labels)
        index = jnp.arange(count)
        c = one_hot_of_largest(self.gumbel(key, index), self.categories)
        return jnp.concatenate([example_normal(key, index, latent_dim), c], axis=-1)

    def code_dim(self, latent_dim: int) -> int:
        """How many numbers a code has: the latents and c."""
        return latent_dim + self.width

    def dummy_inputs(self, image_shape: tuple[int, int, int], latent_dim: int) -> tuple[Images, Codes]:
        """An image and a code of zeros."""
        return image_and_code(image_shape, self.code_dim(latent_dim))


def make(likelihood: Likelihood, *, categories: tuple[int, ...] = (10,)) -> Variant:
    """JointVAE with a categorical of each number in `categories`. Raises UserError unless each is at least 1."""
    if not categories or not all(isinstance(count, int) and count >= 1 for count in categories):
        raise UserError(f"categories: {categories} is not allowed; give whole numbers of at least 1, such as (10,)")
    joint = Joint(likelihood, categories)
    return Variant(
        joint.loss,
        encoder_outputs=joint.code_dim,
        dummy_inputs=joint.dummy_inputs,
        encode=joint.encode,
        log_prior=joint.log_prior,
        sample_prior=joint.sample_prior,
        posterior=None,
        sample_with_log_ratio=joint.sample_with_log_ratio,
    )
