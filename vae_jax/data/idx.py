"""Any dataset in the four IDX files of MNIST, gzipped or not: MNIST itself, Fashion-MNIST, KMNIST, your own.

The format (LeCun's MNIST page): two zero bytes, a type byte (8 is uint8), the number of dimensions,
each dimension as a big-endian uint32, then the values. Images have three, or with colours last four. Images without
labels are two files. Names may have a dot for the last dash but one, test for t10k and idx4 for idx3, and each file may
lie in a folder of its own name, as Kaggle's archive unpacks.
"""

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, _splits
from vae_jax.data._paths import data_path
from vae_jax.errors import UserError, errors_of
from vae_jax.files import reason
from vae_jax.phrases import printable

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
GZIP = b"\x1f\x8b"
"""What a gzipped file begins with, whatever its name."""
CHUNK = 2**20
"""Bytes that are read at once."""


def load(*, path: str = "") -> Dataset:
    """The dataset in the folder `path`, without labels where it has neither of their files.

    Raises UserError that says which file is missing, damaged or of another format, and how.
    """
    folder = data_path(path) if path else None
    if folder is None or not folder.is_dir():
        raise UserError(f"path: {path!r} is not a folder; give the one that holds {', '.join(FILES)} (or .gz)")
    labelled = any(_find_file(folder, name) for name in (FILES[1], FILES[3]))
    names = FILES if labelled else (FILES[0], FILES[2])
    for name in names:
        if _find_file(folder, name) is None:
            raise UserError(f"path: {str(folder)!r} has no {name} or {name}.gz; copy the missing file there")
    arrays = {name: _read_array(folder, name) for name in names}
    for images, labels in ((FILES[0], FILES[1]), (FILES[2], FILES[3])):
        if labelled and len(arrays[images]) != len(arrays[labels]):
            raise UserError(
                f"path: {_shown(folder / labels)}: {len(arrays[labels])} labels for {len(arrays[images])} images; "
                "the files do not belong together"
            )
    train_images, test_images = (_with_channels(arrays[name]) for name in (FILES[0], FILES[2]))
    with errors_of("path: "):
        return data.from_arrays(train_images, arrays.get(FILES[1]), test_images, arrays.get(FILES[3]))


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images if images.ndim == 4 else images[..., None]


def _shown(file: Path) -> str:
    return printable(str(file))


def _find_file(folder: Path, name: str) -> Path | None:
    """The file in the folder, gzipped or not, by any of the names that it has on mirrors, or None."""
    whole = [name, name.replace("t10k", "test")]
    whole += [each.replace("idx3", "idx4") for each in whole if "idx3" in each]
    whole += [each.replace("-idx", ".idx") for each in whole]
    places = [folder / each for stem in whole for each in (stem, f"{stem}.gz", f"{stem}/{stem}")]
    there = [place for place in places if place.exists()]
    return next((place for place in there if place.is_file()), next(iter(there), None))


def _read_array(folder: Path, name: str) -> np.ndarray:
    """The array in an IDX file, of which no more is read than its header says."""
    file = _find_file(folder, name) or folder / name
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            return _read_stream(gzip.GzipFile(fileobj=raw) if zipped else raw, file, "images" in name)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"path: {_shown(file)}: cannot be read ({reason(error)}); the file is damaged, fetch it again"
        ) from None


def _read_stream(stream: io.BufferedIOBase, file: Path, holds_images: bool) -> np.ndarray:
    allowed = (3, 4) if holds_images else (1,)
    name, magic = _shown(file), stream.read(4)
    wanted = [bytes([0, 0, 8, dimensions]) for dimensions in allowed]
    if magic not in wanted:
        raise UserError(
            f"path: {name}: begins with {magic.hex() or 'nothing'}, not with {' or '.join(w.hex() for w in wanted)}; "
            f"not an IDX file of {' or '.join(map(str, allowed))}-dimensional uint8"
        )
    dimensions = magic[-1]
    header = 4 + 4 * dimensions
    lengths = stream.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise UserError(
            f"path: {name}: truncated, {4 + len(lengths)} bytes where a header has {header}; fetch it again"
        )
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, len(lengths), 4))
    size, claim = math.prod(shape), " x ".join(map(str, shape))
    if size > _splits.MAX_BYTES:
        raise UserError(
            f"path: {name}: its header says {claim}, more than the {_splits.MAX_BYTES // 2**30} GiB that fit on a "
            "device; the file is damaged, or holds too much"
        )
    if not size:
        raise UserError(f"path: {name}: its header says {claim}, which is nothing; give at least one")
    content = _read_at_most(stream, size + 1)
    if len(content) != size:
        found = f"truncated, {header + len(content)} bytes" if len(content) < size else "too long, more bytes"
        raise UserError(f"path: {name}: {found} where its header says {header + size}; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_at_most(stream: io.BufferedIOBase, count: int) -> bytearray:
    """The next `count` bytes, or all that there are: memory grows with what comes, not with what a header claims."""
    content = bytearray()
    while len(content) < count and (part := stream.read(min(count - len(content), CHUNK))):
        content += part
    return content
