"""Measures in panels side by side: over training, by group, against one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vae_jax.plots import style
from vae_jax.plots.captions import format_short
from vae_jax.plots.style import FAINT, INK, QUIET

LOG_RATIO = 20
"""How many times the smallest the largest is from which on a scale is logarithmic."""

Colours = Mapping[str, str]
"""By group."""
Interval = tuple[float, float] | tuple[None, None]


class Course(NamedTuple):
    """A measure of a group over training: steps (k), and its mean, low and high at each (k, 3)."""

    group: str
    steps: np.ndarray
    band: np.ndarray


class Strip(NamedTuple):
    """A measure by group: its name, which way is better, and a value a seed with the interval of their mean."""

    name: str
    note: str
    values: Mapping[str, tuple[np.ndarray, Interval]]


class Cloud(NamedTuple):
    """Points (n, 2) of a group, what is above them, and what x is."""

    group: str
    title: str
    x_name: str
    points: np.ndarray


def over_steps(file: Path, panels: Mapping[str, Sequence[Course]], heading: style.Heading, colours: Colours) -> None:
    """Measures over training, a panel for each, on a logarithmic scale where they span much: means and intervals."""
    figure, grid = style.panel_axes(len(panels), heading.title, height=2.4, width=2.2, caption=heading.caption)
    for axes, (name, courses) in zip(grid, panels.items(), strict=True):
        for course in courses:
            _draw_course(axes, course, colours[course.group])
        _scale(axes, np.concatenate([course.band[:, 0] for course in courses]))
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=INK)
        axes.set_xlabel("step", fontsize=style.NAME_SIZE, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    grid[0].legend(frameon=False, fontsize=style.NAME_SIZE, labelcolor=INK)
    style.save(figure, [file])


def _draw_course(axes: Axes, course: Course, colour: str) -> None:
    mean, low, high = course.band.T
    axes.fill_between(course.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(course.steps, mean, color=colour, linewidth=1.6, marker="o", markersize=3, label=course.group)


def _scale(axes: Axes, values: np.ndarray) -> None:
    if values.min() > 0 and values.max() > LOG_RATIO * values.min():
        style.log_scale(axes)


def strips(file: Path, panels: Sequence[Strip], heading: style.Heading, colours: Colours) -> None:
    """Groups' values, a dot a seed, with the mean, its number and its interval; a panel a measure."""
    groups = list(panels[0].values)
    high = 0.7 + 0.42 * len(groups)
    figure, grid = style.panel_axes(len(panels), heading.title, height=high, width=1.95, caption=heading.caption)
    for number, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        for row, group in enumerate(groups):
            _draw_strip(axes, row, *panel.values[group], colours[group])
        first_column = number % style.MAX_COLUMNS == 0
        axes.set_yticks(range(len(groups)), groups if first_column else [""] * len(groups))
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_title(panel.name, fontsize=style.PANEL_SIZE, loc="left", color=INK)
        axes.set_xlabel(panel.note, fontsize=style.CAPTION_SIZE, color=QUIET)
    style.save(figure, [file])


def _draw_strip(axes: Axes, row: int, values: np.ndarray, interval: Interval, colour: str) -> None:
    if not len(values):
        return
    low, high = interval
    axes.scatter(values, np.full(len(values), row), s=18, color=colour, alpha=0.45, linewidths=0)
    if low is not None and high is not None:
        axes.plot([low, high], [row + 0.2] * 2, color=colour, linewidth=2)
    mean = float(np.mean(values))
    axes.plot([mean], [row + 0.2], marker="|", markersize=7, color=INK)
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": style.NAME_SIZE, "color": INK}
    axes.annotate(format_short(round(mean, 3), 3), (mean, row), (0, 5), **look)


def paths(
    file: Path,
    families: Mapping[str, Mapping[str, np.ndarray]],
    names: tuple[str, str],
    heading: style.Heading,
    colours: Colours,
    level: tuple[str, float] | None = None,
) -> None:
    """Families of groups, each group's points (n, 2) and a line through the groups' means in their order.

    Args:
        file: the picture, a PNG.
        families: by name, the points of its groups by what is written beside them.
        names: of x and y.
        heading: above it.
        colours: of the families.
        level: the name and the height of a line across.
    """
    figure, (axes,) = style.panel_axes(1, heading.title, height=4.0, width=6.0, caption=heading.caption)
    for family, groups in families.items():
        means = np.array([points.mean(axis=0) for points in groups.values()])
        axes.plot(means[:, 0], means[:, 1], color=colours[family], linewidth=1.2, alpha=0.6, zorder=1)
        points = np.concatenate(list(groups.values()))
        axes.scatter(points[:, 0], points[:, 1], s=22, color=colours[family], alpha=0.8, linewidths=0, label=family)
        for number, (name, mean) in enumerate(zip(groups, means, strict=True)):
            look: dict[str, Any] = {"textcoords": "offset points", "fontsize": style.NAME_SIZE, "color": INK}
            axes.annotate(name, tuple(mean), (8, -11 if number % 2 else 6), path_effects=style.CLEAR, **look)
    if level is not None:
        axes.axhline(level[1], color=FAINT, linestyle="--", linewidth=1, label=level[0], zorder=0)
    _scale(axes, np.concatenate([points[:, 1] for groups in families.values() for points in groups.values()]))
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel(names[0], fontsize=style.NAME_SIZE, color=INK)
    axes.set_ylabel(names[1], fontsize=style.NAME_SIZE, color=INK)
    axes.legend(frameon=False, fontsize=style.NAME_SIZE, labelcolor=INK)
    style.save(figure, [file])


def clouds(file: Path, panels: Sequence[Cloud], y_name: str, heading: style.Heading, colours: Colours) -> None:
    """Clouds of points against the same y, a panel each."""
    figure, grid = style.panel_axes(len(panels), heading.title, height=3.0, width=2.9, caption=heading.caption)
    for axes, panel in zip(grid, panels, strict=True):
        axes.scatter(panel.points[:, 0], panel.points[:, 1], s=7, color=colours[panel.group], alpha=0.4, linewidths=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(panel.title, fontsize=style.PANEL_SIZE, loc="left", color=INK)
        axes.set_xlabel(panel.x_name, fontsize=style.NAME_SIZE, color=INK)
    grid[0].set_ylabel(y_name, fontsize=style.NAME_SIZE, color=INK)
    style.save(figure, [file])
