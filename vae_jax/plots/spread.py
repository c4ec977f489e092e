"""Images that show the spread of their data: the first of a sorted grid are all alike."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vae_jax.data import Split

PERMUTATION_KEY = 5
"""Of the order in which images that show as much as each other are taken."""


def add_labels(split: Split, indices: np.ndarray) -> np.ndarray:
    """The sorted indices, and an image of each label that none of them has."""
    if split.labels is None:
        return indices
    labels = np.asarray(split.labels)
    names, first = np.unique(labels, return_index=True)
    return np.union1d(indices, first[~np.isin(names, labels[indices])])


def spread_positions(split: Split, indices: np.ndarray, count: int) -> np.ndarray:
    """The positions within `indices` of at most `count` images that differ as much as they can.

    The same at every call. One after the other, each is the image that moves the most factors that have not moved,
    then one of the label shown least, then of the values of factors shown least.
    """
    order = np.random.Generator(np.random.Philox(key=PERMUTATION_KEY)).permutation(len(indices))
    labels = [] if split.labels is None else [np.asarray(split.labels)[indices][order]]
    factors = [] if split.factors is None else list(np.asarray(split.factors(jnp.asarray(indices)))[order].T)
    return order[_cover(_ranks(labels), _ranks(factors), len(order), count)]


def _ranks(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.unique(column, return_inverse=True)[1] for column in columns]


def _cover(labels: Sequence[np.ndarray], factors: Sequence[np.ndarray], size: int, count: int) -> list[int]:
    """At most `count` rows of columns of whole numbers, one after the other, as `spread_positions` says."""
    shown = [np.zeros(column.max() + 1, int) for column in (*labels, *factors)]
    columns, taken = [*labels, *factors], np.zeros(size, bool)
    rows: list[int] = []
    for _ in range(min(count, size)):
        # How often each row's value was shown: in shares of the most even spread, so that all factors count alike.
        uses = [len(counts) * counts[column] for counts, column in zip(shown, columns, strict=True)]
        still = [column for column, counts in enumerate(shown) if np.count_nonzero(counts) == 1]
        moves = sum(((uses[column] == 0) for column in still), np.zeros(size, int))
        of_labels, of_factors = (sum(part, np.zeros(size, int)) for part in (uses[: len(labels)], uses[len(labels) :]))
        row = int(np.lexsort((of_factors, of_labels, -moves, taken))[0])
        rows.append(row)
        taken[row] = True
        for counts, column in zip(shown, columns, strict=True):
            counts[column[row]] += 1
    return rows
