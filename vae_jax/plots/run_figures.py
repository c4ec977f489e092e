"""Pictures of a run in a notebook: figures that show themselves, and are written to a file by their savefig."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_jax.plots import style

TILE, NAMES = 0.6, 1.3
"""Inches: of a tile's longer side, and of the names beside the rows."""

GAP = 0.06
"""Space between tiles, as a share of a tile."""

PANEL_WIDTH, PANEL_HEIGHT, DPI = 2.9, 2.2, 100

FEW_POINTS = 20
"""Below it each is drawn."""

Curve = tuple[np.ndarray, np.ndarray]
"""Steps, and the numbers there."""


class InlineFigure(Figure):
    """A figure that a notebook shows as the value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with matplotlib.rc_context(style.LITERAL_TEXT):
            self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def headed_figure(width: float, height: float, heading: style.Heading) -> InlineFigure:
    """An empty figure of so many inches below its heading."""
    top = style.heading_inches(*heading, width - 2 * style.MARGIN)
    figure = InlineFigure(figsize=(width, height + top))
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / (height + top)))
    style.head(figure, *heading)
    return figure


def mosaic(
    images: Float[np.ndarray, "rows columns height width channels"],
    heading: style.Heading,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> InlineFigure:
    """A figure of a grid of images in [0, 1], beyond which they are clipped.

    Args:
        images: by row and column.
        heading: above them.
        rows: names beside the rows.
        columns: names below the columns.
    """
    down, across, height, width, channels = images.shape
    gap = max(1, round(GAP * max(height, width)))
    padding = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    tiles = np.pad(np.clip(images, 0, 1), padding, constant_values=1).transpose(0, 2, 1, 3, 4)
    picture = tiles.reshape(down * (height + gap), across * (width + gap), channels)[:-gap, :-gap]
    wide, high = (TILE * count * size / max(height, width) for count, size in ((across, width), (down, height)))
    figure = headed_figure(wide + (NAMES if rows else 0.1), high + (0.25 if columns else 0.1), heading)
    axes = figure.add_subplot()
    axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest", aspect="auto")
    look: dict[str, Any] = {"fontsize": style.NAME_SIZE, "color": style.INK}
    axes.set_yticks([(i + 0.5) * height + i * gap - 0.5 for i in range(len(rows))], rows, **look)
    axes.set_xticks([(j + 0.5) * width + j * gap - 0.5 for j in range(len(columns))], columns, **look)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def curves(panels: Mapping[str, Mapping[str, Curve]], heading: style.Heading) -> InlineFigure:
    """A figure of numbers over steps, a panel for each, a line for each split: panels[name][split]."""
    columns = min(len(panels), style.MAX_COLUMNS)
    rows = -(-len(panels) // columns)
    figure = headed_figure(PANEL_WIDTH * columns, PANEL_HEIGHT * rows, heading)
    splits = list(dict.fromkeys(split for lines in panels.values() for split in lines))
    for number, (name, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        style.plain_axes(axes)
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)
        axes.set_xlabel("step", fontsize=style.NAME_SIZE, color=style.INK)
        for split, curve in lines.items():
            _draw_curve(axes, split, curve, style.colour(splits.index(split)))
    if len(splits) > 1:
        figure.axes[0].legend(frameon=False, fontsize=style.NAME_SIZE)
    return figure


def _draw_curve(axes: Axes, split: str, curve: Curve, colour: str) -> None:
    steps, values = curve
    marker = "o" if len(steps) < FEW_POINTS else ""
    axes.plot(steps, values, color=colour, linewidth=1.4, label=split, marker=marker, markersize=4)
