"""MNIST's fixed binarisation: the three text files, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from vae_jax.data import binarized_mnist, with_validation
from vae_jax.errors import UserError

SHARED = Path(__file__).parents[3] / "shared/data/binarized_mnist"
COUNTS = {"train": 5, "valid": 3, "test": 2}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        rows = rng.integers(0, 2, (count, 784))
        np.save(tmp_path / f"{name}.npy", rows)
        text = "\n".join(" ".join(map(str, row)) for row in rows) + "\n"
        (tmp_path / f"binarized_mnist_{name}.amat").write_text(text)
    return tmp_path


def test_the_bits_are_those_of_the_files_gzipped_or_not(folder):
    plain = folder / "binarized_mnist_valid.amat"
    (folder / "binarized_mnist_valid.amat.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    dataset = binarized_mnist.load(path=str(folder))
    assert dataset.image_shape == (28, 28, 1)
    for name, split in (("train", dataset.train), ("valid", dataset.validation), ("test", dataset.test)):
        images = np.asarray(split.fetch(np.arange(split.size)))
        np.testing.assert_array_equal(images.reshape(-1, 784), 255 * np.load(folder / f"{name}.npy"))
    assert with_validation(dataset, 0.5).validation is dataset.validation  # its own, whatever the fraction


def test_what_is_missing_or_something_else_is_named(folder):
    file = folder / "binarized_mnist_test.amat"
    for content in (b"", b"0 1 2 " * 784, b"0 1 " * 100, b"0.0 " * 784):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"path: .*binarized_mnist_test\.amat' is not allowed; give a text of 784"):
            binarized_mnist.load(path=str(folder))
    file.rename(folder / "binarized_mnist_test.amat.gz")
    with pytest.raises(UserError, match=r"path: .*amat\.gz' cannot be read"):
        binarized_mnist.load(path=str(folder))
    (folder / "binarized_mnist_test.amat.gz").unlink()
    with pytest.raises(UserError, match=r"path: .* has no binarized_mnist_test\.amat or .*_test\.amat\.gz"):
        binarized_mnist.load(path=str(folder))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no binarised MNIST in ../shared/data/binarized_mnist")
def test_the_real_files_are_those_of_the_papers():
    dataset = binarized_mnist.load(path=str(SHARED))
    assert [split.size for split in (dataset.train, dataset.validation, dataset.test)] == [50_000, 10_000, 10_000]
    assert 0.12 < np.mean(np.asarray(dataset.test.fetch(np.arange(10_000))) == 255) < 0.14
