"""dSprites (Matthey et al. 2017): 737,280 images of white sprites, or any complete grid in its format.

The file has `imgs` (n, height, width) of 0 and 1 and `latents_classes` (n, factors); the published one,
dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz, is read without pickle. TFDS keeps the same images without the factor
colour, which has one value; it is put back, so that both give the same dataset. Pixels are kept as bits, eight to a
byte, 377 MB for the full set, and unpacked inside the step.
"""

import math
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids, tfds
from vae_jax.data._factors import Factors
from vae_jax.data._stored_grids import Stored
from vae_jax.errors import UserError
from vae_jax.typing import Bytes, Indices

NAMES = ("colour", "shape", "scale", "orientation", "x", "y")
FEATURES = {
    "shape": "label_shape",
    "scale": "label_scale",
    "orientation": "label_orientation",
    "x": "label_x_position",
    "y": "label_y_position",
}


def render(shape: tuple[int, int], bits, ids: Indices) -> Bytes:
    """The images of `ids`, (batch, *shape, 1), from packed `bits` (n, bytes)."""
    pixels = jnp.unpackbits(bits[ids], axis=1, count=math.prod(shape))
    return (pixels * 255).reshape(-1, *shape, 1)


def load(*, path: str = "", split: str = "random 0.1", changed: int = 1) -> Dataset:
    """The grid in the npz file at `path` or in that folder, or through TFDS, which keeps it there where none is.

    `split` and `changed` are those of `data.from_factors`. Raises UserError where the file is of another format,
    where TFDS has no such images, and where they are not a complete grid of their factors.
    """
    file = _stored_grids.npz_file(path)
    stored = _stored_grids.from_npz(file, largest=1) if file else _with_colour(tfds.grid("dsprites", path, FEATURES))
    if stored.shape[-1] != 1:
        raise UserError(f"{stored.where} has images of {stored.shape}; give images of one channel")
    names = NAMES if len(stored.sizes) == len(NAMES) else stored.names
    look_up = Partial(partial(render, stored.shape[:2]), _stored_grids.in_order(_packed(stored)))
    return data.from_factors(Factors(names, stored.sizes, look_up), split, changed)


def _with_colour(stored: Stored) -> Stored:
    return stored._replace(names=("colour", *stored.names), sizes=(1, *stored.sizes))


def _packed(stored: Stored) -> Stored:
    chunks = ((np.packbits(images.reshape(len(images), -1), axis=1), ids) for images, ids in stored.chunks)
    return stored._replace(shape=(-(-math.prod(stored.shape) // 8),), chunks=chunks)
