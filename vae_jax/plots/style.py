"""Colours, axes and files that all pictures share."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, NullLocator

from vae_jax.files import replacement
from vae_jax.plots import palette

MARKERS = {"circle": "o", "square": "s", "triangle-up": "^", "diamond": "D"}
"""Matplotlib's, for the palette's symbols."""

INK, QUIET, FAINT = "#333333", "#767676", "#b4b4b4"
"""Of text, of captions and what stands beside, of lines."""

LITERAL_TEXT: dict[Any, Any] = {"text.parse_math": False, "svg.hashsalt": "vae_jax"}
"""Names come from folders and configs: a dollar sign in them is one."""

CLEAR = (patheffects.withStroke(linewidth=2.5, foreground="white"),)
"""Text that can be read over lines."""

TITLE_SIZE, PANEL_SIZE, NAME_SIZE, CAPTION_SIZE = 10.0, 9.0, 8.0, 7.0
"""Points: of a title, of a panel's, of names of rows, ticks and axes, of the line that says which run it is."""

TITLE_LINE, CAPTION_LINE, MARGIN = 0.17, 0.15, 0.1
"""Inches that a line of each takes, and of the margin around a picture."""

DPI = 150
"""Pixels per inch of a file."""

COMPRESSION = 3
"""Of a PNG, from 0 to 9: Pillow's own 6 takes twice as long, for a file that is little smaller."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

HINTING = 1.05
"""How much wider text may be drawn than its outlines are, whose letters begin at whole pixels."""

MAX_COLUMNS = 4
"""Panels side by side."""


class Heading(NamedTuple):
    """What stands above a picture: its title and, below it, which run it is of."""

    title: str
    caption: str = ""


def colour(number: int) -> str:
    """The colour of the thing of this number."""
    return palette.colour(number)


def marker(number: int) -> str:
    """The marker of the thing of this number."""
    return MARKERS[palette.symbol(number)]


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Inches that one line of text of `size` points takes."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return HINTING * float(width) / 72


def wrap_text(text: str, inches: float, size: float) -> str:
    """The text in lines of at most so many inches, broken between words; a longer word is broken where it must be."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        for word in paragraph.split(" "):
            _append_word(lines, word, inches, size)
    return "\n".join(lines)


def _append_word(lines: list[str], word: str, inches: float, size: float) -> None:
    """Puts a word at the end of the last line, or on the next."""
    joined = f"{lines[-1]} {word}" if lines[-1] else word
    if text_width(joined, size) <= inches:
        lines[-1] = joined
        return
    if lines[-1]:
        lines.append("")
    while text_width(word, size) > inches and len(word) > 1:
        fitting = max(1, sum(text_width(word[:end], size) <= inches for end in range(1, len(word))))
        lines[-1], word = word[:fitting], word[fitting:]
        lines.append("")
    lines[-1] = word


def cut_text(text: str, inches: float, size: float) -> str:
    """The text in one line of at most so many inches, its end cut off where it is longer."""
    if text_width(text, size) <= inches:
        return text
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        fits = text_width(text[:middle] + ELLIPSIS, size) <= inches
        low, high = (middle, high) if fits else (low, middle)
    return text[:low].rstrip() + ELLIPSIS


def heading_inches(title: str, caption: str, room: float) -> float:
    """Inches that a heading takes at the top of a picture, of lines of at most `room` inches."""
    lines = wrap_text(title, room, TITLE_SIZE).count("\n") + 1
    return MARGIN + TITLE_LINE * lines + (CAPTION_LINE if caption else 0) + 0.07


def head(figure: Figure, title: str, caption: str, left: float = MARGIN) -> float:
    """Writes a title at the top and the quiet line of which run it is below it; the inches that they take.

    Args:
        figure: of its final size.
        title: broken into lines where it is long.
        caption: cut at the right edge where it is long; "" for none.
        left: inches from the left edge.
    """
    width, height = figure.get_size_inches()
    room = width - left - MARGIN
    text = wrap_text(title, room, TITLE_SIZE)
    look: dict[str, Any] = {"ha": "left", "va": "top"}
    figure.text(left / width, 1 - MARGIN / height, text, fontsize=TITLE_SIZE, color=INK, linespacing=1.15, **look)
    if caption:
        below = MARGIN + TITLE_LINE * (text.count("\n") + 1) + 0.02
        line = cut_text(caption, room, CAPTION_SIZE)
        figure.text(left / width, 1 - below / height, line, fontsize=CAPTION_SIZE, color=QUIET, **look)
    return heading_inches(title, caption, room)


def place_axes(figure: Figure, left: float, bottom: float, wide: float, high: float) -> Axes:
    """Axes of so many inches, their lower left corner so many from that of the figure; in quiet colours."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    plain_axes(axes)
    return axes


def write_png(figure: Figure, file: Path) -> None:
    """Writes the figure as it is, without a search for what is drawn, which takes as long as all of the drawing."""
    with replacement(file) as temporary, matplotlib.rc_context(LITERAL_TEXT):
        figure.savefig(temporary, dpi=DPI, format="png", pil_kwargs={"compress_level": COMPRESSION})


def plain_axes(axes: Axes) -> None:
    """Ticks and spines in quiet colours, without a frame."""
    axes.tick_params(labelsize=NAME_SIZE, color=FAINT, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FAINT)


def single_axes(title: str, x_name: str, y_name: str) -> tuple[Figure, Axes]:
    """A figure of one plot."""
    figure = Figure(figsize=(7.4, 5.2))
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=TITLE_SIZE, loc="left", color=INK)
    axes.set_xlabel(x_name, fontsize=PANEL_SIZE, color=INK)
    axes.set_ylabel(y_name, fontsize=PANEL_SIZE, color=INK)
    plain_axes(axes)
    return figure, axes


def panel_axes(
    count: int, title: str, height: float, width: float = 2.9, caption: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each of this height and width in inches, below a title and a quiet line."""
    columns = min(count, MAX_COLUMNS)
    rows = -(-count // columns)
    wide = width * columns + 0.8
    top = heading_inches(title, caption, wide - 2 * MARGIN)
    high = height * rows + top + 0.1
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - top / high))
    figure = Figure(figsize=(wide, high), layout=engine)
    head(figure, title, caption)
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axes in panels:
        plain_axes(axes)
    return figure, panels


def log_scale(axes: Axes, which: str = "y", steps: Sequence[int] = (1, 2, 5)) -> None:
    """A logarithmic y, or x, with plain numbers at 1, 2, 5, 10, or other `steps`."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, files: Sequence[Path]) -> None:
    """Writes the figure: the same bytes for the same picture."""
    for file in files:
        undated: dict[str, Any] = {"metadata": {"Date": None}} if file.suffix == ".svg" else {}
        with replacement(file) as temporary:
            figure.savefig(temporary, dpi=DPI, bbox_inches="tight", format=file.suffix[1:], **undated)
