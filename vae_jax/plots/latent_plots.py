"""Codes and posteriors in the plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vae_jax.plots import style

MAX_NAMED_COLOURS, MAX_TICKS = 10, 20
"""Labels up to which each has a colour of its own, and each a tick of the colour bar."""


def scatter_codes(
    file: Path, codes: np.ndarray, labels: np.ndarray | None, title: str, axis_names: Sequence[str]
) -> None:
    """Codes (n, 2) as points, coloured by label where there are labels."""
    figure = Figure(figsize=(6.2, 5.2))
    axes = figure.add_subplot()
    size = float(np.clip(8000 / len(codes), 3, 24))
    if labels is None:
        axes.scatter(codes[:, 0], codes[:, 1], s=size, linewidths=0, alpha=0.6)
    else:
        _labelled_points(figure, axes, codes, labels, size)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def _labelled_points(figure: Figure, axes: Axes, codes: np.ndarray, labels: np.ndarray, size: float) -> None:
    count = int(labels.max()) + 1
    points = axes.scatter(
        codes[:, 0],
        codes[:, 1],
        c=labels,
        s=size,
        linewidths=0,
        alpha=0.75,
        cmap="tab10" if count <= MAX_NAMED_COLOURS else "turbo",
        vmin=-0.5,
        vmax=count - 0.5,
    )
    figure.colorbar(points, ticks=range(count) if count <= MAX_TICKS else None, label="label")


def posterior_ellipses(
    file: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, title: str
) -> None:
    """Gaussians in the plane, means and sigmas (n, 2), as ellipses coloured by label; the prior's 2 sd dashed."""
    figure, grid = style.panel_axes(len(panels), title, height=2.4, width=2.4)
    colours = matplotlib.colormaps["tab10"](labels % 10)
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
        axes.add_patch(Circle((0, 0), 2, fill=False, edgecolor=style.INK, linestyle="--", linewidth=0.9, zorder=5))
        reach = max(2.4, 1.05 * float(np.abs(np.concatenate([means - sigmas, means + sigmas])).max()))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9, loc="left", color=style.INK)
    style.save(figure, [file])
