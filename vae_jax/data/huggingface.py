"""Images of Hugging Face's `datasets` on disk (the extra `hf`, which is pyarrow): nothing is downloaded.

    Dataset.save_to_disk(FOLDER), DatasetDict.save_to_disk(FOLDER)
    FILE.parquet, or a folder of such as the hub has them: data/train-00000-of-00002.parquet, test-...
    the folder of one dataset in the cache of `datasets`: NAME-train.arrow, NAME-test.arrow

A column holds PNG, JPEG or WebP. Splits are train, validation (or val, valid, dev) and test by the names of files and
folders; others are left out. Where there is none for testing, a fixed permutation holds images out. Images are made
alike as `folder` makes them, and kept decoded as it keeps them.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.data import Dataset
from vae_jax.data._array_roles import KINDS, WITHOUT
from vae_jax.data._arrays import warn_once
from vae_jax.data._image_files import ImageFile
from vae_jax.data._paths import data_path
from vae_jax.data._picture_sets import check_form, make_dataset, read_pictures, split_numbers
from vae_jax.data._tables import Column, Table, find_tables, reading_errors
from vae_jax.errors import UserError, unknown_name
from vae_jax.phrases import join_names, plural, printable


def load(
    *,
    path: str = "",
    images: str = "",
    labels: str = "",
    size: int = 0,
    crop: bool = True,
    channels: int = 0,
    broken: str = "refuse",
    test: float | int = 0.1,
) -> Dataset:
    """The images of a dataset of Hugging Face on disk.

    Args:
        path: the folder, or one file of Parquet or Arrow.
        images: the column of the images, where there are several that can be.
        labels: the column of the labels: whole numbers, or names (numbered in their order); "none" leaves them out.
            When empty, the one that is of classes, or is called label, y or the like.
        size: images are scaled to size x size; 0 leaves them as they are, and all must then be alike.
        crop: cuts the middle square before images are scaled; else they are stretched to a square.
        channels: 1 (grey) or 3 (RGB); 0 is what the first image has.
        broken: what to do where images cannot be read: refuse, or skip, which leaves them out and says so.
        test: how many images are held out where there is no split test: a fraction, or a number of them.

    Raises:
        UserError: naming the file or the field that is wrong.
    """
    form = check_form(size, crop, channels, broken)
    place = data_path(path)
    tables = find_tables(place)
    column = _choose("images", images, tables, _is_image)
    if column is None:
        raise UserError(f"path: {str(place)!r} has no column of images in PNG or JPEG; it has {_described(tables[0])}")
    for table in tables:
        if not _is_image(table, column):
            raise UserError(
                f"images: {column!r} of {printable(table.name)} is not of images in PNG or JPEG; it has "
                f"{_described(table)}"
            )
    files = [file for table in tables for file in _image_files(table, column)]
    if not files:
        raise UserError(f"path: {str(place)!r} has no rows")
    numbers = _read_labels(labels, tables)
    split_numbers(files, test)  # what is wrong with it is said before minutes of decoding
    pictures = read_pictures(place, files, form, broken)
    kept = list(itertools.compress(files, pictures.kept))
    return make_dataset(pictures, kept, None if numbers is None else numbers[pictures.kept], test)


def _image_files(table: Table, column: str) -> list[ImageFile]:
    """The images of a table, one a row."""
    cells, status = Column(table, column), table.path.stat()
    return [
        ImageFile(
            name=f"{table.name}:{column}[{row}]",
            path=table.path,
            split=table.split,
            label="",
            size=status.st_size,
            modified=status.st_mtime_ns,
            content=partial(_image_bytes, cells, row, table.path.parent),
        )
        for row in range(table.rows)
    ]


def _image_bytes(cells: Column, row: int, beside: Path) -> bytes:
    """What a row has of an image: its bytes, or those of the file that it names."""
    cell = cells.cell(row)
    if isinstance(cell, dict):
        cell = cell.get("bytes") or (cell.get("path") and (beside / cell["path"]).read_bytes())
    if not cell:
        raise ValueError("no image")
    return cell


def _choose(
    field: str, name: str, tables: Sequence[Table], is_candidate: Callable[[Table, str], bool], hint: str = ""
) -> str | None:
    """The column that a field names, or the only one that can be meant; None where there is none.

    Raises UserError where a table does not have it as the others do, and where several can be meant.
    """
    first = tables[0]
    if name and name not in first.types:
        raise unknown_name(field, name, first.types)
    names = [name] if name else [column for column in first.types if is_candidate(first, column)]
    if len(names) > 1:
        raise UserError(f"{field}: '' does not say which column is meant; give one of {join_names(names)}{hint}")
    for table in tables if names else ():
        if names[0] not in table.types:
            raise UserError(f"{field}: {printable(table.name)} has no column {names[0]!r}; it has {_described(table)}")
    return names[0] if names else None


def _described(table: Table) -> str:
    return join_names([f"{printable(name)} ({_kind(table, name)})" for name in table.types]) or "no columns"


def _kind(table: Table, column: str) -> str:
    return str(table.features.get(column, {}).get("_type", "Value")).replace("Value", str(table.types[column]))


def _is_image(table: Table, column: str) -> bool:
    """Whether a column holds files of images: bytes, or what `datasets` keeps of one, its bytes and its name."""
    import pyarrow

    if column not in table.types or table.features.get(column, {}).get("_type", "Image") not in ("Image", "Value"):
        return False  # sound and film look the same
    kind = table.types[column]
    is_named = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return is_named or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _is_class(table: Table, column: str) -> bool:
    return table.features.get(column, {}).get("_type") == "ClassLabel"


def _is_called_label(table: Table, column: str) -> bool:
    return column.lower() in KINDS["labels"]


def _read_labels(name: str, tables: Sequence[Table]) -> np.ndarray | None:
    """The labels of all tables in a row, numbered where they are names; None where there are none."""
    if name == WITHOUT and name not in tables[0].types:
        return None
    is_candidate = _is_class if any(_is_class(tables[0], column) for column in tables[0].types) else _is_called_label
    column = _choose("labels", name, tables, is_candidate, ", or none")
    if column is None:
        return None
    _check_classes(column, tables)
    values = np.concatenate([_label_values(table, column) for table in tables])
    if values.dtype.kind != "U":
        return values
    classes, numbers = np.unique(values, return_inverse=True)
    warn_once(f"labels: {plural(len(classes), 'name')} of classes, numbered in their order")
    return np.asarray(numbers)


def _check_classes(column: str, tables: Sequence[Table]) -> None:
    """Raises UserError where two tables have other classes, or other kinds of labels."""
    first = tables[0]
    for table in tables[1:]:
        same = table.features.get(column, {}).get("names") == first.features.get(column, {}).get("names")
        if not same or table.types[column] != first.types[column]:
            raise UserError(
                f"labels: {column!r} has other classes in {printable(first.name)} than in {printable(table.name)}; "
                "give files of one dataset, or labels none"
            )


def _label_values(table: Table, column: str) -> np.ndarray:
    """The labels of a table as whole numbers or names."""
    from pyarrow import types

    with reading_errors(table.path):
        cells: Any = table.read(column)
        cells = cells.cast(cells.type.value_type) if types.is_dictionary(cells.type) else cells
    where = f"labels: {column!r} of {printable(table.name)}"
    is_name, is_number = types.is_string(cells.type) or types.is_large_string(cells.type), types.is_integer(cells.type)
    if not (is_name or is_number or types.is_boolean(cells.type)):
        raise UserError(f"{where} is {cells.type}; give a column of whole numbers or names, or labels none")
    if cells.null_count:
        raise UserError(f"{where} has no value in {plural(cells.null_count, 'row')}; give labels none")
    with reading_errors(table.path):  # a number may be beyond what a label can be
        values = np.array(cells.to_pylist(), str if is_name else np.int64)
    if _is_class(table, column) and (values < 0).any():  # as the hub has it where the labels of a test are secret
        raise UserError(f"{where} is -1, no class, in {plural(int((values < 0).sum()), 'row')}; give labels none")
    return values
