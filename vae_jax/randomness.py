"""All randomness of a run: a root key, streams with names, and noise that belongs to an example.

Keys never live in a run's state: they follow from the seed and the step. Draws are float32 and int32, named wherever
one is made: with JAX's x64 flag they are the same.
"""

import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax.typing import Indices, Key, Keys

_LAST = 2**32 - 1
_NUMBERS = {
    # Of a step's key.
    "binarize": 0,
    "noise": 1,
    # Of the root key, in place of the step: beyond any step that a run reaches.
    "init": _LAST,
    "evaluation": _LAST - 1,
    "pictures": _LAST - 2,
    "fit": _LAST - 3,
    "metrics": _LAST - 4,
    # Of a key into which the examples' indices are folded too: beyond any index.
    "pair": _LAST,
    "logistic_mixture/component": _LAST,
    "ada/second": _LAST,
    "factor/second": _LAST,
    "factor/permutation": _LAST - 1,
    "info/prior": _LAST,
    "joint/category": _LAST,
    "ladder/layer": _LAST,
    # Of a key of their own.
    "classifier/init": 0,
    "classifier/binarize": 1,
    "ais/held_out": 0,
    "ais/simulated": 1,
    # Of either key of those two.
    "ais/pilot": 0,
    "ais/pilot_start": 1,
    "ais/start": 2,
    "ais/forward": 3,
    "ais/reverse": 4,
    "ais/codes": 5,
    "ais/pixels": 6,
}
"""The numbers that these streams have had from the start, which decide the bits of every run that there is."""


def root_key(seed: int) -> Key:
    """The key from which all randomness of a run follows; threefry, whatever JAX's default is."""
    return jax.random.key(seed, impl="threefry2x32")


def evaluation_key() -> Key:
    """The key of all draws of an evaluation, the bits of held-out images among them: the same for every run.

    So runs are held against the same images with the same noise, and their differences are of the models.
    """
    return root_key(0)


def stream(key: Key, name: str, member: int = 0) -> Key:
    """The stream `name` of a key, for one use of randomness.

    Two names give independent streams: a name folds a digest of itself, above any example's index and any step.

    Args:
        name: what the numbers are for, with the file's name before it where that is one of several of a kind
            ("ladder/layer").
        member: which of several streams of that name.
    """
    return jax.random.fold_in(key, _number(name) - member)


def _number(name: str) -> int:
    return _NUMBERS[name] if name in _NUMBERS else 2**31 + zlib.crc32(name.encode()) // 2


def example_keys(key: Key, index: Indices) -> Keys:
    """One key for each example, folded from its index, so that its noise is the same on any device."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def example_normal(key: Key, index: Indices, size: int) -> Float[Array, "batch size"]:
    """Standard normal noise, `size` numbers for each example, a function of key and index alone."""
    return jax.vmap(lambda k: jax.random.normal(k, (size,), jnp.float32))(example_keys(key, index))
