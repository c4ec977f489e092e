"""A trained model as a person uses it: NumPy in, NumPy out.

run = vae_jax.open_run("runs/digits")
z = run.encode(images)              # (n, height, width, channels) -> (n, latent)
pictures = run.sample(jax.random.key(0), 16)
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree

from vae_jax.errors import UserError
from vae_jax.model import Model
from vae_jax.typing import Config, Key, Params

BATCH_SIZES = (1, 16, 256)
"""Batch sizes that are ever compiled: any other is padded to the next of these, or cut into the largest."""

Rows: TypeAlias = PyTree
"""Arrays with as many rows: images, codes, or a dict of them."""


@dataclasses.dataclass(frozen=True)
class CompiledFunction:
    """`function(params, rows)` for NumPy rows of any number, compiled for BATCH_SIZES alone."""

    jitted: Callable[[Params, Rows], Any]

    def __call__(self, params: Params, rows: Rows) -> np.ndarray:
        """The function of all rows, one after the other in one array."""
        largest, count = BATCH_SIZES[-1], _row_count(rows)
        starts = range(0, max(count, 1), largest)
        return np.concatenate([self._padded_call(params, _cut(rows, start, start + largest)) for start in starts])

    def _padded_call(self, params: Params, rows: Rows) -> np.ndarray:
        count = _row_count(rows)
        size = next(size for size in BATCH_SIZES if count <= size)
        return np.asarray(self.jitted(params, jax.tree.map(lambda array: _pad(array, size), rows)))[:count]


def _row_count(rows: Rows) -> int:
    return len(jax.tree.leaves(rows)[0])


def _cut(rows: Rows, start: int, end: int) -> Rows:
    return jax.tree.map(lambda array: array[start:end], rows)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """`array` with rows of zeros up to `size`."""
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


class TrainedModel:
    """A model and its trained weights. Images are (n, height, width, channels), codes (n, latent)."""

    def __init__(self, config: Config, image_shape: tuple[int, int, int], model: Model, params: Params, step: int):
        self.config, self.image_shape, self.params, self.step = config, image_shape, params, step
        self.latent_dim = config["latent_dim"]
        self.code_dim = model.variant.dummy_inputs(self.image_shape, self.latent_dim)[1].shape[-1]
        self.model = model

        def encode(params: Params, batch: Rows) -> Any:
            return model.variant.encode(model.nets, params, batch)

        def decode(params: Params, codes: Rows) -> Any:
            return model.likelihood.mean(model.nets.decode(params["nets"], codes))

        self._encode, self._decode = CompiledFunction(jax.jit(encode)), CompiledFunction(jax.jit(decode))

    def with_params(self, config: Config, params: Params, step: int) -> "TrainedModel":
        """Another run of the same program, which shares what this one has compiled."""
        other = copy.copy(self)
        other.config, other.params, other.step = config, params, step
        return other

    def encode(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The code of each image, its posterior mean.

        Args:
            images: (n, height, width, channels), uint8 from 0 to 255 or float from 0 to 1.
            labels: (n,) class numbers, for variants that were trained with them.

        Returns:
            (n, code) float32; the first `latent_dim` numbers of a code are the latents.

        Raises:
            UserError: for a wrong shape, dtype or range, and for labels that are missing or unknown.
        """
        batch = {"image": self._checked_images(images)}
        if labels is not None:
            batch["label"] = np.asarray(labels, np.int32)
            if batch["label"].shape != batch["image"].shape[:1]:
                raise UserError(f"labels: shape {batch['label'].shape} is not allowed; give one for each image")
        codes = self._encode(self.params, batch)
        if labels is not None and not np.isfinite(codes).all():
            raise UserError("labels: some are of no class that this run knows")
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The expected image at each code.

        Args:
            codes: (n, code).

        Returns:
            (n, height, width, channels) float32: grey levels, in [0, 1] if the likelihood keeps them there.

        Raises:
            UserError: for a wrong shape.
        """
        codes = np.asarray(codes, np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.code_dim:
            raise UserError(f"codes: shape {codes.shape} is not allowed; give (n, {self.code_dim})")
        return self._decode(self.params, codes)

    def reconstruct(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The expected image at each image's code."""
        return self.decode(self.encode(images, labels))

    def sample(self, key: Key, n: int, labels: np.ndarray | None = None) -> np.ndarray:
        """Expected images at draws from the prior; draw i depends on key, i and, where given, label i alone.

        Args:
            key: of this use of randomness.
            n: how many draws.
            labels: (n,) class numbers, where the prior is one of each label.

        Returns:
            (n, height, width, channels) float32.

        Raises:
            UserError: for labels that are not one for each draw, or that this run's prior has no use for.
        """
        if labels is not None and np.shape(labels) != (n,):
            raise UserError(f"labels: shape {np.shape(labels)} is not allowed; give one for each draw")
        sample_prior = self.model.variant.sample_prior
        codes = sample_prior(self.model.nets, self.params, key, n, self.latent_dim, labels)
        return self.decode(np.asarray(codes))

    def interpolate(self, a: np.ndarray, b: np.ndarray, n: int = 8, labels: np.ndarray | None = None) -> np.ndarray:
        """`n` images on the straight line between the codes of the images `a` and `b`, both ends included.

        `labels` are the two images', for variants that were trained with labels. Raises UserError as `encode` does.
        """
        label_a, label_b = (None, None) if labels is None else (labels[:1], labels[1:])
        start, end = self.encode(np.asarray(a)[None], label_a)[0], self.encode(np.asarray(b)[None], label_b)[0]
        weight = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        return self.decode((1 - weight) * start + weight * end)

    def traverse(
        self, x: np.ndarray, latent: int, values: np.ndarray | None = None, label: int | None = None
    ) -> np.ndarray:
        """The image `x` decoded with one latent set to each of `values` (-3 to 3 in eleven steps).

        Raises UserError for a latent that is not there, and as `encode` does.
        """
        if not 0 <= latent < self.latent_dim:
            raise UserError(f"latent: {latent} is not allowed; this run has latents 0 to {self.latent_dim - 1}")
        values = np.linspace(-3, 3, 11) if values is None else np.atleast_1d(values)
        labels = None if label is None else np.asarray([label])
        codes = np.repeat(self.encode(np.asarray(x)[None], labels), len(values), axis=0)
        codes[:, latent] = values
        return self.decode(codes)

    def _checked_images(self, images: np.ndarray) -> np.ndarray:
        """Grey levels in [0, 1], the expectation of dynamic binarisation; thresholded where training did that."""
        images = np.asarray(images)
        expected = "(n, " + ", ".join(map(str, self.image_shape)) + ")"
        if images.shape[1:] != self.image_shape:
            raise UserError(f"images: shape {images.shape} is not allowed; give {expected}")
        if images.dtype == np.uint8:
            images = images / np.float32(255)
        elif images.dtype not in (np.float32, np.float64):
            raise UserError(f"images: dtype {images.dtype} is not allowed; give uint8 (0 to 255) or float (0 to 1)")
        elif not np.all((images >= 0) & (images <= 1)):
            raise UserError(
                f"images: values from {images.min():g} to {images.max():g}; give uint8 (0 to 255) or float (0 to 1)"
            )
        static = self.config["data"]["binarize"] == "static"
        return (images > 0.5).astype(np.float32) if static else images.astype(np.float32, copy=False)
