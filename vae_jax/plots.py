"""Pictures of what a model learned, as PNG files; the only file that imports matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

GAP = 0.08
"""Space between tiles, as a share of a tile."""


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
    left, bottom, top = 0.1 + (1.2 if rows else 0), 0.1 + (0.2 if columns else 0), 0.35
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
