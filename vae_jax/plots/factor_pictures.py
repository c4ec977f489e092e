"""The pictures of a run on data whose factors are known: what its latents know of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vae_jax.data import Dataset
from vae_jax.data._factors import Factors, to_ids
from vae_jax.metrics import _information
from vae_jax.metrics.modularity import modularity
from vae_jax.plots import latent_plots, palette, style
from vae_jax.plots.captions import format_fixed
from vae_jax.plots.image_grid import image_grid
from vae_jax.plots.subject import Subject

BINS = 20
"""Into which each latent is cut, as the metric mig does."""

MAX_LATENTS, MAX_VALUES = 24, 10
"""Latents in the matrix, and values of a factor that are shown one by one."""

SIDE, LEFT, BELOW, ABOVE, COLUMNS = 2.3, 0.7, 0.5, 0.28, 3
"""Inches: of a panel's side, and of the room for its names and its title; and panels side by side."""

CELL_WIDTH, CELL_HEIGHT, LIGHT = 0.95, 0.26, 0.6
"""Inches of a cell of the matrix; and the share from which on a cell is so light that its number is dark."""


class FactorInformation(NamedTuple):
    """What the latents of images know of the factors that are scored and vary.

    Attributes:
        names: of the factors.
        codes: (image, latent).
        classes: (image, factor).
        information: (latent, factor), I(z; v), nats.
        entropy: (factor,), H(v), nats.
    """

    names: Sequence[str]
    codes: np.ndarray
    classes: np.ndarray
    information: np.ndarray
    entropy: np.ndarray

    @classmethod
    def measure(cls, factors: Factors, codes: np.ndarray, classes: np.ndarray) -> "FactorInformation | None":
        """Of codes (image, latent) and the classes of all factors; None where no factor that is scored varies."""
        varying = [
            np.ptp(column) > 0 and name not in factors.nuisance
            for name, column in zip(factors.names, classes.T, strict=True)
        ]
        if not any(varying):
            return None
        names = [name for name, varies in zip(factors.names, varying, strict=True) if varies]
        shown = np.stack([np.unique(column, return_inverse=True)[1] for column in classes[:, varying].T], axis=1)
        return cls(names, codes, shown, *_information.binned_information(codes, shown.astype(np.int32), BINS))

    @property
    def shares(self) -> np.ndarray:
        """(latent, factor), I(z; v) / H(v)."""
        return self.information / self.entropy

    @property
    def gaps(self) -> np.ndarray:
        """(factor,), by how much the best latent of each factor is ahead of the second; their mean is the MIG."""
        return _information.gap(self.information) / self.entropy


def factor_classes(dataset: Dataset, indices: np.ndarray) -> np.ndarray | None:
    """The classes of all factors of test images; None where nobody knows them."""
    if dataset.factors is None or dataset.test.factors is None:
        return None
    return np.asarray(dataset.test.factors(jnp.asarray(indices)))


def name_classes(factors: Factors, classes: np.ndarray) -> str:
    """The classes of an image, of the factors that vary: "shape 2, x 5"."""
    named = zip(factors.names, factors.sizes, classes, strict=True)
    return ", ".join(f"{name} {value}" for name, size, value in named if size > 1)


@jax.jit
def compiled_call(render: Callable[[Any], Any], ids: Any) -> Any:
    """What draws images, compiled as one program: by themselves its steps take several times as long to compile."""
    return render(ids)


def factor_planes(subject: Subject, knowledge: FactorInformation, file: Path) -> None:
    """For each factor the two latents that know most of it, coloured by its value."""
    count = len(knowledge.names)
    columns = min(count, COLUMNS)
    rows, pitch = -(-count // columns), BELOW + SIDE + ABOVE
    width = columns * (LEFT + SIDE) + 0.25
    what = f"The two latents that know most of each factor, {subject.split} images coloured by its value"
    heading = subject.heading(f"{what} from dark to light (dashed: N(0, I), 2 sd)")
    figure = Figure(figsize=(width, rows * pitch + style.heading_inches(*heading, width - 2 * style.MARGIN)))
    style.head(figure, *heading)
    for number, name in enumerate(knowledge.names):
        row, column = divmod(number, columns)
        place = LEFT + column * (LEFT + SIDE), (rows - 1 - row) * pitch + BELOW
        best = np.argsort(-knowledge.information[:, number], kind="stable")[:2].tolist()
        shares = [f"latent {i}, I/H {format_fixed(knowledge.shares[i, number], 2)}" for i in best]
        points = knowledge.codes[:, best]
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
        axes = style.place_axes(figure, *place, SIDE, SIDE)
        ranks = knowledge.classes[:, number]
        shades = palette.ramp_colours(int(ranks.max()) + 1)
        latent_plots.draw_points(axes, points, [shades[rank] for rank in ranks])
        latent_plots.frame_plane(axes, latent_plots.Plane(points, ("", "")))
        axes.set_xlabel(shares[0], fontsize=style.NAME_SIZE, color=style.INK)
        axes.set_ylabel(shares[1] if len(shares) > 1 else "", fontsize=style.NAME_SIZE, color=style.INK)
        title = f"{name}: {len(shades)} values"
        axes.set_title(title, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)
    style.write_png(figure, file)


def information_matrix(subject: Subject, knowledge: FactorInformation, order: Sequence[int], file: Path) -> None:
    """What each latent knows of each factor, as a share of what there is to know, with the scores that follow.

    Args:
        subject: the run.
        knowledge: the factors.
        order: the latents from top to bottom; the first of them are shown.
        file: the picture, a PNG.
    """
    shown, shares = list(order)[:MAX_LATENTS], knowledge.shares
    heading = subject.heading(_matrix_title(subject, knowledge, len(shown)))
    wide, high = CELL_WIDTH * len(knowledge.names), CELL_HEIGHT * len(shown)
    left, below = 0.85, 0.55
    width = max(left + wide + 0.2, 6.4)
    figure = Figure(figsize=(width, below + high + style.heading_inches(*heading, width - 2 * style.MARGIN)))
    style.head(figure, *heading)
    axes = style.place_axes(figure, left, below, wide, high)
    axes.imshow(shares[shown], cmap="viridis", norm=Normalize(0, 1), aspect="auto", interpolation="nearest")
    for row, latent in enumerate(shown):
        for column, share in enumerate(shares[latent]):
            ink = style.INK if share > LIGHT else "white"
            text = format_fixed(share, 2)
            axes.text(column, row, text, ha="center", va="center", fontsize=style.NAME_SIZE, color=ink)
    names = [f"{name}\ngap {format_fixed(gap, 2)}" for name, gap in zip(knowledge.names, knowledge.gaps, strict=True)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(shown)), [f"latent {latent}" for latent in shown])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    style.write_png(figure, file)


def _matrix_title(subject: Subject, knowledge: FactorInformation, shown: int) -> str:
    latents = len(knowledge.codes[0])
    scores = f"MIG {format_fixed(knowledge.gaps.mean(), 3)}"
    modular = modularity(knowledge.information)
    if len(knowledge.names) > 1 and np.isfinite(modular).any():
        scores += f", modularity {format_fixed(np.nanmean(modular), 3)}"
    some = "" if shown == latents else f", {shown} of {latents} latents"
    counted = f"{len(knowledge.codes):,} {subject.split} images, {BINS} bins{some}"
    return f"What a latent knows of a factor, I(z; v) / H(v)\n{scores}; {counted}"


def along_factors(subject: Subject, factors: Factors, classes: np.ndarray, file: Path) -> None:
    """Images that differ in one factor alone, above their reconstructions: two rows a factor.

    Args:
        subject: the run.
        factors: the grid.
        classes: of the image that the others differ from, (factor,).
        file: the picture, a PNG.
    """
    run, moving = subject.run, [number for number, size in enumerate(factors.sizes) if size > 1]
    values = [spread_values(factors.sizes[number], int(classes[number])) for number in moving]
    columns = max(map(len, values))
    moved = np.repeat(classes[None], len(moving) * columns, axis=0).reshape(len(moving), columns, -1)
    tiles = np.ones((2 * len(moving), columns, *subject.show(np.ones(run.image_shape)).shape), np.float32)
    for row, (number, own) in enumerate(zip(moving, values, strict=True)):
        moved[row, : len(own), number] = own
    ids = to_ids(factors.sizes, jnp.asarray(moved.reshape(-1, moved.shape[-1]), jnp.int32))
    images = np.asarray(compiled_call(factors.render, ids))
    for first, pictures in enumerate((images, run.decode(run.encode(images)))):
        tiles[first::2] = subject.show(pictures).reshape(len(moving), columns, *tiles.shape[2:])
    for row, own in enumerate(values):
        tiles[2 * row : 2 * row + 2, len(own) :] = 1
    rows, marks = [], []
    for number, own in zip(moving, values, strict=True):
        rows += [f"{factors.names[number]} ({factors.sizes[number]} values)", "reconstruction"]
        marks += [[own.index(int(classes[number]))], []]
    title = "One factor changed at a time, images of the whole grid; triangles: the value that the other rows have"
    image_grid(file, tiles, title, rows, (), subject.caption, marks)


def spread_values(size: int, own: int) -> list[int]:
    """At most MAX_VALUES of a factor's values, evenly spread, `own` in the place of the one that is nearest to it."""
    values = np.unique(np.linspace(0, size - 1, min(size, MAX_VALUES)).round().astype(int))
    values[np.abs(values - own).argmin()] = own
    return values.tolist()
