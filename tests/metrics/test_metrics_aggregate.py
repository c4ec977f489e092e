"""The aggregate posterior and the parts of the rate, against closed forms and NumPy."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.factor_codes import given, noise, score
from scipy import special, stats

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, _information, aggregate_posterior
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets
from vae_jax.variants import conditional, vamp

COUNT = 2000
NO_NETS = Nets(None, None, None)


def gaussian(mean, deviation):
    mean = jnp.asarray(mean, jnp.float32)
    return Gaussian(mean, jnp.full_like(mean, 2 * math.log(deviation)))


def means(posterior, key, log_prior=None):
    """Each part's mean and standard error."""
    found = aggregate_posterior.rate_parts(posterior, key, log_prior)
    return {name: (values.mean(), values.std(ddof=1) / math.sqrt(len(values))) for name, values in found.items()}


def with_covariance(covariance, count, seed=0):
    """Draws of a Gaussian, moved and turned to have exactly the mean 0 and this covariance."""
    codes = np.random.default_rng(seed).normal(size=(count, len(covariance)))
    codes = codes - codes.mean(axis=0)[None]
    codes = codes @ np.linalg.inv(np.linalg.cholesky(codes.T @ codes / count)).T
    return codes @ np.linalg.cholesky(covariance).T


def numpy_mixtures(z, posterior):
    """log of the mixture, of all but the own posterior, and of each latent, in float64."""
    z, mean, sd = np.float64(z), np.float64(posterior.mean), np.exp(0.5 * np.float64(posterior.logvar))
    single = stats.norm.logpdf(z[:, None], mean[None], sd[None])
    joint, count = single.sum(axis=2), len(z)
    others = np.where(np.eye(count, dtype=bool), -np.inf, joint)
    logsumexp = special.logsumexp
    return (
        logsumexp(joint, axis=1) - math.log(count),
        logsumexp(others, axis=1) - math.log(count - 1),
        logsumexp(single, axis=1) - math.log(count),
    )


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_the_parts_are_those_of_the_mixtures_in_float64(key, spread):
    random = np.random.default_rng(1)
    mean, logvar = spread * random.normal(size=(300, 3)), random.normal(size=(300, 3)) - 2
    posterior = Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32))  # 300 is no whole chunk
    z = posterior.sample(key, jnp.arange(300))
    joint, others, single = numpy_mixtures(z, posterior)
    np.testing.assert_allclose(_information.log_aggregate(z, posterior), [joint, others], rtol=2e-5, atol=1e-4)
    log_q = stats.norm.logpdf(z, posterior.mean, np.exp(0.5 * np.float64(posterior.logvar))).sum(axis=1)
    found = aggregate_posterior.rate_parts(posterior, key, None)
    tolerance = {"rtol": 2e-5, "atol": 3e-4 * spread}
    np.testing.assert_allclose(found["mutual_information"], log_q - joint, **tolerance)
    np.testing.assert_allclose(found["mutual_information_leave_one_out"], log_q - others, **tolerance)
    np.testing.assert_allclose(found["total_correlation"], joint - single.sum(axis=1), **tolerance)


def test_posteriors_that_are_all_one_tell_nothing(key):
    posterior = gaussian(np.tile([[1.0, -2.0, 0.0]], (300, 1)), 0.5)
    found = means(posterior, key)
    kl = 0.5 * (5 + 3 * (0.25 - 1 - math.log(0.25)))
    expected = {"": kl, "rate": kl, "dimension_wise_kl": kl}
    for name, (mean, error) in found.items():
        np.testing.assert_allclose(mean, expected.get(name, 0.0), atol=1e-4, err_msg=name)
        assert error < 1e-4


def test_posteriors_far_apart_tell_all_images_apart(key):
    # On a diagonal each latent alone does: it tells log N, and so TC is what is told more than once.
    along = np.arange(300.0) - 149.5
    found = means(gaussian(np.stack([along, along, 0 * along], axis=1), 1e-2), key)
    np.testing.assert_allclose(found["mutual_information"][0], math.log(300), rtol=1e-6)
    np.testing.assert_allclose(found["total_correlation"][0], math.log(300), rtol=1e-4)
    rate = np.mean(along**2) + 1.5 * (1e-4 - 1 - math.log(1e-4))
    np.testing.assert_allclose(found["rate"][0], rate, rtol=1e-6)
    np.testing.assert_allclose(found[""][0], rate - math.log(300), rtol=1e-6)
    # The next image is 100 deviations away in two latents, whose noise e leans to it: 100^2 - 100 E|e + e'| + log(299).
    other = found["mutual_information_leave_one_out"][0]
    np.testing.assert_allclose(other, 1e4 - 200 / math.sqrt(math.pi) + math.log(299), atol=25)
    np.testing.assert_allclose(found["dimension_wise_kl"][0], rate - 2 * math.log(300), rtol=1e-5)


def test_a_linear_encoder_of_gaussians_has_the_parts_of_the_gaussian(key):
    noise = 0.6**2
    total = np.array([[1.3, 0.8], [0.8, 1.1]])
    found = means(gaussian(with_covariance(total - noise * np.eye(2), COUNT) + np.array([[0.5, 0]]), 0.6), key)
    variances, log_det = np.diag(total), np.linalg.slogdet(total)[1]
    of_each = 0.5 * np.sum(variances - 1 - np.log(variances)) + 0.125
    expected = {
        "mutual_information": 0.5 * (log_det - 2 * math.log(noise)),
        "mutual_information_leave_one_out": 0.5 * (log_det - 2 * math.log(noise)),
        "total_correlation": 0.5 * (np.log(variances).sum() - log_det),
        "dimension_wise_kl": of_each,
        "": of_each + 0.5 * (np.log(variances).sum() - log_det),
        "rate": 0.125 + 0.5 * np.sum(variances - 1 - math.log(noise)),
    }
    for name, value in expected.items():
        mean, error = found[name]
        assert abs(mean - value) < 4 * error + 2e-3, name
        assert error < 0.03
    assert expected["total_correlation"] > 0.25


def test_the_parts_add_up_to_the_rate(key):
    random = np.random.default_rng(2)
    mean, logvar = random.normal(size=(300, 3)), random.normal(size=(300, 3))
    posterior = Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32))
    found = aggregate_posterior.rate_parts(posterior, key, None)
    whole = found["mutual_information"] + found["total_correlation"] + found["dimension_wise_kl"]
    np.testing.assert_allclose(whole, found["rate"], atol=1e-4)
    np.testing.assert_allclose(found["mutual_information"] + found[""], found["rate"], atol=1e-4)
    closed = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)
    np.testing.assert_allclose(found["rate"], closed, rtol=1e-5)


def test_few_images_bracket_the_information_of_all():
    exact, deviation = math.log(1 + 1 / 0.04), 0.2  # two latents of variance 1
    sets = np.random.default_rng(3).normal(size=(40, 30, 2))
    parts = [means(gaussian(codes, deviation), jax.random.key(seed)) for seed, codes in enumerate(sets)]
    below = np.array([found["mutual_information"][0] for found in parts])
    above = np.array([found["mutual_information_leave_one_out"][0] for found in parts])
    assert exact - below.mean() > 4 * below.std() / math.sqrt(40)
    assert above.mean() - exact > 4 * above.std() / math.sqrt(40)


class Known(EvaluationContext):
    """A context of which only the posterior and the prior are known."""

    def __init__(self, posterior, variant, params, nets=NO_NETS, labels=0):
        self.posterior = lambda images: posterior
        self.run = SimpleNamespace(params=params, code_dim=posterior.mean.shape[1] + labels)
        self.model = SimpleNamespace(variant=variant, nets=nets)


def test_a_prior_that_is_the_aggregate_posterior_leaves_the_information(key):
    variant = vamp.make(bernoulli.make(), components=1200)
    logits = np.random.default_rng(4).normal(size=(1200, 1, 2, 1)).astype(np.float32)

    def encode(params, x):
        mean = 4 * x.reshape(len(x), -1) - 2
        return mean, jnp.full_like(mean, -2.0)

    params = {"nets": {}, "own": {"logits": jnp.asarray(logits)}}
    posterior = Gaussian(*encode({}, vamp.pseudo_inputs(params)))
    subject = Known(posterior, variant, params, Nets(None, encode, None))
    found = aggregate_posterior.compute(subject, key)
    assert abs(found["aggregate_posterior"]) < 1e-4
    np.testing.assert_allclose(
        found["aggregate_posterior.rate"], found["aggregate_posterior.mutual_information"], atol=1e-4
    )
    assert found["aggregate_posterior.mutual_information"] > 1
    assert "aggregate_posterior.dimension_wise_kl" not in found
    # Of a prior of one component, N(m, e^-2 I), the KL from each posterior is known.
    params = {"nets": {}, "own": {"logits": jnp.zeros((1, 1, 2, 1))}}
    one = aggregate_posterior.compute(Known(posterior, variant, params, subject.model.nets), key)
    expected = 0.5 * math.exp(2) * np.square(posterior.mean).sum(axis=1).mean()
    assert abs(one["aggregate_posterior.rate"] - expected) < 4 * one["aggregate_posterior.rate.standard_error"]
    assert one["aggregate_posterior.rate.standard_error"] < 0.05 * expected
    known = one["aggregate_posterior.mutual_information"]
    np.testing.assert_allclose(one["aggregate_posterior"], one["aggregate_posterior.rate"] - known, rtol=1e-5)


def test_a_label_beside_the_latents_is_not_theirs(key):
    posterior = gaussian(noise(3)[:50], 0.5)
    subject = Known(posterior, conditional.make(bernoulli.make()), {}, labels=10)
    log_prior = aggregate_posterior.latent_log_prior(subject)
    expected = stats.norm.logpdf(posterior.mean).sum(axis=1)
    np.testing.assert_allclose(log_prior(posterior.mean), expected, rtol=1e-5)


def test_codes_that_are_constant_broken_or_too_few():
    constant = score(aggregate_posterior, given(np.full((640, 4), 3.0)))
    np.testing.assert_allclose(constant["aggregate_posterior.mutual_information"], 0, atol=1e-5)
    np.testing.assert_allclose(constant["aggregate_posterior"], constant["aggregate_posterior.rate"], rtol=1e-6)
    assert constant["aggregate_posterior.images"] == 640
    far = score(aggregate_posterior, given(1e4 * noise()))
    assert all(np.isfinite(value) for value in far.values())
    np.testing.assert_allclose(far["aggregate_posterior.mutual_information"], math.log(640), rtol=1e-6)
    with pytest.raises(UserError, match="not finite"):
        given(np.full((640, 2), np.nan))
    with pytest.raises(UserError, match="1 image is not enough"):
        score(aggregate_posterior, given(noise()), images=1)


def test_results_repeat_and_say_how_sure_they_are():
    subject = given(noise())
    one, other = (score(aggregate_posterior, subject) for _ in range(2))
    assert one == other
    assert next(iter(one)) == "aggregate_posterior"
    values = [name for name in one if not name.endswith((".standard_error", ".images"))]
    assert all(one[f"{name}.standard_error"] > 0 for name in values)
