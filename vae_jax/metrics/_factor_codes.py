"""The codes of all images of a grid of factors, and draws from it: what scores that know the factors are made of."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax.errors import UserError
from vae_jax.typing import Key

ArrayCodes = Float[np.ndarray, "image latent"]
ArrayClasses = Int[np.ndarray, "image factor"]


def check_finite(codes: np.ndarray) -> np.ndarray:
    """The codes as they are. Raises UserError where one is not finite."""
    if not np.isfinite(codes).all():
        raise UserError(f"codes: {int((~np.isfinite(codes)).any(axis=1).sum())} of {len(codes)} are not finite")
    return codes


class FactorCodes(NamedTuple):
    """The code of every image of a grid of factors, by id; a factor of one value is left out, as nothing to know.

    Attributes:
        codes: the latents of each image, row-major in the factors' order.
        names: the factors that are scored.
        sizes: how many values each factor takes. Those after the named ones are of nuisance factors, which vary in all
            that is drawn and are not scored.
    """

    codes: ArrayCodes
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def codes_at(self, classes: ArrayClasses) -> ArrayCodes:
        """The codes of the images with these factors."""
        return self.codes[np.ravel_multi_index(tuple(classes.T), self.sizes)]

    def draw(self, key: Key, count: int) -> tuple[ArrayCodes, ArrayClasses]:
        """Codes and classes of `count` images, every factor uniform and independent of the others."""
        sizes = jnp.asarray(self.sizes)[None]
        classes = np.asarray(jax.random.randint(key, (count, len(self.sizes)), 0, sizes, jnp.int32))
        return self.codes_at(classes), classes[:, : len(self.names)]

    def draw_groups(
        self, key: Key, shared: Int[np.ndarray, " group"], size: int
    ) -> Float[np.ndarray, "group {size} latent"]:
        """Codes of groups of `size` images that have one factor's value in common and all else drawn independently.

        Args:
            key: the randomness.
            shared: the number of the factor that each group has in common.
            size: images in a group.
        """
        ids = np.asarray(jax.random.randint(key, (len(shared), size), 0, len(self.codes), jnp.int32))
        stride = np.array([math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))])[shared][:, None]
        values = ids // stride % np.asarray(self.sizes)[shared][:, None]
        return self.codes[ids + (values[:, :1] - values) * stride]

    @classmethod
    def from_grid(
        cls, codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...], nuisance: tuple[str, ...] = ()
    ) -> "FactorCodes":
        """The codes of a grid, without the factors of one value and with the nuisance factors last.

        Args:
            codes: the latents of each image, row-major in the factors' order.
            names: the factors.
            sizes: how many values each takes.
            nuisance: the factors that vary and are not scored.

        Raises:
            UserError: for codes that are not finite, and where no factor that is scored varies.
        """
        # A factor of one value moves no id: the grid is in the same order without it.
        varying = [(name, size) for name, size in zip(names, sizes, strict=True) if size > 1]
        order = sorted(range(len(varying)), key=lambda i: varying[i][0] in nuisance)
        scored = tuple(name for name, _ in varying if name not in nuisance)
        if not scored:
            raise UserError("factors: none that is scored takes more than one value, so there is nothing to score")
        grid = np.asarray(check_finite(codes), np.float32).reshape(*(size for _, size in varying), -1)
        ordered = grid.transpose(*order, len(order)).reshape(len(codes), -1)
        return cls(ordered, scored, tuple(varying[i][1] for i in order))
