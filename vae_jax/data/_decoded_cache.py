"""The images of a folder as they were decoded, kept in the user's cache folder: a file for each folder and form.

It is known by the names, sizes and times of the files in the folder, and replaced where those have changed.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.data._array_files import stored_arrays
from vae_jax.data._arrays import warn_once
from vae_jax.data._decoding import Form
from vae_jax.data._image_files import ImageFile
from vae_jax.errors import UserError
from vae_jax.files import cache_folder, reason, replacement

VERSION = 1
"""Of how images are decoded: what an earlier one kept is decoded anew."""


class Pictures(NamedTuple):
    """The images of a folder.

    Attributes:
        images: of the files that can be read, uint8 (n, height, width, channels).
        kept: which of all files can be read.
        remarks: what is to be said of them, in lines.
    """

    images: np.ndarray
    kept: np.ndarray
    remarks: tuple[str, ...]


def cache_file(folder: Path, form: Form) -> Path:
    """Where the images of that folder and form are kept."""
    name = hashlib.sha256(f"{folder.resolve()}\0{tuple(form)}".encode(errors="surrogateescape")).hexdigest()[:24]
    return cache_folder("folders") / f"{name}.npz"


def content_digest(files: Sequence[ImageFile]) -> str:
    """A digest of the names, sizes and times of the files, and of what decodes them."""
    import PIL

    total = hashlib.sha256(f"{VERSION} {PIL.__version__}".encode())
    for file in files:
        total.update(f"\0{file.name}\0{file.size} {file.modified}".encode(errors="surrogateescape"))
    return total.hexdigest()


def read_pictures(file: Path, content: str) -> Pictures | None:
    """What is kept in `file`; None where it is not there, is damaged, or is of other content."""
    try:
        arrays = stored_arrays(file)
        if set(arrays) != {"content", "images", "kept", "remarks"} or arrays["content"].read().tolist() != [content]:
            return None
        images, kept, remarks = (arrays[name].read() for name in ("images", "kept", "remarks"))
    except Exception:  # a damaged zip raises what comes
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and kept.dtype == np.bool_ and len(images) == kept.sum()
    return Pictures(images, kept, tuple(remarks.tolist())) if fits else None


def write_pictures(file: Path, content: str, pictures: Pictures) -> None:
    """Keeps the pictures in `file`, whole or not at all; where that cannot be, says so in a line."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacement(file) as temporary, temporary.open("wb") as opened:
            np.savez(
                opened,
                content=np.array([content]),
                images=pictures.images,
                kept=pictures.kept,
                remarks=np.array(pictures.remarks, str),
            )
    except (OSError, UserError) as error:
        warn_once(
            f"data: the decoded images cannot be kept in {str(file.parent)!r} ({reason(error)}): once more next time"
        )
