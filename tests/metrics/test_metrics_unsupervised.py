"""Scores of codes and posteriors alone, against closed forms; and what a run gives them."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.factor_codes import GRID, given, noise, perfect, score
from scipy.linalg import sqrtm

from vae_jax import metrics, model
from vae_jax.config.parse import DEFAULT, parse_config
from vae_jax.inference import TrainedModel
from vae_jax.metrics import (
    _information,
    active_units,
    gaussian_tc,
    latent_information,
    mig_sampled,
    pairwise_information,
    udr,
    wasserstein_correlation,
)
from vae_jax.models.distributions import Gaussian
from vae_jax.training.step import initial_state

pytestmark = pytest.mark.usefixtures("undrawn")

COVARIANCE = np.array([[1.0, 0.6, 0.2], [0.6, 2.0, -0.2], [0.2, -0.2, 0.5]])


def of_covariance(covariance, count=500):
    """Codes that have exactly this covariance."""
    codes = np.random.default_rng(4).normal(size=(count, len(covariance)))
    codes = (codes - codes.mean(axis=0)[None]) @ np.linalg.inv(np.linalg.cholesky(np.cov(codes.T))).T
    return (codes @ np.linalg.cholesky(covariance).T).astype(np.float32)


def test_total_correlation_is_that_of_the_gaussian():
    expected = 0.5 * (np.log(np.diag(COVARIANCE)).sum() - np.linalg.slogdet(COVARIANCE)[1])
    codes = of_covariance(COVARIANCE)
    np.testing.assert_allclose(gaussian_tc.gaussian_tc(codes), expected, rtol=1e-5)
    scaled = np.concatenate([codes * np.float32([-3, 1e-3, 50]), np.ones((500, 1), np.float32)], axis=1)
    np.testing.assert_allclose(gaussian_tc.gaussian_tc(scaled), expected, rtol=1e-4)
    np.testing.assert_allclose(gaussian_tc.gaussian_tc(of_covariance(np.eye(4))), 0, atol=1e-6)
    assert gaussian_tc.gaussian_tc(np.concatenate([codes, -2 * codes[:, :1]], axis=1)) == np.inf
    assert gaussian_tc.gaussian_tc(np.ones((9, 3), np.float32)) == 0


def test_wasserstein_is_that_of_the_gaussians():
    r = 0.7
    two = np.array([[1, r], [r, 1]])
    expected = 4 - 2 * (math.sqrt(1 + r) + math.sqrt(1 - r))
    np.testing.assert_allclose(wasserstein_correlation.wasserstein(two), expected)
    root, apart = sqrtm(COVARIANCE), np.diag(np.diag(COVARIANCE))
    expected = 2 * np.trace(COVARIANCE) - 2 * np.trace(sqrtm(root @ apart @ root))
    np.testing.assert_allclose(wasserstein_correlation.wasserstein(COVARIANCE), expected)
    # n copies: S has one eigenvalue n, so 2 - 2 / sqrt(n) of the variance.
    np.testing.assert_allclose(wasserstein_correlation.wasserstein(np.ones((4, 4))) / 4, 1, atol=1e-6)


def test_wasserstein_and_correlation_of_a_subject():
    codes = of_covariance(COVARIANCE, len(GRID))
    expected = wasserstein_correlation.wasserstein(COVARIANCE)
    for scale in (1, 10):
        found = score(wasserstein_correlation, given(scale * codes), images=0)
        np.testing.assert_allclose(found["wasserstein_correlation"], expected / np.trace(COVARIANCE), rtol=1e-4)
        np.testing.assert_allclose(found["wasserstein_correlation.raw"], scale**2 * expected, rtol=1e-4)
    assert np.isnan(score(wasserstein_correlation, given(np.ones_like(codes)))["wasserstein_correlation"])


def test_information_of_pairs_is_that_of_sklearn():
    from sklearn.metrics import mutual_info_score

    codes = np.tanh(of_covariance(COVARIANCE, len(GRID)))
    codes[:, 2] += 0.3 * codes[:, 0] ** 2
    binned = [np.digitize(code, np.histogram(code, 20)[1][:-1]) for code in codes.T]
    expected = np.array([[mutual_info_score(a, b) for b in binned] for a in binned])
    found = score(pairwise_information, given(codes), images=0)
    pairs = [expected[j, k] for j in range(3) for k in range(3) if j != k]
    np.testing.assert_allclose(found["pairwise_information"], np.mean(pairs), rtol=1e-5)
    for j in range(3):
        others = [expected[j, k] for k in range(3) if k != j]
        np.testing.assert_allclose(found[f"pairwise_information.{j}"], np.mean(others), rtol=1e-5)


def test_pairs_of_independent_duplicate_constant_and_single_latents():
    grid = GRID.astype(np.float32)
    # On the whole grid the factors are independent, to the last count.
    np.testing.assert_allclose(score(pairwise_information, given(grid), images=0)["pairwise_information"], 0, atol=1e-9)
    twice = score(
        pairwise_information, given(np.stack([grid[:, 2], -3 * grid[:, 2], 0 * grid[:, 2]], axis=1)), images=0
    )
    np.testing.assert_allclose(twice["pairwise_information"], math.log(8) / 3, rtol=1e-6)
    assert twice["pairwise_information.2"] == 0
    assert np.isnan(score(pairwise_information, given(grid[:, :1]))["pairwise_information"])


def test_active_units_are_those_whose_mean_moves():
    codes = (noise(3) - noise(3).mean(axis=0)[None]) / noise(3).std(axis=0)[None] * np.sqrt([[1, 0.011, 0.009]])
    found = score(active_units, given(codes))
    assert found["active_units"] == 2
    np.testing.assert_allclose([found[f"active_units.{j}"] for j in range(3)], [1, 0.011, 0.009], rtol=1e-4)


def normal_posterior(count, deviation, logvar):
    """Means at the quantiles of N(0, deviation^2), in no order, and one that tells nothing."""
    from scipy.stats import norm

    mean = np.random.default_rng(5).permutation(norm.ppf((np.arange(count) + 0.5) / count)) * deviation
    mean = jnp.asarray(np.stack([mean, np.zeros(count)], axis=1), jnp.float32)
    return Gaussian(mean, jnp.full_like(mean, logvar))


def test_information_of_a_latent_is_that_of_the_gaussian_channel(key):
    posterior = normal_posterior(3000, 1.0, 2 * math.log(0.3))
    found = latent_information.latent_information(posterior, key)
    np.testing.assert_allclose(found, [0.5 * math.log(1 + 1 / 0.09), 0], atol=0.02)
    assert (found <= np.asarray(posterior.kl()).mean(axis=0) + 0.02).all()


def test_information_of_needles_is_the_logarithm_of_their_number(key):
    found = latent_information.latent_information(normal_posterior(300, 1e3, -10.0), key)
    np.testing.assert_allclose(found, [math.log(300), 0], atol=1e-3)


def test_information_is_computed_in_chunks_as_at_once():
    posterior = normal_posterior(300, 1.0, -1.0)
    z, groups = posterior.mean + 0.1, np.eye(3, dtype=np.float32)[np.arange(300) % 3]
    found = _information.log_mixtures(z, posterior, jnp.asarray(groups))
    difference = np.asarray(z)[:, None] - np.asarray(posterior.mean)[None]
    density = np.exp(-0.5 * difference**2 / math.exp(-1)) / math.sqrt(2 * math.pi * math.exp(-1))
    np.testing.assert_allclose(np.exp(found), np.einsum("snj,ng->jsg", density, groups) / 100, rtol=1e-4)


def test_sampled_gap_of_a_binary_channel_is_the_known_one():
    # z = +-1 with noise 0.8 beside a latent of nothing: I by quadrature, H = log 2.
    points, width = np.linspace(-9, 9, 20001), 0.8
    two = [np.exp(-0.5 * ((points - s) / width) ** 2) / (width * math.sqrt(2 * math.pi)) for s in (-1, 1)]
    mixed = 0.5 * (two[0] + two[1])
    expected = np.trapezoid(two[0] * np.log(two[0] / mixed), points) / math.log(2)
    codes = np.zeros((4000, 2), np.float32)
    codes[:, 0] = 2.0 * (np.arange(4000) < 2000) - 1
    subject = given(codes, ("a", "b", "c"), (2, 50, 40), logvar=2 * math.log(width))
    found = score(mig_sampled, subject)
    np.testing.assert_allclose(found["mig_sampled.a"], expected, atol=0.03)


def test_sampled_gap_of_perfect_codes_falls_with_the_noise():
    sharp, dull = (score(mig_sampled, given(perfect(), logvar=v))["mig_sampled"] for v in (-9.0, 0.0))
    # The constant tells nothing, and on the whole grid a latent nothing of another's factor.
    np.testing.assert_allclose(sharp, 1, atol=1e-3)
    assert dull < 0.6


def test_ranking_of_models_that_agree_of_a_mixed_one_and_of_one_unused():
    base, kl = of_covariance(np.eye(3), 400), np.array([1.0, 1, 1])
    like = -2 * base[:, [2, 0, 1]]
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0].astype(np.float32)
    same = udr.score([base, like, base], [kl] * 3, relation="spearman")
    np.testing.assert_allclose(same.scores, 1, atol=0.1)
    np.testing.assert_allclose(udr.score([base, like, base], [kl] * 3).scores, 0.9, atol=1e-3)
    mixed = udr.score([base, like, base @ turn], [kl] * 3)
    assert mixed.scores[2] < 0.65 < mixed.scores[0]
    dead = np.concatenate([base, noise(2)[:400]], axis=1)
    masked = udr.score([dead, like], [np.array([1, 1, 1, 1e-3, 0]), kl])
    np.testing.assert_allclose(masked.scores, 0.9, atol=1e-3)
    collapsed = udr.score([base, like, base], [kl, kl, 0 * kl])
    np.testing.assert_allclose(collapsed.scores, [0.9, 0.9, np.nan], atol=1e-3)


def test_agreement_by_hand():
    relation = np.array([[0.8, 0.2, 0], [0, 0, 0.5]])
    expected = (0.64 / 0.8 + 0.04 / 0.2 + 0.25 / 0.5 + 0.64 / 1 + 0.25 / 0.5) / 5
    np.testing.assert_allclose(udr.agreement(relation), expected)
    assert udr.agreement(np.zeros((2, 3))) == 0


def test_spearman_is_that_of_scipy():
    from scipy.stats import spearmanr

    one, other = noise(2)[:60].round(1), np.exp(noise(2)[:60] + noise(2, 1)[:60])
    expected = [[abs(spearmanr(a, b).statistic) for b in other.T] for a in one.T]
    np.testing.assert_allclose(udr.spearman(*map(udr._standardize, (one, other))), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def subject():
    """An untrained model of a small grid of sprites."""
    fields = {"data.sizes": "(3, 2, 4, 5, 4)", "data.resolution": 8, "data.split": "random 0.5", "net.hidden": "(8,)"}
    words = [f"--config={DEFAULT}", "--config.data.name=sprites"]
    config = parse_config([*words, *(f"--config.{name}={value}" for name, value in fields.items())])
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    params = initial_state(built, config, dataset.image_shape).params
    return metrics.EvaluationContext(TrainedModel(config.to_dict(), dataset.image_shape, built, params, 0), dataset)


def test_a_run_gives_codes_and_posteriors_of_the_images_asked_for(subject):
    ids = np.array([5, 400, 17])
    posterior = subject.posterior_at(ids)
    np.testing.assert_allclose(posterior.mean, subject.factor_codes.codes[ids], atol=1e-5)
    some, whole = subject.codes(20), subject.codes(0)
    assert len(whole) == subject.dataset.test.size
    np.testing.assert_allclose(some, whole[:20], atol=1e-6)
    np.testing.assert_allclose(subject.posterior(20).mean, some, atol=1e-6)
    assert subject.codes(20) is some
