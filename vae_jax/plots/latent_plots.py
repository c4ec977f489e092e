"""Codes and posteriors in the plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vae_jax.files import replacement
from vae_jax.plots import palette, style
from vae_jax.plots.captions import Real

MAX_TICKS = 20
"""Labels up to which each has a tick at the colour bar; of more as many have one, evenly spaced."""


@matplotlib.rc_context(style.LITERAL_TEXT)
def scatter_codes(
    file: Path,
    codes: np.ndarray,
    labels: np.ndarray | None,
    title: str,
    axis_names: Sequence[str],
    origin: Sequence[Real] = (0, 0),
) -> None:
    """Codes (n, 2) as points, coloured by label where there are labels, to the scale of N(0, I).

    Args:
        file: the picture, a PNG.
        codes: their places.
        labels: one for each, or None.
        title: above it.
        axis_names: of x and of y.
        origin: the place of the code 0, about which N(0, I)'s 2 sd are dashed.
    """
    figure = Figure(figsize=(6.2, 5.4))
    axes = figure.add_subplot()
    size = float(np.clip(8000 / len(codes), 3, 24))
    if labels is None:
        axes.scatter(codes[:, 0], codes[:, 1], s=size, linewidths=0, alpha=0.6, color=palette.COLOURS[0])
    else:
        _labelled_points(figure, axes, codes, labels, size)
    axes.add_patch(prior_circle(origin, label="N(0, I), 2 sd"))
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.set_title(style.wrap_text(title, 4.8, style.TITLE_SIZE), fontsize=style.TITLE_SIZE, loc="left")
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    with replacement(file) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def prior_circle(origin: Sequence[Real], label: str = "") -> Circle:
    """Two standard deviations of N(0, I) about the place of the code 0."""
    look: dict[str, Any] = {"edgecolor": style.INK, "linestyle": "--", "linewidth": 0.9, "zorder": 5}
    return Circle((float(origin[0]), float(origin[1])), 2, fill=False, label=label, **look)


def label_ranks(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(each label's rank among those that occur, what these are called)."""
    names, ranks = np.unique(labels, return_inverse=True)
    return ranks, [str(name) for name in names]


def _labelled_points(figure: Figure, axes: Axes, codes: np.ndarray, labels: np.ndarray, size: float) -> None:
    ranks, names = label_ranks(labels)
    points = axes.scatter(
        codes[:, 0],
        codes[:, 1],
        c=ranks,
        s=size,
        linewidths=0,
        alpha=0.75,
        cmap=ListedColormap(palette.label_colours(len(names))),
        vmin=-0.5,
        vmax=len(names) - 0.5,
    )
    ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), MAX_TICKS)).round().astype(int))
    bar = figure.colorbar(points, label="label")
    bar.set_ticks(ticks.tolist(), labels=[names[tick] for tick in ticks])


def posterior_ellipses(
    file: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, title: str
) -> None:
    """Gaussians in the plane, means and sigmas (n, 2), as ellipses coloured by label; the prior's 2 sd dashed."""
    figure, grid = style.panel_axes(len(panels), title, height=2.4, width=2.4)
    ranks, names = label_ranks(labels)
    colours = to_rgba_array([palette.label_colours(len(names))[rank] for rank in ranks])
    for axes, (name, (means, sigmas)) in zip(grid, panels.items(), strict=True):
        ellipses = EllipseCollection(
            2 * sigmas[:, 0],
            2 * sigmas[:, 1],
            np.zeros(len(means)),
            units="xy",
            offsets=means,
            transOffset=axes.transData,
            facecolors=colours,
            edgecolors=colours,
            alpha=0.22,
            linewidths=0.4,
        )
        axes.add_collection(ellipses)
        axes.scatter(means[:, 0], means[:, 1], s=3, color=colours, linewidths=0)
        axes.add_patch(prior_circle((0, 0)))
        reach = max(2.4, 1.05 * float(np.abs(np.concatenate([means - sigmas, means + sigmas])).max()))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9, loc="left", color=style.INK)
    style.save(figure, [file])
