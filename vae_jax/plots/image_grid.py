"""A grid of images in one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

GAP = 0.08
"""Space between tiles, as a share of a tile."""

MIN_TILE = 64
"""Pixels of the longer side of a tile, to which small images are magnified."""


def image_grid(
    file: Path,
    images: Float[np.ndarray, "rows columns height width channels"],
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """Writes a grid of images.

    Args:
        file: the picture, a PNG.
        images: in [0, 1]; what is outside is clipped.
        title: above it.
        rows: names beside the rows.
        columns: names above the columns.
    """
    picture = _tile(images)
    height, width = picture.shape[:2]
    inches_wide = max(0.62 * images.shape[1] * (images.shape[3] / max(images.shape[2:4])), 3.0)
    inches_high = inches_wide * height / width
    # Margins in inches, not a tight box around what is drawn, for which all would be drawn twice.
    left = 0.1 + (max(1.2, 0.066 * max(map(len, rows))) if rows else 0)
    bottom, top = 0.1 + (0.2 if columns else 0), 0.35
    total = (left + inches_wide + 0.1, bottom + inches_high + top)
    figure = Figure(figsize=total)
    axes = figure.add_axes((left / total[0], bottom / total[1], inches_wide / total[0], inches_high / total[1]))
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_yticks([(i + 0.5) * height / images.shape[0] for i in range(len(rows))], rows, fontsize=8)
    axes.set_xticks([(j + 0.5) * width / images.shape[1] for j in range(len(columns))], columns, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(file, dpi=150)


def _tile(images: np.ndarray) -> np.ndarray:
    """(rows, columns, height, width, channels) in [0, 1] to one RGB picture, an image's pixel magnified."""
    rows, columns, height, width, channels = images.shape
    zoom = max(1, MIN_TILE // max(height, width))
    gap = max(1, round(GAP * max(height, width) * zoom))
    tiles = np.clip(images, 0, 1).repeat(zoom, axis=2).repeat(zoom, axis=3)
    tiles = np.broadcast_to(tiles, (*tiles.shape[:-1], 3)) if channels == 1 else tiles
    picture = np.ones((rows * (height * zoom + gap) - gap, columns * (width * zoom + gap) - gap, 3))
    for i, j in np.ndindex(rows, columns):
        top, left = i * (height * zoom + gap), j * (width * zoom + gap)
        picture[top : top + height * zoom, left : left + width * zoom] = tiles[i, j]
    return picture
