"""The colours of families and of labels, the same in pictures and in pages; brings no plotting library."""

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a51a3", "#8c564b")
"""Told apart by eyes of every kind (Okabe and Ito's, two more behind)."""

SYMBOLS = ("circle", "square", "triangle-up", "diamond")
"""They tell apart what shares a colour."""

LABEL_COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
"""Of up to ten labels."""

RAMP = ("#30123b", "#4458cb", "#3e9bfe", "#18d6cb", "#46f884", "#a4fc3c", "#e1dd37", "#fea632", "#f05b12", "#c42503")
"""Of more labels: colours between which those of the ranks lie, evenly spaced."""


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
    anchors = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in RAMP])
    places = np.linspace(0, len(RAMP) - 1, count)
    channels = [np.interp(places, np.arange(len(RAMP)), channel) for channel in anchors.T]
    return ["#" + "".join(f"{round(level):02x}" for level in levels) for levels in zip(*channels, strict=True)]
