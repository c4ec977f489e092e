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
from collections.abc import Callable
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
from vae_jax.data._splits import read_batch, sparing_split
from vae_jax.errors import UserError
from vae_jax.files import cache_folder
from vae_jax.metrics import Progress, no_progress
from vae_jax.models.networks import _convolution
from vae_jax.models.networks._parts import convolutions, dense
from vae_jax.randomness import stream
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


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
        features_and_confidence: images -> the features of each, and the confidence in its likeliest class.
        accuracy: the share of held-out images whose class is told.
    """

    features_and_confidence: Callable[[Pictures], tuple[Features, Float[np.ndarray, " image"]]]
    accuracy: float


class Task(NamedTuple):
    """What there is to classify.

    Attributes:
        sizes: how many classes each head tells apart.
        targets: (split, indices) -> the right class of each head, -1 for one that training has not.
    """

    sizes: tuple[int, ...]
    targets: Callable[[Split, Indices], Targets]


def make_task(dataset: Dataset) -> Task:
    """The label, or each factor that varies. Raises UserError where the data have neither, or one class alone."""
    if dataset.train.labels is not None:
        values = np.unique(np.asarray(dataset.train.labels))
        task = Task((len(values),), partial(_label_targets, values))
    elif dataset.factors is not None:
        varying = np.array([i for i, size in enumerate(dataset.factors.sizes) if size > 1], int)
        sizes = tuple(dataset.factors.sizes[i] for i in varying)
        task = Task(sizes, partial(_factor_targets, varying))
    else:
        raise UserError("config.data.name: its images have neither labels nor factors, so there is nothing to classify")
    if max(task.sizes, default=0) < 2:
        raise UserError("config.data.name: all its images are of one class, so there is nothing to classify")
    return task


def _label_targets(values: np.ndarray, split: Split, indices: Indices) -> Targets:
    label = jnp.asarray(split.labels)[indices]
    number = jnp.minimum(jnp.searchsorted(values, label), len(values) - 1)
    return jnp.where(jnp.asarray(values)[number] == label, number, -1)[:, None]


def _factor_targets(varying: np.ndarray, split: Split, indices: Indices) -> Targets:
    assert split.factors is not None  # as the dataset's are not
    return split.factors(indices)[:, varying]


def grey_levels(split: Split, binarize: str, indices: Indices, key: Key) -> Images:
    """Grey levels in [0, 1], thresholded where the data are: the expectation of what is drawn anew."""
    name = "static" if binarize == "static" else "none"
    return data.binarizer(name)(split.fetch(indices), key, indices)


def pictures(split: Split, binarize: str, indices: Int[np.ndarray, " image"]) -> Pictures:
    """The images at `indices` of a split as the classifier takes them."""
    fetch = jax.jit(lambda split, indices: grey_levels(split, binarize, indices, randomness.root_key(0)))
    split = sparing_split(split)
    return map_chunks(lambda chunk: fetch(*read_batch(split, np.asarray(chunk, np.int32))), indices, CHUNK)


def map_chunks(function: Callable, rows: np.ndarray, chunk_size: int) -> Any:
    """`function` of all rows, computed for `chunk_size` at a time: one size, compiled once."""
    chunk_size = min(chunk_size, len(rows))
    chunks = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
    parts = [jax.tree.map(np.asarray, function(np.resize(chunk, (chunk_size, *chunk.shape[1:])))) for chunk in chunks]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)


class Net(NamedTuple):
    """`init(key) -> params`, `features(params, images)`, and `logits(params, features)`, one array for each head."""

    init: Callable[[Key], Params]
    features: Callable[[Params, Images], Float[Array, "batch feature"]]
    logits: Callable[[Params, Float[Array, "batch feature"]], list[Float[Array, "batch class"]]]


def make_net(image_shape: tuple[int, int, int], sizes: tuple[int, ...]) -> Net:
    """The classifier of images of this shape with heads of these sizes."""
    halvings = sum(size > SMALLEST for size in _convolution.halvings(min(image_shape[:2]), len(CHANNELS) - 1))
    body = convolutions(*CHANNELS[:halvings], hidden=HIDDEN, outputs=FEATURES)
    heads, cuts = dense(sum(sizes)), np.cumsum(sizes)[:-1]

    def init(key):
        body_key, heads_key = jax.random.split(key)
        image, features = jnp.zeros((1, *image_shape)), jnp.zeros((1, FEATURES))
        return {"body": body.init(body_key, image), "heads": heads.init(heads_key, features)}

    def features(params, images):
        return jax.nn.relu(body.apply(params["body"], images))

    def logits(params, features):
        return jnp.split(heads.apply(params["heads"], features), cuts, axis=1)

    return Net(init, features, logits)


def fit(dataset: Dataset, binarize: str, seed: int, progress: Progress) -> Params:
    """Trains the classifier: Adam on the sum over heads of the cross-entropy, its rate falling as a half cosine."""
    sizes, targets = make_task(dataset)
    net, split = make_net(dataset.image_shape, sizes), sparing_split(dataset.train)
    adam, key = optax.adam(optax.cosine_decay_schedule(RATE, STEPS)), randomness.root_key(seed)

    def loss(params, images, classes):
        logits = net.logits(params, net.features(params, images))
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return sum(jnp.mean(cross_entropy(logits, classes[:, head])) for head, logits in enumerate(logits))

    def train_step(split, carry, indices):
        params, state = carry
        images = grey_levels(split, binarize, indices, stream(key, "classifier/binarize"))
        gradient = jax.grad(loss)(params, images, targets(split, indices))
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train_steps(params, state, split, batches):
        return jax.lax.scan(partial(train_step, split), (params, state), batches)[0]

    params = jax.jit(net.init)(stream(key, "classifier/init"))
    state, starts = adam.init(params), range(0, STEPS, DISPATCH)
    for start in progress(starts, len(starts)):
        batches = data.index_stream(seed, start, DISPATCH, split.size, BATCH)
        params, state = train_steps(params, state, *read_batch(split, batches))
    return jax.tree.map(np.asarray, params)


def held_out_accuracy(dataset: Dataset, binarize: str, params: Params) -> float:
    """The share of held-out images whose class is told, averaged over heads."""
    sizes, targets = make_task(dataset)
    net, split = make_net(dataset.image_shape, sizes), sparing_split(dataset.test)

    @jax.jit
    def is_right(split, indices):
        images = grey_levels(split, binarize, indices, randomness.root_key(0))
        logits = net.logits(params, net.features(params, images))
        return jnp.stack([jnp.argmax(head, axis=1) for head in logits], axis=1) == targets(split, indices)

    indices = data.sample_indices(dataset.test, MOST)
    right = map_chunks(lambda chunk: is_right(*read_batch(split, np.asarray(chunk, np.int32))), indices, CHUNK)
    return float(right.mean())


def load_or_train(dataset: Dataset, section: Config, *, seed: int = 0, progress: Progress = no_progress) -> Classifier:
    """The classifier of a dataset: from the cache, or trained and kept there.

    Args:
        dataset: the data.
        section: the config's section `data` that loads them.
        seed: of the classifier, not of a run.
        progress: follows its training.

    Raises:
        UserError: where there is nothing to classify.
    """
    binarize, net = section["binarize"], make_net(dataset.image_shape, make_task(dataset).sizes)
    file = folder() / f"{section['name']}_{digest(dataset, section, seed)}.npz"
    kept = _read(file, jax.eval_shape(net.init, randomness.root_key(0)))
    if kept is None:
        params = fit(dataset, binarize, seed, progress)
        kept = params, held_out_accuracy(dataset, binarize, params)
        _write(file, *kept)
    params, accuracy = kept

    @jax.jit
    def evaluate(params, images):
        features = net.features(params, images)
        confidences = [jnp.max(jax.nn.softmax(logits), axis=1) for logits in net.logits(params, features)]
        return features, sum(confidences) / len(confidences)

    return Classifier(lambda images: map_chunks(partial(evaluate, params), images, CHUNK), accuracy)


def folder() -> Path:
    """Where classifiers are kept."""
    return cache_folder("classifiers")


def digest(dataset: Dataset, section: Config, seed: int) -> str:
    """What the classifier follows from, as a name: the data's fields, sizes and images, this file and the seed."""
    fields = {name: value for name, value in section.items() if name != "binarize"}
    sums = [_checksum(split, dataset) for split in (dataset.train, dataset.test)]
    parts = [VERSION, seed, fields, section["binarize"] == "static", dataset.image_shape, sums]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _checksum(split: Split, dataset: Dataset) -> tuple[int, int]:
    indices = jnp.asarray(data.sample_indices(split, 256), jnp.int32)
    images, classes = split.fetch(indices), make_task(dataset).targets(split, indices)
    return split.size, zlib.crc32(np.asarray(images).tobytes() + np.asarray(classes).tobytes())


def _read(file: Path, template: Params) -> tuple[Params, float] | None:
    """Parameters shaped as `template`, and the accuracy; None where there is no such file, or it is damaged."""
    shapes, tree = jax.tree.flatten(template)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            leaves = [arrays[str(i)] for i in range(len(shapes))]
            accuracy = float(arrays["accuracy"])
    except Exception:  # a damaged zip raises what comes
        return None
    if any((leaf.shape, leaf.dtype) != (like.shape, like.dtype) for leaf, like in zip(leaves, shapes, strict=True)):
        return None
    return jax.tree.unflatten(tree, leaves), accuracy


def _write(file: Path, params: Params, accuracy: float) -> None:
    arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs time, and nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(file, accuracy=accuracy, **arrays)


def _save(file: Path, **arrays: Any) -> None:
    """Writes the arrays beside `file`, then in its place: no other process finds half of them."""
    handle, name = tempfile.mkstemp(suffix=".unfinished", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as unfinished:
            np.savez(unfinished, **arrays)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
