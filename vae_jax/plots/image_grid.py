"""A grid of images in one picture."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vae_jax.files import replacement
from vae_jax.plots import style
from vae_jax.plots.captions import Real

GAP, MARKED_GAP = 0.08, 0.2
"""Space between tiles, as a share of a tile; and below a row that has marks."""

TILE, MIN_WIDTH = 0.62, 3.0
"""Inches: of a tile's longer side, and of a picture at least."""

NAME_SIZE, LINE = style.NAME_SIZE, 0.16
"""Of the names of rows and columns, in points, and what a line of text takes, in inches."""

DPI, MARGIN, COMPRESSION = style.DPI, style.MARGIN, style.COMPRESSION

MIN_TILE = 64
"""Pixels of the longer side of a tile, to which small images are magnified."""

Marks = Sequence[Sequence[Real]]
"""For each row the places, in columns from 0, below which a triangle points up."""

MARK = (213, 94, 0)
"""The colour of a mark."""


def image_grid(
    file: Path,
    images: Float[np.ndarray, "rows columns height width channels"],
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    caption: str = "",
    marks: Marks = (),
) -> None:
    """Writes a grid of images.

    Args:
        file: the picture, a PNG.
        images: in [0, 1]; what is outside is clipped.
        title: above it.
        rows: names beside the rows.
        columns: names below the columns.
        caption: a quiet line below the title, cut where it is too long.
        marks: for each row the places, in columns from 0, below which a triangle points up.
    """
    page = make_page(images.shape, style.Heading(title, caption), rows, columns, marked=bool(marks))
    with replacement(file) as temporary:
        picture = Image.fromarray(page.fill(images, marks))
        picture.save(temporary, format="png", dpi=(DPI, DPI), compress_level=COMPRESSION)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where tiles lie in a picture, in its pixels.

    Attributes:
        height, width: of a tile.
        below: pixels between two rows, and below the last where it may have marks.
        beside: pixels between two columns.
        zoom: how many times a small image is magnified.
    """

    height: int
    width: int
    below: int
    beside: int
    zoom: int

    @classmethod
    def fit(cls, shape: Sequence[int], marked: bool = False) -> "Layout":
        """Of images of shape (rows, columns, height, width, channels)."""
        tall, broad = shape[2:4]
        longer = max(tall, broad)
        zoom = max(1, MIN_TILE // longer)
        beside = max(1, round(GAP * longer * zoom))
        below = max(beside, round(MARKED_GAP * longer * zoom)) if marked else beside
        return cls(tall * zoom, broad * zoom, below, beside, zoom)

    def size(self, shape: Sequence[int]) -> tuple[int, int]:
        """The pixels of a picture of so many rows and columns, down and across."""
        end = self.below if self.below > self.beside else 0  # the last row may have marks
        down, across = self.corner(shape[0], shape[1])
        return down - self.below + end, int(across) - self.beside

    def corner(self, row: int, column: Real) -> tuple[int, Real]:
        """The first pixel of a tile, down and across; between two columns of a place between them."""
        return row * (self.height + self.below), column * (self.width + self.beside)

    def middle(self, row: int, column: Real) -> tuple[float, float]:
        """The middle of a tile, down and across."""
        top, left = self.corner(row, column)
        return top + self.height / 2 - 0.5, float(left) + self.width / 2 - 0.5


@dataclasses.dataclass(frozen=True)
class Page:
    """What is around a grid of images, and where they go.

    Attributes:
        pixels: (height, width, 4), with the names and the heading.
        layout: of the tiles.
        place: the left edge, the lower edge, the width and the height of the grid, in inches.
    """

    pixels: np.ndarray
    layout: Layout
    place: tuple[float, float, float, float]

    def fill(self, images: Float[np.ndarray, "rows columns height width channels"], marks: Marks = ()) -> np.ndarray:
        """The pixels with images in [0, 1] and marks, (height, width, 3)."""
        picture, pixels = _tile(images, self.layout), self.pixels.copy()
        _paste(pixels, picture, *self.place)
        left, bottom, wide, high = (DPI * inches for inches in self.place)
        scale = high / len(picture)
        size, top = max(2, int(0.7 * scale * self.layout.below)), len(pixels) - bottom - high
        for row, places in enumerate(marks):
            below = top + scale * (self.layout.corner(row, 0)[0] + self.layout.height + 0.15 * self.layout.below)
            for place in places:
                across = left + wide * (self.layout.middle(row, place)[1] + 0.5) / picture.shape[1]
                _mark(pixels, (below, across), size)
        return pixels[..., :3]


@matplotlib.rc_context(style.LITERAL_TEXT)
def make_page(
    shape: Sequence[int],
    heading: style.Heading,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    marked: bool = False,
    tile: float = TILE,
) -> Page:
    """The page for images of this shape (rows, columns, height, width, channels); `tile` is a tile's longer side."""
    layout = Layout.fit(shape, marked)
    size = layout.size(shape)
    wide, high = _picture_inches(shape, rows, columns, size, tile)
    # Margins in inches, not a tight box around what is drawn, for which all would be drawn twice.
    right = max(MARGIN, _widest(columns) / 2)  # the name of a narrow column at the edge stands out by half
    left = 2 * MARGIN + _widest(rows) if rows else right
    bottom = MARGIN + (0.06 + LINE * (1 + max(name.count("\n") for name in columns)) if columns else 0)
    width = left + max(wide, MIN_WIDTH) + right
    height = bottom + high + style.heading_inches(*heading, width - left - MARGIN)
    figure = Figure(figsize=(width, height))
    style.head(figure, *heading, left)
    # Names are plain text: axes with as many ticks take longer than all else in the figure.
    look: dict[str, Any] = {"fontsize": NAME_SIZE, "color": style.INK, "linespacing": 1.3}
    for i, name in enumerate(rows):
        place = bottom + high * (1 - (layout.middle(i, 0)[0] + 0.5) / size[0])
        figure.text((left - 0.06) / width, place / height, name, ha="right", va="center", **look)
    for j, name in enumerate(columns):
        place = left + wide * (layout.middle(0, j)[1] + 0.5) / size[1]
        figure.text(place / width, (bottom - 0.06) / height, name, ha="center", va="top", **look)
    return Page(_draw(figure), layout, (left, bottom, wide, high))


def _draw(figure: Figure) -> np.ndarray:
    """The pixels of a figure, (height, width, 4)."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def _paste(pixels: np.ndarray, picture: np.ndarray, left: float, bottom: float, wide: float, high: float) -> None:
    """Puts a picture into the pixels of a figure, a place in inches from its lower left corner.

    Matplotlib's own way there, by four numbers of 64 bits a pixel, takes ten times as long as all else in the figure.
    """
    columns, rows = round(wide * DPI), round(high * DPI)
    top, first = len(pixels) - round(bottom * DPI) - rows, round(left * DPI)
    nearest = picture[_nearest(len(picture), rows)[:, None], _nearest(picture.shape[1], columns)[None]]
    place = pixels.view(np.uint32)[top : top + rows, first : first + columns, 0]
    place[:] = nearest[: len(place), : place.shape[1]]


def _nearest(size: int, pixels: int) -> np.ndarray:
    """Which of `size` places is the nearest to the middle of each of so many pixels."""
    return ((np.arange(pixels) + 0.5) * size / pixels).astype(int)


def _picture_inches(
    shape: Sequence[int], rows: Sequence[str], columns: Sequence[str], pixels: Sequence[int], tile: float
) -> tuple[float, float]:
    """Width and height of the picture: few small tiles are drawn larger, none is narrower or lower than its name."""
    wide = tile * shape[1] * shape[3] / max(shape[2:4])
    high = wide * pixels[0] / pixels[1]
    scale = max(1.0, min(MIN_WIDTH / wide, MIN_WIDTH / high))
    name_width = shape[1] * (0.06 + _widest(columns))
    name_height = shape[0] * LINE if rows else 0.0
    return max(scale * wide, name_width), max(scale * high, name_height)


def _widest(names: Sequence[str]) -> float:
    """Inches that the longest of the names takes in its first line; what is below stands out over its neighbours."""
    return max((style.text_width(name.partition("\n")[0], NAME_SIZE) for name in names), default=0.0)


def _tile(images: np.ndarray, layout: Layout) -> np.ndarray:
    """(rows, columns, height, width, channels) in [0, 1] to one picture, an image's pixel magnified.

    A pixel's four bytes, RGBA, are one uint32: arrays of them are copied many times as fast.
    """
    rows, columns, height, width, _ = images.shape
    tiles = np.full((rows, columns, height, width, 4), 255, np.uint8)
    tiles[..., :3] = np.round(255 * np.clip(images, 0, 1))
    packed = tiles.view(np.uint32)[..., 0].repeat(layout.zoom, axis=2).repeat(layout.zoom, axis=3)
    picture = np.full(layout.size(images.shape), pack((255, 255, 255)), np.uint32)
    for i, j in np.ndindex(rows, columns):
        top, left = map(int, layout.corner(i, j))
        picture[top : top + layout.height, left : left + layout.width] = packed[i, j]
    return picture


def pack(colour: tuple[int, int, int]) -> np.uint32:
    """A colour as one pixel of a picture."""
    return np.array([*colour, 255], np.uint8).view(np.uint32)[0]


def _mark(pixels: np.ndarray, tip: tuple[float, float], high: int) -> None:
    """A triangle that points up, so many pixels high, whose tip is so far down and across."""
    top, middle = map(round, tip)
    for line in range(high):
        half = round(0.6 * line)
        pixels[top + line, max(0, middle - half) : middle + half + 1] = (*MARK, 255)
