"""The contract of a metric, and how one is found: a file here is a name in a list of metrics.

A metric's file has `compute(subject, key, *, parameters) -> {name: number}` and `NEEDS`, the parts of the subject that
it reads beside the run. Parameters are the keyword-only ones of `compute`; their defaults are the reference
protocol. A result is a function of the run, the data, the key and the parameters alone.
"""

import functools
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax import data, registry, train
from vae_jax.data import Dataset
from vae_jax.distributions import Gaussian
from vae_jax.factors import to_ids
from vae_jax.model import Model
from vae_jax.registry import UserError
from vae_jax.trained import Run
from vae_jax.typing import Batch, Key

ArrayCodes = Float[np.ndarray, "image latent"]
ArrayClasses = Int[np.ndarray, "image factor"]
CHUNK = 4096


class Coded(NamedTuple):
    """The code of every image of a grid of factors, by id; a factor of one value is left out, as nothing to know."""

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
        return self.of(classes), classes

    def sharing(
        self, key: Key, shared: Int[np.ndarray, "group"], size: int
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


def at_least(name: str, least: float | int, **fields: float | int) -> None:
    """Raises UserError naming the first parameter of the metric `name` that is below `least`."""
    for field, value in fields.items():
        if value < least:
            raise UserError(f"--metrics={name}: {field} = {value} is not allowed; give at least {least}")


def named(name: str, score: float | int, parts: Iterable[str], scores: np.ndarray) -> dict[str, float]:
    """A metric's result: the score under its `name`, and each part's under `name.part`."""
    details = {f"{name}.{part}": float(value) for part, value in zip(parts, scores, strict=True)}
    return {name: float(score), **details}


def coded(codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...]) -> Coded:
    """`Coded` of the grid `sizes`. Raises UserError for codes that are not finite, and where no factor varies."""
    finite(codes)
    varying = [i for i, size in enumerate(sizes) if size > 1]
    if not varying:
        raise UserError("factors: none takes more than one value, so there is nothing to score")
    # A factor of one value moves no id: the grid is in the same order without it.
    return Coded(np.asarray(codes, np.float32), tuple(names[i] for i in varying), tuple(sizes[i] for i in varying))


class Subject:
    """A trained run and its data, and what metrics take from them, each computed once and only if it is asked for."""

    def __init__(self, run: Run, dataset: Dataset):
        self.run, self.dataset, self.model = run, dataset, run.model
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
        represent = jax.jit(functools.partial(self.model.variant.represent, self.model.nets))
        codes = np.concatenate([represent(self.run.params, batch) for batch in self.held_out(256, images)])
        return finite(codes[:, : self.run.latent_dim])

    def _posterior(self, images: int) -> Gaussian:
        """q(z | x) of the images of `codes`. Raises UserError where it is no Gaussian, or not finite."""
        return self._posterior_of(self.held_out(256, images))

    def posterior_at(self, ids: Int[np.ndarray, "image"]) -> Gaussian:
        """q(z | x) of the images of the grid with these ids. Raises UserError as `posterior` does."""
        render, threshold = jax.jit(self.dataset.factors.render), self.run.config["data"]["binarize"] == "static"

        def batch(some):
            images = render(jnp.asarray(some, jnp.int32)) / jnp.float32(255)
            return {"image": (images > 0.5).astype(jnp.float32) if threshold else images}

        return self._posterior_of(batch(ids[start : start + 256]) for start in range(0, len(ids), 256))

    def _posterior_of(self, batches: Iterable[Batch]) -> Gaussian:
        if self.model.variant.posterior is None:
            raise UserError(f"config.variant.name: this metric needs {NEEDS['posterior']}")
        posterior = jax.jit(functools.partial(self.model.variant.posterior, self.model.nets))
        parts = [posterior(self.run.params, batch) for batch in batches]
        whole = (np.concatenate(part)[:, : self.run.latent_dim] for part in zip(*parts, strict=True))
        return Gaussian(*(jnp.asarray(finite(part)) for part in whole))

    def _batches(self, places: np.ndarray, batch_size: int) -> Iterator[Batch]:
        config, split = self.run.config, jax.device_put(self.dataset.test)
        key = jax.random.fold_in(train.root_key(config["seed"]), train.EVALUATION)
        binarize = data.binarizer(config["data"]["binarize"])
        make = jax.jit(lambda indices, key: data.make_batch(split, binarize, indices, indices, key))
        for start in range(0, len(places), batch_size):
            indices = jnp.asarray(places[start : start + batch_size], jnp.int32)
            yield make(indices, jax.random.fold_in(key, train.BINARIZE))

    @cached_property
    def coded(self) -> Coded:
        """The latents of every image of the grid. Raises UserError where the data have no factors."""
        grid = self.dataset.factors
        starts = range(0, grid.count, CHUNK)
        ids = [np.arange(start, min(start + CHUNK, grid.count), dtype=np.int32) for start in starts]
        render = jax.jit(grid.render)
        codes = [self.run.encode(np.asarray(render(_padded(some))))[: len(some)] for some in ids]
        return coded(np.concatenate(codes)[:, : self.run.latent_dim], grid.names, grid.sizes)


def _padded(ids: np.ndarray) -> np.ndarray:
    return np.resize(ids, CHUNK)  # one size, compiled once


NEEDS = {
    "factors": "a dataset with factors (sprites, dsprites)",
    "label": "a dataset with labels",
    "density": "a variant whose codes have a density",
    "posterior": "a variant whose posterior is a diagonal Gaussian",
    "models": "several models of one dataset, given to its function `score`",
}


def check(word: str, model: Model, dataset: Dataset) -> None:
    """Raises UserError unless the model and its data have what the metric of `word` needs."""
    variant = model.variant
    has = {
        "factors": dataset.factors is not None,
        "label": dataset.train.labels is not None,
        "density": variant.posterior is not None or variant.draw is not None,
        "posterior": variant.posterior is not None,
    }
    for need in get(word.partition(":")[0]).NEEDS:
        if not has.get(need, False):
            raise UserError(f"--metrics={word}: is not for this run; it needs {NEEDS[need]}")


def get(name: str) -> Any:
    """The metric `name`: its module. Raises UserError for an unknown name."""
    from vae_jax import metrics

    return registry.module("--metrics", name, metrics)


def names() -> list[str]:
    """All metrics."""
    from vae_jax import metrics

    return sorted(info.name for info in pkgutil.iter_modules(metrics.__path__))


def parse(words: str) -> dict[str, Callable]:
    """ "mig,dci,likelihood:k=500" to what computes each, by its words. Raises UserError for what is unknown."""
    return {word: _one(word) for word in words.split(",") if word}


def _one(word: str) -> Callable:
    name, *settings = word.split(":")
    compute = get(name).compute
    defaults, given = registry.fields(compute), {}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in defaults:
            raise registry.unknown(f"--metrics={word}", field, defaults)
        kind = type(defaults[field])
        try:
            given[field] = kind(value)
        except ValueError:
            raise UserError(
                f"--metrics={word}: {value!r} is not allowed; {field} is like {defaults[field]!r}"
            ) from None
    protocol = {**defaults, **given}
    return lambda subject, key: (compute(subject, key, **given), protocol)
