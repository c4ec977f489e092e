"""Rows of a table as lines over its columns, and the errors of its reconstructions as bars.

A column's numbers are as the model sees them: standardised, unless the config says otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_jax.plots import palette, style

Rows = Float[np.ndarray, "row column"]
Several = Float[np.ndarray, "many column"]

MAX_NAMES = 40
"""Columns up to which each has its name; of more every so many-th has one."""
PANEL_HEIGHT, COLUMN_WIDTH, LEAST_WIDTH, MOST_WIDTH = 2.1, 0.35, 5.0, 14.0
BAND = (5, 95)
"""Percent of the held-out rows that are below a band, and below or in it."""


def panels(figure: Figure, count: int, names: Sequence[str], heading: style.Heading) -> list[Axes]:
    """`count` plots above one another with the columns along x, the last with their names."""
    width = float(np.clip(1.2 + COLUMN_WIDTH * len(names), LEAST_WIDTH, MOST_WIDTH))
    height = PANEL_HEIGHT * count + 0.7 + style.heading_inches(*heading, width - 2 * style.MARGIN)
    figure.set_size_inches(width, height)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - style.head(figure, *heading) / height))
    grid = [figure.add_subplot(count, 1, i + 1) for i in range(count)]
    shown = range(0, len(names), -(-len(names) // MAX_NAMES))
    for i, axes in enumerate(grid):
        style.plain_axes(axes)
        is_last = i == count - 1
        axes.set_xticks(shown, [names[j] for j in shown] if is_last else [], rotation=45 if is_last else 0, ha="right")
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.axhline(0, color=style.FAINT, linewidth=0.6, zorder=0)
    return grid


def reconstruction_lines(
    figure: Figure, rows: Rows, made: Rows, errors: Several, names: Sequence[str], heading: style.Heading
) -> None:
    """Draws rows with what the model makes of them, and below the error of each column over many rows.

    Args:
        figure: an empty one.
        rows: some, NaN where a number is missing.
        made: their reconstructions.
        errors: reconstruction minus row, of many rows; NaN where a number is missing.
        names: of the columns.
        heading: above all.
    """
    above, below = panels(figure, 2, names, heading)
    x = np.arange(len(names))
    for number, (row, mean) in enumerate(zip(rows, made, strict=True)):
        colour = style.colour(number)
        above.plot(x, row, color=colour, linewidth=1.2, marker="o", markersize=3)
        above.plot(x, mean, color=colour, linewidth=1.0, linestyle="--")
        missing = np.isnan(row)
        above.plot(x[missing], mean[missing], "o", color=colour, markerfacecolor="white", markersize=4)
    what = "rows (solid), reconstructions (dashed), what is missing (open circles)"
    above.set_title(what, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)
    # A column of which every number is missing has no error.
    counted = np.isfinite(errors).any(axis=0)
    mean, spread = np.nanmean(errors[:, counted], axis=0), np.nanstd(errors[:, counted], axis=0)
    below.errorbar(x[counted], mean, spread, fmt="o", color=style.colour(0), markersize=3, linewidth=1.0, capsize=2)
    below.set_title("reconstruction minus row: mean, 1 sd", fontsize=style.PANEL_SIZE, loc="left", color=style.INK)


def sample_lines(
    figure: Figure, samples: Rows, held_out: Several, names: Sequence[str], heading: style.Heading
) -> None:
    """Draws samples as lines over the band that most held-out rows are in."""
    (axes,) = panels(figure, 1, names, heading)
    x = np.arange(len(names))
    low, middle, high = _quantiles(held_out)
    axes.fill_between(x, low, high, color=style.FAINT, alpha=0.4, linewidth=0, label="held-out rows, 5% to 95%")
    axes.plot(x, middle, color=style.INK, linewidth=1.6, label="their median", zorder=5)
    look: dict[str, Any] = {"color": style.colour(0), "linewidth": 0.5, "alpha": 0.5}
    for number, sample in enumerate(samples):
        axes.plot(x, sample, label="" if number else "draws", **look)
    axes.legend(frameon=False, fontsize=style.NAME_SIZE, ncols=3, loc="upper left")
    axes.set_ylim(*_limits(np.concatenate([samples, low[None], high[None]])))


def _quantiles(rows: Rows) -> np.ndarray:
    """The low end, the median and the high end of the band of each column; 0 where every number is missing."""
    filled = np.where(np.isfinite(rows).any(axis=0)[None], rows, 0)
    return np.nanpercentile(filled, (BAND[0], 50, BAND[1]), axis=0)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.15 * (high - low) or 1.0
    return low - 0.05 * (high - low) - 0.01, high + margin  # the legend is above


def moving_lines(
    figure: Figure, moves: Mapping[str, Rows], ends: tuple[str, str], names: Sequence[str], heading: style.Heading
) -> None:
    """Draws rows that follow one another as lines from one colour to another, a plot for each of `moves`.

    Args:
        figure: an empty one.
        moves: the rows by the name of their plot.
        ends: what the first and the last row of each are.
        names: of the columns.
        heading: above all.
    """
    x, limits = np.arange(len(names)), _limits(np.concatenate(list(moves.values())))
    for axes, (name, rows) in zip(panels(figure, len(moves), names, heading), moves.items(), strict=True):
        # One colour more than a plain list of labels has: those of the ramp, in their order.
        colours = palette.label_colours(max(len(rows), len(palette.LABEL_COLOURS) + 1))
        for number, (row, colour) in enumerate(zip(rows, colours, strict=False)):
            label = {0: ends[0], len(rows) - 1: ends[1]}.get(number, "")
            axes.plot(x, row, color=colour, linewidth=1.1, label=label)
        axes.set_ylim(*limits)  # the same for all: a latent that moves little is one that holds little
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)
    figure.axes[0].legend(frameon=False, fontsize=style.NAME_SIZE, ncols=2, loc="upper right")
