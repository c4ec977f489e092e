"""The importance bound against an exact likelihood."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.linear_gaussian import BATCH, LOG_P, bound, compiled, linear

from vae_jax import metrics
from vae_jax.metrics import likelihood


def test_the_bound_rises_with_k_to_the_exact_likelihood():
    found = {k: np.stack([bound(k, min(k, 500), seed, 0.6)[0] for seed in range(40)]) for k in (1, 10, 2000)}
    means = {k: values.mean() for k, values in found.items()}
    assert means[1] < means[10] < means[2000]
    assert LOG_P.mean() - means[1] > 0.2
    error = found[2000].mean(axis=1).std() / math.sqrt(40)
    assert abs(means[2000] - LOG_P.mean()) < 5 * error + 5e-3
    np.testing.assert_allclose(found[2000].mean(axis=0), LOG_P, atol=0.05)


@pytest.mark.full
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


def test_every_metric_says_what_it_needs_and_means():
    for name in metrics.names():
        metric = metrics.get(name)
        assert set(metric.requires) <= metrics.REQUIREMENTS.keys()
        assert len(metrics.description(metric).splitlines()) > 3
