"""What metrics take from a trained run and its data."""

import functools
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from vae_jax import data, randomness
from vae_jax.data import Dataset
from vae_jax.data._factors import Factors
from vae_jax.data._splits import read_batch, sparing_split
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics._factor_codes import ArrayCodes, FactorCodes, check_finite
from vae_jax.metrics._requirements import REQUIREMENTS
from vae_jax.models.distributions import Gaussian
from vae_jax.randomness import stream
from vae_jax.typing import Batch

CHUNK = 1024
"""Images of a grid that are rendered and encoded at once."""
BATCH = 250
"""Held-out images encoded at once; the 10,000 of most protocols are a whole number of them: one size is compiled."""

Progress = Callable[[Iterable, int], Iterable]
"""(items, how many) -> the items, with a bar that follows them."""


def no_progress(items: Iterable, total: int) -> Iterable:
    """The items as they are, without a bar."""
    return items


class EvaluationContext:
    """A trained run and its data, and what metrics take from them, each computed once and only if it is asked for.

    Attributes:
        run: the trained model.
        dataset: its data.
        model: its networks, variant and likelihood.
        progress: follows the items of a long loop with a bar.
    """

    def __init__(self, run: TrainedModel, dataset: Dataset, progress: Progress = no_progress):
        self.run, self.dataset, self.model, self.progress = (run, dataset, run.model, progress)
        self._codes: dict[int, ArrayCodes] = {}
        self._posteriors: dict[int, Gaussian] = {}

    def codes(self, images: int) -> ArrayCodes:
        """The latents of `images` held-out images (0: all), always the same. Raises UserError if not finite."""
        if images not in self._codes:
            batches = [self._encode(self.run.params, batch) for batch in self.held_out(BATCH, images)]
            self._codes[images] = check_finite(np.concatenate(batches)[:, : self.run.latent_dim])
        return self._codes[images]

    def posterior(self, images: int) -> Gaussian:
        """q(z | x) of the images of `codes`. Raises UserError where it is no diagonal Gaussian, or not finite."""
        if images not in self._posteriors:
            self._posteriors[images] = self._posterior_of_batches(self.held_out(BATCH, images))
        return self._posteriors[images]

    def posterior_at(self, ids: Int[np.ndarray, " image"]) -> Gaussian:
        """q(z | x) of the images of the grid with these ids. Raises UserError as `posterior` does."""
        starts = range(0, len(ids), BATCH)
        return self._posterior_of_batches({"image": self._grid_images(ids[i : i + BATCH])} for i in starts)

    @property
    def grid(self) -> Factors:
        """The factors of the data. Raises UserError where they have none."""
        if self.dataset.factors is None:
            raise UserError(f"dataset: this metric needs {REQUIREMENTS['factors']}")
        return self.dataset.factors

    @cached_property
    def factor_codes(self) -> FactorCodes:
        """The latents of every image of the grid of factors.

        Raises UserError for latents that are not finite, and where no factor varies.
        """
        grid = self.grid
        starts = range(0, grid.size, CHUNK)
        chunks = [np.arange(start, min(start + CHUNK, grid.size), dtype=np.int32) for start in starts]
        codes = np.concatenate([self._encode_grid(ids) for ids in self.progress(chunks, len(chunks))])
        return FactorCodes.from_grid(codes[:, : self.run.latent_dim], grid.names, grid.sizes, grid.nuisance)

    def held_out(self, batch_size: int, images: int = 0) -> Iterator[Batch]:
        """`images` held-out images (0: all) in batches, binarised as in the evaluation of every run.

        Fewer than all are drawn once and for all, and more of them include the fewer.
        """
        # A grid's first images are all of one shape: these are from all over it.
        order = np.random.Generator(np.random.Philox(key=2)).permutation(self.dataset.test.size)
        return self._batches(order[:images] if images else order, batch_size)

    def forget(self) -> None:
        """Drops all codes and posteriors, which are then computed anew: to time it."""
        self._codes.clear()
        self._posteriors.clear()
        vars(self).pop("factor_codes", None)

    def _posterior_of_batches(self, batches: Iterable[Batch]) -> Gaussian:
        batch_posterior = self._batch_posterior
        posteriors = [batch_posterior(self.run.params, batch) for batch in batches]
        moments = (np.concatenate(moment)[:, : self.run.latent_dim] for moment in zip(*posteriors, strict=True))
        return Gaussian(*(jnp.asarray(check_finite(moment)) for moment in moments))

    def _batches(self, indices: np.ndarray, batch_size: int) -> Iterator[Batch]:
        split = sparing_split(self.dataset.test)
        key = stream(stream(randomness.evaluation_key(), "evaluation"), "binarize")
        starts = range(0, len(indices), batch_size)
        for start in self.progress(starts, len(starts)):
            index = indices[start : start + batch_size].astype(np.int32)
            yield self._make_batch(*read_batch(split, index), index, key)

    def _grid_images(self, ids: np.ndarray) -> jax.Array:
        """The images of the grid as the run sees them: grey, or thresholded where training did that."""
        images = self._render(jnp.asarray(ids, jnp.int32)) / jnp.float32(255)
        threshold = self.run.config["data"]["binarize"] == "static"
        return (images > 0.5).astype(jnp.float32) if threshold else images

    def _encode_grid(self, ids: np.ndarray) -> np.ndarray:
        padded = np.resize(ids, CHUNK)  # one size, compiled once
        return self.run.encode(np.asarray(self._render(padded)))[: len(ids)]

    @cached_property
    def _make_batch(self) -> Callable:
        binarize = data.binarizer(self.run.config["data"]["binarize"])

        def make(split, indices, index, key):
            batch = data.make_batch(split, binarize, indices, index, key)
            # A loss alone reads pairs, and what a program does not return is not computed: to draw it takes longest.
            return {name: value for name, value in batch.items() if name != "pair"}

        return jax.jit(make)

    @cached_property
    def _encode(self) -> Callable:
        return jax.jit(functools.partial(self.model.variant.encode, self.model.nets))

    @cached_property
    def _batch_posterior(self) -> Callable:
        posterior = self.model.variant.posterior
        if posterior is None:
            raise UserError(f"variant: this metric needs {REQUIREMENTS['posterior']}")
        return jax.jit(functools.partial(posterior, self.model.nets))

    @cached_property
    def _render(self) -> Callable:
        # Its images are an argument: closed over they were a constant of the program, 5.9 GB for shapes3d.
        return functools.partial(jax.jit(lambda render, ids: render(ids)), jax.device_put(self.grid.render))
