"""The contract of a variant, and how one is found: a file here is a name in a config.

A variant's file has `make(likelihood, **static) -> Variant`. Its static fields are the keyword-only
parameters of `make`; its floats are those of `loss`, and may be swept without recompiling.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int

from vae_jax import randomness, registry
from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood, bernoulli
from vae_jax.models.networks import Nets
from vae_jax.typing import Batch, Codes, Images, Key, Metrics, Params, PerExample, Scalar


class Loss(Protocol):
    """`loss(nets, params, batch, key, step, **floats) -> (scalar, terms)`.

    `batch` holds "image", "index" (each example's own number, for its noise), "size" (how many images its
    split has) and, where the data has them, "label", "factors" and "pair" (an image that shares some factors).
    The scalar is in nats per image. Terms are named and per example: "distortion" and, where the
    variant has them, "rate", "elbo" and "kl" (per latent), and "code", the posterior mean.
    """

    def __call__(
        self, nets: Nets, params: Params, batch: Batch, key: Key, step: Int[jax.Array, ""], **floats: Scalar
    ) -> tuple[Scalar, Metrics]:
        """The loss of a batch under `key`."""


def elbo_terms(
    likelihood: Likelihood, nets: Nets, params: Params, batch: Batch, key: Key
) -> tuple[Gaussian, Codes, Metrics]:
    """q(z | x), one draw from it for each image, and the terms of the ELBO under the prior N(0, I).

    elbo = -(distortion + rate), distortion = -log p(x | z), rate = KL(q(z | x) || N(0, I)) = sum_j kl_j
    """
    posterior = Gaussian(*nets.encode(params["nets"], batch["image"]))
    z = posterior.sample(key, batch["index"])
    distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
    kl = posterior.kl()
    rate = jnp.sum(kl, axis=-1)
    terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "kl": kl, "code": posterior.mean}
    return posterior, z, terms


def no_own_parameters(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
    """The parameters of a variant that has none beside the networks'."""
    return {}


def plain_examples(image_shape: tuple[int, int, int], latent_dim: int) -> tuple[Images, Codes]:
    """An image and a code as the networks take them: what `Nets.init` is given."""
    return jnp.zeros((1, *image_shape)), jnp.zeros((1, latent_dim))


def one_pair_a_latent(latent_dim: int) -> int:
    """As many means and log variances as there are latents."""
    return latent_dim


def as_built(nets: Nets) -> Nets:
    """The networks as they are."""
    return nets


def posterior_mean(nets: Nets, params: Params, batch: Batch) -> Codes:
    """The code that stands for an image: the mean of q(z | x)."""
    return nets.encode(params["nets"], batch["image"])[0]


def gaussian_posterior(nets: Nets, params: Params, batch: Batch) -> Gaussian:
    """q(z | x) of each image, as the encoder gives it."""
    return Gaussian(*nets.encode(params["nets"], batch["image"]))


def leave_as_trained(params: Params, codes: Callable[[], np.ndarray]) -> Params:
    """Nothing is fitted after the last step."""
    return params


def standard_normal_log_prior(nets: Nets, params: Params, z: Codes) -> PerExample:
    """log N(z; 0, I), nats per example."""
    return distributions.standard_normal(z).log_prob(z)


def sample_standard_normal(
    nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
) -> Codes:
    """`count` draws from N(0, I); draw i depends on key and i alone. Raises UserError where labels are given."""
    refuse_labels(labels)
    return randomness.example_normal(key, jnp.arange(count), latent_dim)


def refuse_labels(labels: np.ndarray | None) -> None:
    """Raises UserError where labels are given to a prior that is not of a label."""
    if labels is not None:
        raise UserError("labels: this run's prior is the same for every label; leave them out")


def any_data(split: Split) -> None:
    """Any images will do."""


class Variant(NamedTuple):
    """One scalar loss, and what a variant may override of the N(0, I)-prior VAE around it.

    `params` is {"nets": ..., "own": ...}: the networks' and whatever `init` made for the variant.
    `encoded` is how many means and log variances `encode` gives for a number of latents, `examples` are an
    image and a code as the networks take them (labels beside the image, say), and `adapt` makes other
    networks of those that the config builds. A code is what `decode` takes, and what `represent` and
    `sample_prior` give; the first `latent_dim` numbers of it are the latents.
    `own_optimizer` trains `own` by itself, learning rate included; None trains all with the config's.
    `settle(params, codes)` may fit something to `codes()`, those of the training split (at most 10,000),
    after the last step. `check` raises UserError for data that the loss cannot use.
    `posterior` is q(z | x) over the latents where that is a diagonal Gaussian, None where it is not;
    `draw(nets, params, batch, key) -> (codes, log p(code) - log q(code | x))` draws one code for each image
    where `posterior` and `log_prior` do not say how, all stochastic layers in the ratio. With neither there is
    no density of images, only of codes.
    """

    loss: Loss
    init: Callable[[Key, tuple[int, int, int], int], Params] = no_own_parameters
    encoded: Callable[[int], int] = one_pair_a_latent
    examples: Callable[[tuple[int, int, int], int], tuple[Images, Codes]] = plain_examples
    adapt: Callable[[Nets], Nets] = as_built
    represent: Callable[[Nets, Params, Batch], Codes] = posterior_mean
    log_prior: Callable[[Nets, Params, Codes], PerExample] = standard_normal_log_prior
    sample_prior: Callable[..., Codes] = sample_standard_normal
    own_optimizer: optax.GradientTransformation | None = None
    settle: Callable[[Params, Callable[[], np.ndarray]], Params] = leave_as_trained
    check: Callable[[Split], None] = any_data
    posterior: Callable[[Nets, Params, Batch], Gaussian] | None = gaussian_posterior
    draw: Callable[[Nets, Params, Batch, Key], tuple[Codes, PerExample]] | None = None


def draw(variant: Variant, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
    """One code z ~ q(z | x) for each image, and log p(z) - log q(z | x), nats.

    Raises UserError where the variant's codes have no density.
    """
    if variant.draw is not None:
        return variant.draw(nets, params, batch, key)
    if variant.posterior is None:
        raise UserError("config.variant.name: this variant's codes are points, so that images have no density")
    posterior = variant.posterior(nets, params, batch)
    z = posterior.sample(key, batch["index"])
    return z, variant.log_prior(nets, params, z) - posterior.log_prob(z)


def get(name: str) -> Callable[..., Variant]:
    """`make` of the variant `name`. Raises UserError for an unknown name."""
    return registry.find("config.variant.name", name, __name__, "make")


def floats(variant: Variant) -> dict[str, float]:
    """The traced floats of a variant's loss, with their defaults."""
    return registry.keyword_fields(variant.loss)


def traced(name: str) -> dict[str, float]:
    """The traced floats of the variant `name`, with their defaults."""
    return floats(get(name)(bernoulli.make()))


def defaults(name: str) -> dict[str, Any]:
    """The config section of the variant `name`: its name, its static fields and its floats."""
    return {"name": name, **registry.keyword_fields(get(name)), **traced(name)}
