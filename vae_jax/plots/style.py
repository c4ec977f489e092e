"""Colours, axes and files that all pictures share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, NullLocator

from vae_jax.files import replacement
from vae_jax.plots import palette

MARKERS = {"circle": "o", "square": "s", "triangle-up": "^", "diamond": "D"}
"""Matplotlib's, for the palette's symbols."""

INK, FAINT = "#333333", "#b4b4b4"

LITERAL_TEXT: dict[Any, Any] = {"text.parse_math": False, "svg.hashsalt": "vae_jax"}
"""Names come from folders and configs: a dollar sign in them is one."""

CLEAR = (patheffects.withStroke(linewidth=2.5, foreground="white"),)
"""Text that can be read over lines."""

TITLE_SIZE = 10.0
"""Of a title, in points."""

HINTING = 1.05
"""How much wider text may be drawn than its outlines are, whose letters begin at whole pixels."""

MAX_COLUMNS = 4
"""Panels side by side."""


def colour(number: int) -> str:
    """The colour of the thing of this number."""
    return palette.colour(number)


def marker(number: int) -> str:
    """The marker of the thing of this number."""
    return MARKERS[palette.symbol(number)]


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


def plain_axes(axes: Axes) -> None:
    """Ticks and spines in quiet colours, without a frame."""
    axes.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FAINT)


def single_axes(title: str, x_name: str, y_name: str) -> tuple[Figure, Axes]:
    """A figure of one plot."""
    figure = Figure(figsize=(7.4, 5.2))
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x_name, fontsize=9, color=INK)
    axes.set_ylabel(y_name, fontsize=9, color=INK)
    plain_axes(axes)
    return figure, axes


def panel_axes(count: int, title: str, height: float, width: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each of this height and width in inches."""
    columns = min(count, MAX_COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
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
            figure.savefig(temporary, dpi=150, bbox_inches="tight", format=file.suffix[1:], **undated)
