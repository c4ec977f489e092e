"""Many devices give the run of one: to float32 round-off, since a sum over shares adds in another order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.training import executors

DISPATCH, STEPS = 10, 25


def train_on(devices, steps=STEPS):
    """`steps` steps on the first `devices` devices, in dispatches of ten and the rest."""
    chosen = executors.local_devices(devices)
    executor = executors.DataParallel(chosen)
    train_steps = executor.train_steps(tiny_vae.make_step(ema=0.9), DISPATCH)
    split, (key, hyper) = (
        executors.replicate(tiny_vae.split(), chosen),
        executor.to_devices([(randomness.root_key(0), tiny_vae.hyper())]),
    )
    state, rows = executor.to_devices([tiny_vae.state(ema=0.9)]), []
    for start in range(0, steps, DISPATCH):
        indices = tiny_vae.indices(start, min(DISPATCH, steps - start))[None]
        state, metrics = train_steps(split, state, indices, key, hyper, np.ones(1, bool))
        rows += executor.to_host(metrics)
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


@pytest.fixture(scope="module")
def on_one():
    return train_on(1)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_agree_with_one(on_one, devices):
    state, metrics = train_on(devices)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), jax.device_get(state), jax.device_get(on_one[0])
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), metrics, on_one[1])
    for leaf in jax.tree.leaves(state):
        replicas = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(replicas) == devices
        assert all((replica == replicas[0]).all() for replica in replicas)


def test_dispatches_of_any_length_give_the_same_steps(on_one):
    state, metrics = on_one
    assert state.step == STEPS
    assert metrics["loss"].shape == (STEPS,)
    step = tiny_vae.over_axis(tiny_vae.make_step(ema=0.9)(tiny_vae.split()), None, 0, None, None)
    solo = tiny_vae.state(ema=0.9)
    for i in range(STEPS):
        solo, row = step(solo, jnp.asarray(tiny_vae.indices(i, 1)), randomness.root_key(0), tiny_vae.hyper())
        np.testing.assert_allclose(metrics["loss"][i], row["loss"], rtol=1e-5)


@pytest.mark.parametrize(("devices", "batch"), [(1, 16), (1, 60), (1, 100), (4, 16), (8, 24), (8, 4)])
def test_evaluation_is_exact_with_a_ragged_last_batch(devices, batch):
    chosen = executors.local_devices(devices)
    placed = executors.replicate(
        (tiny_vae.state().params, randomness.root_key(0), jnp.int32(0), tiny_vae.hyper()), chosen
    )
    (found,) = executors.DataParallel(chosen).evaluation(tiny_vae.make_eval_step, batch, tiny_vae.split())(*placed)
    step = tiny_vae.over_axis(tiny_vae.make_eval_step(tiny_vae.split()), None, 0, None, None, None)
    whole = step(
        tiny_vae.state().params, jnp.arange(tiny_vae.SIZE)[None], randomness.root_key(0), jnp.int32(0), tiny_vae.hyper()
    )
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_batch_must_divide():
    with pytest.raises(UserError, match=r"config.train.batch_size: 18 does not divide over 4 devices; .* is 16"):
        executors.check_divides("config.train.batch_size", 18, executors.local_devices(4))
    with pytest.raises(UserError, match="this machine has 8"):
        executors.local_devices(9)
