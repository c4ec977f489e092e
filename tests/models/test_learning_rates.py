"""Schedules of the learning rate, each against its formula in float64, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.errors import UserError
from vae_jax.models.learning_rates import SHAPES, make_schedule
from vae_jax.models.optimizers import make_optimizer

TOTAL, RISE = 60, 9
STEPS = np.arange(80)


def factors(schedule):
    """The factor at each of STEPS, traced."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(STEPS)))


def half_cosine(t, total):
    return 0.5 * (1 + np.cos(np.pi * np.clip(t / total, 0, 1)))


WARM = np.minimum(1, (STEPS + 1) / (RISE + 1))
TABLE = (20, 45)
FORMULAS = {
    "constant": ({}, np.ones(80)),
    "cosine": ({}, half_cosine(STEPS, TOTAL)),
    "steps": ({"schedule_steps": TABLE, "schedule_factor": 0.3}, 0.3 ** sum(s <= STEPS for s in TABLE)),
    "exponential": ({"schedule_steps": (25,), "schedule_factor": 0.5}, 0.5 ** (STEPS / 25)),
}


@pytest.mark.parametrize("rise", [0, RISE])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_is_its_formula_times_the_warm_up(name, rise):
    fields, expected = FORMULAS[name]
    found = factors(make_schedule(steps=TOTAL, schedule=name, warmup_steps=rise, **fields))
    np.testing.assert_allclose(found, expected * (WARM if rise else 1), rtol=1e-5, atol=1e-7)


def test_the_cosine_after_a_warm_up_begins_where_that_ends():
    found = factors(make_schedule(steps=TOTAL, schedule="warmup_cosine", warmup_steps=RISE))
    expected = np.where(STEPS < RISE, WARM, half_cosine(STEPS - RISE, TOTAL - RISE))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert found[RISE] == 1.0


def test_without_a_name_the_fields_that_were_there_before_say_it():
    for cosine, name in ((True, "cosine"), (False, "constant")):
        before = factors(make_schedule(steps=TOTAL, warmup_steps=RISE, cosine=cosine, batch_size=3))
        named = factors(make_schedule(steps=TOTAL, warmup_steps=RISE, schedule=name))
        np.testing.assert_array_equal(before, named)
        # To the bit what optax gives for the product, as runs before there were names had it.
        fall = optax.cosine_decay_schedule(1.0, TOTAL) if cosine else optax.constant_schedule(1.0)
        rise = optax.linear_schedule(1 / (RISE + 1), 1.0, RISE)
        np.testing.assert_array_equal(before, factors(lambda step, fall=fall, rise=rise: rise(step) * fall(step)))


def test_a_schedule_scales_a_traced_learning_rate():
    schedule = make_schedule(steps=TOTAL, schedule="steps", schedule_steps=(2,), schedule_factor=0.25)
    sgd = make_optimizer(name="sgd", momentum=0.0, schedule=schedule)
    ones = {"w": jnp.ones(3)}

    @jax.jit
    def updates(rate):
        state, found = sgd.init(ones), []
        for _ in range(4):
            update, state = sgd.update(ones, state, ones, learning_rate=rate)
            found.append(update["w"][0])
        return jnp.stack(found)

    for rate in (1.0, 1e-3):
        np.testing.assert_allclose(updates(jnp.float32(rate)), -rate * np.array([1, 1, 0.25, 0.25]), rtol=1e-6)


REFUSED = [
    ({"schedule": "cosin"}, r"schedule: 'cosin' is unknown; known: constant, .*did you mean 'cosine'\?"),
    (
        {"schedule": "steps", "cosine": True, "schedule_steps": (5,)},
        r"cosine: True is not allowed with schedule=",
    ),
    ({"schedule": "steps"}, r"schedule_steps: \(\) is not allowed with schedule='steps'; give some"),
    ({"schedule": "steps", "schedule_steps": (9, 5)}, r"schedule_steps: \(9, 5\) is not allowed; give steps that rise"),
    ({"schedule": "steps", "schedule_steps": (0, 5)}, r"schedule_steps: \(0, 5\) is not allowed; give steps that rise"),
    ({"schedule": "exponential"}, r"schedule_steps: \(\) is not allowed with schedule='exponential'; give one number"),
    (
        {"schedule": "exponential", "schedule_steps": (5, 9)},
        r"schedule_steps: \(5, 9\) is not allowed with schedule='e",
    ),
    ({"schedule": "cosine", "schedule_steps": (5,)}, r"schedule_steps: \(5,\) is not read by schedule='cosine'; take"),
    ({"schedule": "steps", "schedule_steps": (5,), "schedule_factor": 0.0}, r"schedule_factor: 0.0 is not allowed"),
    (
        {"schedule": "steps", "schedule_steps": (5,), "schedule_factor": math.inf},
        r"schedule_factor: inf is not allowed",
    ),
    (
        {"schedule": "warmup_cosine"},
        r"warmup_steps: 0 is not allowed with schedule='warmup_cosine'; give a whole number",
    ),
    ({"schedule": "warmup_cosine", "warmup_steps": TOTAL}, r"warmup_steps: 60 is not allowed with schedule='war"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_contradicts_itself_is_refused_in_a_line(fields, message):
    with pytest.raises(UserError, match=f"^{message}") as refused:
        make_schedule(steps=TOTAL, **fields)
    assert "\n" not in str(refused.value)


def test_every_name_is_tried_here():
    assert FORMULAS.keys() | {"warmup_cosine"} == SHAPES.keys()
