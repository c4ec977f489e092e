"""Codes of a small grid of factors: the factors themselves, noise, and two factors turned into each other."""

import math

import numpy as np

from vae_jax import randomness
from vae_jax.metrics._given_codes import GivenCodes

NAMES, SIZES = ("shape", "scale", "x", "y"), (2, 5, 8, 8)
GRID = np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1).astype(np.int32)


def perfect(sizes=SIZES):
    """The factors in another order, each at its own scale and sign, and one constant."""
    grid = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)
    scales = np.array([1, -0.7, 2, -1, 0.5])[: len(sizes)]
    return np.concatenate([grid * scales[None], np.ones((len(grid), 1))], axis=1)[:, ::-1].astype(np.float32)


def noise(latents=4, seed=0):
    return np.random.default_rng(seed).normal(size=(len(GRID), latents)).astype(np.float32)


def rotated():
    """Unit-variance factors, the last two turned by 45 degrees."""
    scaled = (GRID - GRID.mean(axis=0)[None]) / GRID.std(axis=0)[None]
    turn = np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
    return np.concatenate([scaled[:, :2], scaled[:, 2:] @ turn], axis=1).astype(np.float32)


def given(codes, names=NAMES, sizes=SIZES, **kwargs):
    return GivenCodes(np.asarray(codes, np.float32), names, sizes, **kwargs)


def score(metric, context, **parameters):
    return metric.compute(context, randomness.root_key(0), **parameters)
