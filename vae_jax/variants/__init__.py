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

from vae_jax import distributions, registry
from vae_jax.networks import Nets
from vae_jax.typing import Batch, Codes, Images, Key, Metrics, Params, PerExample, Scalar


class Loss(Protocol):
    """`loss(nets, params, batch, key, step, **floats) -> (scalar, terms)`.

    The scalar is in nats per image. Terms are named and per example: "distortion" and, where the
    variant has them, "rate", "elbo" and "kl" (per latent), and "code", the posterior mean.
    """

    def __call__(
        self, nets: Nets, params: Params, batch: Batch, key: Key, step: Int[jax.Array, ""], **floats: Scalar
    ) -> tuple[Scalar, Metrics]:
        """The loss of a batch under `key`."""


def no_own_parameters(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
    """The parameters of a variant that has none beside the networks'."""
    return {}


def plain_examples(image_shape: tuple[int, int, int], latent_dim: int) -> tuple[Images, Codes]:
    """An image and a code as the networks take them: what `Nets.init` is given."""
    return jnp.zeros((1, *image_shape)), jnp.zeros((1, latent_dim))


def posterior_mean(nets: Nets, params: Params, batch: Batch) -> Codes:
    """The code that stands for an image: the mean of q(z | x)."""
    return nets.encode(params["nets"], batch["image"])[0]


def leave_as_trained(params: Params, codes: Callable[[], np.ndarray]) -> Params:
    """Nothing is fitted after the last step."""
    return params


def standard_normal_log_prior(params: Params, z: Codes) -> PerExample:
    """log N(z; 0, I), nats per example."""
    return distributions.standard_normal(z).log_prob(z)


def sample_standard_normal(params: Params, key: Key, count: int, latent_dim: int) -> Codes:
    """`count` draws from N(0, I); draw i depends on key and i alone."""
    return distributions.example_normal(key, jnp.arange(count), latent_dim)


class Variant(NamedTuple):
    """One scalar loss, and what a variant may override of the N(0, I)-prior VAE around it.

    `params` is {"nets": ..., "own": ...}: the networks' and whatever `init` made for the variant.
    `examples` widen the networks' inputs (labels beside the image, say); a code is what `decode` takes,
    and what `represent` and `sample_prior` give. `own_optimizer` trains `own` by itself, learning rate
    included; None trains all with the config's. `settle(params, codes)` may fit something to `codes()`,
    those of the training split (at most 10,000), after the last step.
    """

    loss: Loss
    init: Callable[[Key, tuple[int, int, int], int], Params] = no_own_parameters
    examples: Callable[[tuple[int, int, int], int], tuple[Images, Codes]] = plain_examples
    represent: Callable[[Nets, Params, Batch], Codes] = posterior_mean
    log_prior: Callable[[Params, Codes], PerExample] = standard_normal_log_prior
    sample_prior: Callable[[Params, Key, int, int], Codes] = sample_standard_normal
    own_optimizer: optax.GradientTransformation | None = None
    settle: Callable[[Params, Callable[[], np.ndarray]], Params] = leave_as_trained


def get(name: str) -> Callable[..., Variant]:
    """`make` of the variant `name`. Raises UserError for an unknown name."""
    from vae_jax import variants

    return registry.module("config.variant.name", name, variants).make


def floats(variant: Variant) -> dict[str, float]:
    """The traced floats of a variant's loss, with their defaults."""
    return registry.fields(variant.loss)


def defaults(name: str) -> dict[str, Any]:
    """The config section of the variant `name`: its name, its static fields and its floats."""
    make = get(name)
    return {"name": name, **registry.fields(make), **floats(make(distributions.bernoulli()))}
