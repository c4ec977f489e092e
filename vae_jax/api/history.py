"""The records of a run as a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_jax.report.markup import Html, tag

SHOWN_ROWS = 10
"""Records that are shown: half of them the first, half the last."""

SHOWN_COLUMNS = ("step", "split", "loss", "elbo", "distortion", "rate")


class History(list[dict[str, Any]]):
    """The records of metrics.jsonl, one dict each, in order; losses and their terms in nats per image.

    `history.column("elbo", "train")` is an array, `pandas.DataFrame(history)` a frame. Each has a step and a split:
    "train" is the mean over the compiled call that ended there, any other a held-out split.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the records, in the order of their first record."""
        return tuple(dict.fromkeys(record["split"] for record in self if isinstance(record.get("split"), str)))

    def select(self, split: str) -> "History":
        """The records of one split."""
        return History(record for record in self if record.get("split") == split)

    def column(self, name: str, split: str = "") -> np.ndarray:
        """One number of each record (of a split, where one is given), NaN where a record has none; (records,)."""
        return np.array([_number(record.get(name)) for record in (self.select(split) if split else self)], float)

    def __repr__(self) -> str:
        if not self:
            return "no records"
        return text_table(self._columns(), self._rows())

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._rows())

    def _columns(self) -> list[str]:
        return [name for name in SHOWN_COLUMNS if any(name in record for record in self)]

    def _rows(self) -> list[list[str]]:
        columns, half = self._columns(), SHOWN_ROWS // 2
        rows = [[_text(record.get(name)) for name in columns] for record in self]
        return rows if len(rows) <= SHOWN_ROWS else [*rows[:half], ["..."] * len(columns), *rows[-half:]]


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their names, each column as wide as its longest cell."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """The same for a notebook."""
    head = tag("tr", *(tag("th", name) for name in columns))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else str(value)
