"""Measures in panels side by side: over training, by group, against one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vae_jax.plots import style
from vae_jax.plots.style import INK

LOG_RATIO = 20
"""How many times the smallest the largest is from which on a scale is logarithmic."""

FEW_POINTS = 50
"""Below it points are drawn large."""


class Course(NamedTuple):
    """A measure over training: steps (k), and its mean, low and high at each (k, 3)."""

    name: str
    steps: np.ndarray
    band: np.ndarray


Interval = tuple[float, float] | tuple[None, None]


def over_steps(file: Path, panels: Mapping[str, Sequence[Course]], title: str) -> None:
    """Measures over training, a panel for each, on a logarithmic scale where they span much: means and intervals."""
    figure, grid = style.panel_axes(len(panels), title, height=3.0)
    for axes, (name, courses) in zip(grid, panels.items(), strict=True):
        for number, course in enumerate(courses):
            _draw_course(axes, course, style.colour(number))
        _scale(axes, np.concatenate([course.band[:, 0] for course in courses]))
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=INK)
        axes.set_xlabel("step", fontsize=style.NAME_SIZE, color=INK)
    grid[0].legend(frameon=False, fontsize=style.NAME_SIZE)
    style.save(figure, [file])


def _draw_course(axes: Axes, course: Course, colour: str) -> None:
    mean, low, high = course.band.T
    axes.fill_between(course.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(course.steps, mean, color=colour, linewidth=1.6, marker="o", markersize=3, label=course.name)


def _scale(axes: Axes, values: np.ndarray) -> None:
    if values.min() > 0 and values.max() > LOG_RATIO * values.min():
        style.log_scale(axes)


def strips(file: Path, panels: Mapping[str, Mapping[str, tuple[np.ndarray, Interval]]], title: str) -> None:
    """Groups' values, a dot a seed, with the mean and its interval (low, high) or (None, None); a panel a measure."""
    groups = list(next(iter(panels.values())))
    figure, grid = style.panel_axes(len(panels), title, height=0.7 + 0.34 * len(groups), width=2.3)
    for number, (axes, (name, values)) in enumerate(zip(grid, panels.items(), strict=True)):
        for row, group in enumerate(groups):
            _draw_strip(axes, row, *values[group])
        first_column = number % style.MAX_COLUMNS == 0
        axes.set_yticks(range(len(groups)), groups if first_column else [""] * len(groups))
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=INK)
    style.save(figure, [file])


def _draw_strip(axes: Axes, row: int, values: np.ndarray, interval: Interval) -> None:
    if not len(values):
        return
    colour, (low, high) = style.colour(row), interval
    axes.scatter(values, np.full(len(values), row), s=18, color=colour, alpha=0.45, linewidths=0)
    if low is not None and high is not None:
        axes.plot([low, high], [row + 0.25] * 2, color=colour, linewidth=2)
    axes.plot([np.mean(values)], [row + 0.25], marker="|", markersize=8, color=INK)


def scatters(file: Path, panels: Mapping[str, Mapping[str, np.ndarray]], y_name: str, title: str) -> None:
    """Named sets of points (n, 2), a panel for each meaning of x, which the panel's name says."""
    figure, grid = style.panel_axes(len(panels), title, height=3.4, width=3.4 if len(panels) > 1 else 6.4)
    for axes, (x_name, sets) in zip(grid, panels.items(), strict=True):
        for number, (name, points) in enumerate(sets.items()):
            _draw_points(axes, number, name, points)
        _scale(axes, np.concatenate([points[:, 1] for points in sets.values()]))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(x_name, fontsize=style.NAME_SIZE, color=INK)
        if len(sets) > 1:
            axes.legend(frameon=False, fontsize=style.NAME_SIZE, loc="center left", bbox_to_anchor=(1.0, 0.5))
    grid[0].set_ylabel(y_name, fontsize=style.NAME_SIZE, color=INK)
    style.save(figure, [file])


def _draw_points(axes: Axes, number: int, name: str, points: np.ndarray) -> None:
    sparse = len(points) < FEW_POINTS
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=24 if sparse else 7,
        color=style.colour(number),
        marker=style.marker(number),
        alpha=0.8 if sparse else 0.45,
        linewidths=0,
        label=name,
    )
