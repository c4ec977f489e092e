"""An evaluation of codes alone, without a run: for benchmarks and tests of scores whose answer is known."""

from types import SimpleNamespace
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from vae_jax.data._factors import Factors
from vae_jax.metrics._evaluation_context import EvaluationContext
from vae_jax.metrics._factor_codes import ArrayCodes, FactorCodes
from vae_jax.models.distributions import Gaussian


class GivenCodes(EvaluationContext):
    """A context of which only the codes are known, one row for each image of a grid; the prior is N(0, I).

    Args:
        codes: the latents of each image, row-major in the factors' order.
        names: the factors.
        sizes: how many values each takes.
        logvar: the log variance of every latent's posterior around its code.
    """

    def __init__(self, codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...], logvar: float = -4.0):
        nothing = cast(Any, None)
        self.dataset = cast(Any, SimpleNamespace(factors=Factors(names, sizes, render=nothing)))
        self.model = cast(Any, SimpleNamespace(variant=SimpleNamespace(log_prior=None)))
        self.run = nothing
        self.factor_codes = FactorCodes.from_grid(codes, names, sizes)
        self.logvar = logvar

    def codes(self, images: int) -> ArrayCodes:
        """The codes of `images` of the grid, 0 for all, spread over it."""
        codes = self.factor_codes.codes
        order = np.random.default_rng(0).permutation(len(codes))
        return codes[order[:images] if images else order]

    def posterior(self, images: int) -> Gaussian:
        """Gaussians around the codes of `images` of the grid."""
        return self._around(self.codes(images))

    def posterior_at(self, ids: np.ndarray) -> Gaussian:
        """Gaussians around the codes of the images of the grid with these ids."""
        return self._around(self.factor_codes.codes[ids])

    def _around(self, codes: ArrayCodes) -> Gaussian:
        mean = jnp.asarray(codes)
        return Gaussian(mean, jnp.full_like(mean, self.logvar))
