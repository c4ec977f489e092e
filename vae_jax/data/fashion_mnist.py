"""Fashion-MNIST: 60,000 + 10,000 pictures of clothing, 28x28 pixels (Xiao et al. 2017)."""

from vae_jax.data import Dataset, idx, tfds


def load(*, path: str = "") -> Dataset:
    """Fashion-MNIST from the four IDX files in the folder `path`, or through TFDS when no path is given."""
    return idx.load(path=path) if path else tfds.load(dataset="fashion_mnist")
