"""Optimisers by name: optax's own, with a traced learning rate and a decay of kernels alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.errors import UserError
from vae_jax.models.learning_rates import make_schedule
from vae_jax.models.optimizers import (
    OPTIMIZERS,
    averaged,
    check_decay,
    check_ema,
    make_optimizer,
    partition_optimizers,
)

RATE, DECAY, STEPS = 1e-2, 0.5, 8  # RAdam is another optimiser for the first five
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


PARAMS = {
    "nets": {"encoder": {"kernel": normal(3, 4), "bias": normal(4)}, "filter": normal(3, 3, 2), "shared": normal(2)},
    "own": {"down_1": {"kernel_0": normal(2, 2), "bias": normal(2)}, "codebook": normal(5, 2), "scale": normal()},
}
KERNELS = {("nets", "encoder", "kernel"), ("nets", "filter"), ("own", "down_1", "kernel_0")}
GRADIENTS = jax.tree.map(lambda leaf: normal(STEPS, *leaf.shape), PARAMS)
FIRST = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), GRADIENTS)


def named(tree):
    """The leaves of a tree by their path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(entry.key for entry in path): np.asarray(leaf) for path, leaf in leaves}


MASK = jax.tree_util.tree_map_with_path(lambda path, _: tuple(entry.key for entry in path) in KERNELS, PARAMS)


def muon(rate, **fields):
    """Optax's, for the matrices among the kernels."""
    numbers = optax.contrib.MuonDimensionNumbers()
    matrices = jax.tree.map(lambda kernel, leaf: numbers if kernel and leaf.ndim == 2 else None, MASK, PARAMS)
    return optax.contrib.muon(rate, muon_weight_dimension_numbers=matrices, **fields)


def schedule_free(rate):
    """Optax's, around its Adam without momentum."""
    return optax.contrib.schedule_free(optax.adam(rate, b1=0.0), rate, b1=0.9)


THEIRS = {name: getattr(optax, name) for name in OPTIMIZERS if name not in ("muon", "schedule_free")} | {
    "schedule_free": schedule_free,
    "muon": muon,
    "sgd": functools.partial(optax.sgd, momentum=0.9),
}
"""By name -> learning rate -> the optimiser that optax gives that name."""
DECAYING = {
    "adamw": functools.partial(optax.adamw, weight_decay=DECAY, mask=MASK),
    "lamb": functools.partial(optax.lamb, weight_decay=DECAY, mask=MASK),
    "lion": functools.partial(optax.lion, weight_decay=DECAY, mask=MASK),
    "nadam": functools.partial(optax.nadamw, weight_decay=DECAY, mask=MASK),
    "adamax": functools.partial(optax.adamaxw, weight_decay=DECAY, mask=MASK),
}
"""Those that optax has a decay in."""


def descend(optimizer, **rates):
    """The parameters after an update by each of GRADIENTS."""

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params, **rates)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, PARAMS)
    return jax.lax.scan(step, (params, optimizer.init(params)), GRADIENTS)[0][0]


@functools.cache
def without_decay(name):
    """(ours, optax's) of that name; one program with a traced rate."""
    # What optax decays by default ours does not: adamw is adam then.
    theirs = {"adamw": optax.adam, "lion": functools.partial(optax.lion, weight_decay=0.0)}.get(name, THEIRS[name])
    ours = make_optimizer(name=name)
    return jax.jit(lambda rate: (descend(ours, learning_rate=rate), descend(theirs(RATE))))(jnp.float32(RATE))


@functools.cache
def with_decay(name):
    """The same, with a traced decay."""
    ours, theirs = make_optimizer(name=name), DECAYING[name](RATE)
    run = jax.jit(lambda **rates: (descend(ours, **rates), descend(theirs)))
    return run(learning_rate=jnp.float32(RATE), weight_decay=jnp.float32(DECAY))


def assert_same(ours, theirs):
    for path, leaf in named(theirs).items():
        np.testing.assert_allclose(named(ours)[path], leaf, rtol=2e-5, atol=2e-6, err_msg=str(path))


USUAL = ("adam", "adamw", "lion", "sgd")


def usual_first(names):
    """All names, of which those that are not usual are compiled in the full tests."""
    return [name if name in USUAL else pytest.param(name, marks=pytest.mark.full) for name in names]


@pytest.mark.parametrize("name", usual_first(OPTIMIZERS))
def test_an_optimizer_is_optaxs_of_that_name(name):
    ours, theirs = without_decay(name)
    assert_same(ours, theirs)
    moved = [np.abs(leaf - named(PARAMS)[path]).max() for path, leaf in named(ours).items()]
    assert min(moved) > 0


@pytest.mark.parametrize("name", usual_first(DECAYING))
def test_weight_decay_is_optaxs_under_a_mask_of_the_kernels(name):
    assert_same(*with_decay(name))


def test_a_constant_gradient_and_decay_give_adamws_closed_form():
    # Each of Adam's updates is 1 then: p <- p - rate * (1 + decay * p), whose fixed point is -1 / decay.
    adamw, ones = make_optimizer(name="adamw"), jax.tree.map(np.ones_like, PARAMS)
    update, params, state = jax.jit(adamw.update), PARAMS, adamw.init(PARAMS)
    for _ in range(20):
        updates, state = update(ones, state, params, learning_rate=jnp.float32(RATE), weight_decay=jnp.float32(DECAY))
        params = optax.apply_updates(params, updates)
    for path, leaf in named(params).items():
        start = named(PARAMS)[path].astype(np.float64)
        decayed = (start + 1 / DECAY) * (1 - RATE * DECAY) ** 20 - 1 / DECAY
        np.testing.assert_allclose(leaf, decayed if path in KERNELS else start - 20 * RATE, rtol=1e-4, atol=1e-5)


def test_without_a_gradient_kernels_alone_shrink():
    sgd, zeros = make_optimizer(name="sgd"), jax.tree.map(np.zeros_like, PARAMS)
    updates, _ = sgd.update(zeros, sgd.init(PARAMS), PARAMS, learning_rate=RATE, weight_decay=DECAY)
    for path, leaf in named(updates).items():
        expected = -RATE * DECAY * named(PARAMS)[path] if path in KERNELS else np.zeros_like(leaf)
        np.testing.assert_allclose(leaf, expected, rtol=1e-6)


def test_the_decay_rises_and_falls_with_the_learning_rate():
    sgd, zeros = (
        make_optimizer(name="sgd", schedule=make_schedule(steps=1, warmup_steps=9)),
        jax.tree.map(np.zeros_like, PARAMS),
    )
    updates, _ = sgd.update(zeros, sgd.init(PARAMS), PARAMS, learning_rate=RATE, weight_decay=DECAY)
    expected = -0.1 * RATE * DECAY * PARAMS["nets"]["filter"]
    np.testing.assert_allclose(updates["nets"]["filter"], expected, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_has_the_momentum_that_it_is_given(momentum):
    sgd, ones = make_optimizer(name="sgd", momentum=momentum), jax.tree.map(np.ones_like, PARAMS)
    params, state = PARAMS, sgd.init(PARAMS)
    for _ in range(3):
        updates, state = sgd.update(ones, state, params, learning_rate=RATE)
    np.testing.assert_allclose(updates["own"]["scale"], -RATE * sum(momentum**i for i in range(3)), rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_variants_own_optimizer_is_beside_any(name):
    both = partition_optimizers(make_optimizer(name=name), optax.adam(1e-3))
    updates, _ = both.update(FIRST, both.init(PARAMS), PARAMS, learning_rate=RATE, weight_decay=DECAY)
    adam = optax.adam(1e-3)
    own, _ = adam.update(FIRST["own"], adam.init(PARAMS["own"]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), updates["own"], own)
    shared = make_optimizer(name=name)
    alone, _ = shared.update(FIRST, shared.init(PARAMS), PARAMS, learning_rate=RATE, weight_decay=DECAY)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), updates["nets"], alone["nets"])


def test_muons_updates_of_matrices_are_near_orthogonal():
    optimizer = make_optimizer(name="muon")
    updates, _ = optimizer.update(FIRST, optimizer.init(PARAMS), PARAMS, learning_rate=1.0)
    matrix = np.asarray(updates["nets"]["encoder"]["kernel"])
    scale = math.sqrt(max(1, matrix.shape[1] / matrix.shape[0]))
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert singular.min() / scale > 0.6
    assert singular.max() / scale < 1.3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_gives_back_the_kind_of_state_it_takes(name):
    # A weak type that a step makes strong would be another program at the second dispatch.
    optimizer, params = (
        make_optimizer(name=name, schedule=make_schedule(steps=1, warmup_steps=2)),
        jax.tree.map(jnp.asarray, PARAMS),
    )
    state = jax.eval_shape(optimizer.init, params)
    rates = {"learning_rate": jnp.float32(RATE), "weight_decay": jnp.float32(DECAY)}
    updates, after = jax.eval_shape(lambda state: optimizer.update(FIRST, state, params, **rates), state)
    kinds = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type))
    assert kinds(state) == kinds(after)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("own", [None, optax.sgd(0.1)])
def test_the_average_of_schedule_free_is_what_optax_evaluates(own):
    ours, theirs = partition_optimizers(make_optimizer(name="schedule_free"), own), schedule_free(RATE)

    @jax.jit
    def run(rate):
        params = others = jax.tree.map(jnp.asarray, PARAMS)
        state, other_state = ours.init(params), theirs.init(others)
        for i in range(STEPS):
            gradient = jax.tree.map(lambda leaf, i=i: leaf[i], GRADIENTS)
            updates, state = ours.update(gradient, state, params, learning_rate=rate)
            params = optax.apply_updates(params, updates)
            updates, other_state = theirs.update(gradient, other_state, others)
            others = optax.apply_updates(others, updates)
        return params, averaged(state, params), optax.contrib.schedule_free_eval_params(other_state, others)

    params, average, expected = run(jnp.float32(RATE))
    assert_same(average["nets"], expected["nets"])
    assert np.abs(average["nets"]["filter"] - params["nets"]["filter"]).max() > 1e-4
    if own is not None:
        jax.tree.map(np.testing.assert_array_equal, average["own"], params["own"])
    assert averaged(make_optimizer().init(PARAMS), PARAMS) is None
    with pytest.raises(UserError, match=r"^ema: 0.9 is not read by the optimizer 'schedule_free'"):
        check_ema("schedule_free", 0.9)


def test_an_unknown_optimizer_is_answered_with_the_nearest():
    with pytest.raises(
        UserError, match=r"^optimizer: 'adamww' is unknown; known: adabelief, .*did you mean 'adamw'\?$"
    ):
        make_optimizer(name="adamww")


def test_adam_refuses_a_decay_that_it_would_not_read():
    with pytest.raises(UserError, match=r"^weight_decay: 0.1 is not read by the optimizer 'adam'; take 'adamw', or 0$"):
        check_decay("adam", 0.1)
    for name in OPTIMIZERS:
        check_decay(name, 0.0 if name == "adam" else 0.1)
