"""The colours of families and of labels, the same in pictures and in pages; brings no plotting library."""

from collections.abc import Iterable

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#332288", "#8c564b")
"""Told apart by eyes of every kind: Okabe and Ito's, then an indigo and a brown."""

SYMBOLS = ("circle", "square", "triangle-up", "diamond")
"""They tell apart what shares a colour."""

LABEL_COLOURS = (*COLOURS, "#f0e442", "#333333")
"""Of up to ten labels: the same, with Okabe and Ito's yellow and nearly their black."""

RAMP = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#a5db36", "#d8e219")
"""Of more labels, and of what has an order: viridis, from dark to light, without its end that is lost on white."""


def colour(number: int) -> str:
    """The colour of the thing of this number."""
    return COLOURS[number % len(COLOURS)]


def symbol(number: int) -> str:
    """The symbol of the thing of this number, by the name that plotly.js has for it."""
    return SYMBOLS[number // len(COLOURS) % len(SYMBOLS)]


def label_colours(count: int) -> list[str]:
    """A colour for each of `count` labels, by rank: no two are the same."""
    if count <= len(LABEL_COLOURS):
        return list(LABEL_COLOURS[:count])
    return ramp_colours(count)


def ramp_colours(count: int) -> list[str]:
    """A colour for each of `count` values in their order, from dark to light, evenly spaced."""
    anchors = np.array(list(map(_channels, RAMP)))
    places = np.linspace(0, len(RAMP) - 1, count)
    channels = [np.interp(places, np.arange(len(RAMP)), channel) for channel in anchors.T]
    return [_hexadecimal(levels) for levels in zip(*channels, strict=True)]


def shades(colour: str, count: int) -> list[str]:
    """`count` shades of a colour in their order, from light to dark; of one the colour itself."""
    if count == 1:
        return [colour]
    channels = _channels(colour)
    light, dark = channels + 0.5 * (255 - channels), 0.75 * channels
    return [_hexadecimal(light + place * (dark - light)) for place in np.linspace(0, 1, count)]


def _channels(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def _hexadecimal(levels: Iterable[float]) -> str:
    return "#" + "".join(f"{round(float(level)):02x}" for level in levels)
