"""The contract of a metric, and how one is found: a file here is a name in a list of metrics.

A metric's file has `compute(subject, key, *, parameters) -> {name: number}` and `NEEDS`, the parts of the subject that
it reads beside the run. Parameters are the keyword-only ones of `compute`; their defaults are the reference
protocol, and `LEAST` and `MOST`, where a file has them, say between what they may be. `BY_NAME` says why a metric takes
too long to be among "all". A result is a function of the run, the data, the key and the parameters alone.
"""

import functools
import importlib
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax import data, randomness, registry
from vae_jax.data import Dataset
from vae_jax.data._factors import to_ids
from vae_jax.errors import UserError, unknown_name
from vae_jax.inference import TrainedModel
from vae_jax.model import Model
from vae_jax.models.distributions import Gaussian
from vae_jax.randomness import stream
from vae_jax.typing import Batch, Key

ArrayCodes = Float[np.ndarray, "image latent"]
ArrayClasses = Int[np.ndarray, "image factor"]
CHUNK = 1024
BATCH = 250
"""Images encoded at once; the 10,000 of most protocols are a whole number of them, so that one size is compiled."""


class Coded(NamedTuple):
    """The code of every image of a grid of factors, by id; a factor of one value is left out, as nothing to know.

    The last of `sizes` may be without a name: nuisance factors, which vary in all that is drawn and are not scored.
    """

    codes: ArrayCodes
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def of(self, classes: ArrayClasses) -> ArrayCodes:
        """The codes of the images with these factors."""
        return self.codes[np.asarray(to_ids(self.sizes, jnp.asarray(classes)))]

    def draw(self, key: Key, count: int) -> tuple[ArrayCodes, ArrayClasses]:
        """Codes and classes of `count` images, every factor uniform and independent of the others."""
        sizes = jnp.asarray(self.sizes)[None]
        classes = np.asarray(jax.random.randint(key, (count, len(self.sizes)), 0, sizes))
        return self.of(classes), classes[:, : len(self.names)]

    def sharing(
        self, key: Key, shared: Int[np.ndarray, " group"], size: int
    ) -> Float[np.ndarray, "group {size} latent"]:
        """Codes of `size` images for each of `shared`, drawn apart but for the factor whose number stands there."""
        ids = np.asarray(jax.random.randint(key, (len(shared), size), 0, len(self.codes)))
        step = np.array([math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))])[shared][:, None]
        values = ids // step % np.asarray(self.sizes)[shared][:, None]
        return self.codes[ids + (values[:, :1] - values) * step]


def finite(codes: np.ndarray) -> np.ndarray:
    """The codes as they are. Raises UserError where some are not finite."""
    if not np.isfinite(codes).all():
        raise UserError(f"codes: {int((~np.isfinite(codes)).any(axis=1).sum())} of {len(codes)} are not finite")
    return codes


def named(name: str, score: float | int, parts: Iterable[str], scores: np.ndarray) -> dict[str, float]:
    """A metric's result: the score under its `name`, and each part's under `name.part`."""
    details = {f"{name}.{part}": float(value) for part, value in zip(parts, scores, strict=True)}
    return {name: float(score), **details}


def coded(codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...], nuisance: tuple[str, ...] = ()) -> Coded:
    """`Coded` of the grid `sizes`. Raises UserError for codes that are not finite, and where no factor varies."""
    finite(codes)
    # A factor of one value moves no id: the grid is in the same order without it.
    varying = [(name, size) for name, size in zip(names, sizes, strict=True) if size > 1]
    order = sorted(range(len(varying)), key=lambda i: varying[i][0] in nuisance)
    scored = tuple(name for name, _ in varying if name not in nuisance)
    if not scored:
        raise UserError("factors: none that is scored takes more than one value, so there is nothing to score")
    grid = np.asarray(codes, np.float32).reshape(*(size for _, size in varying), -1)
    ordered = grid.transpose(*order, len(order)).reshape(len(codes), -1)
    return Coded(ordered, scored, tuple(varying[i][1] for i in order))


Watched = Callable[[Iterable, int], Iterable]


def unwatched(items: Iterable, total: int) -> Iterable:
    """The items as they are."""
    return items


class Subject:
    """A trained run and its data, and what metrics take from them, each computed once and only if it is asked for.

    `watched(items, total)` gives the items of a long loop, and tells a progress bar how far it has come.
    """

    def __init__(self, run: TrainedModel, dataset: Dataset, watched: Watched = unwatched):
        self.run, self.dataset, self.model, self.watched = run, dataset, run.model, watched
        self.codes, self.posterior = functools.cache(self._codes), functools.cache(self._posterior)

    def held_out(self, batch_size: int, images: int = 0) -> Iterator[Batch]:
        """`images` held-out images (0: all) in batches, binarised as the run's own evaluation does.

        Fewer than all are drawn once and for all, and more of them include the fewer.
        """
        return self._batches(self._places(images), batch_size)

    def _places(self, images: int) -> np.ndarray:
        # A grid's first images are all of one shape: these are from all over it.
        order = np.random.Generator(np.random.Philox(key=2)).permutation(self.dataset.test.size)
        return order[:images] if images else order

    def _codes(self, images: int) -> ArrayCodes:
        """The latents of `images` held-out images (0: all), drawn once and for all. Raises UserError if not finite."""
        codes = np.concatenate([self._represent(self.run.params, batch) for batch in self.held_out(BATCH, images)])
        return finite(codes[:, : self.run.latent_dim])

    def _posterior(self, images: int) -> Gaussian:
        """q(z | x) of the images of `codes`. Raises UserError where it is no Gaussian, or not finite."""
        return self._posterior_of(self.held_out(BATCH, images))

    def posterior_at(self, ids: Int[np.ndarray, " image"]) -> Gaussian:
        """q(z | x) of the images of the grid with these ids. Raises UserError as `posterior` does."""
        threshold = self.run.config["data"]["binarize"] == "static"

        def batch(some):
            images = self._render(jnp.asarray(some, jnp.int32)) / jnp.float32(255)
            return {"image": (images > 0.5).astype(jnp.float32) if threshold else images}

        return self._posterior_of(batch(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH))

    def _posterior_of(self, batches: Iterable[Batch]) -> Gaussian:
        if self.model.variant.posterior is None:
            raise UserError(f"config.variant.name: this metric needs {NEEDS['posterior']}")
        parts = [self._gaussian(self.run.params, batch) for batch in batches]
        whole = (np.concatenate(part)[:, : self.run.latent_dim] for part in zip(*parts, strict=True))
        return Gaussian(*(jnp.asarray(finite(part)) for part in whole))

    def _batches(self, places: np.ndarray, batch_size: int) -> Iterator[Batch]:
        split = jax.device_put(self.dataset.test)
        key = stream(randomness.root_key(self.run.config["seed"]), "evaluation")
        starts = range(0, len(places), batch_size)
        for start in self.watched(starts, len(starts)):
            indices = jnp.asarray(places[start : start + batch_size], jnp.int32)
            yield self._batch(split, indices, stream(key, "binarize"))

    @cached_property
    def _batch(self) -> Callable:
        binarize = data.binarizer(self.run.config["data"]["binarize"])

        def make(split, indices, key):
            batch = data.make_batch(split, binarize, indices, indices, key)
            # A loss alone reads it, and what a program does not return is not computed: to draw it takes longest.
            batch.pop("pair", None)
            return batch

        return jax.jit(make)

    @cached_property
    def _represent(self) -> Callable:
        return jax.jit(functools.partial(self.model.variant.encode, self.model.nets))

    @cached_property
    def _gaussian(self) -> Callable:
        return jax.jit(functools.partial(self.model.variant.posterior, self.model.nets))

    @cached_property
    def _render(self) -> Callable:
        # Its images are an argument: closed over they were a constant of the program, 5.9 GB for shapes3d.
        return functools.partial(jax.jit(lambda render, ids: render(ids)), jax.device_put(self.dataset.factors.render))

    @cached_property
    def coded(self) -> Coded:
        """The latents of every image of the grid. Raises UserError where the data have no factors."""
        grid = self.dataset.factors
        starts = range(0, grid.count, CHUNK)
        ids = [np.arange(start, min(start + CHUNK, grid.count), dtype=np.int32) for start in starts]
        watched = self.watched(ids, len(ids))
        codes = [self.run.encode(np.asarray(self._render(_padded(some))))[: len(some)] for some in watched]
        return coded(np.concatenate(codes)[:, : self.run.latent_dim], grid.names, grid.sizes, grid.nuisance)


def _padded(ids: np.ndarray) -> np.ndarray:
    return np.resize(ids, CHUNK)  # one size, compiled once


NEEDS = {
    "factors": "a dataset with factors (sprites, scenes, dsprites, shapes3d, smallnorb, cars3d)",
    "label": "a dataset with labels",
    "classes": "a dataset with labels or factors",
    "density": "a variant whose codes have a density",
    "posterior": "a variant whose posterior is a diagonal Gaussian",
    "prior": "a variant whose prior has a density that can be differentiated by the whole code",
    "models": "several models of one dataset, given to its function `score`",
}


def lacks(word: str, model: Model, dataset: Dataset) -> str:
    """What the metric of `word` needs and the model and its data do not have; empty where they have it all."""
    variant = model.variant
    has = {
        "factors": dataset.factors is not None,
        "label": dataset.train.labels is not None,
        "classes": dataset.train.labels is not None or dataset.factors is not None,
        "density": variant.posterior is not None or variant.sample_with_log_ratio is not None,
        "posterior": variant.posterior is not None,
        # Without a draw of its own a code is the posterior's latents, and log_prior their density.
        "prior": variant.sample_with_log_ratio is None or variant.log_prior is None,
    }
    missing = (NEEDS[need] for need in get(word.partition(":")[0]).NEEDS if not has.get(need, False))
    return next(missing, "")


def check(word: str, model: Model, dataset: Dataset) -> None:
    """Raises UserError unless the model and its data have what the metric of `word` needs."""
    if need := lacks(word, model, dataset):
        raise UserError(f"--metrics={word}: is not for this run; it needs {need}")


def get(name: str) -> Any:
    """The metric `name`: its module. Raises UserError for an unknown name."""
    registry.find("--metrics", name, __name__, "compute")
    return importlib.import_module(name if "." in name else f"{__name__}.{name}")


def names() -> list[str]:
    """All metrics."""
    return registry.file_names(__name__)


def parse(words: str) -> dict[str, Callable]:
    """ "mig,dci,likelihood:k=500" to what computes each, by its words. Raises UserError for what is unknown."""
    return {word: _one(word) for word in words.split(",") if word}


def _one(word: str) -> Callable:
    name, *settings = word.split(":")
    module = get(name)
    compute = module.compute
    defaults, given = registry.keyword_fields(compute), {}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in defaults:
            raise unknown_name(f"--metrics={word}", field, defaults)
        kind = type(defaults[field])
        try:
            given[field] = kind(value)
        except ValueError:
            raise UserError(
                f"--metrics={word}: {value!r} is not allowed; {field} is like {defaults[field]!r}"
            ) from None
    protocol = {**defaults, **given}
    for limits, within, words in (("LEAST", operator.ge, "at least"), ("MOST", operator.le, "at most")):
        for field, limit in getattr(module, limits, {}).items():
            if not within(protocol[field], limit):
                raise UserError(f"--metrics={word}: {field} = {protocol[field]} is not allowed; give {words} {limit}")
    return lambda subject, key: (compute(subject, key, **given), protocol)
