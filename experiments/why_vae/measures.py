"""What distinguishes a VAE from an autoencoder, as numbers of one run: its draws, its codes, the clouds around them.

A cloud is q(z|x) = N(mean, sigma^2) of an image: the encoder's own where the variant has it, of the noise that it was
trained with for the autoencoder, and else a point. Images are those of the held-out split, at most 10,000, binarised
once and for all where training binarises; pictures for the classifier are grey, as vae_jax/metrics/samples.py has them.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax import data, randomness
from vae_jax.comparison import intervals
from vae_jax.data import Dataset, Split
from vae_jax.inference import TrainedModel
from vae_jax.metrics import _feature_classifier, _information, samples
from vae_jax.metrics._feature_classifier import Classifier, Pictures
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.randomness import example_normal, stream
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.step import evaluation_params, initial_state
from vae_jax.typing import Key

MAX_IMAGES = 10_000
VISITS = 16
PERTURBATION = 0.5
"""By how many standard deviations of the codes every model's codes are moved alike."""
NEIGHBOURS, BALL_NEIGHBOUR, MANIFOLD_NEIGHBOUR = 10, 5, 3
MAX_PAIRED = 1000
"""Images of which every pair of clouds is compared, at most."""
UNSURE_SHARE = 0.05
MIN_DRAWS = 3000
"""Of each density at least so many are judged, in sets as large as the held-out split."""
PRIOR, CODES, VISIT, PERTURB, AGGREGATE = range(5)
"""Purposes: each use of randomness folds its own number into the run's key."""

Rows = Float[np.ndarray, "image latent"]
Labels = Int[np.ndarray, " image"]


class Cloud(NamedTuple):
    """q(z|x) of each image: N(mean, diag(sigma^2)), a point where sigma is 0."""

    mean: Rows
    sigma: Rows

    def sample(self, key: Key) -> Rows:
        """One code of each image."""
        return self.mean + self.sigma * normal(key, *self.mean.shape)

    def deviation(self) -> np.ndarray:
        """The sd of z by latent, over all images."""
        return np.sqrt(self.mean.var(axis=0) + np.square(self.sigma).mean(axis=0))


def normal(key: Key, count: int, size: int) -> Rows:
    """Draws from N(0, I); draw i depends on key and i alone."""
    return np.asarray(example_normal(key, jnp.arange(count), size))


class ImageSet(NamedTuple):
    """Images of a split: as the model's `inputs`, as `pictures` for the classifier, and their labels."""

    inputs: Pictures
    pictures: Pictures
    labels: Labels


class Statistics(NamedTuple):
    """Of the held-out images: what the pictures of all runs are held against.

    Attributes:
        features: the classifier's.
        squared_radii: from each image's features to those of its MANIFOLD_NEIGHBOUR-th nearest other image.
        confidence: the classifier's, of each image.
        distance: the median over images of that to the nearest training image, over pixels.
    """

    features: Float[np.ndarray, "image feature"]
    squared_radii: Float[np.ndarray, " image"]
    confidence: Float[np.ndarray, " image"]
    distance: float


def make_statistics(classifier: Classifier, train: ImageSet, test: ImageSet) -> Statistics:
    """The statistics of held-out images."""
    features, confidence = classifier.features_and_confidence(test.pictures)
    radii = samples.nearest(features, features, MANIFOLD_NEIGHBOUR + 1)[:, MANIFOLD_NEIGHBOUR]
    return Statistics(features, radii, confidence, median_distance(_flatten(test.pictures), _flatten(train.pictures)))


class Instruments(NamedTuple):
    """What all runs of one program are measured with: the data, the classifier, and what has been compiled.

    `posterior(params, batch)` is None where codes are points, `distortion(params, z, x)` nats per image and
    `pixel_sd(params, z)` the decoder's sigmas.
    """

    template: TrainedModel
    dataset: Dataset
    train: ImageSet
    test: ImageSet
    classifier: Classifier
    statistics: Statistics
    posterior: Callable | None
    distortion: Callable
    pixel_sd: Callable

    def with_run(self, run: TrainedModel) -> TrainedModel:
        """The run with what is compiled already."""
        return self.template.with_params(run.config, run.params, run.step)


def make_instruments(run: TrainedModel, dataset: Dataset, others: Iterable[Instruments] = ()) -> Instruments:
    """The instruments of a program of which `run` is one; `others` may have its statistics."""
    section, nets, likelihood = run.config["data"], run.model.nets, run.model.likelihood
    posterior = run.model.variant.posterior

    def distortion(params: Any, z: Array, x: Array) -> Array:
        return -likelihood.log_prob(nets.decode(params["nets"], z), x)

    def pixel_sd(params: Any, z: Array) -> Array:
        return pixel_deviations(likelihood, nets.decode(params["nets"], z))

    train, test = (image_set(split, section["binarize"]) for split in (dataset.train, dataset.test))
    classifier = _feature_classifier.load_or_train(dataset, section)
    twin = next((other for other in others if np.array_equal(other.test.pictures, test.pictures)), None)
    return Instruments(
        run,
        dataset,
        train,
        test,
        classifier,
        make_statistics(classifier, train, test) if twin is None else twin.statistics,
        None if posterior is None else jax.jit(partial(posterior, nets)),
        jax.jit(distortion),
        jax.jit(pixel_sd),
    )


def pixel_deviations(likelihood: Likelihood, pixels: Array) -> Array:
    """The sd of each pixel under a gaussian: the slope of log p one unit above its mean is -1 / sd^2."""
    above = likelihood.mean(pixels) + 1
    return jax.lax.rsqrt(-jax.grad(lambda x: jnp.sum(likelihood.log_prob(pixels, x)))(above))


def image_set(split: Split, binarize: str) -> ImageSet:
    """At most MAX_IMAGES images of a split."""
    indices = data.sample_indices(split, MAX_IMAGES)
    images = jnp.asarray(split.fetch(indices))
    inputs = jax.jit(data.binarizer(binarize))(images, randomness.root_key(0), indices)
    pictures = _feature_classifier.pictures(split, binarize, indices)
    return ImageSet(np.asarray(inputs), pictures, np.asarray(split.labels)[indices])


def encode_clouds(instruments: Instruments, run: TrainedModel, inputs: Pictures) -> Cloud:
    """q(z|x) of images as the model sees them."""
    if instruments.posterior is not None:
        gaussian = instruments.posterior(run.params, {"image": jnp.asarray(inputs)})
        return Cloud(np.asarray(gaussian.mean), np.exp(0.5 * np.asarray(gaussian.logvar)))
    mean = run.encode(inputs)
    return Cloud(mean, np.full_like(mean, run.config["variant"].get("noise", 0.0)))


def measure_run(instruments: Instruments, run: TrainedModel) -> dict[str, float]:
    """All numbers of a run that is at its last step."""
    train, test = instruments.train, instruments.test
    root = stream(randomness.root_key(run.config["seed"]), "metrics")
    keys = [jax.random.fold_in(root, purpose) for purpose in range(5)]
    training, held_out = (encode_clouds(instruments, run, images.inputs) for images in (train, test))
    codes, count = training.sample(keys[CODES]), len(test.inputs)
    noise = normal(keys[PRIOR], count * -(-MIN_DRAWS // count), run.latent_dim)
    fitted = measure_decoded(instruments, run, gaussian_draws(codes, noise), measure_likeness)
    return {
        **measure_decoded(instruments, run, noise, measure_pictures),
        "frechet_fitted": fitted["frechet"],
        "sure_fitted": fitted["sure"],
        "prior_covered": prior_coverage(normal(keys[PRIOR], len(codes), run.latent_dim), codes),
        "neighbours": label_agreement(held_out.mean, test.labels, training.mean, train.labels),
        **measure_spreads(held_out),
        "overlap": mean_overlap(Cloud(*(rows[:MAX_PAIRED] for rows in held_out))),
        **measure_visits(instruments, run, held_out, keys[VISIT], keys[PERTURB]),
        **measure_novelty(instruments, samples.clip_images(run.decode(noise[:count]))),
        **measure_uncertainty(instruments, run, held_out),
    }


def measure_data(instruments: Instruments) -> dict[str, float]:
    """The same numbers of the data: held-out images beside as many training images, and neighbours in pixels."""
    train, test = instruments.train, instruments.test
    images = train.pictures[np.random.default_rng(0).permutation(len(train.pictures))[: len(test.pictures)]]
    return {
        **measure_pictures(instruments.statistics, *instruments.classifier.features_and_confidence(images)),
        "confidence": float(instruments.statistics.confidence.mean()),
        "sure": 1 - UNSURE_SHARE,
        "neighbours": label_agreement(_flatten(test.inputs), test.labels, _flatten(train.inputs), train.labels),
        "prior_covered": 1 - 0.5**BALL_NEIGHBOUR,
        "nearer_training": 0.5,
    }


def _flatten(images: Any) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1)


def measure_likeness(statistics: Statistics, features: Rows, confidence: np.ndarray) -> dict[str, float]:
    """How like the data pictures are: Frechet distance, confidence, the share as sure as 95% of held-out images."""
    bar = np.quantile(statistics.confidence, UNSURE_SHARE, method="inverted_cdf")
    return {
        "frechet": samples.frechet(features, statistics.features),
        "confidence": float(confidence.mean()),
        "sure": float(np.mean(confidence >= bar)),
    }


def measure_pictures(statistics: Statistics, features: Rows, confidence: np.ndarray) -> dict[str, float]:
    """How good pictures are: how like the data, and how much of either lies among the other."""
    real, radii = statistics.features, statistics.squared_radii
    shares = samples.precision_recall(real, features, radii, MANIFOLD_NEIGHBOUR)
    return measure_likeness(statistics, features, confidence) | shares


def measure_decoded(
    instruments: Instruments, run: TrainedModel, codes: Rows, measure: Callable[..., dict[str, float]]
) -> dict[str, float]:
    """A measure of decoded codes, a mean over sets that are each as large as the held-out split."""
    sets = np.split(codes, len(codes) // len(instruments.test.inputs))
    pictures = (samples.clip_images(run.decode(rows)) for rows in sets)
    judge = instruments.classifier.features_and_confidence
    scores = [measure(instruments.statistics, *judge(images)) for images in pictures]
    return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


def gaussian_draws(codes: Rows, noise: Rows) -> Rows:
    """`noise` from N(0, I) made draws of the Gaussian that has the codes' mean and covariance."""
    spectrum, axes = np.linalg.eigh(np.atleast_2d(np.cov(codes.astype(np.float64), rowvar=False)))
    root = axes * np.sqrt(np.maximum(spectrum, 0))[None]
    return (codes.mean(axis=0)[None] + noise @ root.T).astype(np.float32)


def prior_coverage(prior: Rows, codes: Rows, k: int = BALL_NEIGHBOUR) -> float:
    """The share of draws of the prior with a code no further than their k-th nearest other draw; 1 - 2^-k at best."""
    radii = samples.nearest(prior, prior, k + 1)[:, k]
    return float(np.mean(samples.nearest(prior, codes, 1)[:, 0] <= radii * np.float32(samples.ROUNDING)))


def label_agreement(
    codes: Rows, labels: Labels, other_codes: Rows, other_labels: Int[np.ndarray, " other"], k: int = NEIGHBOURS
) -> float:
    """The share of the `k` nearest of the other codes that have an image's own label, averaged over images."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=k).fit(other_codes).kneighbors(codes, return_distance=False)
    return float(np.mean(other_labels[nearest] == labels[:, None]))


def measure_spreads(held_out: Cloud) -> dict[str, float]:
    """How large clouds are, how far apart, and where: root mean squares over latents, sigma a mean over all."""
    between, within = held_out.mean.var(axis=0, dtype=np.float64), np.square(held_out.sigma).mean(axis=0)
    total = (between + within).sum()
    return {
        "sigma": float(held_out.sigma.mean()),
        "spread": float(np.sqrt(between.mean())),
        "relative": float(np.sqrt(within.sum() / total)) if total > 0 else 0.0,
        "centre": float(np.sqrt(np.square(held_out.mean.mean(axis=0)).mean())),
        "deviation": float(np.sqrt((between + within).mean())),
    }


def mean_overlap(clouds: Cloud) -> float:
    """The Bhattacharyya coefficient of each cloud with the other that it shares most with, averaged over images.

    integral sqrt(q q') = exp(-1/8 sum (m - m')^2 / v - 1/2 sum log(v / (s s'))), v = (s^2 + s'^2) / 2; 0 for points.
    """
    if not clouds.sigma.all():
        return 0.0
    largest = []
    for index, (mean, sigma) in enumerate(zip(*clouds, strict=True)):
        variance = 0.5 * (np.square(sigma)[None] + np.square(clouds.sigma))
        distance = 0.125 * np.square(clouds.mean - mean[None]) / variance
        mismatch = 0.5 * np.log(variance / (clouds.sigma * sigma[None]))
        coefficient = np.exp(-(distance + mismatch).sum(axis=1))
        coefficient[index] = 0.0
        largest.append(coefficient.max())
    return float(np.mean(largest))


def measure_visits(
    instruments: Instruments, run: TrainedModel, held_out: Cloud, visit_key: Key, perturb_key: Key
) -> dict[str, float]:
    """How far z is from visit to visit, and by how much the distortion rises, in nats: at z, and where z is moved."""

    def distortion(z: Rows) -> float:
        return float(instruments.distortion(run.params, z, instruments.test.inputs).mean())

    step = PERTURBATION * held_out.deviation()
    perturbed = Cloud(held_out.mean, np.broadcast_to(step[None], held_out.mean.shape))
    visits = np.stack([held_out.sample(jax.random.fold_in(visit_key, visit)) for visit in range(VISITS)])
    moves = [perturbed.sample(jax.random.fold_in(perturb_key, visit)) for visit in range(VISITS)]
    at_mean, moved = distortion(held_out.mean), float(np.mean([distortion(z) for z in moves]))
    return {
        "visited": float(np.sqrt(visits.var(axis=0, ddof=1, dtype=np.float64).mean())),
        "rise": float(np.mean([distortion(z) for z in visits])) - at_mean,
        "rise_moved": moved - at_mean,
        "moved": moved,
    }


def measure_novelty(instruments: Instruments, fake: Pictures) -> dict[str, float]:
    """How near draws are to training images: beside held-out images, and beside as many held-out images."""
    draws, training, held_out = map(_flatten, (fake, instruments.train.pictures, instruments.test.pictures))
    return {
        "distance": median_distance(draws, training) / instruments.statistics.distance,
        "nearer_training": nearer_training(draws, training, held_out),
    }


def median_distance(images: Rows, training: Rows) -> float:
    """The median over images of the distance to the nearest training image."""
    return float(np.median(np.sqrt(samples.nearest_two(images, training)[:, 0])))


def nearer_training(fake: Rows, training: Rows, held_out: Rows) -> float:
    """How often a training image is nearer than all of as many held-out images; 1/2 for fresh images, 1 for copies.

    The mean over disjoint parts of the training images, each as large as the held-out set (Meehan et al. 2020 compare
    the same distances); a tie counts half.
    """
    size = min(len(training), len(held_out))
    order = np.random.default_rng(0).permutation(len(training))
    to_held_out = samples.nearest_two(fake, held_out[:size])[:, 0]
    shares = []
    for start in range(0, len(training) - size + 1, size):
        to_training = samples.nearest_two(fake, training[order[start : start + size]])[:, 0]
        shares.append(np.mean(to_training < to_held_out) + 0.5 * np.mean(to_training == to_held_out))
    return float(np.mean(shares))


def measure_uncertainty(instruments: Instruments, run: TrainedModel, held_out: Cloud) -> dict[str, float]:
    """Spearman's correlation over images of mean log sigma, the encoder's and the decoder's, with the squared error."""
    if instruments.posterior is None:
        return {}
    encoder, error, decoder = sigmas_and_errors(instruments, run, held_out)
    scores = {"encoder_error": intervals.rank_correlation(encoder, error.mean(axis=1))}
    if decoder is not None:
        scores["decoder_error"] = intervals.rank_correlation(np.log(decoder).mean(axis=1), error.mean(axis=1))
        scores["pixel_error"] = intervals.rank_correlation(decoder.ravel(), error.ravel())
    return scores


def sigmas_and_errors(
    instruments: Instruments, run: TrainedModel, held_out: Cloud
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Each image's mean log sigma, its pixels' squared errors, and its pixels' sd under a decoder that gives them."""
    error = _flatten(np.square(run.decode(held_out.mean) - instruments.test.inputs))
    likelihood = run.config["likelihood"]
    learned = likelihood.get("scale") == "pixel" and likelihood["name"] == "gaussian"
    decoder = _flatten(instruments.pixel_sd(run.params, held_out.mean)) if learned else None
    return np.log(held_out.sigma).mean(axis=1), error, decoder


def measure_checkpoints(instruments: Instruments, run: TrainedModel, folder: Path) -> list[dict[str, Any]]:
    """Spreads and KL(q(z) || N(0, I)) before the first step and at each checkpoint that is kept, by step."""
    config = run.config
    start = initial_state(run.model, config, run.image_shape)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    states = [checkpoints.restore(jax.eval_shape(lambda: start), step) for step in checkpoints.steps()]
    checkpoints.close()
    key = jax.random.fold_in(stream(randomness.root_key(config["seed"]), "metrics"), AGGREGATE)
    records = []
    for step, state in [(0, start), *states]:
        model = run.with_params(config, jax.tree.map(jnp.asarray, evaluation_params(state)), step)
        held_out = encode_clouds(instruments, model, instruments.test.inputs)
        gaussian = Gaussian(jnp.asarray(held_out.mean), 2 * jnp.log(jnp.asarray(held_out.sigma)))
        records.append({"step": step, **measure_spreads(held_out), "aggregate": aggregate_divergence(gaussian, key)})
    return records


def aggregate_divergence(posterior: Gaussian, key: Key) -> float:
    """KL(q(z) || N(0, I)) as vae_jax/metrics/aggregate_posterior.py has it, without the other parts of the rate."""
    z = posterior.sample(key, jnp.arange(len(posterior.mean)))
    aggregate, _ = _information.log_aggregate(z, posterior)
    information = posterior.log_prob(z) - aggregate
    return float(np.asarray(jnp.sum(posterior.kl(), axis=1) - information, np.float64).mean())
