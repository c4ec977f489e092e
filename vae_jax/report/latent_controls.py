"""What moves a code in the explorer: sliders of numbers, indices into a codebook, and the maps of all codes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_jax.comparison.results import Number
from vae_jax.inference import TrainedModel
from vae_jax.plots.captions import format_fixed
from vae_jax.report import codebook
from vae_jax.report.codebook import Codebook

Real = Number | np.floating

PRIOR_RADIUS = 2.0
"""Of the circle that a map shows of N(0, I), in its standard deviations."""
SLIDER_STEPS = 200
"""Of an arrow key from end to end."""
EXTRA_NAMES = {"conditional": "class", "joint": "category"}
"""What the numbers of a code beside the latents stand for, by variant."""


def moving_parts(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> dict[str, Any]:
    """What a page moves a code by: a slider for each latent, or where codes are of a codebook its indices; the maps.

    Args:
        run: the model.
        codes: of held-out images.
        kl: of each latent, nats, where it is known.
    """
    book = Codebook.measure(run)
    if book is None:
        return {"sliders": latent_sliders(run, codes, kl), "planes": latent_planes(run, codes, kl, PRIOR_RADIUS)}
    return {**codebook.indices(book, codes), "planes": latent_planes(run, codes, kl, 0.0)}


def latents_by_information(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> list[int]:
    """The latents, of most KL first; by the variance of their codes where there is no KL."""
    return np.argsort(-np.asarray(codes[:, : run.latent_dim].var(0) if kl is None else kl), kind="stable").tolist()


def latent_sliders(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> list[dict[str, Any]]:
    """A slider for each latent, over the prior's range (without a KL three standard deviations) and all its codes.

    Then one for each number of the code beside the latents.
    """
    sliders = []
    for i in latents_by_information(run, codes, kl):
        mean, deviation = (codes[:, i].mean(), codes[:, i].std()) if kl is None else (0, 1)
        detail = f"sd {format_fixed(deviation, 2)}" if kl is None else f"{format_fixed(kl[i], 2)} nats"
        low, high = min(mean - 3 * deviation, codes[:, i].min()), max(mean + 3 * deviation, codes[:, i].max())
        sliders.append(make_slider(i, f"latent {i}", detail, low, high))
    extra = EXTRA_NAMES.get(run.config["variant"]["name"], "number")
    for i in range(run.latent_dim, run.code_dim):
        sliders.append(make_slider(i, f"{extra} {i - run.latent_dim}", "", codes[:, i].min(), codes[:, i].max()))
    return sliders


def make_slider(dimension: int, name: str, detail: str, low: Real, high: Real) -> dict[str, Any]:
    """A slider of one number of the code."""
    low, high = widen(low, high)
    return {"dimension": dimension, "name": name, "detail": detail, "low": low, "high": high, "steps": SLIDER_STEPS}


def widen(low: Real, high: Real) -> tuple[float, float]:
    """The interval, or one of length 2 about what is a point."""
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def latent_planes(
    run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None, radius: float
) -> list[dict[str, Any]]:
    """The maps: of two latents both, of more the two main axes of the latents, and the two most informative latents.

    Each has a circle of `radius` about the code 0, which stands for N(0, I); with a radius of 0 it has none.
    """
    latents, pair = codes[:, : run.latent_dim], latents_by_information(run, codes, kl)[:2]
    units, zero = np.eye(run.code_dim, dtype=np.float32), 0 * codes[0]
    if run.latent_dim == 1:
        axis = np.stack([units[0], 0 * units[0]])
        return [make_plane("the latent", ["latent 0", ""], codes, axis, zero, radius)]
    if run.latent_dim == 2:
        return [make_plane("the two latents", ["latent 0", "latent 1"], codes, units[:2], zero, radius)]
    axes = np.linalg.svd(latents - latents.mean(0), full_matrices=False)[2][:2]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, run.code_dim - run.latent_dim)))
    main = make_plane("the two principal axes", ["first axis", "second axis"], codes, axes, codes.mean(0), radius)
    names = [f"latent {i}" for i in pair]
    return [main, make_plane("the two most informative latents", names, codes, units[pair], zero, radius)]


def make_plane(
    name: str, axes: list[str], codes: np.ndarray, directions: np.ndarray, origin: np.ndarray, radius: float
) -> dict[str, Any]:
    """The map z -> D (z - origin) of orthonormal rows D, and a square on it that holds the codes and the circle."""
    points, offsets = (codes - origin[None]) @ directions.T, directions @ origin
    low, high = points.min(0), points.max(0)
    if radius:  # the circle's centre is the place of the code 0
        low, high = np.minimum(low, -offsets - radius), np.maximum(high, -offsets + radius)
    centre, half = (low + high) / 2, 1.05 * (float((high - low).max()) or 1.0) / 2
    extent = [(float(middle) - half, float(middle) + half) for middle in centre]
    numbers = {"directions": directions.tolist(), "offsets": offsets.tolist(), "extent": extent}
    return {"name": name, "axes": axes, "radius": radius, **numbers}
