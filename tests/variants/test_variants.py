"""What every variant owes its contract, found by file name: devices, resume, codes, samples."""

import importlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.variant_configs import NAMES, SHAPE, config_of, split_with_factors

from vae_jax import data, model, randomness, variants
from vae_jax.config.explain import explain
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.metrics import likelihood
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.step import Hyper, initial_state, make_train_step, optimizer_for
from vae_jax.typing import AXIS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=NAMES)
def program(request):
    """(model, initial state, hyper, step of one device or many) of a variant on tiny images."""
    config = config_of(request.param)
    built = model.build(config, SHAPE)
    state = jax.jit(lambda: initial_state(built, config, SHAPE))()
    hyper = Hyper(jnp.float32(1e-3), {name: jnp.float32(value) for name, value in built.floats.items()})
    fetch = partial(data.make_batch, split_with_factors(), data.sample_pixels)
    step = make_train_step(built.nets, built.variant, optimizer_for(config, built.variant), fetch)
    return config, built, state, hyper, tiny_vae.over_axis(step, None, 0, None, None)


def run(program, state, first, steps, devices=1):
    _, _, _, hyper, step = program
    for i in range(first, first + steps):
        share = jnp.asarray(tiny_vae.indices(i, 1)).reshape(devices, -1)
        state, metrics = step(state, share, randomness.root_key(0), hyper)
    return state, metrics


def test_a_step_gives_back_the_kind_of_state_it_takes(program):
    # A weak type that a step makes strong would be another program at the second dispatch.
    _, _, state, hyper, step = program
    share = jnp.asarray(tiny_vae.indices(0, 1)).reshape(1, -1)
    after, _ = jax.eval_shape(step, state, share, randomness.root_key(0), hyper)
    form = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)  # noqa: E731
    assert form(jax.eval_shape(lambda: state)) == form(after)


def test_devices_agree_with_one(program):
    one, metrics_one = run(program, program[2], 0, 2)
    many, metrics_many = run(program, program[2], 0, 2, devices=4)
    # Adam divides by the gradient's own size, so a parameter whose gradient is round-off may differ by the
    # learning rate; the loss and the terms may not.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), metrics_one, metrics_many)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=3e-3), one.params, many.params)


def test_a_run_that_is_saved_and_restored_goes_on_with_the_same_bits(program, tmp_path):
    straight, _ = run(program, program[2], 0, 4)
    half, _ = run(program, program[2], 0, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, half, None)
    checkpoints.wait()
    _, restored = checkpoints.restore(jax.eval_shape(lambda: half))
    checkpoints.close()
    again, _ = run(program, jax.tree.map(jnp.asarray, restored), 2, 2)
    jax.tree.map(np.testing.assert_array_equal, straight, again)


def test_codes_and_samples_are_what_decode_takes(program):
    config, built, state, _, _ = program
    width = built.variant.dummy_inputs(SHAPE, config.latent_dim)[1].shape[-1]
    batch = data.make_batch(tiny_vae.split(), data.scale_levels, jnp.arange(5), jnp.arange(5), jax.random.key(0))
    codes = built.variant.encode(built.nets, state.params, batch)
    assert codes.shape == (5, width)
    assert built.nets.decode(state.params["nets"], codes).shape[:3] == (5, 4, 4)


def test_every_metric_is_finite_and_named(program):
    _, metrics = run(program, program[2], 0, 1)
    assert {"loss", "distortion", "code_mean", "code_variance"} <= metrics.keys()
    assert all(np.isfinite(value).all() for value in metrics.values())
    if "elbo" in metrics:
        np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-4, atol=1e-3)


def test_draws_weigh_as_the_elbo_says(program):
    # E_q[log p(x|z) + log p(z) - log q(z|x)] is the ELBO, whatever closed forms the loss takes for parts of it.
    _, built, state, hyper, _ = program
    batch = data.make_batch(
        split_with_factors(), data.threshold_levels, jnp.arange(6), jnp.arange(6), randomness.root_key(1)
    )
    batch["pair"] = batch["image"]
    if built.variant.posterior is None and built.variant.sample_with_log_ratio is None:
        with pytest.raises(UserError, match="points"):
            variants.sample_with_log_ratio(built.variant, built.nets, state.params, batch, randomness.root_key(2))
        return

    def one(key):
        log_w = likelihood.log_weights(built, state.params, batch, key[None])[0]
        return log_w, built.variant.loss(built.nets, state.params, batch, key, jnp.int32(0), **hyper.variant)[1]["elbo"]

    with jax.debug_key_reuse(False):  # both are of the same draw, on purpose
        lifted = jax.vmap(jax.vmap(one), axis_name=AXIS)
        log_w, elbo = jax.jit(lifted)(jax.random.split(randomness.root_key(3), (1, 2000)))
    difference = np.asarray(log_w - elbo, np.float64)[0]
    error = difference.std(axis=0) / np.sqrt(len(difference))
    assert (np.abs(difference.mean(axis=0)) < 5 * error + 1e-4).all()


def test_explain_tells_every_weight(program):
    config, built, *_ = program
    text = explain(config, built, SHAPE)
    for field, value in built.floats.items():
        assert f"  {field} = {value:g}" in text
        assert f"variant.{field}" in text
    assert text.startswith(importlib.import_module(f"vae_jax.variants.{config.variant.name}").__doc__[:40])


def test_a_variant_is_one_file_and_no_edit_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(
        '"""A toy."""\nimport jax.numpy as jnp\nfrom vae_jax.variants import Variant\n\n\n'
        "def make(likelihood, *, times: int = 2):\n"
        "    def loss(nets, params, batch, key, step, *, weight=3.0):\n"
        "        code, _ = nets.encode(params['nets'], batch['image'])\n"
        "        distortion = -likelihood.log_prob(nets.decode(params['nets'], code), batch['image'])\n"
        "        return weight * times * jnp.mean(distortion), {'distortion': distortion, 'code': code}\n\n"
        "    return Variant(loss)\n"
    )
    monkeypatch.setattr(variants, "__path__", [*variants.__path__, str(tmp_path)])
    words = [f"--config={ROOT / 'configs/digits.py'}", "--config.variant.name=toy", "--config.variant.weight=5"]
    config = parse_config([*words, "--config.variant.times=1"])
    assert config.variant.to_dict() == {"name": "toy", "times": 1, "weight": 5.0}
    built = model.build(config, SHAPE)
    assert built.floats == {"weight": 5.0}
