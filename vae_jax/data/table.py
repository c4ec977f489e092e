"""A table of numbers: CSV with or without a header, or rows (n, columns) in an .npy, .npz, HDF5 or .mat file.

Columns are standardised by the rows that are not held out: x = (value - mean) / standard deviation. A cell that is
empty, NA, NaN, null or ? is missing: the encoder sees the mean in its place, and log p(x) is that of the other cells
(the bound of Mattei & Frellsen 2019, eq. 4, with one draw). A row is a picture one pixel high, a column a pixel, for
`net.name=mlp` and a gaussian or laplace likelihood with a linear mean.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.data._array_files import Arrays, read_array, stored_arrays
from vae_jax.data._arrays import as_numbers, check_labels, warn_once
from vae_jax.data._paths import data_path
from vae_jax.data._random_split import hold_out
from vae_jax.data._table_columns import measure_columns
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.files import reason
from vae_jax.phrases import join_names, plural, shorten

MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none"))
"""What a cell says, whatever its case, that has no number."""
DELIMITERS = ",;\t|"
STARTS = (b"\x93NUMPY", b"PK", b"\x89HDF", b"MATLAB")
"""How files of arrays begin."""


class Table(NamedTuple):
    """Columns by their names: numbers, or the texts of cells."""

    names: tuple[str, ...]
    columns: list[np.ndarray]

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.columns[0])


def load(
    *,
    path: str = "",
    test_path: str = "",
    columns: str = "",
    labels: str = "",
    rows: str = "",
    missing: str = "",
    standardize: bool = True,
    test: float | int = 0.1,
    binarize: str = "real",
) -> Dataset:
    """The rows of a table.

    Args:
        path: the file. The delimiter of CSV is found: a comma, a semicolon, a tab or a bar.
        test_path: another of the same columns, whose rows are never trained on.
        columns: the names of those that are trained on, with commas between; all but the labels when empty. Columns of
            a file without names (a header, or an array called columns) are called "0", "1", ...
        labels: the name of the column of labels, whole numbers or names; of a file of arrays that of the array.
        rows: of a file of several arrays, the name of the array of rows.
        missing: of a file of arrays, the name of an array of the rows' shape that is true where a number is missing.
            NaN is missing in any file.
        standardize: whether each column gets the mean 0 and the standard deviation 1.
        test: how many rows are held out where there is no `test_path`: a fraction, or a number of them.
        binarize: "real", numbers of any size.

    Raises:
        UserError: naming the file, the column or the field that is wrong.
    """
    if binarize != "real":
        raise UserError(f"binarize: {binarize!r} is not allowed for a table; leave it at real")
    table = _read_table("path", data_path(path), rows, missing, labels)
    chosen = _choose_columns(table, columns, labels)
    numbers, classes = _numbers("path", table, chosen), _classes(table, labels)
    if test_path:
        with errors_of("test_"):
            test_table = _read_table("path", data_path(test_path), rows, missing, labels)
        train_rows, test_rows = numbers, _numbers("test_path", _same_columns(test_table, chosen, labels), chosen)
        train_classes, test_classes = classes, _classes(test_table, labels)
    else:
        train, held_out = hold_out(len(numbers), test)
        train_rows, test_rows = numbers[train], numbers[held_out]
        train_classes, test_classes = (None, None) if classes is None else (classes[train], classes[held_out])
    measured = measure_columns(chosen, train_rows, standardize)
    train_images, test_images = (measured.standardize(part) for part in (train_rows, test_rows))
    train_numbers, test_numbers = _number_classes(train_classes, test_classes)
    dataset = data.from_arrays(train_images, train_numbers, test_images, test_numbers)
    return dataset._replace(columns=measured)


def _read_table(field: str, file: Path, rows: str, missing: str, labels: str) -> Table:
    """The table in a file, CSV unless it begins as a file of arrays does. Raises UserError naming `field`."""
    source = f"{field}: {str(file)!r}"
    if not file.is_file():
        raise UserError(f"{source} is not a file; give CSV, or a file of arrays (.npy, .npz, HDF5 or .mat)")
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise UserError(f"{source} cannot be read ({reason(error)})") from None
    if start.startswith(STARTS):
        return _read_arrays(source, file, field, rows, missing, labels)
    for name, value in {"rows": rows, "missing": missing}.items():
        if value:
            raise UserError(f"{name}: {value!r} names an array, and {str(file)!r} is CSV; leave it out")
    return _read_csv(source, file)


def _read_csv(source: str, file: Path) -> Table:
    """The columns of a CSV file as texts, named by its header where its first row is none of numbers."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            lines = [row for row in csv.reader(stream, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source} cannot be read as CSV ({reason(error)})") from None
    if not lines:
        raise UserError(f"{source} is empty; give CSV with a row for each example")
    width = len(lines[0])
    for number, row in enumerate(lines, 1):
        if len(row) != width:
            raise UserError(f"{source}: row {number} has {plural(len(row), 'cell')}, and the first has {width}")
    has_header = all(_as_number(cell) is None for cell in lines[0]) and any(cell.strip() for cell in lines[0])
    names = tuple(cell.strip() for cell in lines[0]) if has_header else tuple(map(str, range(width)))
    body = lines[1:] if has_header else lines
    if not body:
        raise UserError(f"{source} has a header and no row; give a row for each example")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{source} has several columns {doubled[0]!r}; give each a name of its own")
    return Table(names, [np.array(column, dtype=object) for column in zip(*body, strict=True)])


def _read_arrays(source: str, file: Path, field: str, rows: str, missing: str, labels: str) -> Table:
    """The columns of an array of rows, and the array of labels by its name."""
    arrays = stored_arrays(file, field)
    name = rows or _only_rows(source, {n: a.shape for n, a in arrays.items() if a.is_numeric}, labels, missing)
    for given, value in {"rows": name, "missing": missing, "labels": labels}.items():
        if value and value not in arrays:
            raise unknown_name(given, value, arrays)
    numbers = read_array(f"{source}: {name}", arrays[name])
    if numbers.ndim != 2 or not numbers.size or numbers.dtype.kind not in "biuf":
        raise UserError(f"{source}: {name} is {numbers.dtype} {numbers.shape}; give numbers of (n, columns)")
    if missing:
        absent = read_array(f"{source}: {missing}", arrays[missing])
        if absent.shape != numbers.shape:
            raise UserError(f"missing: {missing!r} has shape {absent.shape}; give that of the rows, {numbers.shape}")
        numbers = np.where(absent.astype(bool), np.nan, numbers)
    table = Table(_array_names(source, arrays, numbers.shape[1]), list(numbers.T))
    if not labels:
        return table
    column = np.ravel(read_array(f"{source}: {labels}", arrays[labels]))
    if len(column) != len(numbers):
        raise UserError(f"labels: {labels!r} has {len(column)} for {len(numbers)} rows; give one for each row")
    return Table((*table.names, labels), [*table.columns, column])


def _array_names(source: str, arrays: Arrays, count: int) -> tuple[str, ...]:
    """What an array called "columns" says, where there is one name for each; their numbers otherwise."""
    if "columns" in arrays and arrays["columns"].shape == (count,) and arrays["columns"].dtype.kind == "U":
        return tuple(map(str, read_array(f"{source}: columns", arrays["columns"])))
    return tuple(map(str, range(count)))


def _only_rows(source: str, shapes: dict[str, tuple[int, ...]], labels: str, missing: str) -> str:
    """The name of the only array that can be rows. Raises UserError where there is none, or several."""
    fitting = [name for name, shape in shapes.items() if len(shape) == 2 and name not in (labels, missing)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"rows: '' does not say which array of rows is meant; give one of {join_names(fitting)}")
    raise UserError(
        f"{source} has no array of rows, numbers of (n, columns); it has {join_names([*shapes]) or 'nothing'}"
    )


def _choose_columns(table: Table, columns: str, labels: str) -> tuple[str, ...]:
    """The names of the columns that are trained on."""
    if labels and labels not in table.names:
        raise unknown_name("labels", labels, table.names)
    if not columns:
        chosen = tuple(name for name in table.names if name != labels)
    else:
        chosen = tuple(name.strip() for name in columns.split(","))
    for name in chosen:
        if name not in table.names:
            raise unknown_name("columns", name, table.names)
    if labels in chosen:
        raise UserError(f"columns: {labels!r} is the column of labels; leave it out of one")
    if not chosen:
        raise UserError("columns: there is none beside the labels; give a table of more")
    return chosen


def _same_columns(table: Table, names: Sequence[str], labels: str) -> Table:
    for name in (*names, *([labels] if labels else [])):
        if name not in table.names:
            raise unknown_name("test_path", name, table.names)
    return table


def _numbers(field: str, table: Table, names: Sequence[str]) -> np.ndarray:
    """The columns as float64 (n, columns), NaN where a number is missing."""
    columns = dict(zip(table.names, table.columns, strict=True))
    rows = np.stack([_column_numbers(name, columns[name]) for name in names], axis=1)
    as_numbers(field, rows)  # refuses infinities
    return rows


def _column_numbers(name: str, column: np.ndarray) -> np.ndarray:
    if column.dtype != object:
        return column.astype(np.float64)
    numbers = [_as_number(cell) for cell in column]
    for row, number in enumerate(numbers, 1):
        if number is None:
            raise UserError(
                f"columns: {name!r} has {shorten(column[row - 1], 40)!r} in row {row}, which is no number; leave the "
                "column out, or give it as labels"
            )
    return np.array(numbers, np.float64)


def _as_number(cell: str) -> float | None:
    """The number that a cell says, NaN where it is missing; None for other words."""
    if cell.strip().lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _classes(table: Table, labels: str) -> np.ndarray | None:
    """The labels as numbers, or as texts; None where no column has them."""
    if not labels:
        return None
    column = table.columns[table.names.index(labels)]
    if column.dtype != object:
        return column
    for row, cell in enumerate(column, 1):
        if cell.strip().lower() in MISSING:
            raise UserError(f"labels: {labels!r} has none in row {row}; give one for each row")
    numbers = [_as_number(cell) for cell in column]
    return np.array([cell.strip() for cell in column] if None in numbers else numbers)


def _number_classes(train: np.ndarray | None, test: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The labels of both parts as whole numbers; names are numbered in their order."""
    if train is None or test is None:
        return None, None
    if train.dtype.kind == "U" or test.dtype.kind == "U":
        names = np.unique(np.concatenate([train.astype(str), test.astype(str)]))
        warn_once(f"labels: {plural(len(names), 'name')} of classes, numbered in their order")
        train, test = (np.searchsorted(names, part.astype(str)) for part in (train, test))
    return check_labels(train, len(train), noun="row"), check_labels(test, len(test), noun="row")
