"""A grid of images in one picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vae_jax.files import replacement
from vae_jax.plots import style

GAP = 0.08
"""Space between tiles, as a share of a tile."""

TILE, MIN_WIDTH, MARGIN = 0.62, 3.0, 0.1
"""Inches: of a tile's longer side, of a picture at least, and around it."""

NAME_SIZE, LINE = 8.0, 0.16
"""Of the names of rows and columns, in points, and what a line of text takes, in inches."""

DPI = 150

MIN_TILE = 64
"""Pixels of the longer side of a tile, to which small images are magnified."""


@matplotlib.rc_context(style.LITERAL_TEXT)
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
        columns: names below the columns.
    """
    picture = _tile(images)
    wide, high = _picture_inches(images.shape, rows, columns)
    # Margins in inches, not a tight box around what is drawn, for which all would be drawn twice.
    right = max(MARGIN, _widest(columns) / 2)  # the name of a narrow column at the edge stands out by half
    left = MARGIN + max(1.2, 0.1 + _widest(rows)) if rows else right
    bottom = MARGIN + (0.2 if columns else 0)
    width = left + max(wide, MIN_WIDTH) + right
    lines = style.wrap_text(title, width - left - right, style.TITLE_SIZE)
    height = bottom + high + 0.19 + LINE * (lines.count("\n") + 1)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.set_xlim(-0.5, picture.shape[1] - 0.5)
    axes.set_ylim(picture.shape[0] - 0.5, -0.5)
    axes.set_title(lines, fontsize=style.TITLE_SIZE, loc="left")
    tall, broad = images.shape[2:4]
    zoom, gap = _zoom_and_gap(tall, broad)
    middles = [(i + 0.5) * tall * zoom + i * gap - 0.5 for i in range(len(rows))]
    axes.set_yticks(middles, rows, fontsize=NAME_SIZE)
    middles = [(j + 0.5) * broad * zoom + j * gap - 0.5 for j in range(len(columns))]
    axes.set_xticks(middles, columns, fontsize=NAME_SIZE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    pixels = _draw(figure)
    _paste(pixels, picture, left, bottom, wide, high)
    with replacement(file) as temporary:
        Image.fromarray(pixels).save(temporary, format="png", dpi=(DPI, DPI))


def _draw(figure: Figure) -> np.ndarray:
    """The pixels of a figure, (height, width, 3)."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _paste(pixels: np.ndarray, picture: np.ndarray, left: float, bottom: float, wide: float, high: float) -> None:
    """Puts a picture into the pixels of a figure, a place in inches from its lower left corner.

    Matplotlib's own way there, by four numbers of 64 bits a pixel, takes ten times as long as all else in the figure.
    """
    columns, rows = round(wide * DPI), round(high * DPI)
    top, first = len(pixels) - round(bottom * DPI) - rows, round(left * DPI)
    nearest = picture[_nearest(len(picture), rows)][:, _nearest(picture.shape[1], columns)]
    place = pixels[top : top + rows, first : first + columns]
    place[:] = nearest[: len(place), : place.shape[1]]


def _nearest(size: int, pixels: int) -> np.ndarray:
    """Which of `size` places is the nearest to the middle of each of so many pixels."""
    return ((np.arange(pixels) + 0.5) * size / pixels).astype(int)


def _picture_inches(shape: Sequence[int], rows: Sequence[str], columns: Sequence[str]) -> tuple[float, float]:
    """Width and height of the picture: few small tiles are drawn larger, none is narrower or lower than its name."""
    longer = max(shape[2:4])
    wide, high = TILE * shape[1] * shape[3] / longer, TILE * shape[0] * shape[2] / longer
    scale = max(1.0, min(MIN_WIDTH / wide, MIN_WIDTH / high))
    name_width = shape[1] * (0.06 + _widest(columns))
    name_height = shape[0] * LINE if rows else 0.0
    return max(scale * wide, name_width), max(scale * high, name_height)


def _widest(names: Sequence[str]) -> float:
    """Inches that the longest of the names takes."""
    return max((style.text_width(name, NAME_SIZE) for name in names), default=0.0)


def _zoom_and_gap(height: int, width: int) -> tuple[int, int]:
    """How many times a small image is magnified, and the pixels between two."""
    zoom = max(1, MIN_TILE // max(height, width))
    return zoom, max(1, round(GAP * max(height, width) * zoom))


def _tile(images: np.ndarray) -> np.ndarray:
    """(rows, columns, height, width, channels) in [0, 1] to one RGB picture of uint8, an image's pixel magnified."""
    rows, columns, height, width, channels = images.shape
    zoom, gap = _zoom_and_gap(height, width)
    tiles = np.uint8(np.round(255 * np.clip(images, 0, 1))).repeat(zoom, axis=2).repeat(zoom, axis=3)
    tiles = np.broadcast_to(tiles, (*tiles.shape[:-1], 3)) if channels == 1 else tiles
    size = (rows * (height * zoom + gap) - gap, columns * (width * zoom + gap) - gap, 3)
    picture = np.full(size, 255, np.uint8)
    for i, j in np.ndindex(rows, columns):
        top, left = i * (height * zoom + gap), j * (width * zoom + gap)
        picture[top : top + height * zoom, left : left + width * zoom] = tiles[i, j]
    return picture
