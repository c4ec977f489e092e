"""Grids of images that are stored: read in whatever order, checked to be complete, held by id in one array."""

import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Int, UInt8

from vae_jax.data._factors import Factors
from vae_jax.errors import UserError
from vae_jax.typing import Bytes, Indices

CHUNK = 1024
ALIGNMENT = 64
"""Bytes; an array that starts at a multiple of them is taken over by a CPU device, not copied."""


class Stored(NamedTuple):
    """A grid as its images are stored: `count` images of `shape` in all, in `chunks` with their ids, in any order.

    `where` says in an error where they are, field first.
    """

    where: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    count: int
    chunks: Iterable[tuple[UInt8[np.ndarray, "image ..."], Int[np.ndarray, "image"]]]


def in_order(stored: Stored) -> UInt8[Array, "image ..."]:
    """The images by id, in one array on the device. Raises UserError where they are not a complete grid.

    Each is written to its own place as it is read, so that they are held once (on a GPU twice while they travel).
    """
    count, each = math.prod(stored.sizes), math.prod(stored.shape)
    if stored.count != count:
        raise _incomplete(stored, "")
    memory = np.empty(count * each + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    images = memory[start : start + count * each].reshape(count, *stored.shape)
    found = np.zeros(count, np.int32)
    for some, ids in stored.chunks:
        images[ids] = some
        np.add.at(found, ids, 1)
    if (found != 1).any():
        raise _incomplete(stored, f": {(found == 0).sum()} are missing, {(found > 1).sum()} are there more than once")
    return jax.device_put(images)


def _incomplete(stored: Stored, which: str) -> UserError:
    sizes = " x ".join(map(str, stored.sizes))
    return UserError(
        f"{stored.where} has {stored.count} images, which are not a complete grid of {sizes} factors{which}"
    )


def take(images: UInt8[Array, "image ..."], ids: Indices) -> Bytes:
    """The images with these ids."""
    return images[ids]


def look_up(stored: Stored, nuisance: tuple[str, ...] = ()) -> Factors:
    """The grid of these images, held whole in memory. Raises UserError as `in_order` does."""
    return Factors(stored.names, stored.sizes, Partial(take, in_order(stored)), nuisance)


def npz_file(path: str) -> Path | None:
    """The npz file at `path` or in that folder; None for no path and for a folder without one. Or UserError."""
    given = Path(path).expanduser()
    if not path or (given.is_dir() and not any(given.glob("*.npz"))):
        return None
    found = sorted(given.glob("*.npz")) if given.is_dir() else [given]
    if len(found) != 1 or not found[0].is_file():
        raise UserError(
            f"config.data.path: {path!r} is not an npz file nor a folder with one; give the npz file, or a folder "
            "that is there, with one or none"
        )
    return found[0]


def from_npz(file: Path, names: tuple[str, ...] = (), largest: int = 255) -> Stored:
    """The grid in a file of dSprites' format: `imgs` (n, height, width) or with channels, `latents_classes`.

    `names` are of its columns, any number of them when empty; classes count only by their order. The file's images
    are in memory whole, beside what they are copied to. Raises UserError for another format or number of columns.
    """
    where = f"config.data.path: {str(file)!r}"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, classes = arrays["imgs"], arrays["latents_classes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{where} is not in the format of dSprites ({error})") from None
    shaped = images.ndim in (3, 4) and classes.ndim == 2 and len(classes) == len(images) and images.size
    if not shaped or images.dtype.kind not in "bui" or images.min() < 0 or images.max() > largest:
        raise UserError(
            f"{where} has imgs of {images.dtype} {images.shape} (largest value {images.max(initial=0)}) and "
            f"latents_classes of {classes.shape}; give (n, height, width) or (n, height, width, channels) of integers "
            f"from 0 to {largest}, and (n, factors)"
        )
    if names and classes.shape[1] != len(names):
        raise UserError(
            f"{where} has latents_classes of {classes.shape[1]} columns; give {len(names)}, for {', '.join(names)}"
        )
    images = images if images.ndim == 4 else images[..., None]
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in classes.T], axis=1)
    sizes = tuple(int(size) for size in ranks.max(axis=0) + 1)
    ids = np.ravel_multi_index(ranks.T, sizes)

    def chunks() -> Iterator:
        for start in range(0, len(images), CHUNK):
            yield images[start : start + CHUNK].astype(np.uint8, copy=False), ids[start : start + CHUNK]

    names = names or tuple(f"factor_{i}" for i in range(len(sizes)))
    return Stored(where, names, sizes, images.shape[1:], len(images), chunks())
