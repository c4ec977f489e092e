"""The contract of a variant: a file here is a name in a config, and so is a dotted name of the user's own.

A variant's file has `make(likelihood, **static) -> Variant`, and may have TITLE, what papers call it. Its static fields
are the keyword-only parameters of `make`; its floats are those of `loss`, and may be swept without recompiling. A
UserError of `make` names its argument ("classes: ..."); one of `check` or `encoder_outputs` names a field of the config
("data.name: ...", "latent_dim: ...").
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from vae_jax import randomness, registry
from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood, bernoulli
from vae_jax.models.networks import Nets
from vae_jax.typing import Batch, Codes, Images, Key, Metrics, Params, PerExample, Scalar

Index = Int[Array, "batch groups"]
"""The number of each group's value, where codes are of a finite set."""

Loss = Callable[..., tuple[Scalar, Metrics]]
"""`loss(nets, params, batch, key, step, **floats) -> (scalar, terms)`.

`batch` holds "image", "index" (each example's own number, for its noise), "size" (how many images its split has) and,
where the data has them, "label", "factors" and "pair" (an image that shares some factors). The scalar is in nats per
image. Terms are named and per example: "distortion" and, where the variant has them, "rate", "elbo" and "kl" (per
latent), and "code", the posterior mean. The floats are keyword-only, with their defaults.
"""


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


def learned_prior_terms(
    likelihood: Likelihood,
    log_prior: Callable[[Nets, Params, Codes], PerExample],
    nets: Nets,
    params: Params,
    batch: Batch,
    key: Key,
) -> Metrics:
    """The terms of the ELBO under a prior whose KL has no closed form, at one draw z ~ q(z | x) for each image.

    elbo = -(distortion + rate), distortion = -log p(x | z), rate = log q(z | x) - log p(z)
    """
    posterior = Gaussian(*nets.encode(params["nets"], batch["image"]))
    z = posterior.sample(key, batch["index"])
    distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
    rate = posterior.log_prob(z) - log_prior(nets, params, z)
    return {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "code": posterior.mean}


def no_own_parameters(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
    """The parameters of a variant that has none beside the networks'."""
    return {}


def image_and_code(image_shape: tuple[int, int, int], latent_dim: int) -> tuple[Images, Codes]:
    """An image and a code as the networks take them, all zeros: what `Nets.init` is given."""
    return jnp.zeros((1, *image_shape)), jnp.zeros((1, latent_dim))


def two_per_latent(latent_dim: int) -> int:
    """A mean and a log variance for each latent: `latent_dim` pairs."""
    return latent_dim


def posterior_mean(nets: Nets, params: Params, batch: Batch) -> Codes:
    """The code that stands for an image: the mean of q(z | x)."""
    return nets.encode(params["nets"], batch["image"])[0]


def gaussian_posterior(nets: Nets, params: Params, batch: Batch) -> Gaussian:
    """q(z | x) of each image, as the encoder gives it."""
    return Gaussian(*nets.encode(params["nets"], batch["image"]))


def sample_standard_normal(
    nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
) -> Codes:
    """`count` draws from N(0, I); draw i depends on key and i alone. Raises UserError where labels are given."""
    refuse_labels(labels)
    return randomness.example_normal(key, jnp.arange(count), latent_dim)


def refuse_labels(labels: np.ndarray | None) -> None:
    """Raises UserError where labels are given to a prior that is the same for every label."""
    if labels is not None:
        raise UserError("labels: this run's prior is the same for every label; leave them out")


def no_check(split: Split) -> None:
    """Any images will do."""


class DiscreteCodes(NamedTuple):
    """The finite set that a variant's codes come from: each group of latents takes one of `size` values.

    Attributes:
        size: how many values a group chooses among, numbered from 0.
        groups: the number of latents -> how many groups they are cut into; size ** groups codes in all.
        assign: (nets, params, batch) -> (image, group), the number of each group's value.
        lookup: (params, index) -> those codes, as `decode` takes them, and log p(code), nats per example.
    """

    size: int
    groups: Callable[[int], int]
    assign: Callable[[Nets, Params, Batch], Index]
    lookup: Callable[[Params, Index], tuple[Codes, PerExample]]


class Variant(NamedTuple):
    """One scalar loss, and what a variant may override in the VAE around it, whose prior is N(0, I).

    `params` is {"nets": ..., "own": ...}: the networks' and whatever `init` made for the variant. A code is what
    `decode` takes, and what `encode` and `sample_prior` give; its first `latent_dim` numbers are the latents.

    Attributes:
        loss: the scalar and its terms, as `Loss` says.
        init: (key, image_shape, latent_dim) -> the variant's own parameters.
        encoder_outputs: the number of latents -> how many pairs of a mean and a log variance the encoder gives.
        dummy_inputs: (image_shape, latent_dim) -> an image and a code as the networks take them (labels beside the
            image, say).
        wrap_networks: other networks made from those that the config builds; None takes them as they are.
        encode: (nets, params, batch) -> the code that stands for each image.
        log_prior: (nets, params, codes) -> log p(code), nats per example; None is N(0, I).
        sample_prior: (nets, params, key, count, latent_dim, labels=None) -> codes; draw i depends on key and i alone.
        own_optimizer: the optimizer of `own`, learning rate included; None trains all with the config's.
        fit_after_training: (params, codes) -> params with something fitted to `codes()`, those of the training split
            (at most 10,000), after the last step; None fits nothing.
        check: raises UserError for data that the loss cannot use.
        posterior: q(z | x) over the latents if that is a diagonal Gaussian, else None.
        sample_with_log_ratio: (nets, params, batch, key) -> one code for each image and log p(code) - log q(code | x),
            all stochastic layers in the ratio, where `posterior` and `log_prior` do not say how. With neither this nor
            `posterior` there is no density of images, only of codes.
        discrete_codes: the finite set that codes come from; None where they are numbers.
        bounds: what the logged "elbo" is a lower bound of, "log p(x)" as a rule; empty where none is logged. Runs whose
            ELBOs bound different quantities are never ranked against each other.
        density: the quantity that importance sampling with `sample_with_log_ratio` estimates; that of `bounds`, but for
            a loss whose images have seen others.
    """

    loss: Loss
    init: Callable[[Key, tuple[int, int, int], int], Params] = no_own_parameters
    encoder_outputs: Callable[[int], int] = two_per_latent
    dummy_inputs: Callable[[tuple[int, int, int], int], tuple[Images, Codes]] = image_and_code
    wrap_networks: Callable[[Nets], Nets] | None = None
    encode: Callable[[Nets, Params, Batch], Codes] = posterior_mean
    log_prior: Callable[[Nets, Params, Codes], PerExample] | None = None
    sample_prior: Callable[..., Codes] = sample_standard_normal
    own_optimizer: optax.GradientTransformation | None = None
    fit_after_training: Callable[[Params, Callable[[], np.ndarray]], Params] | None = None
    check: Callable[[Split], None] = no_check
    posterior: Callable[[Nets, Params, Batch], Gaussian] | None = gaussian_posterior
    sample_with_log_ratio: Callable[[Nets, Params, Batch, Key], tuple[Codes, PerExample]] | None = None
    discrete_codes: DiscreteCodes | None = None
    bounds: str = "log p(x)"
    density: str = "log p(x)"


def log_prior(variant: Variant, nets: Nets, params: Params, codes: Codes) -> PerExample:
    """log p(code), nats per example: of the variant's own prior, or of N(0, I) where it has none."""
    if variant.log_prior is None:
        return standard_normal(codes).log_prob(codes)
    return variant.log_prior(nets, params, codes)


def sample_with_log_ratio(
    variant: Variant, nets: Nets, params: Params, batch: Batch, key: Key
) -> tuple[Codes, PerExample]:
    """One code z ~ q(z | x) for each image, and log p(z) - log q(z | x), nats.

    Raises UserError where the variant's codes have no density.
    """
    if variant.sample_with_log_ratio is not None:
        return variant.sample_with_log_ratio(nets, params, batch, key)
    if variant.posterior is None:
        raise UserError("variant: its codes are points, so images have no density")
    posterior = variant.posterior(nets, params, batch)
    z = posterior.sample(key, batch["index"])
    return z, log_prior(variant, nets, params, z) - posterior.log_prob(z)


def get(name: str) -> Callable[..., Variant]:
    """`make` of the variant `name`. Raises UserError for an unknown name."""
    return registry.find("name", name, __name__, "make")


def floats(variant: Variant) -> dict[str, float]:
    """The traced floats of a variant's loss, with their defaults."""
    return registry.keyword_fields(variant.loss)


def traced(name: str) -> dict[str, float]:
    """The traced floats of the variant `name`, with their defaults. Raises UserError where the user's own raises."""
    with registry.users_code("name", name):
        return floats(get(name)(bernoulli.make()))


def defaults(name: str) -> dict[str, Any]:
    """The config section of the variant `name`: its name, its static fields and its floats."""
    return {"name": name, **registry.keyword_fields(get(name)), **traced(name)}
