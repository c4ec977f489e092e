"""Any dataset in the four IDX files of MNIST, gzipped or not: MNIST itself, Fashion-MNIST, KMNIST, your own.

The format (LeCun's MNIST page): two zero bytes, a type byte (8 is uint8), the number of dimensions,
each dimension as a big-endian uint32, then the values.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from vae_jax.data import Dataset, from_arrays
from vae_jax.errors import UserError, errors_of

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(*, path: str = "") -> Dataset:
    """The dataset in the folder `path`.

    Raises UserError that says which file is missing, damaged or of another format, and how.
    """
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise UserError(f"path: {path!r} is not a folder; give the one that holds {', '.join(FILES)} (or .gz)")
    train_images, train_labels, test_images, test_labels = (_read_array(_find_file(folder, name)) for name in FILES)
    for images, labels, name in ((train_images, train_labels, FILES[1]), (test_images, test_labels, FILES[3])):
        if len(images) != len(labels):
            raise UserError(
                f"path: {folder / name}: {len(labels)} labels for {len(images)} images; "
                "the files do not belong together"
            )
    with errors_of("path: "):
        return from_arrays(train_images[..., None], train_labels, test_images[..., None], test_labels)


def _find_file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise UserError(f"path: {str(folder)!r} has no {name} or {name}.gz; copy the missing file there")


def _read_bytes(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"path: {file}: cannot be read ({error}); the file is damaged, fetch it again") from None


def _read_array(file: Path) -> np.ndarray:
    content = _read_bytes(file)
    dimensions = 3 if "idx3" in file.name else 1
    header = 4 + 4 * dimensions
    magic = content[:4]
    if magic != bytes([0, 0, 8, dimensions]):
        raise UserError(
            f"path: {file}: begins with {magic.hex() or 'nothing'}, not with {bytes([0, 0, 8, dimensions]).hex()}; "
            f"not an IDX file of {dimensions}-dimensional uint8"
        )
    shape = np.frombuffer(content[4:header].ljust(4 * dimensions, b"\0"), ">u4").astype(int)
    expected = header + int(shape.prod())
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise UserError(f"path: {file}: {state}, {len(content)} bytes where its header says {expected}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
