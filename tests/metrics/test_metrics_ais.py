"""Annealed importance sampling against exact likelihoods, both ways."""

import functools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.linear_gaussian import BATCH, COVARIANCE, IMAGES, LATENT, LOG_P, PIXELS, SIGMA, WEIGHT, bound, linear
from scipy import stats

from vae_jax import cli, metrics, model
from vae_jax.config.parse import parse_config
from vae_jax.data import digits
from vae_jax.errors import UserError
from vae_jax.metrics import _annealing, ais
from vae_jax.metrics._requests import parse_requests
from vae_jax.randomness import root_key, stream

ROOT = Path(__file__).parents[2]
PARAMS = {"nets": {}, "own": {}}
CHAINS = 32


@functools.cache
def way(temperatures):
    return ais.Annealing(linear(1.0), LATENT, CHAINS, temperatures, 5)


@functools.cache
def forward(temperatures, seed=0):
    """log w of (image, chain), and acceptances, of the images of which LOG_P is the exact likelihood."""
    these = PARAMS, BATCH["image"], BATCH["index"], root_key(seed)
    step_sizes = way(temperatures).pilot(*these)
    return tuple(np.asarray(found, np.float64) for found in way(temperatures).forward(*these, step_sizes))


def test_the_estimate_is_the_exact_likelihood_within_its_error():
    log_w, _ = forward(100)
    weights = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    error = weights.std(axis=1, ddof=1) / weights.mean(axis=1) / math.sqrt(CHAINS)
    assert error.max() < 0.2
    assert (np.abs(ais.log_mean(log_w) - LOG_P) < 4 * error).all()
    np.testing.assert_allclose(ais.log_mean(log_w).mean(), LOG_P.mean(), atol=0.05)


@pytest.mark.full
def test_weights_are_without_bias_at_few_temperatures():
    """The mean of w is p(x), not merely near it where chains have settled."""
    ratios = np.concatenate([np.exp(forward(10, seed)[0] - LOG_P[:, None]) for seed in range(20)], axis=1)
    error = ratios.std(axis=1) / math.sqrt(ratios.shape[1])
    assert (error > 0.01).all()
    assert (np.abs(ratios.mean(axis=1) - 1) < 4 * error).all()


@pytest.mark.full
def test_estimates_rise_with_the_temperatures():
    found = {
        count: np.mean([ais.log_mean(forward(count, seed)[0]).mean() for seed in range(20)]) for count in (1, 10, 100)
    }
    assert found[1] < found[10] - 0.1
    assert found[10] < found[100] - 0.01
    assert found[100] < LOG_P.mean()


def test_one_temperature_is_importance_sampling_from_the_prior():
    any_step_sizes = jnp.ones((2, 8))  # the only move counts for nothing
    log_w, _ = way(1).forward(PARAMS, BATCH["image"], BATCH["index"], root_key(0), any_step_sizes)
    key = stream(root_key(0), "ais/start")
    z = np.asarray(ais.sample_starts(linear(1.0), PARAMS, key, BATCH["index"], CHAINS, LATENT), np.float64)
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert len(np.unique(z)) == z.size
    mean = z.reshape(8, CHAINS, LATENT) @ WEIGHT.astype(np.float64)
    expected = stats.norm.logpdf(IMAGES[:, None], mean, SIGMA).sum(axis=-1)
    np.testing.assert_allclose(log_w, expected, rtol=1e-4, atol=1e-4)


def there_and_back(temperatures, x, z):
    """log w of (image, chain) both ways, eight images at a time as the other tests have them."""
    found = []
    for start in range(0, len(x), 8):
        image = jnp.asarray(x[start : start + 8], jnp.float32).reshape(8, 1, PIXELS, 1)
        these = PARAMS, image, jnp.arange(start, start + 8), root_key(1)
        step_sizes, code = way(temperatures).pilot(*these), jnp.asarray(z[start : start + 8], jnp.float32)
        there, back = way(temperatures).forward(*these, step_sizes), way(temperatures).reverse(*these, step_sizes, code)
        found.append((there[0], back[0]))
    return ais.concatenate(found)


@pytest.mark.full
def test_images_of_the_model_are_bracketed():
    random = np.random.default_rng(7)
    z = random.normal(size=(96, LATENT))
    x = z @ WEIGHT + SIGMA * random.normal(size=(96, PIXELS))
    exact = stats.multivariate_normal(np.zeros(PIXELS), COVARIANCE).logpdf(x)
    gaps = {}
    for temperatures in (10, 100):
        there, back = there_and_back(temperatures, x, z)
        lower, upper = ais.log_mean(there), -ais.log_mean(back)
        assert lower.mean() < exact.mean() < upper.mean()
        gaps[temperatures] = upper.mean() - lower.mean()
        # The mean of w on the way back is 1 / p(x), where z is an exact draw.
        ratios = np.exp(back + exact[:, None]).mean(axis=1)
        assert abs(ratios.mean() - 1) < 4 * ratios.std() / math.sqrt(96)
    assert 0 < gaps[100] < 0.3 * gaps[10]
    assert gaps[100] < 0.1


def test_it_is_not_worse_than_the_bound_of_a_poor_encoder():
    poor = bound(100, 100, 0, 0.2)[0]
    assert ais.log_mean(forward(100)[0]).mean() > poor.mean() + 0.1


def test_step_sizes_reach_the_acceptance_and_are_each_images_own():
    _, acceptance = forward(100)
    assert abs(acceptance.mean() - _annealing.ACCEPTANCE) < 0.06
    np.testing.assert_allclose(acceptance.mean(axis=1), _annealing.ACCEPTANCE, atol=0.15)
    step_sizes = np.asarray(way(100).pilot(PARAMS, BATCH["image"], BATCH["index"], root_key(0)))
    assert step_sizes.shape == (101, 8)
    # The posterior is narrower than the prior: SIGMA against the larger of WEIGHT's singular values.
    assert (step_sizes[-1] < 0.7 * step_sizes[0]).all()


def test_a_chain_is_the_same_in_any_batch():
    order = np.array([5, 7, 6, 7, 0, 0, 5, 1])
    step_sizes = way(10).pilot(PARAMS, BATCH["image"], BATCH["index"], root_key(0))
    log_w, _ = way(10).forward(PARAMS, BATCH["image"], BATCH["index"], root_key(0), step_sizes)
    other_batch = PARAMS, BATCH["image"][order], BATCH["index"][order]
    other_log_w, _ = way(10).forward(*other_batch, root_key(0), step_sizes[:, order])
    np.testing.assert_allclose(other_log_w, log_w[order], rtol=1e-4, atol=1e-4)


def test_the_schedule_goes_from_prior_to_posterior():
    betas = np.asarray(_annealing.schedule(8), np.float64)
    np.testing.assert_allclose(betas[[0, 4, 8]], [0, 0.5, 1], atol=1e-7)
    np.testing.assert_allclose(betas + betas[::-1], 1, atol=1e-6)
    rise = 1 / (1 + np.exp([4, 3])), 1 / (1 + math.exp(-4))
    np.testing.assert_allclose(betas[1], (rise[0][1] - rise[0][0]) / (rise[1] - rise[0][0]), rtol=1e-5)
    np.testing.assert_allclose(_annealing.schedule(1), [0, 1])


class Linear(metrics.EvaluationContext):
    """The linear model as a run; `seen` are the first images of the batches taken."""

    def __init__(self):
        self.run = SimpleNamespace(params=PARAMS, latent_dim=LATENT, image_shape=(1, PIXELS, 1))
        self.model, self.progress, self.seen = linear(1.0), metrics.no_progress, []

    def held_out(self, batch_size, images=0):
        for start in range(0, images or 8, batch_size):
            self.seen.append(start)
            yield {name: value[start : start + batch_size] for name, value in BATCH.items()}


def test_what_is_reported(monkeypatch, key):
    monkeypatch.setattr(ais, "VALUES", CHAINS * PIXELS * 8)
    compiled = way(100)
    monkeypatch.setattr(ais, "Annealing", lambda model, *sizes: compiled if sizes == (LATENT, CHAINS, 100, 5) else None)
    context = Linear()
    found = ais.compute(context, key, images=0, chains=CHAINS, temperatures=100, leapfrog=5, simulated=16)
    assert next(iter(found)) == "ais"
    assert context.seen == [0]
    np.testing.assert_allclose(found["ais"], LOG_P.mean(), atol=0.2)
    np.testing.assert_allclose(found["ais.standard_error"], LOG_P.std(ddof=1) / math.sqrt(8), rtol=0.2)
    np.testing.assert_allclose(found["ais.gap"], found["ais.simulated_upper"] - found["ais.simulated_lower"])
    # 16 draws of the entropy of N(0, COVARIANCE), whose own deviation is sqrt(PIXELS / 2).
    entropy = stats.multivariate_normal(np.zeros(PIXELS), COVARIANCE).entropy()
    assert abs(found["ais.simulated_lower"] + entropy) < 4 * math.sqrt(PIXELS / 2 / 16)
    assert -0.1 < found["ais.gap"] < 0.4
    assert 1 / CHAINS < found["ais.effective"] <= 1


def test_weights_that_are_no_numbers_are_no_estimate():
    np.testing.assert_allclose(ais.log_mean(np.array([[-1e4, -np.inf], [3, 3]])), [-1e4 - math.log(2), 3])
    with pytest.raises(UserError, match="ais: 2 of 3 estimates are not finite"):
        ais.log_mean(np.array([[np.nan, 0], [1, 2], [-np.inf, -np.inf]]))


POINTS, OTHERS = ("autoencoder", "rae"), ("vq", "joint", "conditional", "ladder")


def test_variants_whose_prior_cannot_be_differentiated_are_refused_by_name():
    dataset, refused = digits.load(), {}
    for path in (ROOT / "vae_jax/variants").glob("[a-z]*.py"):
        config = parse_config([f"--config={ROOT / 'configs/digits.py'}:{path.stem}"])
        refused[path.stem] = metrics.missing_requirement(ais.METRIC.requires, model.build(config, (8, 8, 1)), dataset)
    assert {name for name, need in refused.items() if need} == {*POINTS, *OTHERS}
    assert all("codes have a density" in refused[name] for name in POINTS)
    assert all("prior has a density that is differentiable" in refused[name] for name in OTHERS)


def test_a_ladder_of_one_layer_has_its_prior_in_closed_form():
    config = parse_config(
        [f"--config={ROOT / 'configs/digits.py'}:ladder", "--config.variant.widths=()", "--config.variant.hidden=()"]
    )
    built = model.build(config, (8, 8, 1))
    assert built.variant.log_prior is None
    (request,) = parse_requests("ais")
    request.check(built, digits.load())


@pytest.mark.full
def test_a_run_of_digits_is_measured_by_the_command(tmp_path, capsys):
    words = [f"--config={ROOT / 'configs/digits.py'}:vamp", f"--workdir={tmp_path}", "--config.train.steps=100"]
    words += ["--config.variant.components=5", "--config.net.hidden=(32,)", "--config.parallel.devices=1"]
    assert cli.train([*words, "--config.latent_dim=3"]) == 0
    word = "ais:temperatures=100:images=30:simulated=30:chains=4"
    assert cli.evaluate([f"--workdir={tmp_path}", f"--metrics={word}"]) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert abs(found[word] - found["elbo"]) < 4  # of 30 images, not of all
    assert -0.3 < found[f"{word}.gap"] < 1.5
    assert abs(found[f"{word}.acceptance"] - _annealing.ACCEPTANCE) < 0.1
    assert found[f"{word}.protocol"] == "images=30 chains=4 temperatures=100 leapfrog=10 simulated=30"
    assert f"[1/1] {word} = " in capsys.readouterr().out
