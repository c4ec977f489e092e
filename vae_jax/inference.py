"""A trained model as a person uses it: NumPy in, NumPy out.

run = vae_jax.open_run("runs/digits")
z = run.encode(images)              # (n, height, width, channels) -> (n, latent)
pictures = run.sample(jax.random.key(0), 16)
"""

import copy
from collections.abc import Callable

import jax
import numpy as np

from vae_jax.errors import UserError
from vae_jax.model import Model
from vae_jax.typing import Config, Key, Params

SIZES = (1, 16, 256)
"""Batch sizes that are ever compiled: any other is padded to the next of these, or cut into the largest."""


def _compiled(function: Callable) -> Callable:
    """`function(params, rows)` for NumPy rows (or a dict of them) of any number, compiled for SIZES alone."""
    jitted = jax.jit(function)

    def call(params, rows):
        largest, count = SIZES[-1], len(jax.tree.leaves(rows)[0])
        cuts = (slice(start, start + largest) for start in range(0, max(count, 1), largest))
        return np.concatenate([chunk(params, jax.tree.map(lambda row, cut=cut: row[cut], rows)) for cut in cuts])

    def chunk(params, rows):
        count = len(jax.tree.leaves(rows)[0])
        size = next(size for size in SIZES if count <= size)
        pad = lambda row: np.concatenate([row, np.zeros((size - count, *row.shape[1:]), row.dtype)])  # noqa: E731
        return np.asarray(jitted(params, jax.tree.map(pad, rows)))[:count]

    return call


class TrainedModel:
    """A model and its trained weights. Images are (n, height, width, channels), codes (n, latent)."""

    def __init__(self, config: Config, image_shape: tuple[int, int, int], built: Model, params: Params, step: int):
        self.config, self.image_shape, self.params, self.step = config, tuple(image_shape), params, step
        self.latent_dim = config["latent_dim"]
        self.code_dim = built.variant.dummy_inputs(self.image_shape, self.latent_dim)[1].shape[-1]
        self.model = built
        self._encode = _compiled(lambda params, batch: built.variant.encode(built.nets, params, batch))
        self._decode = _compiled(lambda params, z: built.likelihood.mean(built.nets.decode(params["nets"], z)))

    def at(self, config: Config, params: Params, step: int) -> "TrainedModel":
        """Another run of the same program, which shares what this one has compiled."""
        other = copy.copy(self)
        other.config, other.params, other.step = config, params, step
        return other

    def encode(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The code of each image: its posterior mean, (n, code). Variants given labels in training need them here.

        Raises UserError for a wrong shape, dtype or range, and for labels that are missing.
        """
        batch = {"image": self._checked(images)}
        if labels is not None:
            batch["label"] = np.asarray(labels, np.int32)
            if batch["label"].shape != batch["image"].shape[:1]:
                raise UserError(f"labels: shape {batch['label'].shape} is not allowed; give one for each image")
        codes = self._encode(self.params, batch)
        if labels is not None and not np.isfinite(codes).all():
            raise UserError("labels: some are of no class that this run knows")
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The expected image at each code, float32: grey levels, in [0, 1] if the likelihood keeps them there.

        Raises UserError for a wrong shape.
        """
        codes = np.asarray(codes, np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.code_dim:
            raise UserError(f"codes: shape {codes.shape} is not allowed; give (n, {self.code_dim})")
        return self._decode(self.params, codes)

    def reconstruct(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The expected image at each image's code."""
        return self.decode(self.encode(images, labels))

    def sample(self, key: Key, n: int, labels: np.ndarray | None = None) -> np.ndarray:
        """Expected images at `n` draws from the prior; draw i depends on key, i and, where given, label i alone.

        Raises UserError for labels that are not one for each draw, or that this run's prior has no use for.
        """
        if labels is not None and np.shape(labels) != (n,):
            raise UserError(f"labels: shape {np.shape(labels)} is not allowed; give one for each draw")
        draw = self.model.variant.sample_prior
        codes = draw(self.model.nets, self.params, key, n, self.latent_dim, labels)
        return self.decode(np.asarray(codes))

    def interpolate(self, a: np.ndarray, b: np.ndarray, n: int = 8, labels: np.ndarray | None = None) -> np.ndarray:
        """`n` images on the straight line between the codes of the images `a` and `b`, both ends included."""
        one, other = (None, None) if labels is None else (labels[:1], labels[1:])
        start, end = self.encode(np.asarray(a)[None], one)[0], self.encode(np.asarray(b)[None], other)[0]
        weight = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        return self.decode((1 - weight) * start + weight * end)

    def traverse(
        self, x: np.ndarray, latent: int, values: np.ndarray | None = None, label: int | None = None
    ) -> np.ndarray:
        """The image `x` decoded with one latent set to each of `values` (-3 to 3 in eleven steps)."""
        if not 0 <= latent < self.latent_dim:
            raise UserError(f"latent: {latent} is not allowed; this run has latents 0 to {self.latent_dim - 1}")
        values = np.linspace(-3, 3, 11) if values is None else np.atleast_1d(values)
        labels = None if label is None else np.asarray([label])
        codes = np.repeat(self.encode(np.asarray(x)[None], labels), len(values), axis=0)
        codes[:, latent] = values
        return self.decode(codes)

    def _checked(self, images: np.ndarray) -> np.ndarray:
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
