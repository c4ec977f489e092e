"""Images that stay on the host: of an array in memory or of a file that is mapped into it, read by their indices."""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jax.errors import UserError

CHUNK_BYTES = 2**26
"""Bytes that are read at once where all images are."""
MAPPED = 0.125
"""Of a machine's memory, what pages of files may take of this process; the system keeps them all the same."""


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class HostImages:
    """indices -> images, of an array that no device holds.

    A compiled call that takes it reads through a callback, which is slow: what is called often takes blocks.

    Attributes:
        images: uint8, bool or float32 (n, height, width, channels), perhaps mapped from a file.
        positions: those of `images` that are meant, in their order; all where it is None.
        factor: what a value is multiplied by to be a grey level from 0 to 255.
    """

    images: np.ndarray
    positions: np.ndarray | None = None
    factor: int = 1

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images if self.positions is None else self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width, channels)."""
        return len(self), *self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """What the images are given as: uint8, or float32 where they are no grey levels."""
        return np.dtype(np.float32 if self.images.dtype == np.float32 else np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of all images as they are given."""
        return len(self) * int(np.prod(self.images.shape[1:])) * self.dtype.itemsize

    def __call__(self, indices: Any) -> Any:
        """The images at these indices."""
        if isinstance(indices, jax.core.Tracer):
            images = jax.ShapeDtypeStruct((*indices.shape, *self.images.shape[1:]), self.dtype)
            return jax.pure_callback(self.read, images, indices, vmap_method="expand_dims")
        return self.read(np.asarray(indices))

    def read(self, indices: Any) -> np.ndarray:
        """The images at these indices, in an array of their own. Raises OSError where their file has become shorter."""
        check_file(self.images)
        rows = np.asarray(indices) if self.positions is None else self.positions[np.asarray(indices)]
        # Of an array that is not in order `take` would copy the whole.
        images = self.images.take(rows, axis=0) if self.images.flags.c_contiguous else self.images[rows]
        levels = np.ascontiguousarray(images).view(self.dtype)
        if mapped_bytes() > MAPPED * host_memory():
            release_pages(self.images)
        return levels if self.factor == 1 else levels * np.uint8(self.factor)

    def read_all(self) -> np.ndarray:
        """All images, in an array of their own."""
        levels = np.empty(self.shape, self.dtype)
        rows = max(1, CHUNK_BYTES // int(np.prod(self.images.shape[1:])))
        for start in range(0, len(self), rows):
            levels[start : start + rows] = self.read(np.arange(start, min(start + rows, len(self))))
            release_pages(self.images)
        return levels

    def take(self, positions: np.ndarray) -> "HostImages":
        """Of the images at these positions alone; none is read."""
        return HostImages(self.images, positions if self.positions is None else self.positions[positions], self.factor)


def is_mapped(array: Any) -> bool:
    """Whether `array` is a file that is mapped into memory, or a view of one."""
    return isinstance(array, np.memmap)


def check_file(array: np.ndarray) -> None:
    """Raises OSError where the file that `array` is mapped from has become shorter: to read it ends the process.

    One that was removed stays as it was for who maps it.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.filename is None:  # type: ignore[attr-defined]
        return
    file, offset = array.filename, array.offset  # type: ignore[attr-defined]
    try:
        size = os.stat(file).st_size
    except FileNotFoundError:
        return
    if size < offset - offset % mmap.ALLOCATIONGRANULARITY + len(mapped):
        raise OSError(f"{str(file)!r} has become shorter since it was opened")


def mapped_bytes() -> int:
    """Bytes of pages of files that this process has in memory; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


def release_pages(array: np.ndarray) -> None:
    """Lets go of what has been read of the file that `array` is mapped from: a process would seem to hold all of it."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def host_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(source: str, size: int) -> None:
    """Raises UserError where `size` bytes, of what is read whole, are more than this machine's memory."""
    memory = host_memory()
    if size > memory:
        raise UserError(
            f"{source} takes {size / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB of memory; give "
            "uint8 images of (n, height, width, channels) in an .npy file, which are read a batch at a time"
        )
