"""A small classifier of a dataset's own labels, trained here once: the space in which pictures are compared.

Metrics of samples compare features, because pixels say little of what is in a picture; the field takes the features of
a network trained on photographs, which would have to be downloaded and knows nothing of digits or sprites. This one is
trained on the training split: 4x4 convolutions at stride 2 down to a grid of 4, a dense layer, and the 64 features
(after the rectifier) from which each head, one linear layer, reads its class. There is one head for the label,
or one for each factor that varies; accuracy and confidence are means over heads.

It sees grey levels in [0, 1], thresholded where `data.binarize` is static. It is not taught to overlook blur or noise:
a decoder's means are softer than data, and a distance should tell. Its seed is its own, not the run's, so that all runs
on the same data are measured in the same space. It is kept in the user's cache folder (XDG_CACHE_HOME, or ~/.cache); a
file that is damaged, or is of other data, is never used.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from vae_jax import data, randomness
from vae_jax.data import Dataset, Split
from vae_jax.errors import UserError
from vae_jax.models.networks import _convolution
from vae_jax.models.networks._parts import convolutions, dense
from vae_jax.typing import Config, Images, Indices, Key, Params

VERSION = 1
"""Part of a kept file's name: to be raised when what is below would train another classifier."""
STEPS, BATCH, RATE, DISPATCH = 1500, 128, 2e-3, 100
CHANNELS, SMALLEST, HIDDEN, FEATURES = (8, 16, 32, 64), 4, 128, 64
MOST = 10_000
"""Held-out images that its accuracy is of, at most."""
CHUNK = 512

Features = Float[np.ndarray, "image feature"]
Pictures = Float[np.ndarray, "image height width channels"]
Targets = Int[Array, "batch head"]
INIT, SEEING = range(2)


class Classifier(NamedTuple):
    """`see(images)` is the features of each and the confidence in its likeliest class; `accuracy` is held-out."""

    see: Callable[[Pictures], tuple[Features, Float[np.ndarray, "image"]]]
    accuracy: float


class Task(NamedTuple):
    """How many classes each head tells apart, and `targets(split, indices)`: the right ones, -1 for one unseen."""

    sizes: tuple[int, ...]
    targets: Callable[[Split, Indices], Targets]


def task(dataset: Dataset) -> Task:
    """The label, or each factor that varies. Raises UserError where the data have neither, or one class alone."""
    if dataset.train.labels is not None:
        values = np.unique(np.asarray(dataset.train.labels))
        found = Task((len(values),), partial(_label, values))
    elif dataset.factors is not None:
        varying = tuple(i for i, size in enumerate(dataset.factors.sizes) if size > 1)
        sizes = tuple(dataset.factors.sizes[i] for i in varying)
        found = Task(sizes, lambda split, indices: split.factors(indices)[:, np.array(varying)])
    else:
        raise UserError("config.data.name: its images have neither labels nor factors, so there is nothing to classify")
    if max(found.sizes, default=0) < 2:
        raise UserError("config.data.name: all its images are of one class, so there is nothing to classify")
    return found


def _label(values: np.ndarray, split: Split, indices: Indices) -> Targets:
    label = jnp.asarray(split.labels)[indices]
    place = jnp.minimum(jnp.searchsorted(values, label), len(values) - 1)
    return jnp.where(jnp.asarray(values)[place] == label, place, -1)[:, None]


def seen(split: Split, binarize: str, indices: Indices, key: Key) -> Images:
    """Grey levels in [0, 1], thresholded where the data are: the expectation of what is drawn anew."""
    name = "static" if binarize == "static" else "none"
    return data.binarizer(name)(split.fetch(indices), key, indices)


def pictures(split: Split, binarize: str, places: Int[np.ndarray, "image"]) -> Pictures:
    """The images at `places` of a split as the classifier sees them."""
    fetch = jax.jit(lambda split, indices: seen(split, binarize, indices, randomness.root_key(0)))
    split = jax.device_put(split)
    return in_chunks(lambda some: fetch(split, jnp.asarray(some, jnp.int32)), places, CHUNK)


def in_chunks(function: Callable, rows: np.ndarray, at_once: int) -> Any:
    """`function` of all rows, computed for `at_once` at a time: one size, compiled once."""
    at_once = min(at_once, len(rows))
    cuts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    parts = [jax.tree.map(np.asarray, function(np.resize(cut, (at_once, *cut.shape[1:])))) for cut in cuts]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)


class Net(NamedTuple):
    """`init(key) -> params`, `features(params, images)`, and `logits(params, features)`, one array for each head."""

    init: Callable[[Key], Params]
    features: Callable[[Params, Images], Float[Array, "batch feature"]]
    logits: Callable[[Params, Float[Array, "batch feature"]], list[Float[Array, "batch class"]]]


def network(image_shape: tuple[int, int, int], sizes: tuple[int, ...]) -> Net:
    """The classifier of images of this shape with heads of these sizes."""
    halvings = sum(size > SMALLEST for size in _convolution.halvings(min(image_shape[:2]), len(CHANNELS) - 1))
    body = convolutions(*CHANNELS[:halvings], hidden=HIDDEN, outputs=FEATURES)
    heads, cuts = dense(sum(sizes)), np.cumsum(sizes)[:-1]

    def init(key):
        below, above = jax.random.split(key)
        image, features = jnp.zeros((1, *image_shape)), jnp.zeros((1, FEATURES))
        return {"body": body.init(below, image), "heads": heads.init(above, features)}

    return Net(
        init,
        lambda params, images: jax.nn.relu(body.apply(params["body"], images)),
        lambda params, features: jnp.split(heads.apply(params["heads"], features), cuts, axis=1),
    )


def fit(dataset: Dataset, binarize: str, seed: int, watched: Callable[[Iterable, int], Iterable]) -> Params:
    """Trains the classifier: Adam on the sum over heads of the cross-entropy, its rate falling as a half cosine."""
    sizes, targets = task(dataset)
    net, split = network(dataset.image_shape, sizes), jax.device_put(dataset.train)
    adam, key = optax.adam(optax.cosine_decay_schedule(RATE, STEPS)), randomness.root_key(seed)

    def loss(params, images, right):
        logits = net.logits(params, net.features(params, images))
        cross = optax.softmax_cross_entropy_with_integer_labels
        return sum(jnp.mean(cross(logits, right[:, head])) for head, logits in enumerate(logits))

    @jax.jit
    def steps(params, state, split, batches):
        def step(carry, indices):
            params, state = carry
            images = seen(split, binarize, indices, jax.random.fold_in(key, SEEING))
            gradient = jax.grad(loss)(params, images, targets(split, indices))
            updates, state = adam.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), batches)[0]

    params = jax.jit(net.init)(jax.random.fold_in(key, INIT))
    state, starts = adam.init(params), range(0, STEPS, DISPATCH)
    for start in watched(starts, len(starts)):
        batches = data.index_stream(seed, start, DISPATCH, split.size, BATCH)
        params, state = steps(params, state, split, jnp.asarray(batches))
    return jax.tree.map(np.asarray, params)


def accuracy(dataset: Dataset, binarize: str, params: Params) -> float:
    """The share of held-out images whose class is told, averaged over heads."""
    sizes, targets = task(dataset)
    net, split = network(dataset.image_shape, sizes), jax.device_put(dataset.test)

    @jax.jit
    def told(split, indices):
        logits = net.logits(params, net.features(params, seen(split, binarize, indices, randomness.root_key(0))))
        return jnp.stack([jnp.argmax(head, axis=1) for head in logits], axis=1) == targets(split, indices)

    places = data.some(dataset.test, MOST)
    return float(in_chunks(lambda some: told(split, jnp.asarray(some, jnp.int32)), places, CHUNK).mean())


def trained(
    dataset: Dataset,
    section: Config,
    *,
    seed: int = 0,
    watched: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> Classifier:
    """The classifier of `dataset`, which a config's `section` data loads: from the cache, or trained and kept there.

    Raises UserError where there is nothing to classify.
    """
    binarize, net = section["binarize"], network(dataset.image_shape, task(dataset).sizes)
    file = folder() / f"{section['name']}_{digest(dataset, section, seed)}.npz"
    kept = _read(file, jax.eval_shape(net.init, randomness.root_key(0)))
    if kept is None:
        params = fit(dataset, binarize, seed, watched)
        kept = params, accuracy(dataset, binarize, params)
        _write(file, *kept)
    params, right = kept

    @jax.jit
    def see(params, images):
        features = net.features(params, images)
        surest = [jnp.max(jax.nn.softmax(logits), axis=1) for logits in net.logits(params, features)]
        return features, sum(surest) / len(surest)

    return Classifier(lambda images: in_chunks(lambda some: see(params, some), images, CHUNK), right)


def folder() -> Path:
    """Where classifiers are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vae_jax" / "classifiers"


def digest(dataset: Dataset, section: Config, seed: int) -> str:
    """What the classifier follows from, as a name: the data's fields, sizes and some images, this file and the seed."""
    fields = {name: value for name, value in section.items() if name != "binarize"}
    sums = [_checksum(split, dataset) for split in (dataset.train, dataset.test)]
    parts = [VERSION, seed, fields, section["binarize"] == "static", dataset.image_shape, sums]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _checksum(split: Split, dataset: Dataset) -> tuple[int, int]:
    some = jnp.asarray(data.some(split, 256), jnp.int32)
    content = np.asarray(split.fetch(some)).tobytes() + np.asarray(task(dataset).targets(split, some)).tobytes()
    return split.size, zlib.crc32(content)


def _read(file: Path, like: Params) -> tuple[Params, float] | None:
    """Parameters shaped as `like`, and the accuracy; None where there is no such file, or it is damaged."""
    leaves, tree = jax.tree.flatten(like)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            found = [arrays[str(i)] for i in range(len(leaves))]
            right = float(arrays["accuracy"])
    except Exception:  # a damaged zip raises what comes
        return None
    fits = all(one.shape == leaf.shape and one.dtype == leaf.dtype for one, leaf in zip(found, leaves, strict=True))
    return (jax.tree.unflatten(tree, found), right) if fits else None


def _write(file: Path, params: Params, right: float) -> None:
    arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs time, and nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".unfinished", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as unfinished:
                np.savez(unfinished, accuracy=right, **arrays)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
