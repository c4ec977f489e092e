import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.small_run import SMALL, train, train_small
from helpers.variant_configs import NAMES

import vae_jax
from vae_jax import data, model, randomness, variants
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.models.learning_rates import make_schedule
from vae_jax.models.optimizers import make_optimizer
from vae_jax.sweeps.plan import stand_in
from vae_jax.training.step import evaluation_params, initial_state, make_hyper, make_train_step, optimizer_for
from vae_jax.typing import AXIS

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

SPLIT = tiny_vae.split()


@pytest.fixture(scope="module")
def step():
    return tiny_vae.over_axis(tiny_vae.make_step()(SPLIT), None, 0, None, None)


def run(step, state, steps, hyper, devices=1):
    for i in range(steps):
        share = jnp.asarray(tiny_vae.indices(i, 1)).reshape(devices, -1)
        state, metrics = step(state, share, randomness.root_key(0), hyper)
    return state, metrics


def test_a_step_descends_and_counts(step):
    first = run(step, tiny_vae.state(), 1, tiny_vae.hyper())[1]["loss"]
    state, last = run(step, tiny_vae.state(), 200, tiny_vae.hyper())
    assert state.step == 200
    assert last["loss"] < first - 1


def test_metrics_are_means_over_the_batch_in_nats(step):
    metrics = run(step, tiny_vae.state(), 1, tiny_vae.hyper(beta=3.0))[1]
    np.testing.assert_allclose(metrics["loss"], metrics["distortion"] + 3 * metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["rate"], metrics["kl"].sum(), rtol=1e-5)
    # An untrained network's pixels are near-fair coins: log 2 nats each, summed and not averaged.
    np.testing.assert_allclose(metrics["distortion"], 16 * math.log(2), rtol=0.2)


@pytest.mark.parametrize("devices", [2, 8])
def test_an_axis_of_several_equals_an_axis_of_one(step, devices):
    one, metrics_one = run(step, tiny_vae.state(), 5, tiny_vae.hyper())
    many, metrics_many = run(step, tiny_vae.state(), 5, tiny_vae.hyper(), devices)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-6, rtol=2e-4), one.params, many.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4), metrics_one, metrics_many)


def test_changing_a_float_never_recompiles(step):
    run(step, tiny_vae.state(), 1, tiny_vae.hyper())
    compiled = step._cache_size()
    for value in (0.0, 0.5, 4.0):
        run(step, tiny_vae.state(), 1, tiny_vae.hyper(rate=value + 1e-3, beta=value))
    assert step._cache_size() == compiled


def decaying(value, **floats):
    return tiny_vae.hyper(**floats)._replace(weight_decay=jnp.float32(value))


@pytest.fixture(scope="module")
def adamw_step():
    return tiny_vae.over_axis(tiny_vae.make_step(name="adamw")(SPLIT), None, 0, None, None)


def test_changing_the_weight_decay_never_recompiles_and_kernels_shrink_with_it(adamw_step):
    first = tiny_vae.state(name="adamw")
    states = [run(adamw_step, first, 1, decaying(value))[0] for value in (0.0, 0.5, 1.0)]
    assert adamw_step._cache_size() == 1
    layer, *others = (state.params["nets"]["encoder"]["body"]["Dense_0"] for state in states)
    start = first.params["nets"]["encoder"]["body"]["Dense_0"]
    for decay, other in zip((0.5, 1.0), others, strict=True):
        np.testing.assert_array_equal(other["bias"], layer["bias"])
        lost = 1e-2 * decay * start["kernel"]
        np.testing.assert_allclose(other["kernel"], layer["kernel"] - lost, rtol=1e-5, atol=1e-7)


def test_adamw_without_decay_is_adam(step, adamw_step):
    adam, _ = run(step, tiny_vae.state(), 3, tiny_vae.hyper())
    adamw, _ = run(adamw_step, tiny_vae.state(name="adamw"), 3, decaying(0.0))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), adam.params, adamw.params)


def test_members_that_differ_in_weight_decay_train_as_they_do_alone(adamw_step):
    one, two = decaying(0.0), decaying(0.7, rate=3e-3)
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, two)
    split_step = jax.vmap(tiny_vae.make_step(name="adamw")(SPLIT), (None, 0, None, None), axis_name=AXIS)
    first, share = tiny_vae.state(name="adamw"), jnp.asarray(tiny_vae.indices(0, 1)).reshape(1, -1)
    together = jax.jit(jax.vmap(split_step, (None, None, None, 0)))(first, share, randomness.root_key(0), members)[0]
    for i, hyper in enumerate((one, two)):
        alone, _ = run(adamw_step, first, 1, hyper)
        member = jax.tree.map(lambda leaf, i=i: leaf[i, 0], together.params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), member, alone.params)


def test_the_weight_decay_is_among_what_is_swept_in_one_program():
    config = load_config("digits", **{"train.optimizer": "lion", "train.weight_decay": 0.25})
    assert "train.weight_decay" in model.traced_fields(config)
    assert make_hyper(config, model.build(config, (8, 8, 1))).weight_decay == 0.25


def test_a_weight_decay_that_adam_would_not_read_is_refused():
    config = load_config("digits", **{"train.weight_decay": 0.25})
    built = model.build(config, (8, 8, 1))
    for use in (lambda: make_hyper(config, built), lambda: optimizer_for(config, built.variant)):
        with pytest.raises(
            UserError, match=r"^config\.train\.weight_decay: 0.25 is not read by .* take 'adamw', or 0$"
        ):
            use()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train.optimizer", "adamww", r"config\.train\.optimizer: 'adamww' is unknown; .*did you mean 'adamw'\?"),
        ("train.weight_decay", -1, r"config\.train\.weight_decay: -1.0 is not allowed; give a number of at least 0"),
        ("train.momentum", 1, r"config\.train\.momentum: 1.0 is not allowed; give a number from 0 to below 1"),
    ],
)
def test_a_bad_field_of_the_optimizer_is_refused_in_one_line(field, value, message):
    with pytest.raises(UserError, match=f"^{message}"):
        load_config("digits", **{field: value})


EARLIER = {"train": ("optimizer", "weight_decay", "momentum"), "net": ("norm", "gated", "init"), "variant": ("beta",)}
"""Fields that configs have not always had, and one that could have been of these."""


def test_a_config_of_an_earlier_version_makes_what_the_defaults_make():
    config = load_config("digits")
    earlier = config.to_dict()
    for section, fields in EARLIER.items():
        for field in fields:
            del earlier[section][field]
    model.check_fields(earlier)
    built, built_earlier = (model.build(tree, (8, 8, 1)) for tree in (config, earlier))
    assert make_hyper(earlier, built_earlier) == make_hyper(config, built)
    states = [
        jax.eval_shape(optimizer_for(tree, built.variant).init, {"nets": {"kernel": jnp.ones((2, 2))}, "own": {}})
        for tree in (config, earlier)
    ]
    assert states[0] == states[1]


@pytest.mark.full
def test_a_folder_of_an_earlier_version_is_opened_and_goes_on(tmp_path, capsys):
    assert train_small(tmp_path / "run", **{"train.steps": 40, "evaluation.every": 20}) == 0
    record = json.loads((tmp_path / "run/config.json").read_text())
    for section, field in [(section, field) for section, fields in EARLIER.items() for field in fields]:
        del record["config"][section][field]
    (tmp_path / "run/config.json").write_text(json.dumps(record))
    assert vae_jax.open_run(tmp_path / "run").sample(0, 2).shape == (2, 8, 8, 1)
    capsys.readouterr()
    assert train_small(tmp_path / "run", **{"evaluation.every": 20}) == 0
    assert "resuming at step 40 of 60" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_a_run_resumes_with_another_optimizer_than_adam(name, tmp_path, capsys):
    fields = {"train.optimizer": name, "variant.name": "factor", "train.weight_decay": 0.01, "evaluation.every": 20}
    assert train_small(tmp_path / "run", **fields, **{"train.steps": 20}) == 0
    capsys.readouterr()
    assert train_small(tmp_path / "run", **fields, **{"train.steps": 40}) == 0
    assert "resuming at step 20 of 40" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_takes_a_step_with_a_residual_network(name):
    shape, fields = (8, 8, 1), {"net.name": "resnet", "net.widths": "(4, 8)", "net.depth": 1}
    config = load_config("digits", **{"variant.name": name, "train.optimizer": "adamw", **fields})
    built = model.build(config, shape)
    fetch = partial(data.make_batch, stand_in(shape, "static"), data.threshold_levels)
    step = make_train_step(built.nets, built.variant, optimizer_for(config, built.variant), fetch)
    state, share = jax.eval_shape(lambda: initial_state(built, config, shape)), jax.ShapeDtypeStruct((1, 8), jnp.int32)
    lifted = jax.vmap(step, (None, 0, None, None), axis_name=AXIS)
    after, metrics = jax.eval_shape(lifted, state, share, randomness.root_key(0), make_hyper(config, built))
    assert metrics["loss"].shape == (1,)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.full
def test_a_residual_network_trains_on_the_digits(tmp_path):
    fields = {name: value for name, value in SMALL.items() if not name.startswith("net.")} | {"train.steps": 20}
    fields |= {"net.name": "resnet", "net.widths": "(4, 8)", "net.depth": 1}
    assert train(tmp_path / "run", **fields) == 0
    assert vae_jax.open_run(tmp_path / "run").sample(0, 2).shape == (2, 8, 8, 1)


def test_clipping_bounds_the_gradient_adam_sees():
    clipped = make_optimizer(clip=1.0)
    gradient = {"w": jnp.full((4,), 100.0)}
    state = clipped.update(gradient, clipped.init(gradient), learning_rate=1.0)[1]
    (mu,) = [leaf.mu["w"] for leaf in state if hasattr(leaf, "mu")]
    np.testing.assert_allclose(np.linalg.norm(mu), 0.1, rtol=1e-5)  # (1 - b1) of a unit gradient


def test_the_schedule_rises_and_falls():
    # A constant gradient makes every Adam update 1, so what is left is the schedule.
    adam = make_optimizer(schedule=make_schedule(steps=100, warmup_steps=10, cosine=True))
    gradient, factors = {"w": jnp.ones(())}, []
    state = adam.init(gradient)
    update = jax.jit(adam.update)
    for _ in range(101):
        updates, state = update(gradient, state, learning_rate=jnp.float32(1.0))
        factors.append(-float(updates["w"]))
    warmup = [(i + 1) / 11 * 0.5 * (1 + math.cos(math.pi * i / 100)) for i in range(11)]
    np.testing.assert_allclose(factors[:11], warmup, rtol=1e-4)
    np.testing.assert_allclose(factors[50], 0.5, rtol=1e-4)
    np.testing.assert_allclose(factors[100], 0.0, atol=1e-6)


def test_the_moving_average_follows_and_is_what_is_evaluated():
    step = tiny_vae.over_axis(tiny_vae.make_step(ema=0.9)(SPLIT), None, 0, None, None)
    before = tiny_vae.state(ema=0.9)
    after, _ = run(step, before, 1, tiny_vae.hyper())
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before.params, after.params)  # decay (1 + 0) / (10 + 0)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-7), after.average, expected)
    assert evaluation_params(after) is after.average
    assert evaluation_params(before._replace(average=None)) is before.params


def test_evaluation_does_not_depend_on_the_batch():
    step = tiny_vae.over_axis(tiny_vae.make_eval_step(SPLIT), None, 0, None, None, None)
    arguments = randomness.root_key(0), jnp.int32(0), tiny_vae.hyper()

    def elbo(share):
        return step(tiny_vae.state().params, share[None], *arguments)["elbo"]

    np.testing.assert_allclose(
        elbo(jnp.arange(60)), np.mean([elbo(jnp.arange(30)), elbo(jnp.arange(30, 60))]), rtol=1e-5
    )


def test_a_variant_is_found_by_its_file_name():
    assert variants.defaults("beta") == {"name": "beta", "beta": 1.0, "free_bits": 0.0}
    assert variants.defaults("autoencoder") == {"name": "autoencoder", "noise": 0.0}
