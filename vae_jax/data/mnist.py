"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels (LeCun et al. 1998)."""

from vae_jax.data import Dataset, idx, last_as_validation, tfds


def load(*, path: str = "", validation: float | int = 10_000.0) -> Dataset:
    """MNIST from the four IDX files in the folder `path`, or through TFDS when no path is given.

    The last `validation` training images (a count, or a fraction) validate, as in the papers; 0 trains on all.
    """
    return last_as_validation(idx.load(path=path) if path else tfds.load(dataset="mnist"), validation)
