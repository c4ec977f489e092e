"""Densities fitted to the codes of a trained model, to draw from in place of its prior: a file here is a name.

A file defines `SAMPLER`, a `Sampler`; so does a module of the user's own, which a dotted name finds. A sampler is
fitted to draws z ~ q(z|x), one for each training image, of a trained model that stays as it is ("ex-post density
estimation", Ghosh et al. 2020; the second stage of Dai & Wipf 2019). If the codes of the data are not distributed as
the prior is, the decoder has not learned to decode what the prior draws.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.typing import Codes, Key, Params, PerExample

PRIOR = "prior"
"""The name of the model's own prior, to which nothing is fitted."""

HostCodes = Float[np.ndarray, "n latent"]


class Sampler(NamedTuple):
    """How a density over codes is fitted, and drawn from.

    Attributes:
        fit: (codes, key, **fields) -> params, the codes float32 and finite; its keyword-only parameters are its fields.
        sample: (params, key, count) -> codes; draw i depends on params, key and i alone.
        log_density: (params, codes) -> log p(code), nats per example; None if there is no closed form.
    """

    fit: Callable[..., Params]
    sample: Callable[[Params, Key, int], Codes]
    log_density: Callable[[Params, Codes], PerExample] | None = None


class FittedSampler(NamedTuple):
    """A sampler and what it was fitted to."""

    sampler: Sampler
    params: Any

    def sample(self, key: Key, count: int) -> Codes:
        """`count` codes; draw i depends on key and i alone."""
        return self.sampler.sample(self.params, key, count)


def get(name: str) -> Sampler | None:
    """The sampler `name`, None for the model's own prior. Raises UserError for an unknown name, with the nearest."""
    if not isinstance(name, str):
        raise UserError(f"sampler: {name!r} is not allowed; give a name, one of {', '.join(names())}")
    sampler = registry.find("sampler", name, __name__, "SAMPLER")
    if not (sampler is None or isinstance(sampler, Sampler)):
        raise UserError(f"sampler: {name!r} is a {type(sampler).__name__}; give a vae_jax.samplers.Sampler")
    return sampler


def names() -> tuple[str, ...]:
    """The samplers that have a file here."""
    return registry.file_names(__name__)
