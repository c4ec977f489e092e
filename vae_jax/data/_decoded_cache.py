"""The images of a folder as they were decoded, kept in the user's cache folder: two files for each folder and form.

The .npy has the images, which are mapped from it, never read whole; the .npz what is known of them. Their names hold a
digest of the names, sizes and times of the files in the folder; where those have changed, others take their place.
"""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from vae_jax.data._array_files import stored_arrays
from vae_jax.data._arrays import warn_once
from vae_jax.data._decoding import Form
from vae_jax.data._host_images import check_memory, is_mapped
from vae_jax.data._image_files import ImageFile
from vae_jax.errors import UserError
from vae_jax.files import cache_folder, reason, replacement

VERSION = 2
"""Of how images are decoded and kept: what an earlier one kept is decoded anew."""


ABANDONED = 24 * 3600
"""Seconds after which a file that is being written is taken for one that nobody writes any more."""


class Pictures(NamedTuple):
    """The images of a folder.

    Attributes:
        images: uint8 (n, height, width, channels), one of each file; of one that cannot be read, anything.
        kept: which of all files can be read.
        remarks: what is to be said of them, in lines.
    """

    images: np.ndarray
    kept: np.ndarray
    remarks: tuple[str, ...]


def cache_file(folder: Path, form: Form, content: str) -> Path:
    """Where what is known of the images of that folder, form and content is kept; the images lie beside it."""
    name = hashlib.sha256(f"{folder.resolve()}\0{tuple(form)}".encode(errors="surrogateescape")).hexdigest()[:24]
    return cache_folder("folders") / f"{name}_{content[:16]}.npz"


def content_digest(files: Sequence[ImageFile]) -> str:
    """A digest of the names, sizes and times of the files, and of what decodes them."""
    import PIL

    total = hashlib.sha256(f"{VERSION} {PIL.__version__}".encode())
    for file in files:
        total.update(f"\0{file.name}\0{file.size} {file.modified}".encode(errors="surrogateescape"))
    return total.hexdigest()


def read_pictures(file: Path) -> Pictures | None:
    """What is kept in `file` and beside it; None where it is not there, or is damaged."""
    try:
        arrays = stored_arrays(file)
        if set(arrays) != {"kept", "remarks"}:
            return None
        kept, remarks = (arrays[name].read() for name in ("kept", "remarks"))
        (stored,) = stored_arrays(file.with_suffix(".npy")).values()
        images = stored.read()
    except Exception:  # a damaged zip raises what comes
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and kept.dtype == np.bool_ and len(images) == len(kept)
    return Pictures(images, kept, tuple(remarks.tolist())) if fits else None


class Room:
    """Room for images that are being decoded: in a file beside `file` that is as large at once, or in memory."""

    def __init__(self, file: Path):
        self._file, self._part = file, file.with_name(f"{file.stem}.{secrets.token_hex(4)}.part")

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of uint8, of a mapped file unless that cannot be, which is said in a line.

        Raises UserError for more than memory holds, where it is to be there.
        """
        size = int(np.prod(shape, dtype=np.int64))
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            with self._part.open("wb") as opened:
                npy.write_array_header_1_0(opened, {"descr": "|u1", "fortran_order": False, "shape": shape})
                _reserve(opened, size)
            return np.load(self._part, mmap_mode="r+")
        except (OSError, UserError) as error:
            self.discard()
            self._say(error)
            check_memory(f"path: the array of {shape[0]:,} decoded images of {'x'.join(map(str, shape[1:]))}", size)
            return np.empty(shape, np.uint8)

    def keep(self, pictures: Pictures) -> Pictures:
        """The pictures, kept, whole or not at all, and mapped; where that cannot be, as they are.

        What was kept of the folder as it was before goes; who maps it keeps it.
        """
        if not is_mapped(pictures.images):
            return pictures
        mapped: Any = pictures.images
        images_file = self._file.with_suffix(".npy")
        try:
            mapped.flush()
            with replacement(self._file) as temporary, temporary.open("wb") as opened:
                remarks = np.array(pictures.remarks, str)
                np.savez(opened, kept=pictures.kept, remarks=remarks)
                os.replace(self._part, images_file)  # before what says that it is there
            self._remove_earlier()
            return pictures._replace(images=np.load(images_file, mmap_mode="r"))
        except (OSError, UserError) as error:
            images_file.unlink(missing_ok=True)
            self._say(error)
            return pictures

    def _remove_earlier(self) -> None:
        """Removes what was kept of the folder before it changed, and what a process left that ended while it wrote."""
        for file in self._file.parent.glob(f"{self._file.stem.partition('_')[0]}_*"):
            is_own = file.stem.partition(".")[0] == self._file.stem
            is_written = file.suffix == ".part" and time.time() - file.stat().st_mtime < ABANDONED
            if not (is_own and file.suffix != ".part") and not is_written:
                file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what was not kept; what maps it goes on."""
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _say(self, error: Exception) -> None:
        folder = str(self._file.parent)
        warn_once(f"data: the decoded images cannot be kept in {folder!r} ({reason(error)}): once more next time")


def _reserve(file: IO[bytes], size: int) -> None:
    """Makes a file `size` bytes longer: on a disk that fills up later, a write to a mapped file ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), file.tell(), size)
    else:
        file.truncate(file.tell() + size)


@contextlib.contextmanager
def room_beside(file: Path) -> Iterator[Room]:
    """Room for images beside `file`; what of it is not kept is removed."""
    room = Room(file)
    try:
        yield room
    finally:
        room.discard()
