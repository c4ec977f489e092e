"""Streams with names, and noise that belongs to an example."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.variant_configs import NAMES, config_of, split_with_factors
from jax.extend.random import threefry_2x32

from vae_jax import data, model, randomness, registry
from vae_jax.data import _factors
from vae_jax.metrics import FactorCodes, _boosted_trees, _hmc, beta_vae, factor_vae, smoothness
from vae_jax.models import likelihoods
from vae_jax.models.networks import conv
from vae_jax.training.step import initial_state
from vae_jax.typing import AXIS

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[1]
NEW = ("a", "b", "factor/third", "my_lab.nets/dropout", "noise ", "Noise")
"""Names that have no number of their own."""


def bits(key):
    return tuple(jax.random.key_data(key).tolist())


@pytest.mark.parametrize("count", [1, 2, 5, 8, 33])
def test_an_example_has_the_keys_the_words_and_the_noise_that_jax_gives_it(count):
    key, index = randomness.root_key(7), jnp.int32([0, 3, 2**31 - 1])
    words = jax.jit(randomness.example_words, static_argnums=2)(key, index, count)
    noise = jax.jit(randomness.example_normal, static_argnums=2)(key, index, count)
    counter = jnp.arange(count, dtype=jnp.uint32)
    for i, own in enumerate(jax.jit(randomness.example_keys)(key, index)):
        folded = jax.random.fold_in(key, int(index[i]))
        assert bits(own) == bits(folded)
        np.testing.assert_array_equal(words[i], threefry_2x32(jax.random.key_data(folded), counter))
        np.testing.assert_array_equal(noise[i], jax.random.normal(folded, (count,), jnp.float32))


def test_noise_is_that_of_jax_far_out_too():
    key, index = randomness.root_key(1), jnp.arange(1000)
    noise = np.asarray(jax.jit(randomness.example_normal, static_argnums=2)(key, index, 1000))
    jaxs = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (1000,), jnp.float32))
    np.testing.assert_array_equal(noise, jax.jit(jaxs)(index))
    assert noise.max() > 4.5
    assert noise.min() < -4.5


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


def primitives(jaxpr):
    """Every operation of a traced program, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(value, "jaxpr", value)
            yield from primitives(inner) if hasattr(inner, "eqns") else ()


def drawn_bits(function, *arguments, **options):
    """How many bits each number takes that `function` draws, with JAX's x64 flag on; nothing is compiled."""
    with jax.enable_x64(True):
        traced = jax.make_jaxpr(function, **options)(*arguments)
    return {e.params["bit_width"] for e in primitives(traced.jaxpr) if e.primitive.name == "random_bits"}


def test_draws_are_the_same_with_64_bits(key):
    narrow = randomness.example_normal(key, jnp.arange(3), 4)
    with jax.enable_x64(True):
        wide = randomness.example_normal(key, jnp.arange(3), 4)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(narrow, wide)


def test_a_draw_of_64_bits_is_seen():
    assert drawn_bits(lambda key: jax.vmap(lambda k: jax.random.normal(k, (2,)))(jax.random.split(key, 3)), KEY) == {64}


KEY = randomness.root_key(0)
WIDE_FIELDS = {
    "rae": {"regularizer": "gradient"},
    "vq": {"codes": 8},
}
"""Under which a variant draws all that it ever does."""


@pytest.mark.parametrize("name", NAMES)
def test_no_variant_draws_64_bits(name):
    config = config_of(name, **WIDE_FIELDS.get(name, {}))
    built, split = model.build(config, (4, 4, 1)), split_with_factors()

    def use(key, indices):
        batch = data.make_batch(split, data.sample_pixels, indices, indices, key)
        params = initial_state(built, config, (4, 4, 1), key).params
        floats = {name: jnp.float32(value) for name, value in built.floats.items()}
        loss = built.variant.loss(built.nets, params, batch, key, jnp.int32(1), **floats)
        codes = built.variant.sample_prior(built.nets, params, key, 3, config.latent_dim)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
        return loss, codes

    over_axis = jax.vmap(use, in_axes=(None, 0), axis_name=AXIS)
    with jax.debug_key_reuse(False):  # one key does for all that is traced here
        assert drawn_bits(over_axis, KEY, jnp.arange(6)[None]) == {32}


@pytest.mark.parametrize("name", registry.file_names("vae_jax.models.likelihoods"))
def test_no_likelihood_draws_64_bits(name):
    likelihood = likelihoods.get(name)()
    parameters = jnp.zeros((2, 3, 3, likelihood.channels + likelihood.shared))
    assert drawn_bits(likelihood.sample, parameters, KEY, jnp.arange(2)) == {32}


def test_no_network_starts_from_64_bits():
    nets = conv.make((16, 16, 1), 2, 1, shared=1)
    image, code = jnp.zeros((1, 16, 16, 1)), jnp.zeros((1, 2))
    assert drawn_bits(nets.init, KEY, image, code) == {32}
    with jax.enable_x64(True):
        params = jax.eval_shape(nets.init, KEY, image, code)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_no_draw_of_factors_takes_64_bits():
    grid = _factors.Factors(("a", "b"), (3, 4), None)
    assert drawn_bits(lambda key: grid.sample(key, 5), KEY) == {32}
    change = partial(_factors.change_factors, sizes=(3, 4), changed=0, nuisance=(True, False))
    assert drawn_bits(lambda key: change(key, classes=jnp.zeros(2, jnp.int32)), KEY) == {32}


def test_no_metric_draws_64_bits():
    def log_density(z):
        return -0.5 * jnp.sum(jnp.square(z), axis=-1)

    rows = jnp.arange(8, dtype=jnp.int32)[:, None]
    fit = partial(_boosted_trees.fit, sizes=(2,), bins=8, rounds=2)
    assert drawn_bits(lambda key: fit(key, rows, rows % 2), KEY) == {32}
    keys, z, step_size = jax.random.split(randomness.root_key(1), 3), jnp.zeros((3, 2)), jnp.ones(3)
    assert drawn_bits(lambda keys: _hmc.transition(log_density, keys, z, step_size, 2), keys) == {32}
    codes = np.indices((3, 4)).reshape(2, -1).T.astype(np.float32)
    coded = FactorCodes.from_grid(codes, ("a", "b"), (3, 4))
    count = partial(factor_vae.count_votes, coded, variance=np.ones(2), least_deviation=0.1)

    def draw():
        first, second, third, fourth = jax.random.split(randomness.root_key(2), 4)
        points = beta_vae.draw_points(coded, first, 4, 3)
        return (
            coded.draw(second, 6),
            points,
            count(third, count=5, images=4),
            smoothness.draw_pairs(fourth, np.arange(9) % 2, 5),
        )

    narrow = draw()
    with jax.enable_x64(True):
        wide = draw()
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


def test_each_stream_that_the_package_asks_for_by_a_number_of_old_is_still_asked_for():
    asked = "".join(file.read_text() for file in (ROOT / "vae_jax").rglob("*.py") if file.name != "randomness.py")
    names = set(re.findall(r'"([a-z_/]+)"', asked))
    assert set(randomness._NUMBERS) <= names
