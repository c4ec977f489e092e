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
from numpy.lib import format as npy

from vae_jax.data import _splits
from vae_jax.data._arrays import level_factor, spread_levels
from vae_jax.data._factors import MAX_RESOLUTION, Factors
from vae_jax.data._paths import data_path
from vae_jax.data._resize import resize_image
from vae_jax.errors import UserError
from vae_jax.files import reason
from vae_jax.typing import Bytes, Indices

CHUNK = 1024
ALIGNMENT = 64
"""Bytes; an array that starts at a multiple of them is taken over by a CPU device, not copied."""


Chunk = tuple[UInt8[np.ndarray, "image ..."], Int[np.ndarray, " image"]]
"""Images and their ids."""


class StoredGrid(NamedTuple):
    """A grid as its images are stored.

    Attributes:
        source: where they are stored, argument first, as an error says it ("path: 'grid.npz'").
        names, sizes: of the factors.
        shape: of an image.
        size: how many images there are.
        chunks: images with their ids, in any order.
    """

    source: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    size: int
    chunks: Iterable[Chunk]


def load_by_id(stored: StoredGrid) -> UInt8[Array, "image ..."]:
    """The images by id, in one array on the device. Raises UserError where they are not a complete grid.

    Each is written to its position as it is read, so that they are held once (on a GPU twice while they travel).
    """
    return jax.device_put(_read_by_id(stored))


def _read_by_id(stored: StoredGrid) -> UInt8[np.ndarray, "image ..."]:
    count, image_bytes = math.prod(stored.sizes), math.prod(stored.shape)
    if stored.size != count:
        raise _incomplete_grid(stored, "")
    if count * image_bytes > _splits.MAX_BYTES:
        raise UserError(
            f"{stored.source} has {count * image_bytes / 2**30:.1f} GiB of images; "
            f"at most {_splits.MAX_BYTES // 2**30} GiB fit on a device"
        )
    memory = np.empty(count * image_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    images = memory[start : start + count * image_bytes].reshape(count, *stored.shape)
    times_read = np.zeros(count, np.int32)
    for chunk, ids in stored.chunks:
        images[ids] = chunk
        np.add.at(times_read, ids, 1)
    missing, repeated = (times_read == 0).sum(), (times_read > 1).sum()
    if missing or repeated:
        raise _incomplete_grid(stored, f": {missing} are missing, {repeated} are there more than once")
    return images


def _incomplete_grid(stored: StoredGrid, details: str) -> UserError:
    sizes = " x ".join(map(str, stored.sizes))
    return UserError(
        f"{stored.source} has {stored.size} images, which are not a complete grid of {sizes} factors{details}"
    )


def take_images(images: UInt8[Array, "image ..."], ids: Indices) -> Bytes:
    """The images with these ids."""
    return images[ids]


def to_factors(stored: StoredGrid, nuisance: tuple[str, ...] = (), categorical: tuple[str, ...] = ()) -> Factors:
    """The grid of these images, held whole in memory. Raises UserError as `load_by_id` does."""
    images = _read_by_id(stored)
    factor = level_factor(int(images.min()), int(images.max()))
    if factor > 1:
        np.multiply(images, np.uint8(factor), out=images)
    render = Partial(take_images, jax.device_put(images))
    return Factors(stored.names, stored.sizes, render, nuisance, categorical=categorical)


def resize_grid(stored: StoredGrid, size: int) -> StoredGrid:
    """The same grid of images scaled to size x size, as they are for 0. Raises UserError for other sizes below 8."""
    if size and not 8 <= size <= MAX_RESOLUTION:
        raise UserError(f"size: {size} is not allowed; give 8 to {MAX_RESOLUTION}, or 0 to leave images as they are")
    if not size:
        return stored
    chunks = ((np.stack([resize_image(image, size) for image in images]), ids) for images, ids in stored.chunks)
    return stored._replace(shape=(size, size, *stored.shape[2:]), chunks=chunks)


def find_npz_file(path: str) -> Path | None:
    """The npz file at `path` or in that folder; None for no path and for a folder without one.

    Raises UserError where there is nothing at `path`, or there are several npz files.
    """
    if not path:
        return None
    location = data_path(path)
    files = sorted(location.glob("*.npz")) if location.is_dir() else [location]
    if not files:
        return None
    if len(files) > 1 or not files[0].exists():
        raise UserError(
            f"path: {path!r} is not an npz file nor a folder with one; give the npz file, or a folder "
            "that is there, with one or none"
        )
    if not files[0].is_file():
        raise UserError(f"path: {str(files[0])!r} is not a file; give an npz file")
    return files[0]


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an npz file. Raises ValueError, before any of it is read, for one that cannot be of a grid."""
    with archive.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name}: version {version} of the npy format")
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(member)
        claimed, stored = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size - member.tell()
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} of {dtype}, which are not numbers")
    if claimed > _splits.MAX_BYTES:
        raise ValueError(f"{name} of {dtype} {shape}, which are more than {_splits.MAX_BYTES // 2**30} GiB")
    if claimed != stored:
        raise ValueError(f"{name} of {dtype} {shape}, which are {claimed} bytes where the file has {stored}")
    with archive.open(f"{name}.npy") as member:
        return npy.read_array(member, allow_pickle=False)


def _read_arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """`imgs` and `latents_classes` of an npz file. Raises UserError where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_member(archive, "imgs"), _read_member(archive, "latents_classes")
    except Exception as error:  # a damaged file raises what comes
        raise UserError(f"path: {str(file)!r} is not in the format of dSprites ({reason(error)})") from None


def read_npz(file: Path, names: tuple[str, ...] = (), largest: int = 255) -> StoredGrid:
    """The grid in a file of dSprites' format: `imgs` (n, height, width) or with channels, `latents_classes`.

    The file's images are in memory whole, beside what they are copied to.

    Args:
        file: the npz file.
        names: of the columns of `latents_classes`, whose values count only by their order; when empty, there may be
            any number of columns.
        largest: the largest value that `imgs` may have.

    Raises:
        UserError: for another format or number of columns.
    """
    source = f"path: {str(file)!r}"
    images, classes = _read_arrays(file)
    shapes_fit = images.ndim in (3, 4) and classes.ndim == 2 and len(classes) == len(images)
    fits = shapes_fit and images.size and classes.size and images.dtype.kind in "bui" and np.isfinite(classes).all()
    if not fits or images.min() < 0 or images.max() > largest:
        raise UserError(
            f"{source} has imgs of {images.dtype} {images.shape} (largest value {images.max(initial=0)}) and "
            f"latents_classes of {classes.shape}; give (n, height, width) or (n, height, width, channels) of integers "
            f"from 0 to {largest}, and (n, factors)"
        )
    if names and classes.shape[1] != len(names):
        raise UserError(
            f"{source} has latents_classes of {classes.shape[1]} columns; give {len(names)}, for {', '.join(names)}"
        )
    return _to_stored_grid(source, images if images.ndim == 4 else images[..., None], classes, names, largest)


def _to_stored_grid(
    source: str, images: np.ndarray, classes: np.ndarray, names: tuple[str, ...], largest: int
) -> StoredGrid:
    """The grid of `images` by the order of their `classes`. Raises UserError where they are too few or too many."""
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in classes.T], axis=1)
    sizes = tuple(int(size) for size in ranks.max(axis=0) + 1)
    names = names or tuple(f"factor_{i}" for i in range(len(sizes)))
    empty = StoredGrid(source, names, sizes, images.shape[1:], len(images), ())
    if math.prod(sizes) != len(images):
        raise _incomplete_grid(empty, "")
    ids = np.asarray(np.ravel_multi_index(ranks.T, sizes))
    # Before any scaling: of 0 and 1 it would leave no level between.
    factor = level_factor(int(images.min()), int(images.max())) if largest > 1 else 1

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(images), CHUNK):
            yield spread_levels(images[start : start + CHUNK], factor), ids[start : start + CHUNK]

    return empty._replace(chunks=chunks())
