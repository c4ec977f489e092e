"""Streams with names, and noise that belongs to an example."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import randomness

ROOT = Path(__file__).parents[1]
NEW = ("a", "b", "factor/third", "my_lab.nets/dropout", "noise ", "Noise")
"""Names that have no number of their own."""


def bits(key):
    return tuple(jax.random.key_data(key).tolist())


def test_the_root_key_is_threefrys_whatever_the_default_is():
    with jax.default_prng_impl("rbg"):
        key = randomness.root_key(7)
    assert jax.random.key_impl(key) == jax.random.key_impl(jax.random.key(0, impl="threefry2x32"))
    assert bits(key) == (0, 7)


def test_streams_of_one_key_differ_by_name_and_by_member(key):
    streams = [randomness.stream(key, name, member) for name in NEW for member in range(3)]
    assert len(set(map(bits, streams))) == 3 * len(NEW)
    assert bits(randomness.stream(key, "a")) == bits(randomness.stream(key, "a"))
    assert bits(randomness.stream(key, "a")) != bits(randomness.stream(randomness.root_key(1), "a"))


def test_a_new_name_lies_above_any_index_and_any_step():
    assert all(2**31 <= randomness._number(name) < 2**32 for name in NEW)


@pytest.mark.parametrize(
    ("name", "member", "number"),
    [
        ("binarize", 0, 0), ("noise", 0, 1), ("init", 0, 2**32 - 1), ("evaluation", 0, 2**32 - 2),
        ("pictures", 0, 2**32 - 3), ("fit", 0, 2**32 - 4), ("metrics", 0, 2**32 - 5), ("pair", 0, 2**32 - 1),
        ("logistic_mixture/component", 0, 2**32 - 1), ("factor/permutation", 0, 2**32 - 2),
        ("ladder/layer", 0, 2**32 - 1), ("ladder/layer", 2, 2**32 - 3),
    ],
)  # fmt: skip
def test_streams_that_runs_have_been_trained_with_keep_their_numbers(key, name, member, number):
    assert bits(randomness.stream(key, name, member)) == bits(jax.random.fold_in(key, np.uint32(number)))


def test_noise_follows_from_an_examples_index_and_not_from_its_batch(key):
    index = jnp.array([3, 0, 70_000])
    normal = jax.jit(randomness.example_normal, static_argnums=2)
    keys, noise = randomness.example_keys(key, index), normal(key, index, 4)
    assert noise.shape == (3, 4)
    assert len(set(map(bits, keys))) == 3
    np.testing.assert_array_equal(normal(key, index[::-1], 4), noise[::-1])
    np.testing.assert_allclose(jax.random.normal(jax.random.fold_in(key, 70_000), (4,)), noise[2], rtol=1e-6)


def test_each_stream_that_the_package_asks_for_by_a_number_of_old_is_still_asked_for():
    asked = "".join(file.read_text() for file in (ROOT / "vae_jax").rglob("*.py") if file.name != "randomness.py")
    names = set(re.findall(r'"([a-z_/]+)"', asked))
    assert set(randomness._NUMBERS) <= names
