"""Each quantity of the founding claims on clouds and models whose answer is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from experiments.why_vae import measures
from experiments.why_vae.measures import Cloud, ImageSet
from vae_jax.metrics import aggregate_posterior, samples
from vae_jax.metrics._feature_classifier import Classifier
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import gaussian

RANDOM = np.random.default_rng(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_coverage_is_that_of_balls_of_the_prior():
    prior = normal(1500, 4)
    np.testing.assert_allclose(measures.prior_coverage(prior, normal(1500, 4, seed=1)), 1 - 2**-5, atol=0.02)
    assert measures.prior_coverage(prior, 20 + normal(1500, 4, seed=1)) == 0
    half = normal(6000, 4, seed=1)
    coverage = measures.prior_coverage(prior, half[half[:, 0] > 0][:1500])
    assert 0.5 < coverage < 0.8  # the half of the prior, and what borders on it
    assert measures.prior_coverage(prior, np.repeat(prior[:1], 1500, axis=0)) < 0.02  # one point, however often


def test_neighbours_of_the_same_label_are_counted():
    codes, other_codes = normal(30, 3), normal(40, 3, seed=1)
    labels, other_labels = RANDOM.integers(0, 3, 30), RANDOM.integers(0, 3, 40)
    distances = np.linalg.norm(codes[:, None] - other_codes[None], axis=-1)
    nearest = np.argsort(distances, axis=1)[:, :4]
    expected = np.mean([[other_labels[j] == label for j in row] for row, label in zip(nearest, labels, strict=True)])
    np.testing.assert_allclose(measures.label_agreement(codes, labels, other_codes, other_labels, 4), expected)


def test_spreads_are_root_mean_squares():
    mean = np.float32([[0, 4], [2, 4]])
    scores = measures.measure_spreads(Cloud(mean, np.float32([[1, 2], [1, 2]])))
    variances, within = np.array([1.0, 0.0]), np.array([1.0, 4.0])
    np.testing.assert_allclose(scores["sigma"], 1.5)
    np.testing.assert_allclose(scores["spread"], np.sqrt(variances.mean()))
    np.testing.assert_allclose(scores["relative"], np.sqrt(within.sum() / (variances + within).sum()))
    np.testing.assert_allclose(scores["centre"], np.sqrt((1 + 16) / 2))
    np.testing.assert_allclose(scores["deviation"], np.sqrt((variances + within).mean()))
    assert measures.measure_spreads(Cloud(mean, np.zeros_like(mean)))["relative"] == 0


def test_overlap_is_the_integral():
    (m, s), (n, t) = (0.3, 0.5), (1.1, 0.8)
    integral, _ = quad(lambda z: np.sqrt(norm.pdf(z, m, s) * norm.pdf(z, n, t)), -10, 10)
    two = Cloud(np.float32([[m, 0], [n, 0]]), np.float32([[s, 1], [t, 1]]))
    np.testing.assert_allclose(measures.mean_overlap(two), integral, rtol=1e-5)
    far = Cloud(np.float32([[m, 0], [n, 0], [99, 0]]), np.float32([[s, 1], [t, 1], [1, 1]]))
    np.testing.assert_allclose(measures.mean_overlap(far), 2 / 3 * integral, rtol=1e-5)  # the nearest counts
    np.testing.assert_allclose(measures.mean_overlap(Cloud(np.ones((3, 2)), np.ones((3, 2)))), 1)
    assert measures.mean_overlap(Cloud(normal(3, 2), np.zeros((3, 2)))) == 0


def test_the_fitted_gaussian_has_the_mean_and_covariance_of_the_codes():
    codes, noise = normal(50, 3) @ normal(3, 3, seed=1) + 5, normal(400, 3, seed=2)
    noise = (noise - noise.mean(axis=0)[None]) @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    draws = measures.gaussian_draws(codes.astype(np.float32), noise)
    np.testing.assert_allclose(draws.mean(axis=0), codes.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(codes.T), rtol=1e-3, atol=1e-4)


def judge(pictures):
    """Pixels for features, and a confidence between 0 and 1."""
    features = np.asarray(pictures).reshape(len(pictures), -1)
    return features, 1 / (1 + np.exp(-features[:, 0]))


CLASSIFIER = Classifier(judge, 1.0)


def image_set(*pixels):
    """Images of a row of pixels, without labels."""
    pictures = np.concatenate(pixels)[:, None, :, None]
    return ImageSet(pictures, pictures, np.zeros(len(pictures), int))


def test_sets_of_draws_are_averaged():
    instruments = SimpleNamespace(test=image_set(np.zeros((4, 1))), classifier=CLASSIFIER, statistics=None)
    run = SimpleNamespace(decode=lambda codes: codes[:, None, None])
    codes = np.repeat(np.float32([0.1, 0.2, 0.6, 5.0]), 4)[:, None]

    def mean(statistics, features, confidence):
        return {"mean": float(features.mean())}

    found = measures.measure_decoded(instruments, run, codes, mean)
    np.testing.assert_allclose(found["mean"], (0.1 + 0.2 + 0.6 + 1) / 4, rtol=1e-6)  # clipped, as they are looked at


def test_pictures_are_measured_as_the_metric_of_samples_does():
    train, test = image_set(normal(80, 3)), image_set(normal(60, 3, seed=1))
    statistics = measures.make_statistics(CLASSIFIER, train, test)
    real, sure = judge(test.pictures)
    bar = np.argsort(sure)[2]  # the third of 60: 0.05
    fake, confidence = judge(np.concatenate([real[bar][None], 0.3 + 1.2 * normal(59, 3, seed=2)]))
    manifold = samples.manifold(real, fake, 3, 5)
    found = measures.measure_pictures(statistics, fake, confidence)
    assert found == {
        "frechet": samples.frechet(fake, real),
        "precision": manifold["precision"],
        "recall": manifold["recall"],
        "confidence": float(confidence.mean()),
        "sure": np.mean(confidence >= sure[bar]),
    }
    assert len(set(found.values())) == 5
    assert measures.measure_likeness(statistics, fake, confidence).items() < found.items()
    distances = np.linalg.norm(real[:, None] - judge(train.pictures)[0][None], axis=-1).min(axis=1)
    np.testing.assert_allclose(statistics.distance, np.median(distances), rtol=1e-5)


def test_programs_on_the_same_held_out_images_share_their_statistics(monkeypatch):
    monkeypatch.setattr(measures, "image_set", lambda split, binarize: split)
    monkeypatch.setattr(measures._feature_classifier, "load_or_train", lambda dataset, section: CLASSIFIER)
    model = SimpleNamespace(nets=None, likelihood=None, variant=SimpleNamespace(posterior=None))
    run = SimpleNamespace(config={"data": {"binarize": "none"}}, model=model)
    train, test, thresholded = (image_set(normal(count, 2, seed=count)) for count in (30, 20, 21))
    first = measures.make_instruments(run, SimpleNamespace(train=train, test=test))
    other = measures.make_instruments(run, SimpleNamespace(train=train, test=thresholded), [first])
    second = measures.make_instruments(run, SimpleNamespace(train=train, test=test), [other, first])
    assert second.statistics is first.statistics
    assert len(other.statistics.features) == 21


def test_the_kl_of_all_clouds_is_that_of_the_metric(key):
    posterior = Gaussian(jnp.asarray(normal(50, 3)), jnp.asarray(normal(50, 3, seed=1) - 1))
    expected = aggregate_posterior.rate_parts(posterior, key, None)[""].mean()
    assert expected > 0.1
    np.testing.assert_allclose(measures.aggregate_divergence(posterior, key), expected, rtol=1e-6)


def test_fresh_images_are_as_near_to_training_as_to_held_out_images():
    training, held_out, fresh = normal(1300, 5), normal(300, 5, seed=1), normal(300, 5, seed=2)
    assert abs(measures.nearer_training(fresh, training, held_out) - 0.5) < 0.06
    assert abs(measures.nearer_training(0.3 * fresh, training, held_out) - 0.5) < 0.06  # soft is not copied
    copies = training[np.random.default_rng(0).permutation(1300)[:1200]]
    np.testing.assert_allclose(measures.nearer_training(copies, training, held_out), 1 / 4 + 3 / 4 * 0.5, atol=0.06)
    assert measures.nearer_training(training[:50], training[:50], held_out[:50]) == 1
    assert measures.nearer_training(held_out[:50], training[:50], held_out[:50]) == 0
    assert measures.nearer_training(fresh, held_out, held_out) == 0.5


SCALE = np.float32([[1.0, 0.5, -2.0], [0.3, 1.0, 1.0]])


def linear(cloud, sigma=0.5, config=None):
    """A decoder z @ SCALE of 3 pixels under a gaussian, and what images of mean codes look like."""

    def decode(z):
        return (np.asarray(z) @ SCALE).reshape(-1, 1, 3, 1)

    def distortion(params, z, x):
        return np.square(decode(z) - x).sum(axis=(1, 2, 3)) / (2 * sigma**2)

    images = decode(cloud.mean)
    split = ImageSet(images, images, np.zeros(len(images), int))
    instruments = SimpleNamespace(test=split, train=split, distortion=distortion, posterior=True, pixel_sd=None)
    run = SimpleNamespace(params={}, decode=decode, config=config or {"likelihood": {"name": "bernoulli"}})
    return instruments, run


def test_visits_cost_what_a_linear_decoder_says(key):
    cloud = Cloud(2 * normal(4000, 2), np.broadcast_to(np.float32([[0.2, 0.7]]), (4000, 2)))
    instruments, run = linear(cloud)
    keys = list(jax.random.split(key))
    scores = measures.measure_visits(instruments, run, cloud, *keys)
    slopes = np.square(SCALE).sum(axis=1) / (2 * 0.5**2)
    np.testing.assert_allclose(scores["visited"], np.sqrt(np.mean([0.2**2, 0.7**2])), rtol=0.01)
    np.testing.assert_allclose(scores["rise"], slopes @ [0.2**2, 0.7**2], rtol=0.03)
    moved = measures.PERTURBATION**2 * (cloud.mean.var(axis=0) + np.square([0.2, 0.7]))
    np.testing.assert_allclose(scores["rise_moved"], slopes @ moved, rtol=0.03)
    points = Cloud(cloud.mean, np.zeros_like(cloud.mean))
    still = measures.measure_visits(instruments, run, points, *keys)
    assert still["visited"] < 1e-9
    assert still["rise"] == 0


def test_the_decoders_sd_is_read_from_its_density():
    likelihood = gaussian.make(sigma=0.1, scale="pixel")
    pixels = jnp.asarray(normal(20, 1, 1, 2))
    log_peak = likelihood.log_prob(pixels, likelihood.mean(pixels))  # one pixel: -log s - log sqrt(2 pi)
    expected = np.exp(-np.asarray(log_peak)) / np.sqrt(2 * np.pi)
    deviations = measures.pixel_deviations(likelihood, pixels)
    np.testing.assert_allclose(np.asarray(deviations).ravel(), expected, rtol=1e-4)


def test_sigma_that_grows_with_the_error_is_found():
    mean, sigma = normal(50, 2), np.exp(normal(50, 1, seed=1)) * np.ones((1, 2), np.float32)
    cloud = Cloud(mean, sigma)
    instruments, run = linear(cloud, config={"likelihood": {"name": "gaussian", "scale": "pixel"}})
    wrong = instruments.test.inputs + np.sqrt(sigma[:, :1]).reshape(-1, 1, 1, 1) * np.float32([1, 2, 3]).reshape(
        1, 1, 3, 1
    )
    instruments.test = instruments.test._replace(inputs=wrong)
    instruments.pixel_sd = lambda params, z: 1 / np.abs(wrong - run.decode(z))
    scores = measures.measure_uncertainty(instruments, run, cloud)
    np.testing.assert_allclose(list(scores.values()), [1, -1, -1])
    instruments.posterior = None
    assert measures.measure_uncertainty(instruments, run, cloud) == {}
