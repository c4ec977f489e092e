"""Datasets: what one is, its splits, the index stream, and how a batch is made. A file here is a config's name.

A file has `load(**fields) -> Dataset`; its fields are the keyword-only parameters of `load`. A dataset of the user's
own is a module with such a `load`, chosen by its dotted name. Images are uint8 on the device, where they are gathered
and scaled or binarised inside the step; those that fill too much of it stay on the host, and those of the next steps
are sent.

Validation decides, test reports: what is best, what stops and what is dropped is chosen on the validation split, and
the test split is read once a run has ended. A set that has none gets one, of its training images (`with_validation`).
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import registry
from vae_jax.data._arrays import check_labels, is_whole
from vae_jax.data._factors import Factors
from vae_jax.data._splits import (
    Dataset,
    Split,
    from_arrays,
    from_factors,
    last_as_validation,
    make_split,
    with_validation,
)
from vae_jax.errors import UserError, errors_of
from vae_jax.files import reason
from vae_jax.randomness import example_words, root_key, stream
from vae_jax.typing import Batch, Bytes, Images, Indices, Key, StoredImages

__all__ = [
    "Dataset",
    "Split",
    "from_arrays",
    "from_factors",
    "last_as_validation",
    "make_split",
    "with_validation",
]
"""What a loader is written with; the other public functions of this file are the training's."""


def sample_indices(split: Split, maximum: int) -> np.ndarray:
    """The indices of all of `split`, or of `maximum` drawn once and for all: the first of a grid are all alike."""
    if split.size <= maximum:
        return np.arange(split.size)
    return np.sort(np.random.Generator(np.random.Philox(key=3)).permutation(split.size)[:maximum])


def check_dataset(dataset: Any) -> Dataset:
    """The dataset in the form that the package works with: whole numbers of Python, labels int32.

    No image is computed: what `fetch` gives is known from its shapes.

    Raises:
        UserError: naming the part that is wrong ("name: train.labels: ...").
    """
    with errors_of("name: "):
        if not isinstance(dataset, Dataset):
            raise UserError(
                f"load gave {type(dataset).__name__}; let it return a Dataset, as data.from_arrays makes one"
            )
        shape = dataset.image_shape
        if not (isinstance(shape, (tuple, list)) and len(shape) == 3 and all(is_whole(n) and n > 0 for n in shape)):
            raise UserError(f"image_shape: {shape!r} is not allowed; give (height, width, channels), each at least 1")
        if not (dataset.factors is None or isinstance(dataset.factors, Factors)):
            raise UserError(f"factors: {type(dataset.factors).__name__} is not allowed; give a Factors, or None")
        height, width, channels = map(int, shape)
        image_shape = (height, width, channels)
        parts = ("train", "test") if dataset.validation is None else ("train", "test", "validation")
        splits: dict[str, Any] = {part: _check_split(part, getattr(dataset, part), image_shape) for part in parts}
        return dataset._replace(image_shape=image_shape, **splits)


def _check_split(part: str, split: Any, image_shape: tuple[int, int, int]) -> Split:
    """The split of that part of a dataset, its size and labels checked, and what `fetch` would give."""
    if not isinstance(split, Split):
        raise UserError(f"{part}: {type(split).__name__} is not allowed; give a Split, as data.make_split makes one")
    if not is_whole(split.size) or split.size < 1:
        raise UserError(f"{part}.size: {split.size!r} is not allowed; give a whole number of at least 1")
    size = int(split.size)
    labels = None if split.labels is None else check_labels(split.labels, size, f"{part}.labels")
    split = dataclasses.replace(split, labels=labels, size=size)
    images = (2, *image_shape)
    dtype = image_dtype(part, split)
    _check_trace(f"{part}.fetch", _call_fetch, split, dtype, images)
    if split.factors is not None:
        _check_trace(f"{part}.factors", lambda split, indices: split.factors(indices), split, np.integer, (2, None))
    if split.partner is not None:
        _check_trace(f"{part}.partner", _call_partner, split, dtype, images)
    return split


def image_dtype(part: str, split: Split) -> type:
    """What the images of a split are: np.uint8, or np.float32. Raises UserError where its `fetch` does not compile."""
    given = _trace(f"{part}.fetch", _call_fetch, split)
    return np.float32 if getattr(given, "dtype", None) == np.float32 else np.uint8


def check_binarize(dataset: Dataset, binarize: str) -> None:
    """Raises UserError where images are read as grey levels that are numbers of any size, or the other way round."""
    for part, split in dataset.splits.items():
        dtype = image_dtype(part, split)
        if dtype is np.float32 and binarize != "real":
            raise UserError(
                f"binarize: {binarize!r} is for grey levels, and images of float32 are numbers of any size; give real, "
                "or images of uint8: np.uint8(np.round(255 * images)), where they are from 0 to 1"
            )
        if dtype is np.uint8 and binarize == "real":
            raise UserError(
                "binarize: 'real' is for numbers of any size, and these images are grey levels; give none, which has "
                "them in [0, 1]"
            )


def _call_fetch(split: Any, indices: Indices) -> Any:
    return split.fetch(indices)


def _call_partner(split: Any, indices: Indices) -> Any:
    return split.partner(indices, indices, root_key(0))


def _check_trace(field: str, call: Callable, split: Split, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Raises UserError unless `call`, of the split and two indices, compiles and gives that; None is any length."""
    given = _trace(field, call, split)
    expected = f"give {dtype.__name__} ({', '.join('any' if n is None else str(n) for n in shape)})"
    if not isinstance(given, jax.ShapeDtypeStruct):
        raise UserError(f"{field}: gives {type(given).__name__} for two indices; {expected}")
    lengths_fit = len(given.shape) == len(shape) and all(
        n in (None, m) for n, m in zip(shape, given.shape, strict=True)
    )
    if not lengths_fit or not np.issubdtype(given.dtype, dtype):
        raise UserError(f"{field}: gives {given.dtype} {given.shape} for two indices; {expected}")


def _trace(field: str, call: Callable, split: Split) -> Any:
    """The shape and dtype of what `call` gives for the split and two indices. Raises UserError if it cannot compile."""
    try:
        return jax.eval_shape(call, split, np.zeros(2, np.int32))
    except Exception as error:  # it is the user's code, and JAX's word on it
        raise UserError(
            f"{field}: JAX cannot compile it ({type(error).__name__}: {reason(error)}); "
            "give a jax.tree_util.Partial of a function of jax.numpy and its arrays"
        ) from None


def fingerprint(dataset: Dataset) -> str:
    """16 hexadecimal digits that are the same for the same images and labels, wherever they lie, and others for others.

    A digest of the image shape, of the splits' sizes, of up to 4,096 labels and 256 images of each. Of a grid that code
    draws, the recipe and the factors stand for the images: pixels on an edge differ between devices.
    """
    total = hashlib.sha256(repr(tuple(map(int, dataset.image_shape))).encode())
    recipe = "" if dataset.factors is None else dataset.factors.recipe
    for split in (dataset.train, dataset.test, *([] if dataset.validation is None else [dataset.validation])):
        total.update(f"{split.size} {split.labels is not None} {recipe}".encode())
        if split.labels is not None:
            labels = np.asarray(split.labels)[sample_indices(split, 4096)]
            total.update(labels.astype("<i4").tobytes())
        indices = sample_indices(split, 256)
        if recipe and split.factors is not None:
            total.update(np.asarray(split.factors(jnp.asarray(indices, jnp.int32)), "<i4").tobytes())
        else:
            total.update(np.asarray(split.fetch(indices)).tobytes())
    return total.hexdigest()[:16]


def get(name: str) -> Callable[..., Dataset]:
    """`load` of the dataset `name`. Raises UserError for an unknown name."""
    load = registry.find("name", name, __name__, "load")
    if not callable(load):
        raise UserError(f"name: {name!r} is {type(load).__name__}; give a module with a function load, or the function")
    return load


def defaults(name: str) -> dict[str, Any]:
    """The config section of the dataset `name`: its name, the fields of every dataset, and its own."""
    shared = {"binarize": "dynamic", "validation": 0.1, "flip": False, "shift": 0}
    return {"name": name, **shared, **registry.keyword_fields(get(name)), **NEW.get(name, {})}


NEW = {"tfds": {"validation_split": "auto"}, "arrays": {"layout": ""}}
"""What a new config says where that is not what a config without the field means, which is the default of `load`."""


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(size)


def index_stream(seed: int, start: int, steps: int, size: int, batch_size: int) -> np.ndarray:
    """The data indices of `steps` batches from step `start`: int32 (steps, batch_size).

    Every epoch is a permutation of its own, and epochs follow one another without a gap, so a batch
    may end one and begin the next; a function of (seed, step) alone.

    Args:
        seed: of the run.
        start: the step of the first batch.
        steps: how many batches.
        size: how many images the split has.
        batch_size: how many indices a batch has, over all devices together.
    """
    first, last = start * batch_size, (start + steps) * batch_size
    epochs = range(first // size, (last - 1) // size + 1)
    orders = np.concatenate([_epoch_order(seed, epoch, size) for epoch in epochs])
    offset = first - epochs[0] * size
    return orders[offset : offset + last - first].astype(np.int32).reshape(steps, batch_size)


def scale_levels(images: Bytes, key: Key, index: Indices) -> Images:
    """Grey levels in [0, 1]."""
    return images.astype(jnp.float32) / 255


def threshold_levels(images: Bytes, key: Key, index: Indices) -> Images:
    """1 where a grey level is above one half, else 0."""
    return (images > 127).astype(jnp.float32)


def sample_pixels(images: Bytes, key: Key, index: Indices) -> Images:
    """A Bernoulli draw with the grey level as its probability, new at every visit.

    A pixel compares 16 random bits with its level: the probability is within 2^-16 of level / 255,
    and exact at black and white. Counter-mode threefry gives two pixels a word and no word is thrown
    away, which costs a quarter of what float uniforms do. A function of (key, index) alone.
    """
    flat = images.reshape(len(images), -1).astype(jnp.uint32)
    pixels = flat.shape[1]
    words = example_words(key, index, -(-pixels // 2))
    bits = jnp.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :pixels]
    return (bits < flat * 257 + (flat > 127)).astype(jnp.float32).reshape(images.shape)


def keep_numbers(images: Images, key: Key, index: Indices) -> Images:
    """The numbers as they are, of any size; NaN where one is missing, which a likelihood leaves out of its sum."""
    return images


Binarizer = Callable[[StoredImages, Key, Indices], Images]
BINARIZERS: dict[str, Binarizer] = {
    "none": scale_levels,
    "static": threshold_levels,
    "dynamic": sample_pixels,
    "real": keep_numbers,
}


def binarizer(name: str) -> Binarizer:
    """The function (images as they are kept, key, index) -> what the model sees. Raises UserError for an unknown name.

    "none", "static" and "dynamic" are of uint8, "real" of float32.
    """
    return registry.choose("binarize", name, BINARIZERS)


def make_batch(split: Split, binarize: Binarizer, indices: Indices, index: Indices, key: Key) -> Batch:
    """The batch that a loss sees.

    Args:
        split: where the images are from.
        binarize: one of BINARIZERS.
        indices: which images, by their numbers in the split.
        index: each example's number in the batch, which its noise follows from.
        key: of this use of randomness.

    Returns:
        "image", "index" and "size" (of the split), "label" where there are labels, and where there are factors
        "factors" and "pair", the partner's image.
    """
    batch = {"image": binarize(split.fetch(indices), key, index), "index": index, "size": split.size}
    if split.labels is not None:
        batch["label"] = split.labels[indices]
    if split.factors is not None and split.partner is not None:
        # What no loss reads is never computed: the compiler drops it.
        partner_key, binarize_key = jax.random.split(stream(key, "pair"))
        batch["factors"] = split.factors(indices)
        batch["pair"] = binarize(split.partner(indices, index, partner_key), binarize_key, index)
    return batch
