"""dSprites (Matthey et al. 2017): 737,280 images of white sprites, or any complete grid in its format.

The file has `imgs` (n, height, width) of 0 and 1 and `latents_classes` (n, factors); the published one,
dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz, is read without pickle. Pixels are kept as bits, eight to a byte,
377 MB for the full set, and unpacked inside the step.
"""

import math
import zipfile
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.factors import Factors
from vae_jax.registry import UserError
from vae_jax.typing import Bytes, Indices

NAMES = ("colour", "shape", "scale", "orientation", "x", "y")


def render(shape: tuple[int, int], bits, ids: Indices) -> Bytes:
    """The images of `ids`, (batch, *shape, 1), from packed `bits` (n, bytes)."""
    pixels = jnp.unpackbits(bits[ids], axis=1, count=math.prod(shape))
    return (pixels * 255).reshape(-1, *shape, 1)


def load(*, path: str = "", split: str = "random 0.1", changed: int = 1) -> Dataset:
    """The grid in the npz file at `path`, or in the only npz file of that folder.

    `split` and `changed` are those of `data.from_factors`. Raises UserError where there is no such file, where
    it is of another format, and where its images are not a complete grid of their factors.
    """
    file = _file(path)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, classes = arrays["imgs"], arrays["latents_classes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"config.data.path: {str(file)!r} is not in the format of dSprites ({error})") from None
    if images.ndim != 3 or classes.ndim != 2 or len(classes) != len(images) or not images.size or images.max() > 1:
        raise UserError(
            f"config.data.path: {str(file)!r} has imgs of {images.shape} (largest value {images.max(initial=0)}) and "
            f"latents_classes of {classes.shape}; give (n, height, width) of 0 and 1, and (n, factors)"
        )
    sizes, order = _grid(file, classes)
    bits = np.packbits(images.reshape(len(images), -1).astype(bool, copy=False), axis=1)[order]
    names = NAMES if len(sizes) == len(NAMES) else tuple(f"factor_{i}" for i in range(len(sizes)))
    return data.from_factors(Factors(names, sizes, Partial(partial(render, images.shape[1:]), bits)), split, changed)


def _file(path: str) -> Path:
    given = Path(path).expanduser()
    found = sorted(given.glob("*.npz")) if path and given.is_dir() else [given]
    if not path or len(found) != 1 or not found[0].is_file():
        raise UserError(
            f"config.data.path: {path!r} is not an npz file nor a folder with one; give that of dSprites "
            "(dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz)"
        )
    return found[0]


def _grid(file: Path, classes: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """How many values each factor takes, and the rows in the grid's order."""
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in classes.T], axis=1)
    sizes = tuple(int(size) for size in ranks.max(axis=0) + 1)
    ids = np.ravel_multi_index(ranks.T, sizes)
    if len(classes) != np.prod(sizes) or len(np.unique(ids)) != len(ids):
        raise UserError(
            f"config.data.path: {str(file)!r} has {len(classes)} images, which are not a complete grid of "
            f"{' x '.join(map(str, sizes))} factors"
        )
    return sizes, np.argsort(ids)
