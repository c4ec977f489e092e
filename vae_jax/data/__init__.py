"""Datasets: what one is, the index stream, and how a batch is made from indices. A file here is a config's name.

A file has `load(**fields) -> Dataset`; its fields are the keyword-only parameters of `load`. A dataset of the user's
own is a module with such a `load`, chosen by its dotted name. Images are uint8, on the device, and are gathered and
scaled or binarised inside the step.
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

MAX_BYTES = 8 * 2**30
"""Bytes of images above which a set is refused: it would not fit beside a model on most devices."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["fetch", "labels", "factors", "partner"], meta_fields=["size"]
)
@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a dataset: a pytree, which `jax.device_put` sends to a device and a compiled step takes whole.

    Attributes:
        fetch: indices -> uint8 images (batch, height, width, channels).
        labels: (size,) class numbers, None where there are none.
        size: how many images there are.
        factors: indices -> the classes of the factors that made the images; None where nobody knows them.
        partner: (indices, index, key) -> images that share some factors with those at `indices`, drawn with the
            noise of the examples `index`; None where `factors` is.
    """

    fetch: Callable[[Indices | np.ndarray], Bytes]
    labels: Any
    size: int
    factors: Callable[[Indices], Int[jax.Array, "batch factor"]] | None = None
    partner: Callable[[Indices, Indices, Key], Bytes] | None = None


class Dataset(NamedTuple):
    """Images of one shape in two splits.

    Attributes:
        image_shape: (height, width, channels).
        train: the images that are trained on.
        test: those that never are.
        factors: the whole grid, where the images are of one.
    """

    image_shape: tuple[int, int, int]
    train: Split
    test: Split
    factors: Factors | None = None


def _take_images(images: Any, indices: Any) -> Any:
    return images[indices]


def make_split(images: np.ndarray, labels: np.ndarray | None = None) -> Split:
    """A split of images held whole in memory.

    Args:
        images: uint8 (n, height, width, channels), of 1 or 3 channels.
        labels: (n,) class numbers, or None.

    Raises:
        UserError: for another dtype or shape, for labels that are not one for each image, and for too many bytes.
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
    if images.nbytes > MAX_BYTES:
        raise UserError(
            f"images: {images.nbytes / 2**30:.1f} GiB as uint8; at most {MAX_BYTES // 2**30} GiB fit on a device"
        )
    labels = None if labels is None else np.asarray(labels, np.int32)
    return Split(Partial(_take_images, images), labels, len(images))


def sample_indices(split: Split, maximum: int) -> np.ndarray:
    """The indices of all of `split`, or of `maximum` drawn once and for all: the first of a grid are all alike."""
    if split.size <= maximum:
        return np.arange(split.size)
    return np.sort(np.random.Generator(np.random.Philox(key=3)).permutation(split.size)[:maximum])


def from_arrays(
    train_images: np.ndarray,
    train_labels: np.ndarray | None,
    test_images: np.ndarray,
    test_labels: np.ndarray | None,
) -> Dataset:
    """A dataset of arrays in memory, each as `make_split` takes it.

    Raises UserError as `make_split` does, and where the shapes of train and test differ.
    """
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(f"images: train has shape {train_images.shape[1:]}, test has {test_images.shape[1:]}")
    train, test = make_split(train_images, train_labels), make_split(test_images, test_labels)
    return Dataset(tuple(train_images.shape[1:]), train, test)


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
            fetch=Partial(_factors.fetch_images, ids, grid.render),
            labels=None,
            size=len(ids),
            factors=Partial(_factors.fetch_classes, ids, grid.sizes),
            partner=Partial(_factors.fetch_partners, ids, allowed, grid.sizes, changed, grid.render, nuisance),
        )

    return Dataset(tuple(shape), split_of(train, train), split_of(test, np.ones_like(test)), grid)


def get(name: str) -> Callable[..., Dataset]:
    """`load` of the dataset `name`. Raises UserError for an unknown name."""
    return registry.find("name", name, __name__, "load")


def defaults(name: str) -> dict[str, Any]:
    """The config section of the dataset `name`: its name, how it is binarised, and its fields."""
    return {"name": name, "binarize": "dynamic", **registry.keyword_fields(get(name))}


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
    counter = jnp.arange(-(-pixels // 2), dtype=jnp.uint32)
    words = jax.vmap(lambda key: threefry_2x32(jax.random.key_data(key), counter))(example_keys(key, index))
    bits = jnp.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :pixels]
    return (bits < flat * 257 + (flat > 127)).astype(jnp.float32).reshape(images.shape)


BINARIZERS = {"none": scale_levels, "static": threshold_levels, "dynamic": sample_pixels}


def binarizer(name: str) -> Callable[[Bytes, Key, Indices], Images]:
    """The function (uint8 images, key, index) -> what the model sees. Raises UserError for an unknown name."""
    return registry.choose("binarize", name, BINARIZERS)


def make_batch(
    split: Split, binarize: Callable[[Bytes, Key, Indices], Images], indices: Indices, index: Indices, key: Key
) -> Batch:
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
