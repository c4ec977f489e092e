"""Images whose factors are known: a complete grid of them, its splits, and draws from it.

An image's id is its position in the grid, row-major in the factors' order; its classes are the numbers of
its factors' values. Everything is a function of ids and keys and runs inside a compiled step.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vae_jax.errors import UserError, unknown_name
from vae_jax.randomness import example_keys
from vae_jax.typing import Bytes, Indices, Key

Classes = Int[Array, "batch factor"]
SplitIds = Int[Array, " members"] | Int[np.ndarray, " members"]
"""The ids of a split's images, on the host or on a device."""
Positions = Indices | Int[np.ndarray, " batch"]
Sizes = tuple[Any, ...]
"""How many values each factor has: whole numbers, traced ones in a compiled step."""
Render = Callable[[Indices], Bytes]
Mask = Bool[np.ndarray, " image"]
MAX_IMAGES = 10**8
"""In a grid, of which the splits keep a list."""
MAX_RESOLUTION = 4096
"""Of an image that is drawn: a batch of larger ones fits no device."""
CANDIDATES = 32
"""Candidates for a pair's partner, of which the first that the split allows is taken."""


class Factors(NamedTuple):
    """A complete grid of images.

    Attributes:
        names: of the factors.
        sizes: how many values each factor has.
        render: ids -> uint8 images; an id is an image's position in the grid, row-major in the factors' order.
        nuisance: the names of factors that are drawn like the others, but that no score and no pair counts.
        recipe: what the images are drawn by, in words, where `render` computes them and does not look them up. Pixels
            on an edge differ between kinds of device; `data.fingerprint` takes the recipe in their place.
        categorical: the names of factors whose values have no order; a page gives each a colour, the others a ramp.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    render: Render
    nuisance: tuple[str, ...] = ()
    recipe: str = ""
    categorical: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many images there are."""
        return math.prod(self.sizes)

    def images(self, classes: Classes) -> Bytes:
        """The images with these factors."""
        return self.render(to_ids(self.sizes, classes))

    def sample(self, key: Key, count: int) -> Classes:
        """`count` vectors of classes, each factor uniform and independent of the others."""
        return jax.random.randint(key, (count, len(self.sizes)), 0, jnp.asarray(self.sizes)[None], jnp.int32)

    def sample_pairs(self, key: Key, shared: Int[Array, " batch"]) -> tuple[Classes, Classes]:
        """Two vectors of classes for each of `shared`, drawn independently but for the factor of that number.

        Nuisance factors are drawn independently too, unless their own number stands there.
        """
        first, second = (self.sample(part, len(shared)) for part in jax.random.split(key))
        is_shared = jnp.arange(len(self.sizes))[None] == shared[:, None]
        return first, jnp.where(is_shared, first, second)


def to_classes(sizes: Sizes, ids: Indices) -> Classes:
    """The classes of each factor, from an id."""
    columns = []
    for size in reversed(sizes):
        columns.append(ids % size)
        ids = ids // size
    return jnp.stack(columns[::-1], axis=1)


def to_ids(sizes: Sizes, classes: Classes) -> Indices:
    """The id of each vector of classes."""
    ids = jnp.zeros_like(classes[:, 0])
    for i, size in enumerate(sizes):
        ids = ids * size + classes[:, i]
    return ids


def check_sizes(sizes: tuple[int, ...]) -> None:
    """Raises UserError for a grid of more images than MAX_IMAGES."""
    if math.prod(sizes) > MAX_IMAGES:
        raise UserError(f"sizes: {sizes} is not allowed; give at most {MAX_IMAGES:,} images, the product")


def check_resolution(resolution: int, least: int) -> None:
    """Raises UserError for images of fewer pixels a side than `least`, and for more than MAX_RESOLUTION."""
    if resolution < least:
        raise UserError(f"resolution: {resolution} is not allowed; give at least {least}")
    if resolution > MAX_RESOLUTION:
        raise UserError(f"resolution: {resolution} is not allowed; give at most {MAX_RESOLUTION:,}")


def change_factors(
    key: Key, sizes: Sizes, changed: Any, classes: Int[Array, " factor"], nuisance: tuple[Any, ...] = ()
) -> Int[Array, " factor"]:
    """One image's classes with `changed` of its factors at another value.

    Args:
        key: of this image's draw.
        sizes: how many values each factor has.
        changed: how many factors; 0 draws from 1 to all but one.
        classes: of the image.
        nuisance: which factors (none when empty) are not counted, and drawn anew: they are noise, and in the pairs of
            Locatello et al. 2020 each image has its own. A pair that shared them would tell what no factor says.
    """
    which, how_many, values = jax.random.split(key, 3)
    noise = jnp.asarray(nuisance or (False,) * len(sizes))
    varies = (jnp.asarray(sizes) > 1) & ~noise
    drawn = jax.random.randint(how_many, (), 1, jnp.maximum(jnp.sum(varies), 2), jnp.int32)
    rank = jnp.argsort(jnp.argsort(jnp.where(varies, jax.random.uniform(which, varies.shape, jnp.float32), 2.0)))
    moves = noise | (varies & (rank < jnp.where(changed > 0, changed, drawn)))
    # By at least one, to another value; noise by zero too, to any.
    shift = jax.random.randint(values, varies.shape, 1 - noise, jnp.maximum(jnp.asarray(sizes), 2 - noise), jnp.int32)
    return jnp.where(moves, (classes + shift) % jnp.asarray(sizes), classes)


# Compiled even where they are called alone, else each of their operations is by itself.
@jax.jit
def _ids_at(ids: SplitIds, positions: Positions) -> Indices:
    return jnp.asarray(ids)[positions]


@jax.jit
def _classes_at(sizes: Sizes, ids: SplitIds, positions: Positions) -> Classes:
    return to_classes(sizes, _ids_at(ids, positions))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["ids", "render"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class GridImages:
    """indices -> the images of a split whose images have these ids."""

    ids: SplitIds
    render: Render

    def __call__(self, indices: Positions) -> Bytes:
        return self.render(_ids_at(self.ids, indices))

    def take(self, positions: np.ndarray) -> "GridImages":
        """Of the images at these positions alone."""
        return dataclasses.replace(self, ids=self.ids[positions])


@functools.partial(jax.tree_util.register_dataclass, data_fields=["ids", "sizes"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class GridClasses:
    """indices -> the classes of a split's images."""

    ids: SplitIds
    sizes: Sizes

    def __call__(self, indices: Positions) -> Classes:
        return _classes_at(self.sizes, self.ids, indices)

    def take(self, positions: np.ndarray) -> "GridClasses":
        """Of the images at these positions alone."""
        return dataclasses.replace(self, ids=self.ids[positions])


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["ids", "allowed", "sizes", "changed", "render", "nuisance"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, eq=False)
class GridPartners:
    """(indices, index, key) -> images that differ from those at `indices` as `change_factors` says.

    `index` is each example's number in the batch, which its draw follows from; `key` is of this use of randomness.

    Attributes:
        ids: of the split's images.
        allowed: whether each id of the grid may be a partner; where no candidate may, the partner is the image itself.
        sizes, changed, nuisance: as in `change_factors`.
        render: ids -> images.
    """

    ids: SplitIds
    allowed: Any
    sizes: Sizes
    changed: Any
    render: Render
    nuisance: tuple[Any, ...]

    def __call__(self, indices: Positions, index: Positions, key: Key) -> Bytes:
        sizes, ids, allowed = self.sizes, jnp.asarray(self.ids)[indices], jnp.asarray(self.allowed)

        def partner_id(key: Key, classes: Int[Array, " factor"], image_id: Int[Array, ""]) -> Int[Array, ""]:
            def candidate(i: Int[Array, ""]) -> Int[Array, " factor"]:
                return change_factors(jax.random.fold_in(key, i), sizes, self.changed, classes, self.nuisance)

            candidates = to_ids(sizes, jax.vmap(candidate)(jnp.arange(CANDIDATES)))
            fits = allowed[candidates]
            return jnp.where(fits.any(), candidates[jnp.argmax(fits)], image_id)

        return self.render(jax.vmap(partner_id)(example_keys(key, jnp.asarray(index)), to_classes(sizes, ids), ids))

    def take(self, positions: np.ndarray) -> "GridPartners":
        """Of the images at these positions; their partners are from where they were."""
        return dataclasses.replace(self, ids=self.ids[positions])

    def among_own(self) -> "GridPartners":
        """Of the same images, whose partners are such images too."""
        allowed = np.zeros_like(self.allowed)
        allowed[self.ids] = True
        return dataclasses.replace(self, allowed=allowed)


def split_masks(factors: Factors, split: str) -> tuple[Mask, Mask]:
    """Which ids are trained on and which are held out.

        "random 0.1"             a tenth of the images, drawn once and for all, is held out
        "without shape=2 x>=16"  the combination of all these values is held out, and seen in no training image
        "correlated x y 0.2"     a tenth is held out as before; of the others an image is kept with probability
                                 exp(-(u - v)^2 / (2 s^2)), u and v the two factors' classes scaled to [0, 1] and s the
                                 number (Trauble et al. 2021, section 3): the smaller, the more of a correlation

    Raises UserError for other words, and where either part would be empty.
    """
    rule, *words = split.split() or [""]
    if rule not in RULES:
        raise unknown_name("split", rule, RULES)
    train, test = RULES[rule](factors, words)
    if not train.any() or not test.any():
        empty = "training" if test.any() else "held-out"
        raise UserError(f"split: {split!r} leaves no {empty} image")
    return train, test


def _uniform_draws(factors: Factors, purpose: int) -> Float[np.ndarray, " image"]:
    return np.random.Generator(np.random.Philox(key=purpose)).random(factors.size)


def _random_split(factors: Factors, words: list[str]) -> tuple[Mask, Mask]:
    if len(words) > 1:
        raise _not_a_number("random 0.1", " ".join(words))
    share = _positive_number("random 0.1", words[0]) if words else 0.1
    held_out = _uniform_draws(factors, 0) < share
    return ~held_out, held_out


def _combination_split(factors: Factors, words: list[str]) -> tuple[Mask, Mask]:
    held_out = np.ones(factors.size, bool)
    for word in words:
        condition = CONDITION.fullmatch(word)
        if condition is None:
            raise UserError(f"split: {word!r} is not a condition; give factor=class, with =, >= or <=")
        name, sign, number = condition.groups()
        held_out &= COMPARISONS[sign](_factor_column(factors, name), int(number))
    return ~held_out, held_out


def _correlated_split(factors: Factors, words: list[str]) -> tuple[Mask, Mask]:
    if len(words) != 3:
        raise UserError("split: 'correlated' takes two factors and a number, as in 'correlated x y 0.2'")
    u, v = (_factor_column(factors, name) / max(1, factors.sizes[factors.names.index(name)] - 1) for name in words[:2])
    kept = np.exp(-((u - v) ** 2) / (2 * _positive_number("correlated x y 0.2", words[2]) ** 2))
    train, test = _random_split(factors, [])
    return train & (_uniform_draws(factors, 1) < kept), test


RULES = {"random": _random_split, "without": _combination_split, "correlated": _correlated_split}
CONDITION = re.compile("([^<>=]+)(>=|<=|=)([0-9]+)")
COMPARISONS = {"=": np.equal, ">=": np.greater_equal, "<=": np.less_equal}


def _positive_number(example: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise _not_a_number(example, word)
    return value


def _not_a_number(example: str, text: str) -> UserError:
    return UserError(f"split: {text!r} is not a positive number; give one, as in {example!r}")


def _factor_column(factors: Factors, name: str) -> Int[np.ndarray, " image"]:
    """The classes of one factor, of all images."""
    if name not in factors.names:
        raise unknown_name("split", name, factors.names)
    i = factors.names.index(name)
    return np.arange(factors.size) // math.prod(factors.sizes[i + 1 :]) % factors.sizes[i]
