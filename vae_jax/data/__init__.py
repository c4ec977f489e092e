"""The contract of a dataset, the index stream, and how a batch is made from indices.

A dataset's file has `load(**fields) -> Dataset`; its fields are the keyword-only parameters of
`load`. Images are uint8, on the device, and are gathered and scaled or binarised inside the step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jax.tree_util import Partial
from jaxtyping import Int

from vae_jax import registry
from vae_jax.data import _factors
from vae_jax.data._factors import Factors
from vae_jax.errors import UserError
from vae_jax.randomness import example_keys, stream
from vae_jax.typing import Batch, Bytes, Images, Indices, Key

LARGEST = 8 * 2**30
"""Bytes of images above which a set is refused: it would not fit beside a model on most devices."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["fetch", "labels", "factors", "partner"], meta_fields=["size"]
)
@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a dataset: `fetch(indices) -> uint8 images`, labels where there are any, and a size.

    Where the factors that made the images are known, `factors(indices)` are their class numbers and
    `partner(indices, index, key)` are other images that share some of them.
    A pytree: its arrays travel to a device with `jax.device_put` and into a compiled step as arguments.
    """

    fetch: Callable[[Indices], Bytes]
    labels: Any
    size: int
    factors: Callable[[Indices], Int[jax.Array, "batch factor"]] | None = None
    partner: Callable[[Indices, Indices, Key], Bytes] | None = None


class Dataset(NamedTuple):
    """Images of one shape (height, width, channels) in two splits; "test" is never trained on.

    `factors` is the whole grid where the images are of one.
    """

    image_shape: tuple[int, int, int]
    train: Split
    test: Split
    factors: Factors | None = None


def _take(images, indices):
    return images[indices]


def split(images: np.ndarray, labels: np.ndarray | None = None) -> Split:
    """A split of uint8 images (n, height, width, channels) held whole in memory.

    Raises UserError for another dtype or rank, and where labels are not one for each image.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(
            f"images: {images.dtype} of shape {images.shape} is not allowed; "
            "give uint8 of shape (n, height, width, channels)"
        )
    if not len(images) or images.shape[-1] not in (1, 3):
        raise UserError(f"images: shape {images.shape} is not allowed; give at least one, of 1 or 3 channels")
    if labels is not None and len(labels) != len(images):
        raise UserError(f"labels: {len(labels)} of them for {len(images)} images; give one for each image")
    if images.nbytes > LARGEST:
        raise UserError(
            f"images: {images.nbytes / 2**30:.1f} GiB as uint8; at most {LARGEST // 2**30} GiB fit on a device"
        )
    labels = None if labels is None else np.asarray(labels, np.int32)
    return Split(Partial(_take, images), labels, len(images))


def some(split: Split, most: int) -> np.ndarray:
    """The indices of all of `split`, or of `most` drawn once and for all: the first of a grid are all alike."""
    if split.size <= most:
        return np.arange(split.size)
    return np.sort(np.random.Generator(np.random.Philox(key=3)).permutation(split.size)[:most])


def from_arrays(train_images, train_labels, test_images, test_labels) -> Dataset:
    """A dataset of in-memory uint8 arrays; labels may be None. Raises UserError where they do not fit."""
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(f"images: train has shape {train_images.shape[1:]}, test has {test_images.shape[1:]}")
    train, test = split(train_images, train_labels), split(test_images, test_labels)
    return Dataset(tuple(train_images.shape[1:]), train, test)


def from_factors(grid: Factors, split: str, changed: int) -> Dataset:
    """The dataset of a complete grid of factors, cut as `factors.members` reads `split`.

    A pair's partner differs in `changed` factors (0: from one to all but one, drawn for each pair), nuisance factors
    not counted and drawn anew; that of a training image is a training image, that of a held-out one any. Raises
    UserError where a field is wrong.
    """
    noise = tuple(name in grid.nuisance for name in grid.names)
    varying = sum(size > 1 for size, drawn in zip(grid.sizes, noise, strict=True) if not drawn)
    if not 0 <= changed <= varying:
        raise UserError(f"config.data.changed: {changed} is not allowed; give 0 (drawn for each pair) to {varying}")
    train, test = _factors.members(grid, split)
    shape = jax.eval_shape(lambda render, ids: render(ids), grid.render, np.zeros(1, np.int32)).shape[1:]

    def part(chosen, allowed):
        ids = np.flatnonzero(chosen).astype(np.int32)
        return Split(
            fetch=Partial(_factors.fetch, ids, grid.render),
            labels=None,
            size=len(ids),
            factors=Partial(_factors.classes_of, ids, grid.sizes),
            partner=Partial(_factors.partner, ids, allowed, grid.sizes, changed, grid.render, nuisance=noise),
        )

    return Dataset(tuple(shape), part(train, train), part(test, np.ones_like(test)), grid)


def get(name: str) -> Callable[..., Dataset]:
    """`load` of the dataset `name`. Raises UserError for an unknown name."""
    return registry.find("config.data.name", name, __name__, "load")


def defaults(name: str) -> dict[str, Any]:
    """The config section of the dataset `name`: its name, how it is binarised, and its fields."""
    return {"name": name, "binarize": "dynamic", **registry.keyword_fields(get(name))}


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(size)


def index_stream(seed: int, start: int, steps: int, size: int, batch_size: int) -> np.ndarray:
    """The data indices of `steps` batches from step `start`: int32 (steps, batch_size).

    Every epoch is a permutation of its own, and epochs follow one another without a gap, so a batch
    may end one and begin the next; a function of (seed, step) alone.
    """
    first, last = start * batch_size, (start + steps) * batch_size
    epochs = range(first // size, (last - 1) // size + 1)
    stream = np.concatenate([_epoch(seed, epoch, size) for epoch in epochs])
    offset = first - epochs[0] * size
    return stream[offset : offset + last - first].astype(np.int32).reshape(steps, batch_size)


def scale(images: Bytes, key: Key, index: Indices) -> Images:
    """Grey levels in [0, 1]."""
    return images.astype(jnp.float32) / 255


def threshold(images: Bytes, key: Key, index: Indices) -> Images:
    """1 where a grey level is above one half, else 0."""
    return (images > 127).astype(jnp.float32)


def draw(images: Bytes, key: Key, index: Indices) -> Images:
    """A Bernoulli draw with the grey level as its probability, new at every visit.

    A pixel compares 16 random bits with its level: the probability is within 2^-16 of level / 255,
    and exact at black and white. Counter-mode threefry gives two pixels a word and no word is thrown
    away, which costs a quarter of what float uniforms do. A function of (key, index) alone.
    """
    flat = images.reshape(len(images), -1).astype(jnp.uint32)
    pixels = flat.shape[1]
    counter = jnp.arange(-(-pixels // 2), dtype=jnp.uint32)
    words = jax.vmap(lambda key: threefry_2x32(jax.random.key_data(key), counter))(example_keys(key, index))
    bits = jnp.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :pixels]
    return (bits < flat * 257 + (flat > 127)).astype(jnp.float32).reshape(images.shape)


BINARIZE = {"none": scale, "static": threshold, "dynamic": draw}


def binarizer(name: str) -> Callable[[Bytes, Key, Indices], Images]:
    """(uint8 images, key, index) -> what the model sees. Raises UserError for an unknown name."""
    return registry.choose("config.data.binarize", name, BINARIZE)


def make_batch(split: Split, binarize: Callable, indices: Indices, index: Indices, key: Key) -> Batch:
    """The batch of the data `indices`; `index` is each example's own number, for its noise."""
    batch = {"image": binarize(split.fetch(indices), key, index), "index": index, "size": split.size}
    if split.labels is not None:
        batch["label"] = split.labels[indices]
    if split.factors is not None:
        # What no loss reads is never computed: the compiler drops it.
        pair, noise = jax.random.split(stream(key, "pair"))
        batch["factors"] = split.factors(indices)
        batch["pair"] = binarize(split.partner(indices, index, pair), noise, index)
    return batch
