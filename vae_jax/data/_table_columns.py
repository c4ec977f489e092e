"""The columns of a table: their names, and the mean and standard deviation by which rows become numbers of one size."""

import dataclasses

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import ArrayLike

from vae_jax.data._arrays import as_array, warn_once
from vae_jax.errors import UserError
from vae_jax.phrases import join_names

Rows = Num[np.ndarray, "row column"]
TableImages = Float[np.ndarray, "row 1 column 1"]
"""A row as the networks take it: a picture that is one pixel high, of one channel."""


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """x = (row - mean) / scale, column by column.

    Attributes:
        names: one of each column.
        mean: what becomes 0.
        scale: what becomes 1.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " column"]
    scale: Float[np.ndarray, " column"]

    def standardize(self, rows: ArrayLike) -> TableImages:
        """Rows of the table as the model takes them: float32 (n, 1, columns, 1), NaN where a number is missing.

        Args:
            rows: (n, columns), in the table's own units.

        Raises:
            UserError: for another shape, and for what are no numbers.
        """
        array = as_array("rows", rows)
        if array.ndim != 2 or array.shape[1] != len(self.names) or array.dtype.kind not in "biuf":
            raise UserError(
                f"rows: {array.dtype} of shape {array.shape} is not allowed; give numbers of (n, {len(self.names)})"
            )
        return ((array - self.mean) / self.scale).astype(np.float32)[:, None, :, None]

    def restore(self, images: ArrayLike) -> Float[np.ndarray, "row column"]:
        """What the model gives, decoded codes say, as rows in the table's own units.

        Args:
            images: (n, 1, columns, 1).

        Raises:
            UserError: for another shape.
        """
        array = as_array("images", images)
        if array.shape[1:] != (1, len(self.names), 1):
            raise UserError(f"images: shape {array.shape} is not allowed; give (n, 1, {len(self.names)}, 1)")
        return array[:, 0, :, 0] * self.scale + self.mean


def measure_columns(names: tuple[str, ...], rows: Float[np.ndarray, "row column"], standardize: bool) -> Columns:
    """The columns of these rows, by the mean and the standard deviation of what is not missing.

    Args:
        names: one of each column.
        rows: those that are not held out; NaN where a number is missing.
        standardize: False leaves numbers as they are: mean 0, scale 1.

    Raises:
        UserError: naming a column without a number.
    """
    empty = [name for name, column in zip(names, rows.T, strict=True) if np.isnan(column).all()]
    if empty:
        said = join_names([*map(repr, empty)])
        raise UserError(f"columns: {said} of the rows to train on have no number; leave them out")
    if not standardize:
        return Columns(names, np.zeros(len(names)), np.ones(len(names)))
    mean, scale = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    alike = scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)  # rounding, where all are the same
    if alike.any():
        said = join_names([repr(name) for name, same in zip(names, alike, strict=True) if same])
        warn_once(f"columns: {said} of one value in all rows, from which there is nothing to learn")
    return Columns(names, mean, np.where(alike, 1.0, scale))
