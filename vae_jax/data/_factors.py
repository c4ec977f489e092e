"""Images whose factors are known: a complete grid of them, its splits, and draws from it.

An image's id is its place in the grid, row-major in the factors' order; its classes are the numbers of
its factors' values. Everything is a function of ids and keys and runs inside a compiled step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from vae_jax.errors import UserError, unknown_name
from vae_jax.randomness import example_keys
from vae_jax.typing import Bytes, Indices, Key

Classes = Int[Array, "batch factor"]
Members = Int[Array, "members"] | Int[np.ndarray, "members"]
"""The ids of a split's images, on the host or on a device."""
Places = Indices | Int[np.ndarray, "batch"]
Render = Callable[[Indices], Bytes]
TRIES = 32
"""Candidates for a pair's partner, of which the first that the split allows is taken."""


class Factors(NamedTuple):
    """A complete grid: `render(ids) -> uint8 images`, and each factor's name and number of values.

    Factors named in `nuisance` are drawn like the others, but no score and no pair counts them.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    render: Render
    nuisance: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images there are."""
        return math.prod(self.sizes)

    def images(self, classes: Classes) -> Bytes:
        """The images with these factors."""
        return self.render(to_ids(self.sizes, classes))

    def draw(self, key: Key, count: int) -> Classes:
        """`count` vectors of classes, each factor uniform and independent of the others."""
        return jax.random.randint(key, (count, len(self.sizes)), 0, jnp.asarray(self.sizes)[None])

    def pairs(self, key: Key, shared: Int[Array, "batch"]) -> tuple[Classes, Classes]:
        """Two vectors of classes for each of `shared`, drawn apart but for the factor whose number stands there.

        Nuisance factors are drawn apart too, unless their own number stands there.
        """
        one, other = (self.draw(part, len(shared)) for part in jax.random.split(key))
        same = jnp.arange(len(self.sizes))[None] == shared[:, None]
        return one, jnp.where(same, one, other)


def to_classes(sizes: tuple, ids: Indices) -> Classes:
    """The classes of each factor, from an id."""
    columns = []
    for size in reversed(sizes):
        columns.append(ids % size)
        ids = ids // size
    return jnp.stack(columns[::-1], axis=1)


def to_ids(sizes: tuple, classes: Classes) -> Indices:
    """The id of each vector of classes."""
    ids = jnp.zeros_like(classes[:, 0])
    for i, size in enumerate(sizes):
        ids = ids * size + classes[:, i]
    return ids


def change(
    key: Key, sizes: tuple, changed: Any, classes: Int[Array, "factor"], nuisance: tuple = ()
) -> Int[Array, "factor"]:
    """One image's classes with `changed` of its factors at another value; 0 draws from 1 to all but one.

    Factors marked in `nuisance` (none when empty) are not counted, and drawn anew: they are noise, and in the pairs
    of Locatello et al. 2020 each image has its own. A pair that shared them would tell what no factor says.
    """
    which, how_many, values = jax.random.split(key, 3)
    noise = jnp.asarray(nuisance or (False,) * len(sizes))
    many = (jnp.asarray(sizes) > 1) & ~noise
    varying = jnp.sum(many)
    drawn = jax.random.randint(how_many, (), 1, jnp.maximum(varying, 2))
    order = jnp.argsort(jnp.argsort(jnp.where(many, jax.random.uniform(which, many.shape), 2.0)))
    moved = noise | (many & (order < jnp.where(changed > 0, changed, drawn)))
    # By at least one, to another value; noise by zero too, to any.
    shift = jax.random.randint(values, many.shape, 1 - noise, jnp.maximum(jnp.asarray(sizes), 2 - noise))
    return jnp.where(moved, (classes + shift) % jnp.asarray(sizes), classes)


def fetch(members: Members, render: Render, indices: Places) -> Bytes:
    """The images of the members at `indices`."""
    return render(jnp.asarray(members)[indices])


def classes_of(members: Members, sizes: tuple, indices: Places) -> Classes:
    """The classes of the members at `indices`."""
    return to_classes(sizes, jnp.asarray(members)[indices])


def partner(
    members: Members,
    allowed: Any,
    sizes: tuple,
    changed: Any,
    render: Render,
    indices: Places,
    index: Places,
    key: Key,
    nuisance: tuple = (),
) -> Bytes:
    """Images that differ from those at `indices` as `change` says; where no try is allowed, the image itself."""
    ids, allowed = jnp.asarray(members)[indices], jnp.asarray(allowed)

    def one(key, classes, own):
        tries = jax.vmap(lambda i: change(jax.random.fold_in(key, i), sizes, changed, classes, nuisance))(
            jnp.arange(TRIES)
        )
        found = to_ids(sizes, tries)
        fit = allowed[found]
        return jnp.where(fit.any(), found[jnp.argmax(fit)], own)

    return render(jax.vmap(one)(example_keys(key, index), to_classes(sizes, ids), ids))


def members(factors: Factors, split: str) -> tuple[Bool[np.ndarray, "image"], Bool[np.ndarray, "image"]]:
    """Which ids are trained on and which are held out.

        "random 0.1"             a tenth of the images, drawn once and for all, is held out
        "without shape=2 x>=16"  the combination of all these values is held out, and seen in no training image
        "correlated x y 0.2"     a tenth is held out as before; of the others an image is kept with probability
                                 exp(-(u - v)^2 / (2 s^2)), u and v the two factors' classes scaled to [0, 1] and s the
                                 number (Trauble et al. 2021, section 3): the smaller, the more of a correlation

    Raises UserError for other words, and where either part would be empty.
    """
    rule, *words = split.split() or [""]
    rules = {"random": _random, "without": _without, "correlated": _correlated}
    if rule not in rules:
        raise unknown_name("config.data.split", rule, rules)
    train, test = rules[rule](factors, words)
    if not train.any() or not test.any():
        which = "training" if test.any() else "held-out"
        raise UserError(f"config.data.split: {split!r} leaves no {which} image")
    return train, test


def _uniform(factors: Factors, purpose: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=purpose)).random(factors.count)


def _random(factors: Factors, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    share = _number("random 0.1", *(words or ["0.1"]))
    held_out = _uniform(factors, 0) < share
    return ~held_out, held_out


def _without(factors: Factors, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    held_out = np.ones(factors.count, bool)
    for word in words:
        name, sign, number = next((word.partition(s) for s in (">=", "<=", "=") if s in word), (word, "", ""))
        if not number.isdigit():
            raise UserError(f"config.data.split: {word!r} is no condition; give factor=class, with =, >= or <=")
        of = _column(factors, name)
        held_out &= {"=": of == int(number), ">=": of >= int(number), "<=": of <= int(number)}[sign]
    return ~held_out, held_out


def _correlated(factors: Factors, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    if len(words) != 3:
        raise UserError("config.data.split: 'correlated' takes two factors and a number, as in 'correlated x y 0.2'")
    u, v = (_column(factors, name) / max(1, factors.sizes[factors.names.index(name)] - 1) for name in words[:2])
    kept = np.exp(-((u - v) ** 2) / (2 * _number("correlated x y 0.2", words[2]) ** 2))
    train, test = _random(factors, [])
    return train & (_uniform(factors, 1) < kept), test


def _number(example: str, word: str = "", *more: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if more or not 0 < value < 1e6:
        given = " ".join((word, *more))
        raise UserError(f"config.data.split: {given!r} is not a positive number; give one, as in {example!r}")
    return value


def _column(factors: Factors, name: str) -> np.ndarray:
    if name not in factors.names:
        raise unknown_name("config.data.split", name, factors.names)
    place = factors.names.index(name)
    return np.arange(factors.count) // math.prod(factors.sizes[place + 1 :]) % factors.sizes[place]
