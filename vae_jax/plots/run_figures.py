"""Pictures of a run in a notebook: figures that show themselves, and are written to a file by their savefig."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_jax.plots import style

TILE, TITLE, NAMES = 0.6, 0.5, 1.3
"""Inches: of a tile's longer side, of the title above, and of the names beside the rows."""

GAP = 0.06
"""Space between tiles, as a share of a tile."""

PANEL_WIDTH, PANEL_HEIGHT, DPI = 2.9, 2.2, 80

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


def mosaic(
    images: Float[np.ndarray, "rows columns height width channels"],
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> InlineFigure:
    """A figure of a grid of images in [0, 1], beyond which they are clipped.

    Args:
        images: by row and column.
        title: above them.
        rows: names beside the rows.
        columns: names below the columns.
    """
    down, across, height, width, channels = images.shape
    gap = max(1, round(GAP * max(height, width)))
    padding = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    tiles = np.pad(np.clip(images, 0, 1), padding, constant_values=1).transpose(0, 2, 1, 3, 4)
    picture = tiles.reshape(down * (height + gap), across * (width + gap), channels)[:-gap, :-gap]
    wide, high = (TILE * count * size / max(height, width) for count, size in ((across, width), (down, height)))
    figure = InlineFigure(figsize=(wide + (NAMES if rows else 0.1), high + TITLE), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest", aspect="auto")
    axes.set_title(title, fontsize=style.TITLE_SIZE, loc="left", color=style.INK)
    axes.set_yticks([(i + 0.5) * height + i * gap - 0.5 for i in range(len(rows))], rows, fontsize=8)
    axes.set_xticks([(j + 0.5) * width + j * gap - 0.5 for j in range(len(columns))], columns, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def curves(panels: Mapping[str, Mapping[str, Curve]], title: str) -> InlineFigure:
    """A figure of numbers over steps, a panel for each, a line for each split: panels[name][split]."""
    columns = min(len(panels), style.MAX_COLUMNS)
    rows = -(-len(panels) // columns)
    size = (PANEL_WIDTH * columns, PANEL_HEIGHT * rows + TITLE)
    figure = InlineFigure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=style.TITLE_SIZE, x=0.01, ha="left", color=style.INK)
    splits = list(dict.fromkeys(split for lines in panels.values() for split in lines))
    for number, (name, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        style.plain_axes(axes)
        axes.set_title(name, fontsize=9, loc="left", color=style.INK)
        axes.set_xlabel("step", fontsize=8, color=style.INK)
        for split, curve in lines.items():
            _draw_curve(axes, split, curve, style.colour(splits.index(split)))
    if len(splits) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _draw_curve(axes: Axes, split: str, curve: Curve, colour: str) -> None:
    steps, values = curve
    marker = "o" if len(steps) < FEW_POINTS else ""
    axes.plot(steps, values, color=colour, linewidth=1.4, label=split, marker=marker, markersize=4)
