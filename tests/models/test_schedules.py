import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae

from vae_jax import model
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.models import schedules
from vae_jax.training.step import initial_state
from vae_jax.variants._free_bits import rate_with_free_bits


def factors(schedule, steps):
    return np.asarray(jax.vmap(schedule)(jnp.asarray(steps)))


def test_schedules_have_their_shapes():
    np.testing.assert_allclose(factors(schedules.constant(), [0, 7]), 1)
    np.testing.assert_allclose(factors(schedules.linear(steps=10), [0, 5, 10, 99]), [0, 0.5, 1, 1])
    np.testing.assert_allclose(factors(schedules.sigmoid(steps=10), [5]), 0.5)
    np.testing.assert_allclose(factors(schedules.sigmoid(steps=10), [0, 10]), 1 / (1 + np.exp([5, -5])), rtol=1e-5)
    cycle = factors(schedules.cyclical(steps=10, ratio=0.5), np.arange(20))
    np.testing.assert_allclose(cycle[:10], [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(cycle[10:], cycle[:10])


@pytest.mark.parametrize("make", [schedules.linear, schedules.sigmoid, schedules.cyclical])
def test_steps_must_be_positive(make):
    with pytest.raises(UserError, match=r"^steps: 0 is not allowed"):
        make(steps=0)


def test_a_schedule_scales_beta_and_is_refused_without_one():
    config = load_config("configs/digits.py")
    config.schedule = model.defaults("schedule", "linear") | {"steps": 4}
    built = model.build(config, tiny_vae.SHAPE)
    state = jax.jit(lambda: initial_state(built, config, tiny_vae.SHAPE))()
    batch = {"image": jnp.full((3, *tiny_vae.SHAPE), 0.5), "index": jnp.arange(3)}

    def loss_of_step(step):
        floats = {"beta": jnp.float32(2.0), "free_bits": jnp.float32(0.0)}
        return built.variant.loss(built.nets, state.params, batch, jax.random.key(0), step, **floats)

    loss_at = tiny_vae.over_axis(loss_of_step, 0)
    for step, factor in ((0, 0.0), (1, 0.25), (9, 1.0)):
        loss, terms = loss_at(jnp.int32([step]))
        weighted, rate = loss - terms["distortion"].mean(), terms["rate"].mean()
        np.testing.assert_allclose(weighted, 2 * factor * rate, atol=1e-4)

    config.variant = model.defaults("variant", "autoencoder")
    with pytest.raises(UserError, match=r"scales config.variant.beta, which the variant 'autoencoder' does not have"):
        model.build(config, tiny_vae.SHAPE)


def test_free_bits_leave_small_rates_unpenalised():
    kl = jnp.asarray([[0.0, 3.0], [0.2, 1.0]])
    over_axis = tiny_vae.over_axis(rate_with_free_bits, 0, None)

    def rate(kl, floor):
        return over_axis(kl[None], jnp.float32(floor))

    np.testing.assert_allclose(rate(kl, 0.0), kl.sum() / 2, rtol=1e-6)
    np.testing.assert_allclose(rate(kl, 0.5), 0.5 + 2.0, rtol=1e-6)
    gradient = jax.grad(rate)(kl, 0.5)
    np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0.5]])
