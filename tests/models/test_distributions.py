import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from vae_jax import randomness
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian

RNG = np.random.default_rng(0)
MEAN, LOGVAR, Z = (RNG.normal(size=(5, 3)).astype(np.float32) for _ in range(3))
EXTREMES = np.float32(list(itertools.product((0, 1e-4, -3, 1e4), (-60, -10, -1e-4, 0, 1e-4, 0.1, 10, 60)))).T.reshape(
    2, -1, 1
)
"""Means and log variances, (examples, 1) each."""


def gaussian(mean, logvar):
    return Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32))


def test_log_prob_is_scipys_summed_over_latents():
    expected = scipy.stats.norm.logpdf(Z, MEAN, np.exp(LOGVAR / 2)).sum(axis=1)
    np.testing.assert_allclose(gaussian(MEAN, LOGVAR).log_prob(jnp.asarray(Z)), expected, rtol=1e-5)


def test_log_prob_is_right_with_finite_gradients_at_extremes():
    mean, logvar = EXTREMES
    z = (mean + 1.5 * np.exp(logvar / 2)).astype(np.float32)

    def log_prob(mean, logvar):
        values = gaussian(mean, logvar).log_prob(jnp.asarray(z))
        return values.sum(), values

    expected = scipy.stats.norm.logpdf(*(a.astype(np.float64) for a in (z, mean, np.exp(logvar / 2))))
    gradients, values = jax.grad(log_prob, (0, 1), has_aux=True)(mean, logvar)
    np.testing.assert_allclose(values, expected[:, 0], rtol=1e-4, atol=1e-5)
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize(("mean", "logvar"), [(0.0, 0.0), (1.5, -2.0), (-0.3, 1.2), (2.0, 0.0), (0.0, -5.0)])
def test_kl_is_its_own_integral(mean, logvar):
    q, p = scipy.stats.norm(mean, math.exp(logvar / 2)), scipy.stats.norm(0, 1)
    integral, _ = scipy.integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *q.interval(1 - 1e-14))
    np.testing.assert_allclose(gaussian([[mean]], [[logvar]]).kl(), [[integral]], rtol=1e-5, atol=1e-6)


def test_kl_keeps_its_digits_at_extremes():
    mean, logvar = (a.astype(np.float64) for a in EXTREMES)
    expected = 0.5 * (mean**2 + np.expm1(logvar) - logvar)
    kl, near = gaussian(mean, logvar).kl(), (np.abs(logvar) < 1e-3) & (logvar != 0)
    np.testing.assert_allclose(kl[~near], expected[~near], rtol=1e-5)
    # Some 1e-3 of cancellation is left in (sigma^2 - 1) - log sigma^2; exp(logvar) - 1 would leave no digit at all.
    np.testing.assert_allclose(kl[near], expected[near], rtol=5e-3)


def test_kl_gradients_are_the_closed_form_at_extremes():
    mean, logvar = EXTREMES
    by_mean, by_logvar = jax.grad(lambda m, v: gaussian(m, v).kl().sum(), (0, 1))(mean, logvar)
    np.testing.assert_allclose(by_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(by_logvar, 0.5 * np.expm1(logvar.astype(np.float64)), rtol=5e-3)


def test_kl_is_one_number_for_each_latent_and_zero_at_the_prior():
    prior = distributions.standard_normal(jnp.asarray(MEAN))
    assert gaussian(MEAN, LOGVAR).kl().shape == MEAN.shape
    np.testing.assert_array_equal(prior.kl(), np.zeros_like(MEAN))


def test_noise_belongs_to_an_example_and_not_to_its_batch(key):
    posterior, index = gaussian(MEAN, LOGVAR), np.array([3, 0, 70_000, 4, 2])
    sample = jax.jit(Gaussian.sample)
    whole = np.asarray(sample(posterior, key, index))
    assert len(np.unique(whole)) == whole.size
    for part in ([0, 1, 2], [2, 3, 4], [4, 1, 0]):
        some = sample(gaussian(MEAN[part], LOGVAR[part]), key, index[part])
        np.testing.assert_allclose(some, whole[part], rtol=1e-6)


def test_noise_differs_between_examples_and_between_keys(key):
    normal = jax.jit(randomness.example_normal, static_argnums=2)
    draws = [normal(k, jnp.arange(100), 7) for k in (key, randomness.root_key(1))]
    assert len(np.unique(draws)) == 2 * 700


def test_samples_have_the_posteriors_mean_and_variance_and_are_independent(key):
    n, mean, sigma = 20_000, np.array([1.0, -2.0]), np.array([2.0, 0.5])
    posterior = gaussian(np.tile(mean, (n, 1)), np.tile(2 * np.log(sigma), (n, 1)))
    noise = (np.asarray(jax.jit(Gaussian.sample)(posterior, key, jnp.arange(n))) - mean) / sigma
    noisy = 4 / math.sqrt(n)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=noisy)
    np.testing.assert_allclose(noise.var(axis=0), 1, atol=math.sqrt(2) * noisy)
    assert abs(np.corrcoef(noise.T)[0, 1]) < noisy
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < noisy
    assert scipy.stats.kstest(noise[:, 0], "norm").pvalue > 1e-3
