"""Samples and smoothness against closed forms and slow oracles, and the classifier whose features they are of."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from scipy.linalg import sqrtm

from vae_jax import data, metrics, model, randomness
from vae_jax.config.parse import parse_config
from vae_jax.data import digits, sprites
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import _feature_classifier, samples, smoothness
from vae_jax.metrics._feature_classifier import Classifier
from vae_jax.metrics._requests import parse_requests
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets
from vae_jax.training.step import initial_state
from vae_jax.variants import beta, conditional

pytestmark = pytest.mark.usefixtures("undrawn")

RANDOM = np.random.default_rng(0)
SECTION = {"name": "digits", "binarize": "dynamic"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def of_moments(mean, covariance, count=400):
    """Points that have exactly this mean and covariance."""
    points = RANDOM.normal(size=(count, len(covariance)))
    points = (points - points.mean(axis=0)[None]) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    return (points @ np.linalg.cholesky(covariance).T + np.asarray(mean)[None]).astype(np.float32)


def test_frechet_is_that_of_the_gaussians():
    one, other = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 0.25])
    a, b = of_moments([0, 0, 1], one), of_moments([2, 0, -1], other)
    np.testing.assert_allclose(samples.frechet(a, b), 4 + 4 + (1 - 2) ** 2 + 0 + (3 - 0.5) ** 2, rtol=1e-5)
    one, other = (root @ root.T + np.eye(5) for root in RANDOM.normal(size=(2, 5, 5)))
    expected = np.trace(one + other - 2 * sqrtm(one @ other).real)
    np.testing.assert_allclose(
        samples.frechet(of_moments(5 * [3], one), of_moments(5 * [3], other)), expected, rtol=1e-5
    )
    np.testing.assert_allclose(samples.frechet(a, a), 0, atol=1e-9)
    flat = np.concatenate([a, 0 * a], axis=1)  # a rectifier that is never on
    np.testing.assert_allclose(samples.frechet(flat, np.concatenate([b, 0 * b], axis=1)), samples.frechet(a, b))


def slowly(real, fake, k, density_k):
    """The four from their definitions, in float64."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)

    def radius(points, k):
        return [np.sort([np.linalg.norm(x - y) for y in points])[k] for x in points]

    own, wide, of_fake = radius(real, k), radius(real, density_k), radius(fake, k)
    across = np.array([[np.linalg.norm(x - y) for y in fake] for x in real])
    return {
        "precision": np.mean([any(across[i, j] <= own[i] for i in range(len(real))) for j in range(len(fake))]),
        "recall": np.mean([any(across[i, j] <= of_fake[j] for j in range(len(fake))) for i in range(len(real))]),
        "density": sum(across[i, j] <= wide[i] for i in range(len(real)) for j in range(len(fake)))
        / (density_k * len(fake)),
        "coverage": np.mean([any(across[i, j] <= wide[i] for j in range(len(fake))) for i in range(len(real))]),
    }


def test_manifolds_are_those_of_the_definitions_in_chunks_as_at_once(monkeypatch):
    real, fake = normal(60, 3), 0.3 + 1.2 * normal(50, 3, seed=1)
    expected = slowly(real, fake, 3, 5)
    assert all(0.3 < value < 0.99 for value in expected.values())
    found = samples.manifold(real, fake, 3, 5)
    assert found == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(samples, "VALUES", 60 * 7)
    assert samples.manifold(real, fake, 3, 5) == found


def test_manifolds_where_the_answer_is_known():
    points = normal(1000, 4)
    same = samples.manifold(points, points, 3, 5)
    assert same == pytest.approx({"precision": 1, "recall": 1, "density": 6 / 5, "coverage": 1})
    assert set(samples.manifold(points, points + 1e3, 3, 5).values()) == {0}
    fresh = samples.manifold(points, normal(1000, 4, seed=1), 3, 5)
    assert fresh["density"] == pytest.approx(1, abs=0.05)
    assert fresh["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)
    twins = np.repeat(points[:20], 10, axis=0)  # balls of radius 0
    assert samples.manifold(twins, twins[::-1], 3, 5) == pytest.approx(
        {"precision": 1, "recall": 1, "density": 2, "coverage": 1}
    )


def test_a_dropped_mode_costs_recall_and_coverage_alone():
    modes = np.concatenate([normal(500, 4), normal(500, 4, seed=1) + 50])
    fake = normal(1000, 4, seed=2)
    found, whole = samples.manifold(modes, fake, 3, 5), samples.manifold(modes[:500], fake[:500], 3, 5)
    assert found["precision"] == pytest.approx(whole["precision"], abs=0.03)
    assert found["precision"] > 0.9
    assert 0.4 < found["recall"] <= 0.5
    assert 0.4 < found["coverage"] <= 0.5


def test_an_outlier_makes_precision_and_recall_but_not_density_and_coverage():
    cluster, far = normal(100, 4), normal(100, 4, seed=1) + 50
    outlier = np.concatenate([cluster, np.full((1, 4), 100, np.float32)])
    assert set(samples.manifold(cluster, far, 3, 5).values()) == {0}
    found = samples.manifold(outlier, far, 3, 5)  # all are in the outlier's ball and in no other
    assert found == pytest.approx({"precision": 1, "recall": 0, "density": 1 / 5, "coverage": 1 / 101})
    assert samples.manifold(far, outlier, 3, 5)["recall"] == 1


def test_nearest_images_are_exact_where_products_cancel(monkeypatch):
    monkeypatch.setattr(samples, "VALUES", 5000)
    images = 0.9 + 0.001 * normal(300, 784)  # |x|^2 = 635, of which float32 keeps 6e-5
    x = np.concatenate([images[::50], images[:3] + np.float32(1e-4), normal(2, 784, seed=1)])
    squares = np.square(x[:, None].astype(np.float64) - images[None]).sum(axis=-1)
    found = samples.nearest_two(x, images)
    assert (found[:6, 0] == 0).all()
    np.testing.assert_allclose(found, np.sort(squares, axis=1)[:, :2], rtol=1e-4)
    assert samples.nearest_two(x, images[:1]).shape == (11, 2)


def of_patterns(count, seed):
    """Images of four rough patterns at random strengths, as uint8."""
    random = np.random.default_rng(seed)
    strengths = random.uniform(0, 60, size=(count, 4))
    grey = np.tensordot(strengths, np.random.default_rng(9).uniform(size=(4, 8, 8, 1)), 1)
    return np.clip(grey + random.uniform(0, 40, size=grey.shape), 0, 255).astype(np.uint8)


@pytest.mark.full
def test_near_copies_are_copies_and_not_what_is_soft(monkeypatch):
    monkeypatch.setattr(samples, "VALUES", 64 * 500)
    taught, held_out, fresh = (of_patterns(count, i) for i, count in enumerate((2000, 1000, 1000)))
    split = data.make_split(taught)
    fetch = partial(_feature_classifier.pictures, split, "dynamic")
    real, fresh, known = (images.astype(np.float32) / 255 for images in (held_out, fresh, taught[:1000]))

    def score(fake):
        return samples.count_copies(fake, real, fetch, np.arange(2000), metrics.no_progress)

    assert score(known) == {"near_copies": 1, "near_copies_of_data": 0.01}
    assert score(real[:900])["near_copies"] == 0  # a held-out image is nearest to itself
    assert score(fresh)["near_copies"] == pytest.approx(0.01, abs=0.012)
    half = np.concatenate([np.clip(known[:500] + 0.01 * normal(500, 8, 8, 1), 0, 1), fresh[:500]])
    assert score(half)["near_copies"] == pytest.approx(0.505, abs=0.01)
    soft = 0.5 * (fresh[::2] + fresh[1::2])

    def to_training(x):
        return np.square(x[:, None] - taught[None] / 255).sum(axis=(2, 3, 4)).min(axis=1)

    bar = np.quantile(to_training(real[:300]), 0.01)
    assert np.mean(to_training(soft[:100]) < bar) > 0.3  # a plain bar would call these copies
    assert score(soft)["near_copies"] < 0.03


def test_one_image_in_both_is_as_near_to_one_as_to_the_other():
    np.testing.assert_array_equal(
        samples.distance_ratio(np.float32([0, 0, 2, 3]), np.float32([0, 1, 1, 0])), [1, 0, 2, np.inf]
    )
    tied = samples.near_copies(np.float32([0, 0.5]), np.float32([0] * 30 + [1] * 70))
    assert tied == {"near_copies": 0.5, "near_copies_of_data": 0.3}


class Made(TrainedModel):
    """A run that is what the test says of it."""

    def __init__(self, **fields):
        vars(self).update(fields)


def lined(decode, monkeypatch, **parameters):
    """Smoothness of a run whose code is the first two pixels, by features that are linear."""
    dataset = data.from_arrays(of_patterns(20, 0), None, of_patterns(50, 1), None)
    run = Made(
        config={"data": SECTION},
        image_shape=(8, 8, 1),
        params={},
        latent_dim=2,
        model=SimpleNamespace(nets=Nets(None, None, None), variant=beta.make(bernoulli.make())),
        encode=lambda images, labels: images.reshape(len(images), -1)[:, :2],
        decode=decode,
    )
    weight = normal(64, 5, seed=3)

    def features_and_confidence(images):
        return images.reshape(len(images), -1) @ weight, images.mean(axis=(1, 2, 3))

    classifier = Classifier(features_and_confidence, 1.0)
    monkeypatch.setattr(_feature_classifier, "load_or_train", lambda *_, **__: classifier)
    return smoothness.compute(metrics.EvaluationContext(run, dataset), randomness.root_key(0), **parameters)


def test_a_linear_decoder_is_even_and_a_jump_is_not(monkeypatch):
    spread = np.random.default_rng(4).uniform(0.1, 0.4, size=(2, 64)).astype(np.float32)
    monkeypatch.setattr(smoothness, "VALUES", 64 * 11 * 17)
    found = lined(lambda z: (z @ spread).reshape(-1, 8, 8, 1), monkeypatch, pairs=100)
    for name in ("smoothness", "smoothness.path", "smoothness.pixel", "smoothness.pixel_path"):
        assert found[name] == pytest.approx(1, abs=1e-4), name
    middle = 0.35

    def step(z):
        return np.broadcast_to((z[:, :1] > middle)[:, :, None, None], (len(z), 8, 8, 1)).astype(np.float32)

    found = lined(step, monkeypatch, pairs=100, points=21)
    assert found["smoothness"] == pytest.approx(1 / 20)
    assert found["smoothness.path"] == pytest.approx(1)
    with pytest.raises(UserError, match="all codes decode to the same picture"):
        lined(lambda z: np.ones((len(z), 8, 8, 1), np.float32), monkeypatch)
    with pytest.raises(UserError, match="of 187 decoded images are not finite"):
        lined(lambda z: np.full((len(z), 8, 8, 1), np.nan), monkeypatch)


def test_a_detour_is_longer_than_its_chord():
    angle = np.linspace(0, np.pi, 11)
    half = np.stack([np.cos(angle), np.sin(angle)], axis=1)[None]
    assert smoothness.path(half) == pytest.approx(10 * 2 * np.sin(np.pi / 20) / 2)
    assert smoothness.evenness(half) == pytest.approx(1)
    steps = np.array([1, 1, 2, 4.0])
    assert smoothness.evenness(np.cumsum([0, *steps])[None, :, None]) == pytest.approx(2 / 4)


def test_pairs_are_of_two_images_of_one_group(key):
    groups = np.array([2, 0, 1, 0, 2, 2, 0])
    one, other = smoothness.draw_pairs(key, groups, 500)
    assert (one != other).all()
    assert (groups[one] == groups[other]).all()
    assert {*zip(one, other, strict=True)} == {
        (i, j) for i in range(7) for j in range(7) if i != j and groups[i] == groups[j]
    }
    with pytest.raises(UserError, match="no two held-out images"):
        smoothness.draw_pairs(key, np.arange(5), 10)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield _feature_classifier.folder()


def refuse(*_):
    raise AssertionError("trained once more")


@pytest.mark.full
def test_digits_are_told_and_the_cache_is_used(cache, monkeypatch):
    dataset = digits.load()
    first = _feature_classifier.load_or_train(dataset, SECTION)
    assert first.accuracy > 0.95
    images = _feature_classifier.pictures(dataset.test, "dynamic", np.arange(50))
    features, confidence = first.features_and_confidence(images)
    assert features.shape == (50, _feature_classifier.FEATURES)
    assert (features >= 0).all()
    assert ((confidence > 0.1) & (confidence <= 1)).all()
    monkeypatch.setattr(_feature_classifier, "fit", refuse)
    second = _feature_classifier.load_or_train(dataset, SECTION | {"binarize": "none"})  # as grey as dynamic
    assert second.accuracy == first.accuracy
    np.testing.assert_array_equal(second.features_and_confidence(images)[0], features)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    for section, seed in ((SECTION, 1), (SECTION | {"binarize": "static"}, 0), (SECTION | {"path": "x"}, 0)):
        with pytest.raises(AssertionError, match="trained once more"):
            _feature_classifier.load_or_train(dataset, section, seed=seed)


def test_a_damaged_file_is_not_used(cache, monkeypatch):
    dataset, section, trainings = digits.load(), {"name": "damaged", "binarize": "static"}, []

    def fit(dataset, *_):
        trainings.append(1)
        net = _feature_classifier.make_net(dataset.image_shape, _feature_classifier.make_task(dataset).sizes)
        shapes = jax.eval_shape(net.init, randomness.root_key(0))
        return jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)

    monkeypatch.setattr(_feature_classifier, "fit", fit)
    monkeypatch.setattr(_feature_classifier, "held_out_accuracy", lambda *_: 0.5)
    first = _feature_classifier.load_or_train(dataset, section)
    images = _feature_classifier.pictures(dataset.test, "static", np.arange(9))
    features = first.features_and_confidence(images)[0]
    (file,) = cache.glob("damaged_*")
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for number, damaged in enumerate((whole[:middle], flipped), start=2):
        file.write_bytes(damaged)
        again = _feature_classifier.load_or_train(dataset, section)
        assert len(trainings) == number
        np.testing.assert_array_equal(again.features_and_confidence(images)[0], features)
    _feature_classifier.load_or_train(dataset, section)
    assert len(trainings) == 3
    file.unlink()


@pytest.mark.full
def test_factors_have_a_head_each_and_the_seed_decides(cache, monkeypatch):
    monkeypatch.setattr(_feature_classifier, "STEPS", 300)
    dataset, section = sprites.load(sizes=(3, 4, 1, 8, 8), resolution=16), {"name": "sprites", "binarize": "static"}
    assert _feature_classifier.make_task(dataset).sizes == (3, 4, 8, 8)
    first = _feature_classifier.load_or_train(dataset, section)
    assert first.accuracy > 0.7
    images = _feature_classifier.pictures(dataset.test, "static", np.arange(9))
    (file,) = cache.glob("sprites_*")
    file.unlink()
    again = _feature_classifier.load_or_train(dataset, section)
    np.testing.assert_array_equal(again.features_and_confidence(images)[0], first.features_and_confidence(images)[0])
    file.unlink()


def test_labels_of_any_numbers_are_classes():
    images = of_patterns(4, 0)
    dataset = data.from_arrays(images, np.array([7, -1, 7, 30]), images, np.array([30, 7, 8, 99]))
    sizes, targets = _feature_classifier.make_task(dataset)
    assert sizes == (3,)
    np.testing.assert_array_equal(targets(dataset.train, jnp.arange(4))[:, 0], [1, 0, 1, 2])
    np.testing.assert_array_equal(targets(dataset.test, jnp.arange(4))[:, 0], [2, 1, -1, -1])
    for labels, complaint in ((None, "neither labels nor factors"), (np.zeros(4, int), "of one class")):
        with pytest.raises(UserError, match=complaint):
            _feature_classifier.make_task(data.from_arrays(images, labels, images, labels))


@pytest.fixture(scope="module")
def untrained():
    """A model of digits as it is before the first step, and its data."""
    config = parse_config([f"--config={trained_digits.CONFIG}", "--config.net.hidden=(128, 128)"])
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    params = jax.jit(lambda: initial_state(built, config, dataset.image_shape))().params
    return TrainedModel(config.to_dict(), dataset.image_shape, built, jax.tree.map(np.asarray, params), 0), dataset


def measured(metric, run, dataset, **parameters):
    return metric.compute(metrics.EvaluationContext(run, dataset), randomness.root_key(0), **parameters)


@pytest.mark.full
def test_a_model_before_training_has_samples_far_from_data(untrained, cache):
    found = measured(samples, *untrained)
    assert found["samples.images"] == 300
    assert 3 * found["samples.frechet_of_data"] < found["samples"]
    assert found["samples.near_copies"] == 0
    assert found == measured(samples, *untrained)


@pytest.mark.full
def test_training_makes_better_samples(untrained, cache):
    trained = trained_digits.on_digits(1500)
    found, before = (measured(samples, run, trained.dataset) for run in (trained.run, untrained[0]))
    assert found["samples.images"] == 300
    assert found["samples.frechet_of_data"] < found["samples"] < before["samples"] / 3
    assert found["samples.coverage"] > before["samples.coverage"] + 0.3
    assert found == measured(samples, trained.run, trained.dataset)
    straight = measured(smoothness, trained.run, trained.dataset, pairs=200)
    assert straight["smoothness.plausible"] > straight["smoothness.pixel_plausible"]
    assert 0.4 < straight["smoothness"] < 1 < straight["smoothness.path"]


def test_what_makes_no_sense_is_refused(untrained):
    run, dataset = untrained
    few = dataset._replace(test=data.make_split(of_patterns(5, 0), np.arange(5)))
    with pytest.raises(UserError, match="5 held-out images are too few for a 5-th nearest"):
        measured(samples, run, few)
    with pytest.raises(UserError, match="3 images are too few for a 5-th nearest"):
        samples.manifold(normal(9, 2), normal(3, 2), 3, 5)
    with pytest.raises(UserError, match="points = 10 is not allowed; give an odd number"):
        measured(smoothness, run, dataset, points=10)
    plain = dataset._replace(train=data.make_split(of_patterns(5, 0)))
    for name in ("samples", "smoothness"):
        with pytest.raises(UserError, match=f"--metrics={name}: is not for this run; it needs .* labels or factors"):
            parse_requests(name)[0].check(run.model, plain)
        parse_requests(name)[0].check(run.model, dataset)


def test_samples_are_drawn_from_the_sampler_that_is_named(untrained):
    run, dataset = untrained
    run = run.with_params(run.config, run.params, run.step)
    (request,) = parse_requests("samples:sampler=gmm")
    assert request.parameters["sampler"] == "gmm"
    assert request.label == "samples:sampler=gmm"
    draw = partial(samples.draw_samples, metrics.EvaluationContext(run, dataset), randomness.root_key(5), np.arange(7))
    mixture = draw("gmm")
    np.testing.assert_array_equal(mixture, run.decode(run.samplers["gmm"].sample(randomness.root_key(5), 7)))
    np.testing.assert_array_equal(draw("prior"), run.sample(randomness.root_key(5), 7))
    with pytest.raises(UserError, match=r"^sampler: 'gm' is unknown; .*mean 'gmm'"):
        draw("gm")


@pytest.mark.full
def test_a_mixture_draws_better_digits_from_an_autoencoder_than_its_prior(cache):
    trained = trained_digits.on_digits(1500, **{"variant.name": "autoencoder"})
    prior, mixture = (measured(samples, trained.run, trained.dataset, sampler=name) for name in ("prior", "gmm"))
    assert mixture["samples"] < prior["samples"] / 4
    assert mixture["samples.coverage"] > prior["samples.coverage"] + 0.2


def test_only_a_prior_of_a_label_takes_labels(untrained):
    assert not samples.takes_labels(untrained[0])
    variant = conditional.make(bernoulli.make())
    told = Made(model=SimpleNamespace(nets=Nets(None, None, None), variant=variant), params={}, latent_dim=2)
    assert samples.takes_labels(told)
