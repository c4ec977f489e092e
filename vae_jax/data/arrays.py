"""Images in a file of arrays: .npy, .npz, HDF5 (the extra `hdf5`) or .mat, with labels or factors where it has them.

Arrays are found by their names (x_train, y_train, x_test, y_test; train_images, test_images; images, labels; ...), or
by being the only one that can be images, or are named in the config. uint8 stays as it is; uint16, floats and other
integers are scaled and rounded to 256 levels, or stay numbers of any size with `binarize=real`. Where a file has no
test images, a fixed permutation holds some out. uint8 images in an .npy file stay there, whatever their size: batches
are read from it; so do those of float32 with `binarize=real`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids
from vae_jax.data._array_files import Arrays, read_array, stored_arrays
from vae_jax.data._array_roles import Role, find_roles
from vae_jax.data._arrays import check_labels, warn_once
from vae_jax.data._host_images import HostImages, is_mapped
from vae_jax.data._paths import data_path
from vae_jax.data._random_split import hold_out
from vae_jax.data._stored_grids import StoredGrid
from vae_jax.data._value_ranges import arrange_axes, check_layout, parse_range, to_levels, to_real
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.files import user_path
from vae_jax.phrases import plural


def load(
    *,
    path: str = "",
    images: str = "",
    labels: str = "",
    test_images: str = "",
    test_labels: str = "",
    factors: str = "",
    layout: str = "nhwc",
    range: str = "",
    test: float | int = 0.1,
    split: str = "random 0.1",
    changed: int = 1,
    binarize: str = "dynamic",
) -> Dataset:
    """The images in a file of arrays.

    Args:
        path: the file.
        images: the name of the array of all images, or of those to train on, where it is not found by itself; in HDF5
            "group/name".
        labels: likewise of their labels: whole numbers, names (numbered in their order) or one-hot rows; "none" leaves
            them out. Here and below, an .npy file beside `path` may be named in place of an array in it.
        test_images: likewise of the images that are never trained on.
        test_labels: likewise of theirs.
        factors: the array of the classes of the factors that made the images, (n, factors), or the arrays of one each,
            with commas between, whose names they then have; the images must be a complete grid of them.
        layout: the order of the axes: nhwc, nchw, or hwcn as MATLAB has it; grey images are the same without c. Empty
            is nhwc, and refused where another would have the usual 1 or 3 channels.
        range: the values of black and of white, as in "0 1" or "-1 1". When empty, floats are from 0 to 1, uint16 from
            0 to 65535 and other integers from 0 to 255.
        test: how many images are held out where the file has no test images: a fraction, or a number of them.
        split: of images with factors which are held out, in place of `test`, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.
        binarize: what the model sees: "real" leaves numbers as they are, of any size, NaN where one is missing, for a
            gaussian or laplace likelihood with a linear mean; all others are of grey levels.

    Raises:
        UserError: naming the file or the field that is wrong.
    """
    file = data_path(path)
    arrays = stored_arrays(file)
    named = {"images": images, "labels": labels, "test_images": test_images, "test_labels": test_labels}
    arrays |= _files_beside(file, arrays, {**named, "factors": factors})
    source, interval = f"path: {str(file)!r}", parse_range(range)
    _check_real(binarize, range, factors)
    if factors:
        grid_images, classes = _grid_arrays(source, arrays, images, factors)
        levels = _read_images(source, arrays, [grid_images], layout, partial(to_levels, interval=interval))[0]
        return _to_grid(source, levels, classes, split, changed)
    roles = find_roles(source, arrays, named)
    splits = [name for name in ("train", "validation", "test") if (name, "images") in roles]
    names = [roles[name, "images"] for name in splits]
    convert = to_real if binarize == "real" else partial(to_levels, interval=interval)
    by_split = dict(zip(splits, _read_images(source, arrays, names, layout, convert), strict=True))
    numbers = _read_labels(source, arrays, roles, by_split)
    if "test" not in by_split:
        _hold_out(by_split, numbers, test)
    with errors_of(f"{source}: "):
        return data.from_arrays(
            by_split["train"],
            numbers.get("train"),
            by_split["test"],
            numbers.get("test"),
            by_split.get("validation"),
            numbers.get("validation"),
        )


def _check_real(binarize: str, range: str, factors: str) -> None:
    """Raises UserError for fields that mean nothing for numbers of any size."""
    for field, value in {"range": range, "factors": factors}.items():
        if binarize == "real" and value:
            raise UserError(f"{field}: {value!r} is for grey levels, which binarize=real does not make; leave one out")


Convert = Callable[[str, list[np.ndarray]], list[np.ndarray]]
"""(where they are, the parts of a set) -> the parts as they are kept."""


def _files_beside(file: Path, arrays: Arrays, named: Mapping[str, str]) -> Arrays:
    """The arrays of .npy files that fields name, by what they say."""
    beside: Arrays = {}
    for field, names in named.items():
        files = [name for name in names.split(",") if name.endswith(".npy") and name not in arrays]
        with errors_of(f"{field}: "):
            paths = [file.parent / user_path(name) for name in files]
        beside |= {
            name: next(iter(stored_arrays(path, field).values())) for name, path in zip(files, paths, strict=True)
        }
    return beside


def _read_images(source: str, arrays: Arrays, names: list[str], layout: str, convert: Convert) -> list[np.ndarray]:
    """The images of each name as (n, height, width, channels), converted together."""
    for name in names:
        check_layout(f"{source}: {name}", arrays[name].shape, layout)
    read = [arrange_axes(read_array(f"{source}: {name}", arrays[name]), layout) for name in names]
    return convert(f"{source}: {', '.join(names)}", read)


def _read_labels(
    source: str, arrays: Arrays, roles: Mapping[Role, str], images: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The labels of each split that has images, none where there are none."""
    names = {split: roles[split, "labels"] for split in images if (split, "labels") in roles}
    columns = {split: _label_column(read_array(f"{source}: {name}", arrays[name])) for split, name in names.items()}
    if any(column.dtype.kind in "SU" for column in columns.values()):
        classes = np.unique(np.concatenate([column.ravel() for column in columns.values()]))
        warn_once(f"labels: {plural(len(classes), 'name')} of classes, numbered in their order")
        columns = {split: np.searchsorted(classes, column) for split, column in columns.items()}
    with errors_of(f"{source}: "):
        return {
            split: check_labels(column, len(images[split]), names[split], "image") for split, column in columns.items()
        }


def _label_column(labels: np.ndarray) -> np.ndarray:
    """Labels as one of each image, where they are a matrix of one column or row, or one-hot rows."""
    if labels.ndim == 2 and 1 in labels.shape:
        return labels.ravel()
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and labels.size:
        is_one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
        return np.argmax(labels, axis=1) if is_one_hot else labels
    return labels


def _hold_out(images: dict[str, Any], labels: dict[str, np.ndarray], test: float | int) -> None:
    """Makes some of the training images test images; those of a mapped file are not copied."""
    train, held_out = hold_out(len(images["train"]), test)
    if is_mapped(images["train"]):
        host = HostImages(images["train"])
        images |= {"train": host.take(train), "test": host.take(held_out)}
    else:
        images |= {"train": images["train"][train], "test": images["train"][held_out]}
    if "train" in labels:
        labels |= {"train": labels["train"][train], "test": labels["train"][held_out]}


def _grid_arrays(source: str, arrays: Arrays, images: str, factors: str) -> tuple[str, dict[str, np.ndarray]]:
    """The name of the array of images, and the classes of each factor by its name."""
    names = [name.strip() for name in factors.split(",") if name.strip()]
    for name in names or [factors]:
        if name not in arrays:
            raise unknown_name("factors", name, arrays)
    others = {name: array for name, array in arrays.items() if name not in names}
    roles = find_roles(source, others, {"images": images, "labels": "none"})
    table = [read_array(f"{source}: {name}", arrays[name]) for name in names]
    if len(names) == 1 and table[0].ndim == 2:
        classes = {f"factor_{i}": column for i, column in enumerate(table[0].T)}
    else:
        classes = {name: _label_column(column) for name, column in zip(names, table, strict=True)}
    return roles["train", "images"], classes


def _to_grid(source: str, images: np.ndarray, classes: Mapping[str, np.ndarray], split: str, changed: int) -> Dataset:
    """The dataset of images that are a complete grid of these classes, which count only by their order."""
    for name, column in classes.items():
        if column.shape != (len(images),) or column.dtype.kind not in "biuf" or not np.isfinite(column).all():
            raise UserError(
                f"factors: {name!r} of {column.dtype} {column.shape} is not allowed; give a number for each of "
                f"{plural(len(images), 'image')}"
            )
    ranks = [np.unique(column, return_inverse=True)[1] for column in classes.values()]
    sizes = tuple(int(rank.max()) + 1 for rank in ranks)
    complete = math.prod(sizes) == len(images)  # or its ids may be beyond what an integer holds
    chunks = [(images, np.asarray(np.ravel_multi_index(ranks, sizes)))] if complete else []
    stored = StoredGrid(source, tuple(classes), sizes, images.shape[1:], len(images), chunks)
    return data.from_factors(_stored_grids.to_factors(stored), split, changed)
