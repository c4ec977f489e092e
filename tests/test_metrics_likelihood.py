"""The importance bound against an exact likelihood, and the metrics of a run from the command line."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import evaluate, measure, train
from vae_jax import likelihoods, metrics
from vae_jax.metrics import likelihood
from vae_jax.model import Model
from vae_jax.networks import Nets
from vae_jax.registry import UserError
from vae_jax.variants import beta

ROOT = Path(__file__).parents[1]
LATENT, PIXELS, SIGMA = 2, 6, 0.5
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(LATENT, PIXELS)).astype(np.float32)
IMAGES = (RANDOM.normal(size=(8, LATENT)) @ WEIGHT + SIGMA * RANDOM.normal(size=(8, PIXELS))).astype(np.float32)
BATCH = {"image": jnp.asarray(IMAGES).reshape(8, 1, PIXELS, 1), "index": jnp.arange(8)}
COVARIANCE = WEIGHT.T @ WEIGHT + SIGMA**2 * np.eye(PIXELS)
LOG_P = stats.multivariate_normal(np.zeros(PIXELS), COVARIANCE).logpdf(IMAGES)


def linear(narrower):
    """x = z W + noise, z ~ N(0, I), with q(z|x) the exact posterior's mean and `narrower` times its deviations."""
    precision = np.eye(LATENT) + WEIGHT @ WEIGHT.T / SIGMA**2
    to_mean = jnp.asarray(WEIGHT.T / SIGMA**2 @ np.linalg.inv(precision), jnp.float32)
    logvar = jnp.asarray(np.log(1 / np.diag(precision)) + 2 * math.log(narrower), jnp.float32)

    def encode(params, x):
        flat = x.reshape(len(x), -1)
        return flat @ to_mean, jnp.tile(logvar[None], (len(x), 1))

    def decode(params, z):
        return (z @ jnp.asarray(WEIGHT)).reshape(len(z), 1, PIXELS, 1)

    pixels = likelihoods.gaussian(sigma=SIGMA)
    return Model(Nets(None, encode, decode), beta.make(pixels), pixels, {}, None)


@functools.cache
def compiled(narrower, k, at_once):
    return jax.jit(likelihood.streamed(linear(narrower), k, at_once))


def bound(k, at_once, seed=0, narrower=1.0):
    found = compiled(narrower, k, at_once)({"nets": {}, "own": {}}, BATCH, jax.random.key(seed))
    return tuple(np.asarray(part, np.float64) for part in found)


def test_the_bound_rises_with_k_to_the_exact_likelihood():
    found = {k: np.stack([bound(k, min(k, 500), seed, 0.6)[0] for seed in range(40)]) for k in (1, 10, 2000)}
    means = {k: values.mean() for k, values in found.items()}
    assert means[1] < means[10] < means[2000]
    assert LOG_P.mean() - means[1] > 0.2
    error = found[2000].mean(axis=1).std() / math.sqrt(40)
    assert abs(means[2000] - LOG_P.mean()) < 5 * error + 5e-3
    np.testing.assert_allclose(found[2000].mean(axis=0), LOG_P, atol=0.05)


def test_draws_that_are_streamed_are_those_taken_at_once():
    whole, effective = bound(100, 100)
    for at_once in (1, 7, 100):  # 7 does not divide 100: what is over counts for nothing
        for one, other in zip(bound(100, at_once), (whole, effective), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(100))
    log_w = likelihood.log_weights(linear(1.0), {"nets": {}, "own": {}}, BATCH, keys)
    weights = np.exp(np.asarray(log_w, np.float64))
    np.testing.assert_allclose(whole, np.log(weights.mean(axis=0)), rtol=1e-4)
    np.testing.assert_allclose(effective, weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0) / 100, rtol=1e-3)


def test_a_posterior_that_is_too_narrow_shows_in_few_effective_draws():
    assert np.mean(bound(100, 100, 0, 0.2)[1]) < 0.4 * np.mean(bound(100, 100)[1])


def test_images_far_from_the_model_are_finite():
    far = {**BATCH, "image": 1e4 * BATCH["image"]}
    found = compiled(1.0, 100, 7)({"nets": {}, "own": {}}, far, jax.random.key(0))
    assert all(np.isfinite(part).all() for part in found)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A short run on small sprites, measured at its end."""
    folder = tmp_path_factory.mktemp("run")
    words = [
        f"--config={ROOT / 'configs/sprites.py'}",
        "--config.data.sizes=(3, 2, 5, 4, 4)",
        "--config.train.steps=30",
    ]
    words += ["--config.data.resolution=16", "--config.net.hidden=(32,)", "--config.parallel.devices=1"]
    words += ["--config.evaluation.metrics=mig:points=500,likelihood:k=20:images=30"]
    assert train.main([*words, f"--workdir={folder}"]) == 0
    return folder


def results(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_a_run_is_measured_at_its_end(run_folder):
    found = results(run_folder)
    assert {"elbo", "step", "mig:points=500", "mig:points=500.shape", "likelihood:k=20:images=30"} <= found.keys()
    assert found["mig:points=500.protocol"] == "points=500 bins=20"
    assert found["likelihood:k=20:images=30.images"] == 30
    assert found["likelihood:k=20:images=30"] > found["elbo"] - 3
    assert not (run_folder / "evaluation.unfinished.json").exists()


def test_what_is_asked_for_joins_what_is_there(run_folder, capsys):
    before = results(run_folder)
    assert evaluate.main([f"--workdir={run_folder}", "--metrics=mig:points=400,mig:points=500"]) == 0
    after = results(run_folder)
    assert "[2/2] mig:points=500 =" in capsys.readouterr().out
    assert after.keys() - before.keys() == {name.replace("500", "400") for name in before if name.startswith("mig")}
    assert {name: after[name] for name in before} == before  # the same key: the same numbers


def test_results_of_another_checkpoint_are_not_kept(tmp_path):
    file = tmp_path / "evaluation_best.json"
    measure.merge(file, "mig", {"mig": 0.1, "mig.protocol": "points=10"}, step=10)
    measure.merge(file, "sap", {"sap": 0.2}, step=10)
    assert measure.read(file, 10) == {"mig": 0.1, "mig.protocol": "points=10", "sap": 0.2, "step": 10}
    measure.merge(file, "sap", {"sap": 0.3}, step=20)
    assert json.loads(file.read_text()) == {"sap": 0.3, "step": 20}


def test_metrics_alone_do_not_finish_a_run(tmp_path):
    measure.merge(tmp_path / "evaluation.json", "mig", {"mig": 0.1}, step=10)
    assert not train.finished(tmp_path, 10)


REFUSED = {
    "migg": r"--metrics: 'migg' is unknown; .* did you mean 'mig'\?",
    "mig,likelihood:kk=3": r"--metrics=likelihood:kk=3: 'kk' is unknown; known: images, k; did you mean 'k'\?",
    "likelihood:k=many": "--metrics=likelihood:k=many: 'many' is not allowed",
    "likelihood:k=0": "--metrics=likelihood: k = 0 is not allowed; give at least 1",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_measured_is_refused_before_anything_is(words, run_folder):
    before = results(run_folder)
    with pytest.raises(UserError, match=REFUSED[words]):
        evaluate.main([f"--workdir={run_folder}", f"--metrics={words}"])
    assert results(run_folder) == before


def test_metrics_that_the_data_or_the_variant_cannot_have_are_refused_before_training(tmp_path):
    words = [f"--config={ROOT / 'configs/digits.py'}:autoencoder", f"--workdir={tmp_path / 'run'}"]
    words += ["--config.parallel.devices=1", "--config.train.steps=2"]
    for metric, needs in {"mig": "a dataset with factors", "likelihood": "codes have a density"}.items():
        with pytest.raises(UserError, match=f"--metrics={metric}: is not for this run; it needs .*{needs}"):
            train.main([*words, f"--config.evaluation.metrics={metric}"])
    assert not (tmp_path / "run").exists()


def test_every_metric_says_what_it_needs_and_means():
    for name in metrics.names():
        module = metrics.get(name)
        assert set(module.NEEDS) <= metrics.NEEDS.keys()
        assert len(module.__doc__.splitlines()) > 3
