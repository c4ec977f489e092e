"""Tables in Parquet and Arrow files (the extra `hf`), as Hugging Face's `datasets` keeps them, each with its split."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.data._arrays import warn_once
from vae_jax.data._image_files import SPLITS
from vae_jax.errors import UserError, errors_of
from vae_jax.files import parse_json, reason
from vae_jax.phrases import join_names, printable

SUFFIXES = (".parquet", ".arrow")
SPLIT_WORDS = SPLITS | {"dev": "validation", "eval": "test", "evaluation": "test"}
"""The split of a file by a word of its name, or of the name of a folder that it lies in."""


class Table(NamedTuple):
    """A file of rows, of which no column is read yet.

    Attributes:
        name: its path from the folder on, with /.
        path: where it is.
        split: "train", "validation" or "test"; empty where no name says.
        rows: how many it has.
        types: pyarrow's type of each column, by the column's name.
        features: what `datasets` says of each column, as {"_type": "ClassLabel", "names": [...]}; empty where the
            file was written by something else.
        read: gives the column of a name.
    """

    name: str
    path: Path
    split: str
    rows: int
    types: dict[str, Any]
    features: dict[str, dict[str, Any]]
    read: Callable[[str], Any]


class Column:
    """The cells of a column, which is read when the first of them is wanted."""

    def __init__(self, table: Table, name: str):
        self._table, self._name = table, name
        self._cells: Any = None
        self._lock = threading.Lock()

    def cell(self, row: int) -> Any:
        """The value in a row, as one of Python's; None where there is none."""
        with self._lock:
            if self._cells is None:
                self._cells = self._table.read(self._name)
        return self._cells[row].as_py()


def find_tables(path: Path) -> list[Table]:
    """The tables of a file, or of a folder: what `save_to_disk` left, or files of Parquet or Arrow at any depth.

    Those to train on come first.

    Of the files of a folder, some may have a split by their names and others none, which are then left out; a line
    says so.

    Raises:
        UserError: naming the file, where there is none, one cannot be read, or pyarrow is not installed.
    """
    if not path.exists():
        raise UserError(f"path: {str(path)!r} is not there; give a folder that save_to_disk wrote, or Parquet files")
    if path.is_file():
        return [_open(path, path.name, "train")]
    files = list(_files(path))
    if not files:
        raise UserError(f"path: {str(path)!r} has no files of Parquet or Arrow ({', '.join(SUFFIXES)}) in it")
    tables = [_open(file, name := file.relative_to(path).as_posix(), _split(name)) for file in files]
    named = sorted((table for table in tables if table.split), key=lambda table: table.split != "train")
    if not named:
        return [table._replace(split="train") for table in tables]
    _check_train(path, named)
    if others := [printable(table.name) for table in tables if not table.split]:
        warn_once(f"data: {join_names(others, 3)}: of no split by name, and left out")
    return named


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that hold rows; where `save_to_disk` said which, those alone."""
    if (folder / "dataset_dict.json").exists():
        for name in _names(folder / "dataset_dict.json", "splits"):
            yield from _saved_files(folder / name)
    elif (folder / "state.json").exists():
        yield from _saved_files(folder)
    else:
        found = (file for suffix in SUFFIXES for file in folder.rglob(f"*{suffix}") if file.is_file())
        yield from sorted(file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts))


def _saved_files(folder: Path) -> Iterator[Path]:
    """The files of a dataset that `save_to_disk` wrote, in their order."""
    file = folder / "state.json"
    if _listed(file).get("_indices_data_files"):
        raise UserError(
            f"path: {str(folder)!r} was saved by an old version of datasets, with rows left out; call its "
            "flatten_indices and save it again"
        )
    yield from (folder / name for name in _names(file, "_data_files"))


def _listed(file: Path) -> dict[str, Any]:
    """What a JSON file of `save_to_disk` says; empty where that is no object."""
    with errors_of("path: "):
        said = parse_json(file)
    return said if isinstance(said, dict) else {}


def _names(file: Path, field: str) -> list[str]:
    """The names that a JSON file of `save_to_disk` lists: plain ones of its own folder."""
    items = _listed(file).get(field)
    listed = items if isinstance(items, list) else []
    names: list[Any] = [item.get("filename") if isinstance(item, dict) else item for item in listed]
    if not names or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        raise UserError(f"path: {str(file)!r} does not list the names of files in {field}; save the dataset again")
    return names


def _split(name: str) -> str:
    """The split that the name of a file says by its last such word, or else that of the nearest folder."""
    words = [word for part in name.lower().split("/") for word in re.findall("[a-z]+", part)]
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), "")


def _check_train(path: Path, tables: Sequence[Table]) -> None:
    """Raises UserError where of tables with splits none is to train on."""
    splits = {table.split for table in tables}
    if "train" not in splits:
        names = join_names([printable(table.name) for table in tables], 3)
        raise UserError(f"path: {str(path)!r} has {', '.join(sorted(splits))} ({names}) and no train; add it")


@contextlib.contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Makes a line of whatever a file raises while it is read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file raises what comes
        raise UserError(f"path: {printable(str(path))!r} cannot be read ({reason(error)})") from None


def _open(path: Path, name: str, split: str) -> Table:
    try:
        import pyarrow
    except ImportError:
        raise UserError(
            "name: reading data of Hugging Face needs the extra 'hf' (pip install -e .[hf]); folder and arrays "
            "need none"
        ) from None
    with reading_errors(path):
        with path.open("rb") as opened:
            start = opened.read(8)
        if start.startswith(b"PAR1"):
            return _parquet_table(path, name, split)
        if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
            return _arrow_table(pyarrow, path, name, split, is_stream=start[0] == 0xFF)
        raise UserError(f"path: {str(path)!r} begins with {start.hex() or 'nothing'}; give files of Parquet or Arrow")


def _parquet_table(path: Path, name: str, split: str) -> Table:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
    return _table(path, name, split, rows, schema, partial(_read_parquet, path))


def _read_parquet(path: Path, column: str) -> Any:
    from pyarrow import parquet

    with reading_errors(path):
        return parquet.read_table(path, columns=[column]).column(column)


def _arrow_table(pyarrow: Any, path: Path, name: str, split: str, is_stream: bool) -> Table:
    source = pyarrow.memory_map(str(path))  # of which no row is read yet
    content = (pyarrow.ipc.open_stream if is_stream else pyarrow.ipc.open_file)(source).read_all()
    return _table(path, name, split, content.num_rows, content.schema, content.column)


def _table(path: Path, name: str, split: str, rows: int, schema: Any, read: Callable[[str], Any]) -> Table:
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        said = {}
    columns = said if isinstance(said, dict) else {}
    features = {column: feature for column, feature in columns.items() if isinstance(feature, dict)}
    return Table(name, path, split, rows, {field.name: field.type for field in schema}, features, read)
