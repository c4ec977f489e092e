"""Plots of compared runs: distortion against rate, and a score against a strength."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from vae_jax.plots import label_positions, style
from vae_jax.plots.captions import format_short
from vae_jax.plots.style import CLEAR, FAINT

LABEL_SIZE = 8.5
"""Of the names of means, in points."""

LEADER = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
"""The line from a name to what it names."""

LOG_RATIO = 8
"""How many times the smallest strength the largest is from which on the axis is logarithmic."""

MAX_TICKS = 12


class Curve(NamedTuple):
    """Runs as (rate, distortion) (n, 2), which of them are pale (n), and their groups' means (k, 2) and labels (k)."""

    name: str
    colour: int
    points: np.ndarray
    pale: np.ndarray
    means: np.ndarray
    labels: Sequence[str]


class End(NamedTuple):
    """Distortions at the right edge, of runs of a family that have no rate or one far out."""

    colour: int
    distortions: Sequence[float]


@matplotlib.rc_context(style.LITERAL_TEXT)
def rate_distortion(files: Sequence[Path], curves: Sequence[Curve], ends: Mapping[str, End], title: str) -> None:
    """What rate buys in distortion, a curve for each family, over lines of equal ELBO.

    Args:
        files: where the picture goes, once in each format.
        curves: nats per image.
        ends: what stands at the right edge, under its name.
        title: above it.
    """
    figure, axes = style.single_axes(title, "rate, nats per image", "distortion, nats per image")
    for curve in curves:
        _draw_curve(axes, curve)
    _set_limits(axes, ends)
    _name_ends(axes, ends)
    _name_means(axes, curves)
    _draw_equal_elbo(axes)
    if len(curves) > 1:  # below the picture, where it hides no run
        columns = max(1, min(len(curves), 100 // (8 + max(len(curve.name) for curve in curves))))
        axes.legend(
            frameon=False, fontsize=style.NAME_SIZE, loc="upper left", bbox_to_anchor=(0.0, -0.11), ncols=columns
        )
    style.save(figure, files)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    look: dict[str, Any] = {"color": style.colour(curve.colour), "marker": style.marker(curve.colour)}
    axes.plot(*curve.means.T, linewidth=1.4, alpha=0.85, markersize=4, zorder=3, label=curve.name, **look)
    for pale, alpha in ((True, 0.22), (False, 0.9)):
        points = curve.points[curve.pale == pale]
        axes.scatter(points[:, 0], points[:, 1], s=22, alpha=alpha, linewidths=0, zorder=4, **look)


def _set_limits(axes: Axes, ends: Mapping[str, End]) -> None:
    """The limits of the runs, with room at the right edge and in height for the ends."""
    axes.margins(0.08)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    if ends:
        distortions = np.concatenate([end.distortions for end in ends.values()])
        bottom, top = min(bottom, distortions.min()), max(top, distortions.max())
        bottom, top = bottom - 0.05 * (top - bottom), top + 0.02 * (top - bottom)
        right += 0.12 * (right - left)
    axes.set_xlim(max(left, -0.03 * right), right)
    axes.set_ylim(bottom, top)


def _name_ends(axes: Axes, ends: Mapping[str, End]) -> None:
    """Arrows at the right edge, and beyond it their names one below the other, with lines to what they name."""
    right = axes.get_xlim()[1]
    order = sorted(ends, key=lambda name: float(np.mean(ends[name].distortions)))
    means = np.array([np.mean(ends[name].distortions) for name in order])
    line = 0.034 * np.ptp(axes.get_ylim())
    for name, mean, height in zip(order, means, label_positions.separate(means, line), strict=True):
        number, distortions = ends[name]
        look: dict[str, Any] = {"color": style.colour(number), "marker": style.marker(number), "linewidths": 0}
        axes.scatter(np.full(len(distortions), right), distortions, s=12, alpha=0.5, zorder=5, **look)
        axes.scatter(right, mean, s=60, zorder=5, clip_on=False, **look)
        axes.axhline(mean, color=style.colour(number), linewidth=0.8, linestyle=(0, (1, 3)), zorder=2)
        axes.annotate(
            name,
            (right, mean),
            (1.03, height),
            textcoords=("axes fraction", "data"),
            fontsize=style.NAME_SIZE,
            color=style.colour(number),
            va="center",
            arrowprops={**LEADER, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def _name_means(axes: Axes, curves: Sequence[Curve]) -> None:
    """The names of means, beside them; of a curve of one mean the legend has it."""
    points_per_pixel = 72 / axes.figure.dpi
    room = 0.04 * np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())])
    names = [
        (mean, label, style.colour(curve.colour))
        for curve in curves
        if len(curve.labels) > 1 or len(curves) == 1
        for mean, label in label_positions.merge_labels(curve.means, curve.labels, room)
    ]
    if not names:
        return
    means, labels, colours = zip(*names, strict=True)
    positions = axes.transData.transform(np.array(means)) * points_per_pixel
    dots = np.concatenate([[*curve.points, *curve.means] for curve in curves])
    dots = axes.transData.transform(dots) * points_per_pixel
    sizes = np.array([(0.66 * LABEL_SIZE * len(label), 1.15 * LABEL_SIZE) for label in labels])
    frame = axes.get_window_extent().get_points() * points_per_pixel
    corners, distant = label_positions.label_corners(positions, sizes, dots, frame)
    for mean, label, colour, offset, line in zip(means, labels, colours, corners - positions, distant, strict=True):
        axes.annotate(
            label,
            mean,
            offset,
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            color=colour,
            fontweight="bold",
            zorder=6,
            path_effects=CLEAR,
            arrowprops={**LEADER, "color": colour} if line else None,
        )


def _draw_equal_elbo(axes: Axes) -> None:
    """Lines of equal -(distortion + rate), each with its number where it leaves the picture."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for level in MaxNLocator(9).tick_values(left + bottom, right + top):
        start, end = max(left, level - top), min(right, level - bottom)
        if end <= start:
            continue
        axes.plot([start, end], [level - start, level - end], color=FAINT, linewidth=0.6, zorder=1)
        rate = min(end - 0.012 * (right - left), level - bottom)
        if rate - start >= 0.1 * (right - left):
            _name_level(axes, rate, level)


def _name_level(axes: Axes, rate: float, level: float) -> None:
    axes.text(
        rate,
        level - rate,
        f"ELBO {format_short(-level)}".replace("-", "\N{MINUS SIGN}"),
        fontsize=6.5,
        color="#8a8a8a",
        rotation=-45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="right",
        va="bottom",
        zorder=1,
    )


class Line(NamedTuple):
    """Groups by their strength (k): mean, low and high (k, 3), and their runs as (strength, score) (n, 2)."""

    name: str
    colour: int
    strength: np.ndarray
    band: np.ndarray
    runs: np.ndarray


@matplotlib.rc_context(style.LITERAL_TEXT)
def score_by_strength(
    files: Sequence[Path], lines: Sequence[Line], levels: Sequence[Line], x_name: str, y_name: str, title: str
) -> None:
    """A score against a strength: runs as dots, means joined, intervals as a band; `levels` have no strength."""
    figure, axes = style.single_axes(title, x_name, y_name)
    _set_strengths(axes, np.unique(np.concatenate([line.strength for line in lines])))
    for line in lines:
        _draw_line(axes, line)
    for level in levels:
        _draw_level(axes, level)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=style.NAME_SIZE)
    style.save(figure, files)


def _draw_line(axes: Axes, line: Line) -> None:
    look: dict[str, Any] = {"color": style.colour(line.colour), "marker": style.marker(line.colour)}
    mean, low, high = line.band.T
    axes.fill_between(line.strength, low, high, color=look["color"], alpha=0.18, linewidth=0)
    axes.plot(line.strength, mean, linewidth=1.6, markersize=4.5, label=line.name, zorder=3, **look)
    axes.scatter(line.runs[:, 0], line.runs[:, 1], s=12, alpha=0.35, linewidths=0, zorder=2, **look)


def _draw_level(axes: Axes, level: Line) -> None:
    (mean, low, high), colour = level.band[0], style.colour(level.colour)
    axes.axhspan(low, high, color=colour, alpha=0.08, linewidth=0)
    axes.axhline(mean, color=colour, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        level.name,
        (1, mean),
        (-3, 3),
        fontsize=style.NAME_SIZE,
        color=colour,
        path_effects=CLEAR,
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
    )


def _set_strengths(axes: Axes, ticks: np.ndarray) -> None:
    """Evenly spaced by factor where the strengths span many, with 0 a step below the least; each has its tick."""
    positive = ticks[ticks > 0]
    if np.all(ticks >= 0) and len(positive) and positive[-1] / positive[0] >= LOG_RATIO:
        if len(positive) < len(ticks):
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        else:
            axes.set_xscale("log", base=2)
    if len(ticks) <= MAX_TICKS:
        axes.set_xticks(ticks, [format_short(tick) for tick in ticks])
    else:
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
