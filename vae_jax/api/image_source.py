"""What a person trains on: arrays, which become a file of the run, a dataset, a loader or a config."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax import data, model
from vae_jax.api import objects
from vae_jax.config import defaults
from vae_jax.config.parse import read_config
from vae_jax.data import Dataset
from vae_jax.data._array_files import stored_arrays
from vae_jax.data._arrays import as_array, as_numbers, check_labels
from vae_jax.data._host_images import is_mapped
from vae_jax.data._value_ranges import arrange_axes, check_layout, parse_range, to_levels, to_real
from vae_jax.errors import UserError, errors_of
from vae_jax.files import named_errors, replacement
from vae_jax.models import likelihoods
from vae_jax.models.likelihoods._suggestion import suggested_fields

DATA_FILE = "data.npz"
"""Of the arrays that were given, as they were given."""

SAMPLE = 256
"""Images of a dataset that are looked at to tell black and white from grey levels."""


LABELS_FILE = "labels.npy"
"""Of the labels of images that lie in a file already."""


class ImageArrays(NamedTuple):
    """Images (n, height, width[, channels]) of any numbers, and their labels (n,), None where there are none.

    `file` is the .npy file that the images are mapped from; None where they are in memory, or a part of a file.
    """

    images: np.ndarray
    labels: np.ndarray | None
    file: Path | None = None


def read_source(images: Any, labels: Any) -> tuple[ConfigDict, ImageArrays | None]:
    """The config that what a person trains on begins with, and the arrays where it is such.

    Args:
        images: an array; a Dataset, a function or a module that loads one; or a config, a name of one, or its file.
        labels: of an array, one for each image, or None.

    Raises:
        UserError: for what is none of these, and for labels of what has its own.
    """
    is_config = isinstance(images, (ConfigDict, str, Path))
    if is_config or isinstance(images, Dataset) or callable(images) or isinstance(images, ModuleType):
        if labels is not None:
            raise UserError("labels: go with an array of images only; a dataset or a config has its own")
        return (_read_config(images) if is_config else _dataset_config(images)), None
    config = defaults.get_config()
    config.data = defaults.section("data", "arrays")
    array = as_array("images", images)
    if array.ndim == 2:
        config.data = defaults.section("data", "table", labels="" if labels is None else "labels")
    numbers = None if labels is None else _read_labels(labels, len(array) if array.ndim else 0)
    return config, ImageArrays(array, numbers, _mapped_file(array))


def _mapped_file(array: np.ndarray) -> Path | None:
    """The .npy file that an array is the whole of, mapped; None for any other."""
    name = getattr(array, "filename", None)
    if not is_mapped(array) or name is None or not array.flags.c_contiguous:
        return None
    try:
        (stored,) = stored_arrays(Path(name)).values()
    except (UserError, ValueError):
        return None
    is_whole = stored.mapped and (stored.shape, stored.dtype) == (array.shape, array.dtype)
    return Path(name) if is_whole else None


def _read_config(config: Any) -> ConfigDict:
    if isinstance(config, ConfigDict):
        return config.copy_and_resolve_references()
    return read_config(str(config))


def _dataset_config(source: Any) -> ConfigDict:
    config = defaults.get_config()
    config.data = defaults.section("data", objects.name_of("data", source))
    return config


def _read_labels(labels: Any, count: int) -> np.ndarray:
    """Labels as whole numbers, or as names of classes, one for each image."""
    array = np.asarray(labels)
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.dtype.kind != "U":
        return check_labels(labels, count)
    if array.shape != (count,):
        raise UserError(f"labels: shape {array.shape} is not allowed; give a name for each image, shape ({count},)")
    return array


def check_arrays(arrays: ImageArrays, section: ConfigDict) -> np.ndarray:
    """The images as a config's `data` section reads them: grey levels, uint8, or numbers of any size, float32.

    Raises UserError for a wrong shape, for values outside the range, and for NaN among grey levels.
    """
    if arrays.labels is not None and len(arrays.labels) != len(arrays.images):
        count = len(arrays.images)
        raise UserError(f"labels: {len(arrays.labels)} of them for {count} images; give one for each image")
    if arrays.images.ndim == 2:
        return _check_rows(arrays.images)
    check_layout("images: an array", arrays.images.shape, section.layout)
    arranged, what = [arrange_axes(arrays.images, section.layout)], "images: the array"
    with errors_of("config.data."):
        if section.binarize == "real":
            return to_real(what, arranged)[0]
        return to_levels(what, arranged, parse_range(section.range))[0]


def _check_rows(rows: np.ndarray) -> np.ndarray:
    """The rows of a table as float32. Raises UserError for what are no numbers, for none, and for infinities."""
    if rows.dtype.kind not in "biuf" or not rows.size:
        raise UserError(f"images: {rows.dtype} of shape {rows.shape} is not allowed; give numbers of (n, columns)")
    return as_numbers("images", rows.astype(np.float32))


def some_images(images: np.ndarray) -> np.ndarray:
    """The images; of a file that is mapped some, from all over it."""
    if not is_mapped(images):
        return images
    return np.asarray(images[np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int))])


def sample_images(section: ConfigDict) -> np.ndarray:
    """Some training images of a config's `data` section, as they are kept."""
    split = model.load_whole(section).train
    return np.asarray(split.fetch(data.sample_indices(split, SAMPLE)))


def is_black_and_white(levels: np.ndarray) -> bool:
    """Whether grey levels are two alone: 0 and 255, or 0 and 1, which the data code takes as these."""
    white = int(levels.max())
    return white in (0, 1, 255) and bool(((levels == 0) | (levels == white)).all())


def choose_likelihood(config: ConfigDict, images: np.ndarray, named: frozenset[str]) -> str:
    """Sets the likelihood and the binarisation that suit these images, unless they are `named`.

    Numbers of any size stay as they are, under a Gaussian of a linear mean whose scale is learned. Of grey levels
    `_choose_of_levels` says what suits them.

    Args:
        config: whose likelihood and data.binarize are set.
        images: uint8, or float32 of any size.
        named: the dotted fields that the caller has set.

    Returns:
        A line that says what was chosen; empty where all was named.
    """
    if images.dtype != np.float32:
        return _choose_of_levels(config, images, named)
    chosen = []
    if "data.binarize" not in named and config.data.binarize != "real":
        config.data.binarize = "real"
        chosen.append("data.binarize real")
    if "likelihood.name" not in named:
        config.likelihood = defaults.section("likelihood", "gaussian", scale="shared", mean="linear")
        chosen.append("likelihood gaussian of shared scale and linear mean")
    elif "likelihood.mean" not in named and "mean" in config.likelihood:
        config.likelihood.mean = "linear"
        chosen.append("likelihood.mean linear")
    return f"images: numbers of any size, so {', '.join(chosen)}" if chosen else ""


def _choose_of_levels(config: ConfigDict, levels: np.ndarray, named: frozenset[str]) -> str:
    """Sets the likelihood and the binarisation that suit images of these grey levels, unless they are `named`.

    Black and white, and grey levels that are nearly so, are coins, a Bernoulli at each pixel. Other grey levels and
    colours stay as they are, under a Gaussian whose scale is learned (`suggested_fields`).

    Args:
        config, named: as in `choose_likelihood`.
        levels: uint8.

    Returns:
        A line that says what was chosen; empty where all was named.
    """
    chosen, coins = [], is_black_and_white(levels)
    suited = suggested_fields(np.where(levels > 0, np.uint8(255), np.uint8(0)) if coins else levels)
    if "likelihood.name" not in named:
        name = _suited_name(config.data.binarize if "data.binarize" in named else "", suited, coins)
        fields = {"scale": "shared"} if name == "gaussian" else {}
        config.likelihood = defaults.section("likelihood", name, **fields)
        chosen.append(" ".join(["likelihood", name, *(f"of {value} {field}" for field, value in fields.items())]))
    if "data.binarize" not in named:
        own = config.likelihood.name == suited["likelihood.name"]
        config.data.binarize = suited["data.binarize"] if own else _binarization(config, coins)
        chosen.append(f"data.binarize {config.data.binarize}")
    kind = "black and white" if coins else "grey levels" if levels.shape[-1] == 1 else "colours"
    return f"images: {kind}, so {', '.join(chosen)}" if chosen else ""


def _suited_name(binarize: str, suited: Mapping[str, str], coins: bool) -> str:
    """The likelihood of images that are binarised so; of an empty `binarize` what suits them."""
    if not binarize:
        return suited["likelihood.name"]
    return "bernoulli" if coins or binarize != "none" else "gaussian"


def _binarization(config: ConfigDict, coins: bool) -> str:
    """How images are binarised that a likelihood of this config is to fit."""
    fields = {field: value for field, value in config.likelihood.items() if field != "name"}
    with errors_of("config.likelihood."):
        likelihood = likelihoods.get(config.likelihood.name)(**fields)
    if coins:
        return "static" if "static" in likelihood.binarize else "none"
    return "dynamic" if likelihood.levels == 2 else "none"


def point_to_arrays(config: ConfigDict, arrays: ImageArrays, folder: Path) -> Path:
    """Sets where a config's data lie: in a file of `folder`, or where the images lie already; the file to be written.

    Images that are mapped from a file stay there, as they may be larger than memory.
    """
    if arrays.file is None:
        file = folder / DATA_FILE
        config.data.path = str(file.absolute())
        return file
    file = folder / LABELS_FILE
    config.data.path = str(arrays.file.absolute())
    if arrays.labels is not None:
        config.data.labels = str(file.absolute())
    return file


def write_arrays(file: Path, arrays: ImageArrays) -> None:
    """Writes to `file` what of the arrays is in none. Raises UserError where it holds others, or cannot be written."""
    named: dict[str, Any] = _named_arrays(arrays)
    if not named:
        return
    if file.exists():
        _check_same(file, arrays)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"workdir: {str(file.parent)!r} cannot be a folder ({error.strerror}); give another") from None
    with named_errors(file), replacement(file) as temporary, temporary.open("wb") as stream:
        if arrays.file is None:
            np.savez(stream, **named)
        else:
            np.save(stream, named["labels"])


@contextlib.contextmanager
def taken_back(files: Sequence[Path], proof: Path) -> Iterator[None]:
    """Removes `files`, and their folders, where what writes them fails before `proof` is there; not what was before."""
    new = [file for file in files if not file.exists()]
    parents = dict.fromkeys(folder for file in files for folder in (file.parent, *file.parent.parents))
    made = [folder for folder in parents if not folder.exists()]
    try:
        yield
    except UserError:
        if not proof.exists():
            _remove([*new, *made])
        raise


def _remove(paths: Sequence[Path]) -> None:
    """Removes files and empty folders, in this order."""
    for path in paths:
        with contextlib.suppress(OSError):  # something else lies in the folder by now
            path.rmdir() if path.is_dir() else path.unlink()


def _named_arrays(arrays: ImageArrays) -> dict[str, np.ndarray]:
    images = {} if arrays.file is not None else {"images": arrays.images}
    return images | ({} if arrays.labels is None else {"labels": arrays.labels})


def _check_same(file: Path, arrays: ImageArrays) -> None:
    given = _named_arrays(arrays)
    try:
        there = _stored_arrays(file)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: cannot be read ({error}); give another workdir") from None
    if set(there) != set(given) or not all(_equal(there[name], given[name]) for name in given):
        raise UserError(f"images: are not those in {file}; give another workdir")


def _stored_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `write_arrays` wrote, by their names. Raises what NumPy raises."""
    found = np.load(file, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {"labels": found}
    with found:
        return {name: found[name] for name in found.files}


def _equal(there: np.ndarray, given: np.ndarray) -> bool:
    return there.dtype == given.dtype and np.array_equal(there, given, equal_nan=there.dtype.kind == "f")
