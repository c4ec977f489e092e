"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels (LeCun et al. 1998)."""

from vae_jax.data import Dataset, idx, tfds


def load(*, path: str = "") -> Dataset:
    """MNIST from the four IDX files in the folder `path`, or through TFDS when no path is given."""
    return idx.load(path=path) if path else tfds.load(dataset="mnist")
