"""All randomness of a run: a root key, streams with names, and noise that belongs to an example.

Keys never live in a run's state: they follow from the seed and the step. Draws are float32 and int32, named wherever
one is made: with JAX's x64 flag they are the same.
"""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

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


ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)

Words = UInt32[Array, "..."]


@jax.jit  # traced once for its shapes, and not in every program
def threefry(key: tuple[Words, Words], x0: Words, x1: Words) -> tuple[Words, Words]:
    """Two words of random bits for each pair of a key's and a counter's words: the bits of all of jax.random.

        x0, x1 = x0 + x1, rotate(x1, r) ^ (x0 + x1)    20 times, with two words of the key added after each four

    In one pass over memory, where JAX's own is a loop of five on a CPU. Salmon et al. 2011, "Parallel random numbers:
    as easy as 1, 2, 3", section 4.2.
    """
    words = *key, key[0] ^ key[1] ^ PARITY
    x0, x1 = x0 + words[0], x1 + words[1]
    for turn in range(5):
        for rotation in ROTATIONS[turn % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation) | x1 >> np.uint32(32 - rotation)) ^ x0
        x0, x1 = x0 + words[(turn + 1) % 3], x1 + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return x0, x1


def _example_key_words(key: Key, index: Indices) -> tuple[Words, Words]:
    """The two words of the key of each example, those of jax.random.fold_in(key, index)."""
    first, second = jax.random.key_data(key)
    return threefry((first, second), jnp.zeros(index.shape, jnp.uint32), index.astype(jnp.uint32))


def example_keys(key: Key, index: Indices) -> Keys:
    """One key for each example, folded from its index, so that its noise is the same on any device."""
    return jax.random.wrap_key_data(jnp.stack(_example_key_words(key, index), axis=-1), impl="threefry2x32")


def example_words(key: Key, index: Indices, count: int) -> UInt32[Array, "batch count"]:
    """`count` words of random bits for each example, a function of key and index alone.

    They are those of jax.extend.random.threefry_2x32(key of the example, arange(count)).
    """
    half = -(-count // 2)
    counter = jnp.arange(2 * half, dtype=jnp.uint32)
    x0, x1 = jnp.where(counter < count, counter, 0).reshape(2, 1, half)
    first, second = _example_key_words(key, index)
    return jnp.concatenate(threefry((first[:, None], second[:, None]), x0, x1), axis=1)[:, :count]


@partial(jax.jit, static_argnames="size")
def example_normal(key: Key, index: Indices, size: int) -> Float[Array, "batch size"]:
    """Standard normal noise, `size` numbers for each example, a function of key and index alone.

        z = sqrt(2) erf^-1(u),    u uniform in (-1, 1), in steps of 2^-22

    It is that of jax.random.normal(key of the example, (size,)).
    """
    first, second = _example_key_words(key, index)
    counter = jnp.arange(size, dtype=jnp.uint32)[None]
    high, low = threefry((first[:, None], second[:, None]), jnp.zeros_like(counter), counter)
    mantissa = jax.lax.bitcast_convert_type((high ^ low) >> 9 | np.uint32(0x3F800000), jnp.float32)  # in [1, 2)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(lowest, (mantissa - 1) * (1 - lowest) + lowest)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)
