"""The pictures of a run on a table: rows as lines over its columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vae_jax.plots import style, table_plots
from vae_jax.plots.subject import Subject
from vae_jax.plots.traversals import Moves
from vae_jax.randomness import root_key, stream

ROWS_SHOWN, DRAWS = 4, 160
"""Rows that are shown one by one, and draws from the prior."""


class HeldOutRows(NamedTuple):
    """Rows that were not trained on.

    Attributes:
        names: of the columns.
        images: the rows, (n, 1, columns, 1).
        codes: theirs.
        shown: positions of those that are shown one by one.
    """

    names: Sequence[str]
    images: np.ndarray
    codes: np.ndarray
    shown: np.ndarray


def reconstructions(subject: Subject, rows: HeldOutRows, file: Path) -> None:
    """Rows with what the model makes of them, and the errors of all."""
    given, made = rows.images[:, 0, :, 0], subject.run.decode(rows.codes)[:, 0, :, 0]
    some = rows.shown[:ROWS_SHOWN]
    figure, heading = Figure(), subject.heading(f"{subject.split.capitalize()} rows and their reconstructions")
    table_plots.reconstruction_lines(figure, given[some], made[some], made - given, rows.names, heading)
    style.write_png(figure, file)


def samples(subject: Subject, rows: HeldOutRows, file: Path) -> None:
    """Draws from the prior over the band of the rows."""
    run = subject.run
    draws = run.sample(stream(root_key(run.config["seed"]), "pictures"), DRAWS)
    figure, heading = Figure(), subject.heading("Decoded draws from the prior")
    table_plots.sample_lines(figure, draws[:, 0, :, 0], rows.images[:, 0, :, 0], rows.names, heading)
    style.write_png(figure, file)


def interpolations(subject: Subject, rows: HeldOutRows, lines: np.ndarray, file: Path) -> None:
    """Lines between the codes of pairs of rows: (pair, point, 1, columns, 1)."""
    pairs = {f"pair {i}": line[:, 0, :, 0] for i, line in enumerate(lines[:ROWS_SHOWN], 1)}
    figure, heading = Figure(), subject.heading(f"Between two {subject.split} rows: codes (1 - t) a + t b, decoded")
    table_plots.moving_lines(figure, pairs, ("t = 0", "t = 1"), rows.names, heading)
    style.write_png(figure, file)


def traversals(subject: Subject, rows: HeldOutRows, moves: Moves, file: Path) -> None:
    """One latent of a typical row moved at a time."""
    panels = dict(zip(moves.rows, moves.images[0, :, :, 0, :, 0], strict=True))
    figure, heading, ends = Figure(), subject.heading(moves.title), (moves.columns[0], moves.columns[-1])
    table_plots.moving_lines(figure, panels, ends, rows.names, heading)
    style.write_png(figure, file)
