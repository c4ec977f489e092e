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
from jaxtyping import Array, UInt8

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids, tfds
from vae_jax.data._factors import Factors
from vae_jax.data._stored_grids import StoredGrid
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


def render(shape: tuple[int, int], bits: UInt8[Array, "image bytes"], ids: Indices) -> Bytes:
    """The images of `ids`, (batch, *shape, 1), from packed `bits` (n, bytes)."""
    pixels = jnp.unpackbits(bits[ids], axis=1, count=math.prod(shape))
    return (pixels * 255).reshape(-1, *shape, 1)


def load(*, path: str = "", split: str = "random 0.1", changed: int = 1) -> Dataset:
    """dSprites, from its npz file or through TFDS.

    Args:
        path: the npz file, or its folder; one without an npz is where TFDS keeps the images, its own when empty.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: where the file is of another format, TFDS cannot prepare the images, or they are no complete grid.
    """
    file = _stored_grids.find_npz_file(path)
    stored = (
        _stored_grids.read_npz(file, largest=1) if file else _add_colour(tfds.read_grid("dsprites", path, FEATURES))
    )
    if stored.shape[-1] != 1:
        raise UserError(f"{stored.source} has images of {stored.shape}; give images of one channel")
    names = NAMES if len(stored.sizes) == len(NAMES) else stored.names
    height, width, _ = stored.shape
    render_ids = Partial(partial(render, (height, width)), _stored_grids.load_by_id(_pack_bits(stored)))
    return data.from_factors(Factors(names, stored.sizes, render_ids, categorical=("shape",)), split, changed)


def _add_colour(stored: StoredGrid) -> StoredGrid:
    return stored._replace(names=("colour", *stored.names), sizes=(1, *stored.sizes))


def _pack_bits(stored: StoredGrid) -> StoredGrid:
    chunks = ((np.packbits(images.reshape(len(images), -1), axis=1), ids) for images, ids in stored.chunks)
    return stored._replace(shape=(-(-math.prod(stored.shape) // 8),), chunks=chunks)
