"""Moves of HMC: reversible, of volume one, leaving the density as it is, and never into a NaN."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.metrics import _hmc

CORRELATED = np.array([[1.0, 0.7], [0.7, 1.0]])


def gaussian(z):
    """N(0, CORRELATED) without its constant."""
    precision = jnp.asarray(np.linalg.inv(CORRELATED), jnp.float32)
    return -0.5 * jnp.sum(z * (z @ precision), axis=-1)


def bent(z):
    """z_1 ~ N(0, 1), z_2 ~ N(z_1^2 / 2, 1/4)."""
    return -0.5 * jnp.square(z[:, 0]) - 2 * jnp.square(z[:, 1] - 0.5 * jnp.square(z[:, 0]))


def exact(name, count):
    """Exact draws, and the moments of the density that a test looks at."""
    one, other = np.random.default_rng(3).normal(size=(2, count))
    if name is gaussian:
        return np.stack([one, 0.7 * one + np.sqrt(1 - 0.49) * other], axis=1), [0, 0, 1, 1, 0.7, 0]
    z = np.stack([one, one**2 / 2 + other / 2], axis=1)
    # E z_2^2 = 3/4 + 1/4, E z_1^2 z_2 = 3/2
    return z, [0, 0.5, 1, 1, 0, 1.5]


def moments(z):
    z = np.asarray(z, np.float64)
    one, other = z[:, 0], z[:, 1]
    return np.stack([one, other, one**2, other**2, one * other, one**2 * other], axis=1)


@functools.cache
def chains(log_density, moves, steps):
    """(key, z, step size) -> z after `moves` and the mean acceptance of each move."""

    def run(key, z, step_size):
        def move(z, number):
            keys = jax.random.split(jax.random.fold_in(key, number), len(z))
            return _hmc.transition(log_density, keys, z, jnp.full(len(z), step_size), steps)

        return jax.lax.scan(move, z, jnp.arange(moves))

    return jax.jit(run)


@pytest.mark.parametrize(("log_density", "step_size"), [(gaussian, 1.0), (bent, 0.5)])
def test_exact_draws_stay_exact_draws(log_density, step_size, key):
    z, expected = exact(log_density, 4000)
    moved, acceptance = chains(log_density, 100, 5)(key, jnp.asarray(z, jnp.float32), step_size)
    assert 0.5 < acceptance.mean() < 0.9  # it takes the rejections to hold the moments
    error = moments(moved).std(axis=0) / np.sqrt(len(z))
    assert (np.abs(moments(moved).mean(axis=0) - expected) < 4 * error).all()


@pytest.mark.parametrize("log_density", [gaussian, bent])
def test_chains_from_one_point_come_to_the_density(log_density, key):
    z, expected = jnp.full((4000, 2), 2.0), exact(log_density, 1)[1]
    moved, _ = chains(log_density, 100, 5)(key, z, 0.4)
    error = moments(moved).std(axis=0) / np.sqrt(len(z))
    assert (np.abs(moments(moved).mean(axis=0) - expected) < 4 * error).all()


def test_small_steps_are_accepted_and_large_ones_are_not(key):
    z = jnp.asarray(exact(bent, 2000)[0], jnp.float32)
    found = [chains(bent, 1, 5)(key, z, step_size)[1].mean() for step_size in (1e-3, 0.2, 0.6, 10.0)]
    assert found[0] > 1 - 1e-4
    assert found[0] > found[1] > found[2] > found[3]
    assert found[3] < 1e-2
    # H is kept to within eps^2: half the step, a quarter of what is rejected.
    lost = [1 - float(chains(bent, 1, 5)(key, z, step_size)[1].mean()) for step_size in (0.05, 0.1)]
    np.testing.assert_allclose(lost[1] / lost[0], 4, rtol=0.3)


def test_leapfrog_goes_back_and_keeps_volume(key):
    z, momentum = jax.random.normal(key, (2, 7, 2))
    step_size = jnp.linspace(0.02, 0.1, 7)
    go = jax.jit(lambda z, p: _hmc.leapfrog(bent, z, p, step_size, 8))
    there, after = go(z, momentum)
    assert np.abs(there - z).max() > 0.3
    back, before = go(there, -after)
    np.testing.assert_allclose(back, z, atol=2e-5)
    np.testing.assert_allclose(before, -momentum, atol=2e-5)

    def one(state):
        ends = _hmc.leapfrog(bent, state[None, :2], state[None, 2:], jnp.float32([0.1]), 8)
        return jnp.concatenate([end[0] for end in ends])

    volumes = jnp.linalg.det(jax.jit(jax.vmap(jax.jacfwd(one)))(jnp.concatenate([z, momentum], axis=1)))
    np.testing.assert_allclose(volumes, 1, atol=1e-3)


def test_leapfrog_of_the_circle_is_the_known_matrix():
    """On N(0, 1) a step is the matrix [[1 - e^2/2, e], [-e (1 - e^2/4), 1 - e^2/2]] on (z, p)."""
    e = 0.7
    matrix = np.array([[1 - e**2 / 2, e], [-e * (1 - e**2 / 4), 1 - e**2 / 2]])

    def normal(z):
        return -0.5 * jnp.sum(jnp.square(z), axis=-1)

    z, p = _hmc.leapfrog(normal, jnp.float32([[0.3]]), jnp.float32([[-1.1]]), jnp.float32([e]), 6)
    expected = np.linalg.matrix_power(matrix, 6) @ [0.3, -1.1]
    np.testing.assert_allclose([z[0, 0], p[0, 0]], expected, rtol=1e-5)


def test_a_move_into_a_nan_is_rejected(key):
    def cliff(z):
        return jnp.where(z[:, 0] > 1, jnp.nan, gaussian(z))

    def steep(z):
        return -jnp.sum(z**8, axis=-1)

    z = jnp.zeros((500, 2)).at[:, 0].set(jnp.linspace(-2, 0.99, 500))
    keys = jax.random.split(key, 500)
    moved, probability = jax.jit(partial(_hmc.transition, cliff, steps=3))(keys, z, jnp.full(500, 0.5))
    still = np.asarray(moved == z).all(axis=1)
    assert (np.asarray(moved)[:, 0] <= 1).all()
    assert 20 < still.sum() < 480
    keys = jax.random.split(jax.random.fold_in(key, 1), 500)
    moved, probability = jax.jit(partial(_hmc.transition, steep, steps=10))(keys, z, jnp.full(500, 50.0))  # inf - inf
    np.testing.assert_array_equal(moved, z)
    np.testing.assert_array_equal(probability, 0)
