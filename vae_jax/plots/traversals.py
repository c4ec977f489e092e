"""One latent moved at a time, of several images, those first that hold most nats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.phrases import plural
from vae_jax.plots.captions import format_fixed
from vae_jax.plots.image_grid import image_grid
from vae_jax.plots.subject import Subject

LATENTS, STEPS, LIMIT = 10, 7, 3.0
"""Latents that are shown at most, and the steps from -LIMIT to LIMIT at which each is seen of each image."""

ROW_STEPS = 11
"""The same of a row of a table."""


class Ranges(NamedTuple):
    """Over what each latent is moved, those first that hold most.

    Attributes:
        order: the latents.
        names: what each of them is called.
        middle, unit: each latent's value at 0, and what it moves by from there to 1: 0 and 1 where there is a KL, which
            holds latents to N(0, 1); its mean and standard deviation where there is none.
        title: what is shown.
    """

    order: Sequence[int]
    names: Sequence[str]
    middle: np.ndarray
    unit: np.ndarray
    title: str

    @classmethod
    def choose(cls, codes: np.ndarray, evaluation: Mapping[str, Any], count: int = LATENTS) -> "Ranges":
        """Of at most `count` latents, by their KL in an evaluation; without one by the variance of `codes`."""
        latents, kl = codes.shape[1], evaluation.get("kl")
        middle, unit = np.zeros(latents), np.ones(latents)
        if kl is None:
            middle, unit = codes.mean(0), codes.std(0)
        weight, word = (unit, "sd {}") if kl is None else (np.asarray(kl), "{} nats")
        order = np.argsort(-weight)[:count].tolist()
        names = [f"latent {i}: {word.format(format_fixed(weight[i], 2))}" for i in order]
        by, units = ("variance", " by so many standard deviations") if kl is None else ("KL", "")
        shown = plural(latents, "latent") if len(order) == latents else f"{len(order)} of {latents} latents"
        return cls(order, names, middle, unit, f"One latent moved at a time{units}: {shown}, most {by} first")


class Moves(NamedTuple):
    """Images (anchor, latent, step, height, width, channels), what each latent and each step is called, and a title.

    Attributes:
        own: (anchor, latent), the steps, counted from 0, at which each latent has the anchor's own value.
    """

    images: np.ndarray
    own: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    title: str


def moved_latents(
    subject: Subject, codes: np.ndarray, anchors: np.ndarray, evaluation: Mapping[str, Any], steps: int = STEPS
) -> Moves:
    """One latent moved at a time from -3 to 3, the prior's own range, the rest of a code as its anchor has it.

    Args:
        subject: the run.
        codes: of images that were not trained on.
        anchors: codes of those that are shown, (anchor, code).
        evaluation: what evaluation.json holds.
        steps: how many values each latent takes.
    """
    run, values = subject.run, np.linspace(-LIMIT, LIMIT, steps)
    ranges = Ranges.choose(codes[:, : run.latent_dim], evaluation)
    moved = np.repeat(anchors[:, None], len(ranges.order) * steps, axis=1)
    moved = moved.reshape(len(anchors), len(ranges.order), steps, -1)
    for row, latent in enumerate(ranges.order):
        moved[:, row, :, latent] = ranges.middle[latent] + ranges.unit[latent] * values
    images = run.decode(moved.reshape(-1, moved.shape[-1])).reshape(*moved.shape[:3], *run.image_shape)
    order = list(ranges.order)
    own = (anchors[:, order] - ranges.middle[order]) / np.where(ranges.unit[order] > 0, ranges.unit[order], 1)
    places = (own + LIMIT) / (2 * LIMIT) * (steps - 1)
    return Moves(images, places, ranges.names, [_step_name(value) for value in values], ranges.title)


def _step_name(value: float) -> str:
    return format_fixed(value, 0 if value == round(value) else 1, sign=True)


def traversals(subject: Subject, moves: Moves, originals: np.ndarray, names: Sequence[str], file: Path) -> None:
    """A block of columns for each anchor, its image above; a triangle at the anchor's own value of each latent.

    Args:
        subject: the run.
        moves: what is shown.
        originals: the anchors' images, (anchor, height, width, channels).
        names: of the anchors.
        file: the picture, a PNG.
    """
    anchors, latents, steps = moves.images.shape[:3]
    columns: list[str] = []
    marks: list[list[float]] = [[] for _ in range(latents + 1)]
    blocks = []
    white = np.ones_like(subject.show(moves.images[0, 0, :1]))
    for number in range(anchors):
        above = np.repeat(white, steps, axis=0)
        above[steps // 2] = subject.show(originals[number])
        block = np.concatenate([above[None], subject.show(moves.images[number])])
        gap = np.broadcast_to(white, (latents + 1, *white.shape))
        blocks += [block] if number == 0 else [gap, block]
        first = len(columns) + bool(columns)
        columns += [""] * bool(columns) + list(moves.columns)
        for row, place in enumerate(moves.own[number], start=1):
            marks[row] += [first + place] if -0.5 <= place <= steps - 0.5 else []
        columns[first + steps // 2] += f"\n{names[number]}"
    title = f"{moves.title}; triangles: the image's own value"
    rows = [f"{subject.split} image", *moves.rows]
    image_grid(file, np.concatenate(blocks, axis=1), title, rows, columns, subject.caption, marks)
