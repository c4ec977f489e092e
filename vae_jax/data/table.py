"""A table of numbers: CSV with or without a header, or rows (n, columns) in an .npy, .npz, HDF5 or .mat file.

Columns are standardised: x = (value - mean) / standard deviation, both of the rows that are not held out for the test
split, those that validate included. A cell that is empty, NA, NaN, null or ? is missing: the encoder sees 0 in its
place, the mean of a standardised column, and log p(x) is that of the other cells (the bound of Mattei & Frellsen 2019,
eq. 4, with one draw). A row is a picture one pixel high, a column a pixel, for `net.name=mlp` and a gaussian or laplace
likelihood with a linear mean.
"""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.data._array_files import Arrays, read_array, stored_arrays
from vae_jax.data._arrays import check_labels, warn_once
from vae_jax.data._paths import data_path
from vae_jax.data._random_split import hold_out
from vae_jax.data._table_columns import measure_columns
from vae_jax.errors import UserError, unknown_name
from vae_jax.files import reason
from vae_jax.phrases import join_names, plural, shorten

MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none"))
"""What a cell says, whatever its case, that has no number."""
DELIMITERS = "\t;|,"
"""Those that decimal numbers do not hold come first."""
STARTS = (b"\x93NUMPY", b"PK", b"\x89HDF", b"MATLAB")
"""How files of arrays begin."""
HEADERS = ("auto", "yes", "no")


class Table(NamedTuple):
    """Columns by their names, numbers or the texts of cells, and what they were read from, as an error says it."""

    source: str
    names: tuple[str, ...]
    columns: list[np.ndarray]

    def column(self, field: str, name: str) -> np.ndarray:
        """The column of a name, which was given as `field`. Raises UserError with the nearest where there is none."""
        if name not in self.names:
            raise unknown_name(f"{field}: of {self.source}", name, self.names)
        return self.columns[self.names.index(name)]


class Reading(NamedTuple):
    """The fields by which a file is read, as `load` has them."""

    header: str
    rows: str
    missing: str
    labels: str


def load(
    *,
    path: str = "",
    test_path: str = "",
    columns: str = "",
    labels: str = "",
    header: str = "auto",
    rows: str = "",
    missing: str = "",
    standardize: bool = True,
    test: float | int = 0.1,
    binarize: str = "real",
) -> Dataset:
    """The rows of a table.

    Args:
        path: the file. The delimiter of CSV is found: a tab, a semicolon, a bar or a comma.
        test_path: another of the same columns, whose rows are never trained on.
        columns: the names of those that are trained on, with commas between; all but the labels when empty. Columns of
            a file without names (a header, or an array called columns) are called "0", "1", ...
        labels: the name of the column of labels, whole numbers or names; of a file of arrays that of the array.
        header: whether the first row of CSV has the names: "yes", "no", or "auto", where it has words and no number, or
            a word above a number.
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
    if header not in HEADERS:
        raise unknown_name("header", header, HEADERS)
    reading = Reading(header, rows, missing, labels)
    table = _read_table("path", path, reading)
    chosen = _choose_columns(table, columns, labels)
    numbers, classes = _numbers(table, chosen), _classes(table, labels)
    if test_path:
        other = _read_table("test_path", test_path, reading)
        parts, classes_of = [numbers, _numbers(other, chosen)], [classes, _classes(other, labels)]
    else:
        positions = hold_out(len(numbers), test)
        parts = [numbers[part] for part in positions]
        classes_of = [None if classes is None else classes[part] for part in positions]
    measured = measure_columns(chosen, parts[0], standardize)
    (train, test_rows), (train_labels, test_labels) = map(measured.standardize, parts), _number_classes(classes_of)
    return data.from_arrays(train, train_labels, test_rows, test_labels)._replace(columns=measured)


def _read_table(field: str, path: str, reading: Reading) -> Table:
    """The table in a file, CSV unless it begins as a file of arrays does. Raises UserError naming `field`."""
    file = data_path(path, field)
    source = f"{field}: {str(file)!r}"
    if not file.is_file():
        raise UserError(f"{source} is not a file; give CSV, or a file of arrays (.npy, .npz, HDF5 or .mat)")
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise UserError(f"{source} cannot be read ({reason(error)})") from None
    if start.startswith(STARTS):
        table = _read_arrays(source, file, field, reading)
    else:
        _check_names_no_array(file, {"rows": reading.rows, "missing": reading.missing})
        table = _read_csv(source, file, reading.header)
    if doubled := sorted({name for name in table.names if table.names.count(name) > 1}):
        raise UserError(f"{source} has several columns {doubled[0]!r}; give each a name of its own")
    return table


def _check_names_no_array(file: Path, fields: Mapping[str, str]) -> None:
    """Raises UserError where fields name arrays of a file of CSV."""
    for name, value in fields.items():
        if value:
            raise UserError(f"{name}: {value!r} names an array, and {str(file)!r} is CSV; leave it out")


def _read_csv(source: str, file: Path, header: str) -> Table:
    """The columns of a CSV file as texts, with the names that its header says."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        lines = _parse_lines(text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source} cannot be read as CSV ({reason(error)})") from None
    if not lines:
        raise UserError(f"{source} is empty; give CSV with a row for each example")
    width = len(lines[0])
    for number, row in enumerate(lines, 1):
        if len(row) != width:
            raise UserError(f"{source}: row {number} has {plural(len(row), 'cell')}, and the first has {width}")
    named = header == "yes" or (header == "auto" and _has_header(lines))
    if not named and header == "auto" and [cell.strip() for cell in lines[0]] == [*map(str, range(width))]:
        warn_once(f"columns: the first row of {file.name} is 0, 1, ..., taken as numbers; header yes makes it names")
    names = tuple(cell.strip() for cell in lines[0]) if named else tuple(map(str, range(width)))
    body = lines[1:] if named else lines
    if not body:
        raise UserError(f"{source} has a header and no row; give a row for each example")
    return Table(repr(str(file)), names, [np.array(column, dtype=object) for column in zip(*body, strict=True)])


def _parse_lines(text: str) -> list[list[str]]:
    """The cells of each line, by the first delimiter that cuts the first lines alike; an empty line is no row.

    Of a single column it is one: its number is missing.
    """
    first = list(itertools.islice((line for line in text.splitlines() if line.strip()), 20))
    for delimiter in DELIMITERS:
        widths = {len(row) for row in csv.reader(first, delimiter=delimiter)}
        if len(widths) == 1 and widths != {1}:
            return [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    rows = list(csv.reader(text.rstrip().splitlines()))
    return [row or [""] for row in rows] if all(len(row) < 2 for row in rows) else [row for row in rows if row]


def _has_header(lines: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has words and no number, or a word above a number."""
    first = [_as_number(cell) for cell in lines[0]]
    has_words = any(number is None for number in first)
    if not any(number is not None and math.isfinite(number) for number in first):
        return has_words
    second = [_as_number(cell) for cell in lines[1]] if len(lines) > 1 else first
    return any(above is None and below is not None for above, below in zip(first, second, strict=True))


def _read_arrays(source: str, file: Path, field: str, reading: Reading) -> Table:
    """The columns of an array of rows, and the array of labels by its name."""
    arrays, labels, missing = stored_arrays(file, field), reading.labels, reading.missing
    shapes = {name: array.shape for name, array in arrays.items() if array.is_numeric}
    name = reading.rows or _only_rows(source, shapes, labels, missing)
    for given, value in {"rows": name, "missing": missing, "labels": labels}.items():
        if value and value not in arrays:
            raise unknown_name(f"{given}: of {str(file)!r}", value, arrays)
    numbers = read_array(f"{source}: {name}", arrays[name])
    if numbers.ndim != 2 or not numbers.size or numbers.dtype.kind not in "biuf":
        raise UserError(f"{source}: {name} is {numbers.dtype} {numbers.shape}; give numbers of (n, columns)")
    if missing:
        absent = read_array(f"{source}: {missing}", arrays[missing])
        if absent.shape != numbers.shape:
            raise UserError(f"missing: {missing!r} has shape {absent.shape}; give that of the rows, {numbers.shape}")
        numbers = np.where(absent.astype(bool), np.nan, numbers)
    names, columns = _array_names(source, arrays, numbers.shape[1]), list(numbers.T)
    if labels:
        column = np.ravel(read_array(f"{source}: {labels}", arrays[labels]))
        if len(column) != len(numbers):
            raise UserError(f"labels: {labels!r} has {len(column)} for {len(numbers)} rows; give one for each row")
        names, columns = (*names, labels), [*columns, column]
    return Table(repr(str(file)), names, columns)


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
    there = join_names([*shapes]) or "nothing"
    raise UserError(f"{source} has no array of rows, numbers of (n, columns); it has {there}")


def _choose_columns(table: Table, columns: str, labels: str) -> tuple[str, ...]:
    """The names of the columns that are trained on."""
    if labels:
        table.column("labels", labels)
    if columns:
        chosen = tuple(name.strip() for name in columns.split(","))
    else:
        chosen = tuple(name for name in table.names if name != labels)
    for name in chosen:
        table.column("columns", name)
    if labels in chosen:
        raise UserError(f"columns: {labels!r} is the column of labels; leave it out of one")
    if not chosen:
        raise UserError("columns: there is none beside the labels; give a table of more")
    return chosen


def _numbers(table: Table, names: Sequence[str]) -> np.ndarray:
    """The columns as float64 (n, columns), NaN where a number is missing."""
    return np.stack([_column_numbers(table, name) for name in names], axis=1)


def _column_numbers(table: Table, name: str) -> np.ndarray:
    column = table.column("columns", name)
    numbers = [_as_number(cell) for cell in column] if column.dtype == object else column.astype(np.float64)
    for row, number in enumerate(numbers, 1):
        if number is None or math.isinf(number):
            cell = shorten(str(column[row - 1]), 40)
            raise UserError(
                f"columns: {name!r} of {table.source} has {cell!r} in row {row}, which is not a finite number; "
                "leave the column out, or give it as labels"
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
    column = table.column("labels", labels)
    if column.dtype != object:
        return column
    for row, cell in enumerate(column, 1):
        if cell.strip().lower() in MISSING:
            raise UserError(f"labels: {labels!r} of {table.source} has none in row {row}; give one for each row")
    numbers = [_as_number(cell) for cell in column]
    return np.array([cell.strip() for cell in column] if None in numbers else numbers)


def _number_classes(parts: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """The labels of each part as whole numbers; names are numbered in their order."""
    given = [part for part in parts if part is not None]
    if any(part.dtype.kind == "U" for part in given):
        names = np.unique(np.concatenate([part.astype(str) for part in given]))
        warn_once(f"labels: {plural(len(names), 'name')} of classes, numbered in their order")
        given = [np.searchsorted(names, part.astype(str)) for part in given]
    return [check_labels(part, len(part), noun="row") for part in given] or [None, None]
