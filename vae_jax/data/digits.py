"""1,797 real handwritten digits of 8x8 pixels (Alpaydin & Kaynak 1998), shipped inside scikit-learn.

The embedded default: nothing is downloaded. Every sixth image is held out (1,497 train, 300 test).
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.data import Dataset, from_arrays


def load() -> Dataset:
    """The digits, their 17 grey levels (0 to 16) spread over 0 to 255."""
    table = np.loadtxt(_table_file(), np.uint8, delimiter=",")  # 64 pixels, then the label
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels, held_out = table[:, 64], np.arange(len(table)) % 6 == 0
    return from_arrays(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def _table_file() -> Path:
    """scikit-learn's file of the digits; to import its `datasets` for it would take a second."""
    package: Any = importlib.util.find_spec("sklearn")  # a dependency of ours
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
