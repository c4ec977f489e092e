"""MNIST with a fixed binarisation: 50,000 + 10,000 + 10,000 images of 28x28 bits (Larochelle & Murray 2011).

Each image was drawn once from its grey levels, so that all who use the set hold the same bits. Likelihoods of it
compare with those of papers on "fixed" or "static" binarisation, and not with those on bits drawn anew at each visit,
which keep a model from learning the training bits by heart: 88.7 against 86.8 nats for one VAE (Burda et al. 2016,
tables 1 and 2).

The files are `binarized_mnist_train.amat`, `_valid.amat` and `_test.amat`, a line of 784 zeros and ones an image.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, tfds
from vae_jax.data._paths import data_path
from vae_jax.errors import UserError, errors_of
from vae_jax.files import reason

SHAPE = (28, 28, 1)
PARTS = {"train": "train", "validation": "valid", "test": "test"}
"""The name of each split in its file's."""
BLANKS = b" \t\r\n"


def load(*, path: str = "") -> Dataset:
    """The three files in the folder `path`, gzipped or not, or the set of TFDS when no path is given.

    Raises UserError that says which file is missing or holds something else.
    """
    if not path:
        return tfds.load(dataset="binarized_mnist", validation_split="auto")
    folder = data_path(path)
    images = {part: _read_bits(_find_file(folder, f"binarized_mnist_{name}.amat")) for part, name in PARTS.items()}
    with errors_of("path: "):
        return data.from_arrays(images["train"], None, images["test"], None, images["validation"])


def _find_file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise UserError(f"path: {str(folder)!r} has no {name} or {name}.gz; give the folder that holds the three files")


def _read_bits(file: Path) -> np.ndarray:
    """The images of a file, black and white. Raises UserError where it is no text of 784 zeros and ones a line."""
    try:
        content = file.read_bytes()
        text = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"path: {str(file)!r} cannot be read ({reason(error)})") from None
    digits = np.frombuffer(text.translate(None, BLANKS), np.uint8) - np.uint8(ord("0"))
    if not len(digits) or digits.max() > 1 or len(digits) % np.prod(SHAPE):
        raise UserError(f"path: {str(file)!r} is not allowed; give a text of 784 zeros and ones for each image")
    return digits.reshape(-1, *SHAPE) * np.uint8(255)
