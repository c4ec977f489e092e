"""Which likelihood suits images, and what is odd about one that does not, in a line."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vae_jax.models.likelihoods import Likelihood

Bytes = UInt8[np.ndarray, "n height width channels"]

NOISE = 0.5
"""Bits a pixel above which drawing grey levels black or white is no picture: digits 0.31, MNIST 0.08, faces 0.87."""


def pixel_entropy(images: Bytes) -> float:
    """Bits of noise in a pixel that is drawn white with its grey level x for probability, the mean over pixels.

    H(x) = -x log2 x - (1 - x) log2(1 - x)

    Args:
        images: uint8 from 0 to 255.
    """
    counts = np.bincount(images.ravel(), minlength=256)
    x = np.linspace(0, 1, 256)[1:-1]  # the ends are certain
    return float(np.sum(counts[1:-1] * -(x * np.log2(x) + (1 - x) * np.log2(1 - x))) / counts.sum())


def has_two_levels(images: Bytes) -> bool:
    """Whether every pixel is black or white."""
    return bool(np.all((images == 0) | (images == 255)))


def suggested_fields(images: Bytes) -> dict[str, Any]:
    """The fields of a config that suit images, by dotted name.

    Bernoulli for what is black and white, or nearly so, as written digits are; for colours and for grey levels a
    gaussian whose scale is learned, which asks nothing to be guessed.

    Args:
        images: uint8 from 0 to 255, (n, height, width, channels); some of a set are enough.
    """
    if has_two_levels(images):
        return {"data.binarize": "static", "likelihood.name": "bernoulli"}
    if images.shape[-1] == 1 and pixel_entropy(images) <= NOISE:
        return {"data.binarize": "dynamic", "likelihood.name": "bernoulli"}
    return {"data.binarize": "none", "likelihood.name": "gaussian", "likelihood.scale": "shared"}


def mismatch(name: str, likelihood: Likelihood, binarize: str, images: Callable[[], Bytes]) -> str:
    """What is odd about a likelihood for these images, in a line that ends in what suits them; empty where nothing is.

    Args:
        name: the likelihood's in the config.
        likelihood: p(x | z).
        binarize: config.data.binarize.
        images: gives some of the training images, uint8 from 0 to 255; called where they decide.
    """
    if likelihood.levels == 2:
        shown = images()
        odd = _coin_mismatch(name, binarize, shown)
    elif likelihood.levels == 0 and "static" not in likelihood.binarize:
        shown = images()
        odd = _density_mismatch(name, shown)
    else:
        return ""
    if not odd:
        return ""
    advice = " ".join(f"--config.{field}={value}" for field, value in suggested_fields(shown).items())
    return f"{odd}; what suits these images: {advice}"


def _coin_mismatch(name: str, binarize: str, images: Bytes) -> str:
    if has_two_levels(images):
        return ""
    if binarize == "none":
        return (
            f"config.likelihood.name: {name!r} of grey levels that are not binarised is a cross-entropy, so that what "
            "is logged as elbo bounds no log p(x)"
        )
    if images.shape[-1] > 1:
        return f"config.data.binarize: {binarize!r} leaves each colour of a pixel on or off, of 256 levels"
    bits = pixel_entropy(images)
    if binarize == "dynamic" and bits > NOISE:
        return f"config.data.binarize: 'dynamic' makes these grey levels mostly noise, {bits:.2f} of 1 bit a pixel"
    return ""


def _density_mismatch(name: str, images: Bytes) -> str:
    if not has_two_levels(images):
        return ""
    return (
        f"config.likelihood.name: {name!r} is a density of grey levels, and these images are black and white, where it "
        "has no largest value"
    )
