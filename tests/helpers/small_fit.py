"""Small runs from Python, on images of one's own."""

from pathlib import Path

import numpy as np

import vae_jax

SMALL = {
    "steps": 20,
    "batch_size": 16,
    "hidden": (8,),
    "latent_dim": 2,
    "dispatch": 10,
    "log.every": 10,
    "evaluation.every": 10,
    "checkpoint.every": 10,
    "parallel.devices": 1,
}


def blobs(count: int = 80, size: int = 6) -> np.ndarray:
    """Grey images of a bright spot each, float32 in [0, 1], (count, size, size)."""
    place = np.random.default_rng(0).uniform(1, size - 2, (2, count, 1, 1))
    rows, columns = np.mgrid[:size, :size]
    return np.exp(-((rows - place[0]) ** 2) - (columns - place[1]) ** 2).astype(np.float32)


def fit(images, workdir: Path, labels=None, **fields):
    """Fits the smallest run."""
    return vae_jax.fit(images, labels, workdir=workdir, **SMALL | fields)


def sweep(images, workdir: Path, **fields):
    """Sweeps the smallest run."""
    return vae_jax.sweep(images, workdir=workdir, **SMALL | fields)
