"""What every variant owes its contract, found by file name: floats, devices, resume, codes, samples."""

import importlib
import json
import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.variant_configs import NAMES, SHAPE, WEIGHTED, config_of, split_with_factors

from vae_jax import cli, data, model, randomness, variants
from vae_jax.config.explain import explain
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.metrics import likelihood
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.setup import prepare
from vae_jax.training.step import Hyper, TrainState, initial_state, make_train_step, optimizer_for
from vae_jax.typing import AXIS

pytestmark = pytest.mark.usefixtures("undrawn")


class Program(NamedTuple):
    """A variant on tiny images: its step, of one device or many, compiled once for all that is asked of it."""

    config: Any
    built: model.Model
    state: TrainState
    hyper: Hyper
    step: Any

    def run(self, state, first, steps, devices=1, hyper=None):
        """The state after `steps` steps from step `first` on, and the last one's metrics."""
        for i in range(first, first + steps):
            share = jnp.asarray(tiny_vae.indices(i, 1)).reshape(devices, -1)
            state, metrics = self.step(state, share, randomness.root_key(0), hyper or self.hyper)
        return state, metrics


@pytest.fixture(scope="module", params=NAMES)
def program(request):
    config = config_of(request.param, **WEIGHTED[request.param])
    config.net.hidden = ()  # fewer kernels to compile
    built = model.build(config, SHAPE)
    # Not compiled as one: the small programs of this are the same for most variants.
    state = initial_state(built, config, SHAPE)
    floats = {name: jnp.float32(config.variant[name]) for name in built.floats}
    fetch = partial(data.make_batch, split_with_factors(), data.threshold_levels)
    step = make_train_step(built.nets, built.variant, optimizer_for(config, built.variant), fetch)
    step = tiny_vae.over_axis(step, None, 0, None, None)
    return Program(config, built, state, Hyper(jnp.float32(1e-3), floats), step)


def test_a_step_gives_back_the_kind_of_state_it_takes(program):
    # A weak type that a step makes strong would be another program at the second dispatch.
    share = jnp.asarray(tiny_vae.indices(0, 1)).reshape(1, -1)
    after, _ = jax.eval_shape(program.step, program.state, share, randomness.root_key(0), program.hyper)
    kinds = partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type))
    assert kinds(jax.eval_shape(lambda: program.state)) == kinds(after)


def test_every_float_changes_the_loss(program):
    # Else what the other tests say of devices would hold for a term that weighs nothing.
    assert program.built.floats.keys() == set(WEIGHTED[program.config.variant.name]) - {"objective"}
    state, _ = program.run(program.state, 0, 1)
    _, metrics = program.run(state, 1, 1)
    for name, value in program.hyper.variant.items():
        floats = {**program.hyper.variant, name: 1.25 * value}
        _, changed = program.run(state, 1, 1, hyper=program.hyper._replace(variant=floats))
        assert abs(changed["loss"] - metrics["loss"]) > 1e-4 * abs(metrics["loss"]), name


def test_free_bits_lie_between_the_rates_of_the_latents(program):
    if "free_bits" not in program.built.floats:
        pytest.skip("no free bits")
    _, metrics = program.run(program.state, 0, 1)
    if "kl" in metrics:
        assert metrics["kl"].min() < program.hyper.variant["free_bits"] < metrics["kl"].max()


def test_devices_agree_with_one(program):
    one, metrics_one = program.run(program.state, 0, 2)
    many, metrics_many = program.run(program.state, 0, 2, devices=4)
    # Adam divides by the gradient's own size, so a parameter whose gradient is round-off may differ by the
    # learning rate; the loss and the terms may not.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), metrics_one, metrics_many)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=3e-3), one.params, many.params)


def test_a_run_that_is_saved_and_restored_goes_on_with_the_same_bits(program, tmp_path):
    straight, _ = program.run(program.state, 0, 4)
    half, _ = program.run(program.state, 0, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, half, None)
    checkpoints.wait()
    _, restored = checkpoints.restore(jax.eval_shape(lambda: half))
    checkpoints.close()
    again, _ = program.run(jax.tree.map(jnp.asarray, restored), 2, 2)
    jax.tree.map(np.testing.assert_array_equal, straight, again)


def test_codes_and_samples_are_what_decode_takes(program):
    variant, nets, params = program.built.variant, program.built.nets, program.state.params
    latent_dim = program.config.latent_dim
    width = variant.dummy_inputs(SHAPE, latent_dim)[1].shape[-1]
    batch = data.make_batch(tiny_vae.split(), data.scale_levels, jnp.arange(5), jnp.arange(5), jax.random.key(0))
    codes = variant.encode(nets, params, batch)
    assert codes.shape == (5, width)
    assert nets.decode(params["nets"], codes).shape[:3] == (5, 4, 4)
    assert variant.sample_prior(nets, params, randomness.root_key(1), 5, latent_dim).shape == (5, width)


def test_every_metric_is_finite_and_named(program):
    _, metrics = program.run(program.state, 0, 1)
    assert {"loss", "distortion", "code_mean", "code_variance"} <= metrics.keys()
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert ("elbo" in metrics) == bool(program.built.variant.bounds)  # empty where none is logged
    if "elbo" in metrics:
        np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-4, atol=1e-3)


def test_draws_weigh_as_the_elbo_says(program):
    # E_q[log p(x|z) + log p(z) - log q(z|x)] is the ELBO, whatever closed forms the loss takes for parts of it.
    built, params, floats = program.built, program.state.params, program.hyper.variant
    indices = jnp.arange(6)
    batch = data.make_batch(split_with_factors(), data.threshold_levels, indices, indices, randomness.root_key(1))
    batch["pair"] = batch["image"]
    if built.variant.posterior is None and built.variant.sample_with_log_ratio is None:
        with pytest.raises(UserError, match="points"):
            variants.sample_with_log_ratio(built.variant, built.nets, params, batch, randomness.root_key(2))
        return

    size = batch.pop("size")  # a number of the program, not of an array

    def log_weight_and_elbo(params, arrays, key):
        batch = {**arrays, "size": size}
        log_w = likelihood.log_weights(built, params, batch, key[None])[0]
        return log_w, built.variant.loss(built.nets, params, batch, key, jnp.int32(0), **floats)[1]["elbo"]

    axes = (None, None, 0)
    with jax.debug_key_reuse(False):  # both are of the same draw, on purpose
        over_keys = jax.vmap(jax.vmap(log_weight_and_elbo, axes), axes, axis_name=AXIS)
        log_w, elbo = jax.jit(over_keys)(params, batch, jax.random.split(randomness.root_key(3), (1, 2000)))
    difference = np.asarray(log_w - elbo, np.float64)[0]
    error = difference.std(axis=0) / np.sqrt(len(difference))
    assert (np.abs(difference.mean(axis=0)) < 5 * error + 1e-4).all()


def test_explain_tells_every_weight(program):
    config, built = program.config, program.built
    text = explain(config, built, SHAPE)
    for field, value in built.floats.items():
        assert f"  {field} = {value:g}" in text
        assert f"variant.{field}" in text
    assert text.startswith(importlib.import_module(f"vae_jax.variants.{config.variant.name}").__doc__[:40])


MINE = '''"""A variant of my own: weight * times * distortion."""

import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.variants import Variant


def make(likelihood, *, times: int = 2):
    if times < 1:
        raise UserError(f"times: {times} is not allowed; give at least 1")

    def loss(nets, params, batch, key, step, *, weight=3.0):
        code, _ = nets.encode(params["nets"], batch["image"])
        distortion = -likelihood.log_prob(nets.decode(params["nets"], code), batch["image"])
        return weight * times * jnp.mean(distortion), {"distortion": distortion, "code": code}

    return Variant(loss, posterior=None)
'''

LAB = """from vae_jax.config import defaults


def get_config():
    config = defaults.get_config()
    config.variant = defaults.section("variant", "my_objectives.mine", times=1)
    config.latent_dim, config.net.hidden = 2, (8,)
    config.train.steps = config.log.every = 2
    config.parallel.devices = 1
    return config
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The file of a config in whose folder there is a variant of the user's own."""
    (tmp_path / "my_objectives").mkdir()
    (tmp_path / "my_objectives/mine.py").write_text(MINE)
    (tmp_path / "lab.py").write_text(LAB)
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the config's folder is put
    yield tmp_path / "lab.py"
    for name in [name for name in sys.modules if name.startswith("my_objectives")]:
        del sys.modules[name]


@pytest.mark.full
def test_a_variant_of_the_users_own_trains_with_its_floats_swept(lab):
    weights = (3.0, 5.0)
    members = [
        {"workdir": str(lab.parent / f"{weight:g}"), "words": [f"--config={lab}", f"--config.variant.weight={weight}"]}
        for weight in weights
    ]
    (lab.parent / "members.json").write_text(json.dumps(members))
    # A population is one program: the weight is an argument of it.
    assert cli.run(["population", f"--members={lab.parent / 'members.json'}"]) == 0
    for weight in weights:
        numbers = json.loads((lab.parent / f"{weight:g}/evaluation.json").read_text())
        assert numbers["step"] == 2
        np.testing.assert_allclose(numbers["loss"], weight * numbers["distortion"], rtol=1e-5)
        config = json.loads((lab.parent / f"{weight:g}/config.json").read_text())
        assert config["config"]["variant"] == {"name": "my_objectives.mine", "times": 1, "weight": weight}


def test_a_variant_of_the_users_own_is_explained_by_its_docstring(lab, capsys):
    assert cli.run(["explain", f"--config={lab}", "--config.variant.weight=5", "--config.variant.times=3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A variant of my own: weight * times * distortion.")
    assert "  weight = 5\n  times = 3\n" in text


def test_an_error_of_a_variant_names_the_field_of_the_config(lab):
    with pytest.raises(UserError, match=r"^config\.variant\.times: 0 is not allowed; give at least 1"):
        model.build(load_config(str(lab), **{"variant.times": 0}), SHAPE)
    config = load_config("digits:vq", latent_dim=7)
    with pytest.raises(UserError, match=r"^config\.latent_dim: 7 is not allowed; give a multiple of 4, config.variant"):
        model.build(config, SHAPE)
    config = load_config("digits:ada")
    with pytest.raises(UserError, match=r"^config\.variant\.name: 'ada' learns from pairs"):
        prepare(config)
