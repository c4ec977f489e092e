"""What a dataset is: its splits, how they are made of arrays or of a grid of factors, and the validation split."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Int
from numpy.typing import ArrayLike

from vae_jax.data import _factors
from vae_jax.data._arrays import check_form, check_images, check_labels, grey_levels
from vae_jax.data._factors import Factors, GridClasses, GridImages, GridPartners
from vae_jax.data._host_images import HostImages
from vae_jax.data._random_split import held_out_count, hold_out
from vae_jax.data._table_columns import Columns
from vae_jax.errors import UserError, errors_of
from vae_jax.typing import Indices, Key, StoredImages

MAX_BYTES = 8 * 2**30
"""Bytes of images above which a set is refused that is decoded whole; arrays can be read a batch at a time."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["fetch", "labels", "factors", "partner"], meta_fields=["size"]
)
@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a dataset: a pytree, which `jax.device_put` sends to a device and a compiled step takes whole.

    Attributes:
        fetch: indices -> images (batch, height, width, channels): uint8 from 0 to 255, or float32 of any size, NaN
            where a number is missing.
        labels: (size,) class numbers, None where there are none.
        size: how many images there are.
        factors: indices -> the classes of the factors that made the images; None where nobody knows them.
        partner: (indices, index, key) -> images that share some factors with those at `indices`, drawn with the
            noise of the examples `index`; None where `factors` is.
    """

    fetch: Callable[[Indices | np.ndarray], StoredImages]
    labels: Any
    size: int
    factors: Callable[[Indices], Int[jax.Array, "batch factor"]] | None = None
    partner: Callable[[Indices, Indices, Key], StoredImages] | None = None


class Dataset(NamedTuple):
    """Images of one shape in three splits.

    Attributes:
        image_shape: (height, width, channels).
        train: the images that are trained on.
        test: those that report, read once a run has ended.
        factors: the whole grid, where the images are of one.
        validation: those that decide: best checkpoint, early stopping, halving. None where nothing decides.
        columns: those of a table, whose rows are images (1, columns, 1); None of pictures.
    """

    image_shape: tuple[int, int, int]
    train: Split
    test: Split
    factors: Factors | None = None
    validation: Split | None = None
    columns: Columns | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by their names."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


@functools.partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True, eq=False)
class HeldImages:
    """indices -> images, of an array that is held whole in memory.

    An image is a row there: a TPU lays an array of few channels out with its images side by side, number by number, and
    would read all of it for one of them.

    Attributes:
        rows: (n, numbers of an image), or (n, height, width, channels) of an array that is in another order.
        shape: (height, width, channels).
    """

    rows: Any
    shape: tuple[int, ...]

    def __call__(self, indices: Any) -> Any:
        """The images at these indices."""
        return self.rows[indices].reshape(*np.shape(indices), *self.shape)

    @property
    def images(self) -> Any:
        """All of them, (n, height, width, channels)."""
        return self.rows.reshape(-1, *self.shape)

    def take(self, positions: np.ndarray) -> "HeldImages":
        """Of the images at these positions alone."""
        return HeldImages(self.rows[positions], self.shape)


def hold_images(images: Any) -> HeldImages:
    """The images (n, height, width, channels) as they are held in memory; none of a NumPy array is copied."""
    in_order = not isinstance(images, np.ndarray) or images.flags.c_contiguous
    shape = images.shape[0], math.prod(images.shape[1:])
    if isinstance(images, jax.ShapeDtypeStruct):
        return HeldImages(jax.ShapeDtypeStruct(shape, images.dtype), images.shape[1:])
    return HeldImages(images.reshape(shape) if in_order else images, images.shape[1:])


def make_split(images: ArrayLike, labels: ArrayLike | None = None) -> Split:
    """A split of images in memory, or in the file that an `np.memmap` is of.

    Args:
        images: uint8 (n, height, width, channels), of any number of channels. Where all values are 0 or 1, and for
            bool, they are black and white. float32 are numbers of any size, NaN where one is missing, which
            `config.data.binarize=real` trains on.
        labels: (n,) class numbers, or None.

    Raises:
        UserError: for another dtype or shape, and for labels that are not one whole number for each image.
    """
    (spread,) = grey_levels(check_images(images))
    return _hold(spread, labels)


def _hold(images: np.ndarray | HostImages, labels: ArrayLike | None) -> Split:
    numbers = None if labels is None else check_labels(labels, len(images))
    return Split(images if isinstance(images, HostImages) else hold_images(images), numbers, len(images))


def from_arrays(
    train_images: ArrayLike | HostImages,
    train_labels: ArrayLike | None,
    test_images: ArrayLike | HostImages,
    test_labels: ArrayLike | None,
    validation_images: ArrayLike | HostImages | None = None,
    validation_labels: ArrayLike | None = None,
) -> Dataset:
    """A dataset of arrays, each as `make_split` takes it; black and white is what all parts are.

    Without validation images, `config.data.validation` says how many of the training images become such.

    Raises UserError as `make_split` does, and where the shapes of the parts differ.
    """
    given = {
        "train": (train_images, train_labels),
        "test": (test_images, test_labels),
        "validation": (validation_images, validation_labels),
    }
    images = {part: _checked(part, images) for part, (images, _) in given.items() if images is not None}
    shape: Any = images["train"].shape[1:]
    for part, array in images.items():
        if array.shape[1:] != shape:
            raise UserError(f"images: train has shape {shape}, {part} has {array.shape[1:]}")
    levels = dict(zip(images, grey_levels(*images.values()), strict=True))
    splits: dict[str, Any] = {}
    for part, array in levels.items():
        with errors_of(f"{part}_"):
            splits[part] = _hold(array, given[part][1])
    return Dataset(shape, **splits)


def _checked(part: str, images: ArrayLike | HostImages) -> np.ndarray | HostImages:
    with errors_of(f"{part}_"):
        return _check_host(images) if isinstance(images, HostImages) else check_images(images)


def _check_host(host: HostImages) -> HostImages:
    """Raises UserError for images of another form or dtype; no number is read."""
    dtype = check_form(host.images).dtype
    if dtype not in (np.uint8, np.bool_, np.float32):
        raise UserError(f"images: {dtype} on the host is not allowed; give uint8, bool or float32")
    return host


def from_factors(grid: Factors, split: str, changed: int) -> Dataset:
    """The dataset of a complete grid of factors.

    The partner of a training image is a training image, that of a held-out one any image of the grid.

    Args:
        grid: all images by their factors.
        split: which are held out: "random 0.1", "without shape=2 x>=16" or "correlated x y 0.2"
            (`_factors.split_masks` says what each means).
        changed: in how many factors a pair's partner differs, nuisance factors not counted and drawn anew; 0: from one
            to all but one, drawn for each pair.

    Raises:
        UserError: where `split` or `changed` cannot be.
    """
    nuisance = tuple(name in grid.nuisance for name in grid.names)
    varying = sum(size > 1 for size, noise in zip(grid.sizes, nuisance, strict=True) if not noise)
    if not 0 <= changed <= varying:
        raise UserError(f"changed: {changed} is not allowed; give 0 (drawn for each pair) to {varying}")
    train, test = _factors.split_masks(grid, split)
    shape = jax.eval_shape(lambda render, ids: render(ids), grid.render, np.zeros(1, np.int32)).shape[1:]

    def split_of(mask: np.ndarray, allowed: np.ndarray) -> Split:
        ids = np.flatnonzero(mask).astype(np.int32)
        return Split(
            fetch=GridImages(ids, grid.render),
            labels=None,
            size=len(ids),
            factors=GridClasses(ids, grid.sizes),
            partner=GridPartners(ids, allowed, grid.sizes, changed, grid.render, nuisance),
        )

    return Dataset(tuple(shape), split_of(train, train), split_of(test, np.ones_like(test)), grid)


def with_validation(dataset: Dataset, amount: float | int) -> Dataset:
    """The dataset with the validation split that it has, or one of training images drawn by a fixed permutation.

    The partner of a training image is then a training image, that of a validation image one of either; a `partner` of
    one's own goes on drawing from both.

    Args:
        dataset: with or without a validation split.
        amount: a fraction of the training images where it is below 1, a number of them, or 0 for no validation split,
            even where the dataset has one.

    Raises:
        UserError: for another `amount`, and where no image would be left to train on.
    """
    if amount == 0:
        return dataset._replace(validation=None)
    if dataset.validation is not None:
        return dataset
    return _split_off(dataset, *hold_out(dataset.train.size, amount, "validation"))


def last_as_validation(dataset: Dataset, amount: float | int) -> Dataset:
    """The dataset whose last training images validate, as papers on MNIST have it; `amount` as in `with_validation`.

    Raises UserError as `with_validation` does.
    """
    if amount == 0:
        return dataset
    first = dataset.train.size - held_out_count(dataset.train.size, amount, "validation")
    positions = np.arange(dataset.train.size)
    return _split_off(dataset, positions[:first], positions[first:])


def _split_off(dataset: Dataset, kept: np.ndarray, held_out: np.ndarray) -> Dataset:
    train, validation = _subset(dataset.train, kept), _subset(dataset.train, held_out)
    if isinstance(train.partner, GridPartners):
        train = dataclasses.replace(train, partner=train.partner.among_own())
    return dataset._replace(train=train, validation=validation)


def _subset(split: Split, positions: np.ndarray) -> Split:
    """The part of a split at these positions."""
    return Split(
        fetch=_at_positions(split.fetch, positions),
        labels=None if split.labels is None else split.labels[positions],
        size=len(positions),
        factors=None if split.factors is None else _at_positions(split.factors, positions),
        partner=None if split.partner is None else _at_positions(split.partner, positions),
    )


def sparing_split(split: Split) -> Split:
    """The split for a program that reads some of its images: on the host, or on the device that makes them."""
    host = host_split(split)
    return host if on_host(host) else jax.device_put(split)


def host_split(split: Split) -> Split:
    """The split with its images on the host, where they are those of an array there; else as it is."""
    if isinstance(split.fetch, HeldImages) and isinstance(split.fetch.rows, np.ndarray):
        return dataclasses.replace(split, fetch=HostImages(split.fetch.images))
    return split


def held_split(split: Split) -> Split:
    """The split with its images held whole in memory, where they are on the host; else as it is."""
    if isinstance(split.fetch, HostImages):
        return dataclasses.replace(split, fetch=hold_images(split.fetch.read_all()))
    return split


def on_host(split: Split) -> bool:
    """Whether the images of a split are read on the host, and no device holds them."""
    return isinstance(split.fetch, HostImages)


def read_batch(split: Split, indices: np.ndarray) -> tuple[Split, np.ndarray]:
    """A split of the images at `indices` alone, and where each of them is in it; its `size` stays what it was.

    A split that is not on the host is given whole, and the indices as they are.
    """
    if not on_host(split):
        return split, indices
    ids = indices.ravel()
    labels = None if split.labels is None else np.asarray(split.labels)[ids]
    batch = Split(hold_images(split.fetch(ids)), labels, split.size)
    return batch, np.arange(len(ids), dtype=np.int32).reshape(indices.shape)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["rows", "start"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Some rows of an array that follow one another, by the indices that they have in the whole."""

    rows: Any
    start: Any

    def __getitem__(self, indices: Any) -> Any:
        """The rows at these indices."""
        return self.rows[indices - self.start]


def read_window(split: Split, start: int, stop: int) -> Split:
    """The split with the images and labels from `start` to `stop` alone, under the indices that they have: on the host.

    Evaluation draws an example's noise by its index.
    """
    images = hold_images(split.fetch(np.arange(start, stop)))
    images = dataclasses.replace(images, rows=Window(images.rows, np.int32(start)))
    labels = None if split.labels is None else Window(np.asarray(split.labels)[start:stop], np.int32(start))
    return Split(images, labels, split.size)


def _at_positions(function: Any, positions: np.ndarray) -> Any:
    """The function of indices, where they count the positions."""
    if hasattr(function, "take"):
        return function.take(positions)
    return Partial(_call_at, function, positions.astype(np.int32))


def _call_at(function: Callable, positions: Any, indices: Any, *others: Any) -> Any:
    return function(jnp.asarray(positions)[indices], *others)
