"""Pictures of what a model learned, as PNG files; the only file that imports matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from vae_jax.plots import label_positions

GAP = 0.08
"""Space between tiles, as a share of a tile."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a51a3", "#8c564b")
"""Told apart by eyes of every kind (Okabe and Ito's, two more behind)."""

INK, FAINT = "#333333", "#b4b4b4"
SMALL = 8.5
LEADER = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}

OUTSIDE = {"text.parse_math": False, "svg.hashsalt": "vae_jax"}
"""Names come from folders and configs: a dollar sign in them is one."""

CLEAR = (patheffects.withStroke(linewidth=2.5, foreground="white"),)
"""Text that can be read over lines."""


def _mosaic(tiles: np.ndarray) -> np.ndarray:
    """(rows, columns, height, width, channels) in [0, 1] to one RGB picture, a tile's pixel magnified."""
    rows, columns, height, width, channels = tiles.shape
    zoom = max(1, 64 // max(height, width))
    gap = max(1, round(GAP * max(height, width) * zoom))
    tiles = np.clip(tiles, 0, 1).repeat(zoom, axis=2).repeat(zoom, axis=3)
    tiles = np.broadcast_to(tiles, (*tiles.shape[:-1], 3)) if channels == 1 else tiles
    canvas = np.ones((rows * (height * zoom + gap) - gap, columns * (width * zoom + gap) - gap, 3))
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height * zoom + gap), j * (width * zoom + gap)
            canvas[top : top + height * zoom, left : left + width * zoom] = tiles[i, j]
    return canvas


def mosaic(file: Path, tiles: np.ndarray, title: str, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """A grid of images (rows, columns, height, width, channels), with names beside rows and above columns."""
    picture = _mosaic(tiles)
    height, width = picture.shape[:2]
    across = max(0.62 * tiles.shape[1] * (tiles.shape[3] / max(tiles.shape[2:4])), 3.0)
    down = across * height / width
    # Margins in inches, not a tight box around what is drawn, for which all would be drawn twice.
    left, bottom, top = (
        0.1 + (max(1.2, 0.066 * max(map(len, rows))) if rows else 0),
        0.1 + (0.2 if columns else 0),
        0.35,
    )
    whole = (left + across + 0.1, bottom + down + top)
    figure = Figure(figsize=whole)
    axes = figure.add_axes((left / whole[0], bottom / whole[1], across / whole[0], down / whole[1]))
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.set_title(title, fontsize=10, loc="left")
    count = tiles.shape[:2]
    axes.set_yticks([(i + 0.5) * height / count[0] for i in range(len(rows))], rows, fontsize=8)
    axes.set_xticks([(j + 0.5) * width / count[1] for j in range(len(columns))], columns, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(file, dpi=150)


def latent_map(file: Path, codes: np.ndarray, labels: np.ndarray | None, title: str, axis_names: Sequence[str]) -> None:
    """Codes (n, 2) as points, coloured by label where there are labels."""
    figure = Figure(figsize=(6.2, 5.2))
    axes = figure.add_subplot()
    size = float(np.clip(8000 / len(codes), 3, 24))
    if labels is None:
        axes.scatter(*codes.T, s=size, linewidths=0, alpha=0.6)
    else:
        count = int(labels.max()) + 1
        points = axes.scatter(
            *codes.T,
            c=labels,
            s=size,
            linewidths=0,
            alpha=0.75,
            cmap="tab10" if count <= 10 else "turbo",
            vmin=-0.5,
            vmax=count - 0.5,
        )
        figure.colorbar(points, ticks=range(count) if count <= 20 else None, label="label")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


class Curve(NamedTuple):
    """Runs as (rate, distortion) (n, 2), which of them are pale (n), and their groups' means (k, 2) and labels (k)."""

    name: str
    colour: int
    points: np.ndarray
    pale: np.ndarray
    means: np.ndarray
    labels: Sequence[str]


@matplotlib.rc_context(OUTSIDE)
def rate_distortion(
    files: Sequence[Path], curves: Sequence[Curve], ends: Mapping[str, Sequence[float]], title: str
) -> None:
    """What rate buys in distortion, a curve for each family, over lines of equal ELBO.

    `ends` are distortions at the right edge, of runs that have no rate or one far out, under their names.
    """
    figure, axes = _plot(title, "rate, nats per image", "distortion, nats per image")
    for curve in curves:
        style = {"color": _colour(curve), "marker": _marker(curve.colour)}
        axes.plot(*curve.means.T, linewidth=1.4, alpha=0.85, markersize=4, zorder=3, label=curve.name, **style)
        for pale in (True, False):
            some = curve.points[curve.pale == pale]
            axes.scatter(*some.T, s=22, alpha=0.22 if pale else 0.9, linewidths=0, zorder=4, **style)
    axes.margins(0.08)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    if ends:
        every = np.concatenate(list(ends.values()))
        bottom, top = min(bottom, every.min()), max(top, every.max())
        bottom, top = bottom - 0.05 * (top - bottom), top + 0.02 * (top - bottom)
        right += 0.12 * (right - left)
    axes.set_xlim(max(left, -0.03 * right), right)
    axes.set_ylim(bottom, top)
    _end_names(axes, ends)
    _mean_names(axes, curves)
    _equal_elbo(axes)
    if len(curves) > 1:  # below the picture, where it hides no run
        columns = max(1, min(len(curves), 100 // (8 + max(len(curve.name) for curve in curves))))
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.11), ncols=columns)
    _save(figure, files)


def _end_names(axes: Axes, ends: Mapping[str, Sequence[float]]) -> None:
    """Arrows at the right edge, and beyond it their names one below the other, with lines to what they name."""
    right = axes.get_xlim()[1]
    order = sorted(ends, key=lambda name: float(np.mean(ends[name])))
    means = np.array([np.mean(ends[name]) for name in order])
    line = 0.034 * np.ptp(axes.get_ylim())
    for name, mean, height in zip(order, means, label_positions.spread(means, line), strict=True):
        axes.scatter(np.full(len(ends[name]), right), ends[name], s=12, color=INK, alpha=0.5, linewidths=0, zorder=5)
        axes.scatter(right, mean, s=60, marker=">", color=INK, zorder=5, clip_on=False)
        axes.axhline(mean, color=INK, linewidth=0.8, linestyle=(0, (1, 3)), zorder=2)
        axes.annotate(
            name, (right, mean), (1.03, height), textcoords=("axes fraction", "data"), fontsize=8, color=INK,
            va="center", arrowprops={**LEADER, "relpos": (0, 0.5)}, annotation_clip=False,
        )  # fmt: skip


def _mean_names(axes: Axes, curves: Sequence[Curve]) -> None:
    """The names of means, beside them; of a curve of one mean the legend has it."""
    scale = 72 / axes.figure.dpi
    room = 0.04 * np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())])
    some = [curve for curve in curves if len(curve.labels) > 1 or len(curves) == 1]
    named = [(*of, _colour(curve)) for curve in some for of in label_positions.merged(curve.means, curve.labels, room)]
    if not named:
        return
    means, labels, colours = zip(*named, strict=True)
    places = axes.transData.transform(np.array(means)) * scale
    dots = axes.transData.transform(np.concatenate([[*curve.points, *curve.means] for curve in curves])) * scale
    sizes = np.array([(0.66 * SMALL * len(label), 1.15 * SMALL) for label in labels])
    corners, far = label_positions.beside(places, sizes, dots, axes.get_window_extent().get_points() * scale)
    for mean, label, colour, offset, away in zip(means, labels, colours, corners - places, far, strict=True):
        axes.annotate(
            label, mean, offset, textcoords="offset points", fontsize=SMALL, color=colour, fontweight="bold", zorder=6,
            path_effects=CLEAR, arrowprops={**LEADER, "color": colour} if away else None,
        )  # fmt: skip


def _equal_elbo(axes: Axes) -> None:
    """Lines of equal -(distortion + rate), each with its number where it leaves the picture."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for level in MaxNLocator(9).tick_values(left + bottom, right + top):
        start, end = max(left, level - top), min(right, level - bottom)
        if end <= start:
            continue
        axes.plot([start, end], [level - start, level - end], color=FAINT, linewidth=0.6, zorder=1)
        at = min(end - 0.012 * (right - left), level - bottom)
        if at - start < 0.1 * (right - left):
            continue
        axes.text(
            *(at, level - at),
            f"ELBO {-level:g}".replace("-", "\N{MINUS SIGN}"),
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


@matplotlib.rc_context(OUTSIDE)
def against_strength(
    files: Sequence[Path], lines: Sequence[Line], levels: Sequence[Line], x_name: str, y_name: str, title: str
) -> None:
    """A score against a strength: runs as dots, means joined, intervals as a band; `levels` have no strength."""
    figure, axes = _plot(title, x_name, y_name)
    ticks = np.unique(np.concatenate([line.strength for line in lines]))
    _spaced(axes, ticks)
    for line in lines:
        colour = _colour(line)
        mean, low, high = line.band.T
        axes.fill_between(line.strength, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(line.strength, mean, "o-", color=colour, linewidth=1.6, markersize=4.5, label=line.name, zorder=3)
        axes.scatter(*line.runs.T, s=12, color=colour, alpha=0.35, linewidths=0, zorder=2)
    for level in levels:
        mean, low, high = level.band[0]
        axes.axhspan(low, high, color=INK, alpha=0.08, linewidth=0)
        axes.axhline(mean, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(level.name, (1, mean), (-3, 3), fontsize=8, color=INK, path_effects=CLEAR, **place)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    _save(figure, files)


def _spaced(axes: Axes, ticks: np.ndarray) -> None:
    """Evenly spaced by factor where the strengths span many, with 0 a step below the least; each has its tick."""
    positive = ticks[ticks > 0]
    if np.all(ticks >= 0) and len(positive) and positive[-1] / positive[0] >= 8:
        if len(positive) < len(ticks):
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        else:
            axes.set_xscale("log", base=2)
    if len(ticks) <= 12:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def _plot(title: str, x_name: str, y_name: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.4, 5.2))
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x_name, fontsize=9, color=INK)
    axes.set_ylabel(y_name, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FAINT)
    return figure, axes


def _colour(item: Curve | Line) -> str:
    return COLOURS[item.colour % len(COLOURS)]


def _marker(number: int) -> str:
    """What tells apart those that share a colour."""
    return "os^D"[number // len(COLOURS) % 4]


def _save(figure: Figure, files: Sequence[Path]) -> None:
    """The same bytes for the same picture."""
    for file in files:
        dated = {"metadata": {"Date": None}} if file.suffix == ".svg" else {}
        figure.savefig(file, dpi=150, bbox_inches="tight", **dated)


def _by_factors(axes: Axes) -> None:
    """A logarithmic y with plain numbers at 1, 2, 5, 10."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


class Course(NamedTuple):
    """A measure over training: steps (k), and its mean, low and high at each (k, 3)."""

    name: str
    steps: np.ndarray
    band: np.ndarray


def over_steps(file: Path, panels: Mapping[str, Sequence[Course]], title: str) -> None:
    """Measures over training, a panel for each, on a logarithmic scale where they span much: means and intervals."""
    figure, places = _panels(len(panels), title, height=3.0)
    for axes, (name, courses) in zip(places, panels.items(), strict=True):
        for colour, course in _in_colours(courses):
            mean, low, high = course.band.T
            axes.fill_between(course.steps, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(course.steps, mean, color=colour, linewidth=1.6, marker="o", markersize=3, label=course.name)
        means = np.concatenate([course.band[:, 0] for course in courses])
        if means.min() > 0 and means.max() > 20 * means.min():
            _by_factors(axes)
        axes.set_title(name, fontsize=9, loc="left", color=INK)
        axes.set_xlabel("step", fontsize=8, color=INK)
    places[0].legend(frameon=False, fontsize=8)
    _save(figure, [file])


def strips(file: Path, panels: Mapping[str, Mapping[str, tuple[np.ndarray, tuple]]], title: str) -> None:
    """Groups' values, a dot a seed, with the mean and its interval (low, high) or (None, None); a panel a measure."""
    groups = list(next(iter(panels.values())))
    figure, places = _panels(len(panels), title, height=0.7 + 0.34 * len(groups), width=2.3)
    for number, (axes, (name, values)) in enumerate(zip(places, panels.items(), strict=True)):
        for row, (colour, group) in enumerate(_in_colours(groups)):
            numbers, (low, high) = values[group]
            if not len(numbers):
                continue
            axes.scatter(numbers, np.full(len(numbers), row), s=18, color=colour, alpha=0.45, linewidths=0)
            if low is not None:
                axes.plot([low, high], [row + 0.25] * 2, color=colour, linewidth=2)
            axes.plot([np.mean(numbers)], [row + 0.25], marker="|", markersize=8, color=INK)
        axes.set_yticks(range(len(groups)), groups if number % COLUMNS == 0 else [""] * len(groups))
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(name, fontsize=9, loc="left", color=INK)
    _save(figure, [file])


def scatters(file: Path, panels: Mapping[str, Mapping[str, np.ndarray]], y_name: str, title: str) -> None:
    """Named sets of points (n, 2), a panel for each meaning of x, which the panel's name says."""
    figure, places = _panels(len(panels), title, height=3.4, width=3.4 if len(panels) > 1 else 6.4)
    for axes, (name, sets) in zip(places, panels.items(), strict=True):
        for number, (colour, points) in enumerate(_in_colours([*sets.values()])):
            axes.scatter(
                *points.T, s=24 if len(points) < 50 else 7, color=colour, marker=_marker(number),
                alpha=0.8 if len(points) < 50 else 0.45, linewidths=0, label=list(sets)[number],
            )  # fmt: skip
        ys = np.concatenate([points[:, 1] for points in sets.values()])
        if ys.min() > 0 and ys.max() > 20 * ys.min():
            _by_factors(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(name, fontsize=8, color=INK)
        if len(sets) > 1:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    places[0].set_ylabel(y_name, fontsize=8, color=INK)
    _save(figure, [file])


def clouds(file: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, title: str) -> None:
    """Gaussians in the plane, means and sigmas (n, 2), as ellipses coloured by label; the prior's 2 sd dashed."""
    figure, places = _panels(len(panels), title, height=2.4, width=2.4)
    colours = matplotlib.colormaps["tab10"](labels % 10)
    for axes, (name, (means, sigmas)) in zip(places, panels.items(), strict=True):
        ellipses = EllipseCollection(
            *(2 * sigmas.T), np.zeros(len(means)), units="xy", offsets=means, transOffset=axes.transData,
            facecolors=colours, edgecolors=colours, alpha=0.22, linewidths=0.4,
        )  # fmt: skip
        axes.add_collection(ellipses)
        axes.scatter(*means.T, s=3, color=colours, linewidths=0)
        axes.add_patch(Circle((0, 0), 2, fill=False, edgecolor=INK, linestyle="--", linewidth=0.9, zorder=5))
        reach = max(2.4, 1.05 * float(np.abs(np.concatenate([means - sigmas, means + sigmas])).max()))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9, loc="left", color=INK)
    _save(figure, [file])


def _in_colours(items: Sequence) -> list[tuple]:
    return [(COLOURS[i % len(COLOURS)], item) for i, item in enumerate(items)]


COLUMNS = 4
"""Panels side by side, at most."""


def _panels(count: int, title: str, height: float, width: float = 2.9) -> tuple[Figure, list[Axes]]:
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
    places = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for axes in places:
        axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(FAINT)
    return figure, places
