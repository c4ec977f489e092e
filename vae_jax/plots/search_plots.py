"""Plots of a search: what its trials scored in their order, over each field, and one objective over another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vae_jax.plots import style
from vae_jax.plots.style import FAINT

BLUE, ORANGE = style.colour(0), style.colour(1)

CLIPPED = 0.1
"""The share of trials, the worst, that are drawn hollow at the end of the axis: they would flatten all others."""


STRETCH = 2.0

WIDE = 50
"""How many times the least value the largest is from which on a logarithmic axis names powers of ten alone."""


class Slice(NamedTuple):
    """A field: its value by trial, whether it was chosen in its logarithm or of options, its share of the variance."""

    field: str
    params: Sequence[Any]
    is_log: bool
    is_choice: bool
    importance: float | None


class SearchPlot(NamedTuple):
    """An objective of a search: numbers of trials, its values, the best so far, whether more is better, its slices."""

    objective: str
    numbers: Sequence[int]
    values: Sequence[float]
    best: Sequence[float]
    maximize: bool
    slices: Sequence[Slice]


@matplotlib.rc_context(style.LITERAL_TEXT)
def history_and_slices(files: Sequence[Path], plot: SearchPlot, title: str) -> None:
    """The scores in their order with the best so far, and over each field, the most important first."""
    figure, (first, *panels) = style.panel_axes(1 + len(plot.slices), title, height=2.5)
    shown, clipped = clip_worst(np.array(plot.values), plot.maximize)
    _draw_dots(first, np.array(plot.numbers), shown, clipped)
    first.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    first.step(np.array(plot.numbers), np.array(plot.best), where="post", color=ORANGE, linewidth=1.6, zorder=2)
    _name(first, "trial", plot.objective)
    best = int(np.argmax(shown if plot.maximize else -shown))
    for axes, part in zip(panels, plot.slices, strict=True):
        x = _positions(axes, part)
        _draw_dots(axes, x, shown, clipped)
        axes.plot(x[best], shown[best], marker="o", markersize=8, color="none", markeredgecolor=ORANGE, zorder=5)
        share = "" if part.importance is None else f"  ({part.importance:.0%} of the variance)"
        _name(axes, f"{part.field}{share}", "")
    limits = first.get_ylim()
    for axes in panels:
        axes.set_ylim(limits)
    style.save(figure, files)


@matplotlib.rc_context(style.LITERAL_TEXT)
def pareto(files: Sequence[Path], names: Sequence[str], points: np.ndarray, front: np.ndarray, title: str) -> None:
    """Two objectives over one another: every trial a dot, those that none beats in all joined.

    Args:
        files: where the picture goes, once in each format.
        names: of the two objectives.
        points: (trial, 2).
        front: which trials none beats (trial).
        title: above it.
    """
    figure, axes = style.single_axes(title, *names)
    axes.scatter(points[~front, 0], points[~front, 1], s=20, color=FAINT, linewidths=0)
    ordered = points[front][np.argsort(points[front][:, 0])]
    axes.plot(*ordered.T, color=ORANGE, marker="o", markersize=5, linewidth=1.2)
    style.save(figure, files)


def clip_worst(values: np.ndarray, maximize: bool) -> tuple[np.ndarray, np.ndarray]:
    """The values with the worst moved to where an axis ends that shows the others, and which of them were moved.

    None is moved where the axis of all would be no more than STRETCH times as long.
    """
    edge = (
        np.quantile(values, CLIPPED, method="higher") if maximize else np.quantile(values, 1 - CLIPPED, method="lower")
    )
    others = values[values >= edge] if maximize else values[values <= edge]
    if np.ptp(values) <= STRETCH * np.ptp(others):
        return values, np.zeros(len(values), bool)
    clipped = values < edge if maximize else values > edge
    return np.where(clipped, edge, values), clipped


def _draw_dots(axes: Axes, x: np.ndarray, y: np.ndarray, clipped: np.ndarray) -> None:
    axes.scatter(x[~clipped], y[~clipped], s=14, color=BLUE, alpha=0.75, linewidths=0, zorder=3)
    axes.scatter(x[clipped], y[clipped], s=14, facecolors="none", edgecolors=BLUE, alpha=0.6, linewidths=0.8, zorder=3)


def _positions(axes: Axes, part: Slice) -> np.ndarray:
    """Where the trials lie on the axis of a field: numbers at their values, options side by side."""
    if part.is_choice:
        options = ordered_options(part.params)
        axes.set_xticks(range(len(options)), list(map(str, options)))
        axes.set_xlim(-0.5, len(options) - 0.5)
        return np.array([options.index(value) for value in part.params], float)
    if part.is_log:
        wide = max(part.params) > WIDE * min(part.params)
        style.log_scale(axes, "x", steps=(1,) if wide else (1, 2, 5))
    return np.array(part.params, float)


def ordered_options(params: Sequence[Any]) -> list[Any]:
    """The options that were chosen, each once: numbers by their size, then texts."""
    return sorted(set(params), key=lambda value: (isinstance(value, str), value))


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8.5, color=style.INK)
    axes.set_ylabel(y, fontsize=8.5, color=style.INK)
