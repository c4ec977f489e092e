"""1,797 real handwritten digits of 8x8 pixels (Alpaydin & Kaynak 1998), shipped inside scikit-learn.

The embedded default: nothing is downloaded. Every sixth image is held out (1,497 train, 300 test).
"""

import numpy as np

from vae_jax.data import Dataset, from_arrays


def load() -> Dataset:
    """The digits, their 17 grey levels (0 to 16) spread over 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    held_out = np.arange(len(images)) % 6 == 0
    return from_arrays(images[~held_out], digits.target[~held_out], images[held_out], digits.target[held_out])
