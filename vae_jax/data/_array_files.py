"""Files that hold arrays: .npy, .npz, HDF5 and .mat. What is in them is known before any of it is read."""

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from vae_jax.data._host_images import check_memory
from vae_jax.errors import UserError
from vae_jax.files import reason
from vae_jax.phrases import printable

MAT_TYPES = {
    "double": "float64",
    "single": "float32",
    "logical": "bool",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
"""MATLAB's classes of arrays of numbers, and NumPy's names of them."""
FORMATS = "an .npy, .npz, HDF5 or .mat file"
NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class StoredArray(NamedTuple):
    """An array of a file, which is not read yet.

    Attributes:
        shape, dtype: as the file says.
        read: gives the array; of an .npy file one that is mapped into memory.
        mapped: whether it is.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    mapped: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers or truth values."""
        return self.dtype.kind in "biuf"


Arrays = dict[str, StoredArray]


def stored_arrays(file: Path, field: str = "path") -> Arrays:
    """The arrays in a file by their names, that of an .npy file by the file's.

    The format is known by what the file begins with, whatever its name.

    Args:
        file: where they are.
        field: what the file was given as.

    Raises:
        UserError: naming `field` and the file, where it is missing, damaged or of another format, or where HDF5 is not
            installed.
    """
    source = f"{field}: {str(file)!r}"
    with _reading_errors(source):
        if file.is_dir():
            hint = "; data.name=folder reads folders of pictures" if field == "path" else ""
            raise UserError(f"{source} is a folder; give {FORMATS}{hint}")
        if not file.is_file():
            raise UserError(f"{source} is not a file; give {FORMATS}")
        with file.open("rb") as opened:
            start = opened.read(16)
        reader = _reader(start, file.suffix.lower())
        if reader is None:
            raise UserError(f"{source} begins with {start[:8].hex() or 'nothing'}; give {FORMATS}")
        return {printable(name): array for name, array in reader(file).items()}


@contextlib.contextmanager
def _reading_errors(source: str) -> Iterator[None]:
    """Makes a line of whatever a file raises while it is read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file raises what comes
        raise UserError(f"{source} cannot be read ({reason(error)})") from None


def read_array(source: str, array: StoredArray) -> np.ndarray:
    """The array: read, or mapped from an .npy file. Raises UserError where it is damaged, or more than memory holds.

    Args:
        source: where it is, field first, as an error says it ("path: 'set.npz': x_train").
        array: what to read.
    """
    if not array.mapped:
        check_memory(f"{source} of {array.dtype} {array.shape}", math.prod(array.shape) * array.dtype.itemsize)
    with _reading_errors(source):
        return array.read()


def _reader(start: bytes, suffix: str) -> Callable[[Path], Arrays] | None:
    """What reads a file of that beginning, or where that says nothing of that name."""
    if start.startswith(npy.MAGIC_PREFIX):
        return _npy_array
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _npz_arrays
    if start.startswith(b"MATLAB 7.3"):
        return partial(_hdf5_arrays, is_reversed=True)
    if start.startswith(b"\x89HDF") or suffix in (".h5", ".hdf5"):
        return _hdf5_arrays
    if start.startswith(b"MATLAB") or suffix == ".mat":
        return _mat_arrays
    return None


def _read_header(stream: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in the npy format."""
    version = npy.read_magic(stream)
    if version not in NPY_HEADERS:
        raise ValueError(f"version {version} of the npy format")
    shape, _, dtype = NPY_HEADERS[version](stream)
    return shape, dtype


def _check_length(shape: tuple[int, ...], dtype: np.dtype, length: int) -> None:
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != length:
        raise ValueError(f"{dtype} {shape} is {claimed} bytes, and the file has {length}; it is damaged")


def _npy_array(file: Path) -> Arrays:
    with file.open("rb") as stream:
        shape, dtype = _read_header(stream)
        if dtype.kind != "O":
            _check_length(shape, dtype, file.stat().st_size - stream.tell())
    return {file.name: StoredArray(shape, dtype, partial(npy.open_memmap, file, mode="r"), mapped=True)}


def _npz_arrays(file: Path) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        headers = [_member_header(archive, member) for member in members]
    return {
        member.removesuffix(".npy"): StoredArray(shape, dtype, partial(_read_member, file, member))
        for member, (shape, dtype) in zip(members, headers, strict=True)
    }


def _member_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(name) as stream:
        return _read_header(stream)


def _read_member(file: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        with archive.open(name) as stream:
            _check_length(*_read_header(stream), archive.getinfo(name).file_size - stream.tell())
        with archive.open(name) as stream:
            return npy.read_array(stream, allow_pickle=False)


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UserError(
            "path: reading HDF5 needs the extra 'hdf5' (pip install -e .[hdf5]); .npy and .npz need none"
        ) from None
    return h5py


def _hdf5_arrays(file: Path, is_reversed: bool = False) -> Arrays:
    """The arrays of HDF5, those in its groups as "group/name"; MATLAB writes the axes of its own in reverse."""
    h5py, arrays = _import_h5py(), {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and not name.startswith("#"):
            shape = item.shape[::-1] if is_reversed else item.shape
            dtype = np.dtype(str) if h5py.check_string_dtype(item.dtype) else item.dtype
            arrays[name] = StoredArray(shape, dtype, partial(_read_dataset, file, name, is_reversed))

    with h5py.File(file, "r") as opened:
        opened.visititems(add)
    return arrays


def _read_dataset(file: Path, name: str, is_reversed: bool) -> np.ndarray:
    h5py = _import_h5py()
    with h5py.File(file, "r") as opened:
        dataset = opened[name]
        if h5py.check_string_dtype(dataset.dtype):
            return np.asarray(dataset.asstr()[()], str)
        values = np.asarray(dataset[()])
    return values.T if is_reversed else values


def _mat_arrays(file: Path) -> Arrays:
    from scipy.io import whosmat

    return {
        name: StoredArray(tuple(shape), np.dtype(MAT_TYPES[kind]), partial(_read_variable, file, name))
        for name, shape, kind in whosmat(str(file))
        if kind in MAT_TYPES
    }


def _read_variable(file: Path, name: str) -> np.ndarray:
    from scipy.io import loadmat

    return loadmat(str(file), variable_names=[name], mat_dtype=True)[name]
