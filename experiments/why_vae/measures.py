"""What tells a VAE from an autoencoder, as numbers of one run: its draws, its codes, the clouds around them.

A cloud is q(z|x) = N(mean, sigma^2) of an image: the encoder's own where the variant has it, of the noise that it was
trained with for the autoencoder, and else a point. Images are those of the held-out split, at most 10,000, binarised
once and for all where training binarises; pictures for the classifier are grey, as vae_jax/metrics/samples.py has them.
"""

from collections.abc import Callable
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
from vae_jax.metrics import _feature_classifier, aggregate_posterior, samples
from vae_jax.metrics._feature_classifier import Classifier, Pictures
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.randomness import example_normal, stream
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.step import evaluation_params, initial_state
from vae_jax.typing import Key

MOST = 10_000
VISITS = 16
MOVED = 0.5
"""By how many standard deviations of the codes every model's codes are moved alike."""
NEIGHBOURS, BALL = 10, 5
PAIRED = 1000
"""Images of which every pair of clouds is compared, at most."""
SURE = 0.05
DRAWS = 3000
"""Of each density at least so many are judged, in sets as large as the held-out split."""
PRIOR, CODES, VISITING, MOVING, AGGREGATE = range(5)
"""Purposes: each use of randomness folds its own number into the run's key."""

Rows = Float[np.ndarray, "image latent"]


class Cloud(NamedTuple):
    """q(z|x) of each image: N(mean, diag(sigma^2)), a point where sigma is 0."""

    mean: Rows
    sigma: Rows

    def draw(self, key: Key) -> Rows:
        """One code of each image."""
        return self.mean + self.sigma * normal(key, *self.mean.shape)


def normal(key: Key, count: int, size: int) -> Rows:
    """Draws from N(0, I); draw i depends on key and i alone."""
    return np.asarray(example_normal(key, jnp.arange(count), size))


class Part(NamedTuple):
    """Images of a split as the model sees them, as pictures for the classifier, and their labels."""

    seen: Pictures
    shown: Pictures
    labels: Int[np.ndarray, "image"]


class Lab(NamedTuple):
    """What all runs of one program share: the data, the judge of pictures, and what has been compiled."""

    first: TrainedModel
    dataset: Dataset
    train: Part
    test: Part
    judge: Classifier
    posterior: Callable | None
    distortion: Callable
    deviation: Callable

    def at(self, run: TrainedModel) -> TrainedModel:
        """The run with what is compiled already."""
        return self.first.at(run.config, run.params, run.step)


def lab(run: TrainedModel, dataset: Dataset) -> Lab:
    """The lab of a program of which `run` is one."""
    section, nets, likelihood = run.config["data"], run.model.nets, run.model.likelihood
    posterior = run.model.variant.posterior

    def distortion(params, z, x):
        return -likelihood.log_prob(nets.decode(params["nets"], z), x)

    return Lab(
        run,
        dataset,
        part(dataset.train, section["binarize"]),
        part(dataset.test, section["binarize"]),
        _feature_classifier.trained(dataset, section),
        posterior and jax.jit(partial(posterior, nets)),
        jax.jit(distortion),
        jax.jit(lambda params, z: deviations(likelihood, nets.decode(params["nets"], z))),
    )


def deviations(likelihood: Likelihood, pixels: Array) -> Array:
    """The sd of each pixel under a gaussian: the slope of log p one unit above its mean is -1 / sd^2."""
    above = likelihood.mean(pixels) + 1
    return jax.lax.rsqrt(-jax.grad(lambda x: jnp.sum(likelihood.log_prob(pixels, x)))(above))


def part(split: Split, binarize: str) -> Part:
    """At most MOST images of a split."""
    places = data.some(split, MOST)
    seen = jax.jit(data.binarizer(binarize))(jnp.asarray(split.fetch(places)), randomness.root_key(0), places)
    shown = _feature_classifier.pictures(split, binarize, places)
    return Part(np.asarray(seen), shown, np.asarray(split.labels)[places])


def cloud(lab: Lab, run: TrainedModel, images: Pictures) -> Cloud:
    """q(z|x) of images as the model sees them."""
    if lab.posterior is not None:
        found = lab.posterior(run.params, {"image": jnp.asarray(images)})
        return Cloud(np.asarray(found.mean), np.exp(0.5 * np.asarray(found.logvar)))
    mean = run.encode(images)
    return Cloud(mean, np.full_like(mean, run.config["variant"].get("noise", 0.0)))


def measured(lab: Lab, run: TrainedModel) -> dict[str, float]:
    """All numbers of a run that is at its last step."""
    key = stream(randomness.root_key(run.config["seed"]), "metrics")
    of = [jax.random.fold_in(key, purpose) for purpose in range(5)]
    training, held_out = (cloud(lab, run, images.seen) for images in (lab.train, lab.test))
    codes, count = training.draw(of[CODES]), len(lab.test.seen)
    noise = normal(of[PRIOR], count * -(-DRAWS // count), run.latent_dim)
    prior, of_fitted = noise[:count], of_sets(lab, run, gaussian_draws(codes, noise))
    return {
        **of_sets(lab, run, noise),
        "frechet_fitted": of_fitted["frechet"],
        "sure_fitted": of_fitted["sure"],
        "prior_covered": covered(normal(of[PRIOR], len(codes), run.latent_dim), codes),
        "neighbours": agreement(held_out.mean, lab.test.labels, training.mean, lab.train.labels),
        **spreads(held_out),
        "overlap": overlap(Cloud(*(rows[:PAIRED] for rows in held_out))),
        **visits(lab, run, held_out, of[VISITING], of[MOVING]),
        **newness(lab, samples.shown(run.decode(prior))),
        **uncertainty(lab, run, held_out),
    }


def reference(lab: Lab) -> dict[str, float]:
    """The same numbers of the data: held-out images beside as many training images, and neighbours in pixels."""
    flat = [images.seen.reshape(len(images.seen), -1) for images in (lab.test, lab.train)]
    places = np.random.default_rng(0).permutation(len(lab.train.shown))[: len(lab.test.shown)]
    return {
        **draws(lab, lab.train.shown[places]),
        "confidence": float(lab.judge.see(lab.test.shown)[1].mean()),
        "sure": 1 - SURE,
        "neighbours": agreement(flat[0], lab.test.labels, flat[1], lab.train.labels),
        "prior_covered": 1 - 0.5**BALL,
        "nearer_training": 0.5,
    }


def draws(lab: Lab, images: Pictures) -> dict[str, float]:
    """How good pictures are: Frechet distance, manifolds, confidence, the share as sure as 95% of held-out images."""
    fake, confidence = lab.judge.see(samples.shown(images))
    real, of_real = lab.judge.see(lab.test.shown)
    found = samples.manifold(real, fake, 3, BALL)
    bar = np.quantile(of_real, SURE, method="inverted_cdf")
    return {
        "frechet": samples.frechet(fake, real),
        "precision": found["precision"],
        "recall": found["recall"],
        "confidence": float(confidence.mean()),
        "sure": float(np.mean(confidence >= bar)),
    }


def of_sets(lab: Lab, run: TrainedModel, codes: Rows) -> dict[str, float]:
    """How good decoded codes are, a mean over sets that are each as large as the held-out split."""
    found = [draws(lab, run.decode(some)) for some in np.split(codes, len(codes) // len(lab.test.seen))]
    return {name: float(np.mean([of_set[name] for of_set in found])) for name in found[0]}


def gaussian_draws(codes: Rows, noise: Rows) -> Rows:
    """`noise` from N(0, I) made draws of the Gaussian that has the codes' mean and covariance."""
    spectrum, axes = np.linalg.eigh(np.atleast_2d(np.cov(codes.astype(np.float64), rowvar=False)))
    root = axes * np.sqrt(np.maximum(spectrum, 0))[None]
    return (codes.mean(axis=0)[None] + noise @ root.T).astype(np.float32)


def covered(prior: Rows, codes: Rows, k: int = BALL) -> float:
    """The share of draws of the prior with a code no further than their k-th nearest other draw; 1 - 2^-k at best."""
    radii = samples.nearest(prior, prior, k + 1)[:, k]
    return float(np.mean(samples.nearest(prior, codes, 1)[:, 0] <= radii * np.float32(samples.ROUNDING)))


def agreement(
    codes: Rows, labels: Int[np.ndarray, "image"], others: Rows, their: Int[np.ndarray, "other"], k: int = NEIGHBOURS
) -> float:
    """The share of the `k` nearest of `others` that have an image's own label, averaged over images."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=k).fit(others).kneighbors(codes, return_distance=False)
    return float(np.mean(their[nearest] == labels[:, None]))


def spreads(held_out: Cloud) -> dict[str, float]:
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


def overlap(clouds: Cloud) -> float:
    """The Bhattacharyya coefficient of each cloud with the other that it shares most with, averaged over images.

    integral sqrt(q q') = exp(-1/8 sum (m - m')^2 / v - 1/2 sum log(v / (s s'))), v = (s^2 + s'^2) / 2; 0 for points.
    """
    if not clouds.sigma.all():
        return 0.0
    largest = []
    for place, (mean, sigma) in enumerate(zip(*clouds, strict=True)):
        variance = 0.5 * (np.square(sigma)[None] + np.square(clouds.sigma))
        apart = 0.125 * np.square(clouds.mean - mean[None]) / variance
        unlike = 0.5 * np.log(variance / (clouds.sigma * sigma[None]))
        coefficient = np.exp(-(apart + unlike).sum(axis=1))
        coefficient[place] = 0.0
        largest.append(coefficient.max())
    return float(np.mean(largest))


def visits(lab: Lab, run: TrainedModel, held_out: Cloud, own: Key, moving: Key) -> dict[str, float]:
    """How far z is from visit to visit, and by how much the distortion rises, in nats: at z, and where z is moved."""
    at = lambda z: float(lab.distortion(run.params, z, lab.test.seen).mean())  # noqa: E731
    step = MOVED * np.sqrt(held_out.mean.var(axis=0) + np.square(held_out.sigma).mean(axis=0))
    alike = Cloud(held_out.mean, np.broadcast_to(step[None], held_out.mean.shape))
    visited = np.stack([held_out.draw(jax.random.fold_in(own, visit)) for visit in range(VISITS)])
    moved = [alike.draw(jax.random.fold_in(moving, visit)) for visit in range(VISITS)]
    still, away = at(held_out.mean), float(np.mean([at(z) for z in moved]))
    return {
        "visited": float(np.sqrt(visited.var(axis=0, ddof=1, dtype=np.float64).mean())),
        "rise": float(np.mean([at(z) for z in visited])) - still,
        "rise_moved": away - still,
        "moved": away,
    }


def newness(lab: Lab, fake: Pictures) -> dict[str, float]:
    """How near draws are to training images: beside held-out images, and beside as many held-out images."""
    flat = [images.reshape(len(images), -1) for images in (fake, lab.train.shown, lab.test.shown)]
    nearest = [np.sqrt(samples.nearest_two(rows, flat[1])[:, 0]) for rows in (flat[0], flat[2])]
    return {
        "distance": float(np.median(nearest[0]) / np.median(nearest[1])),
        "nearer_training": nearer(*flat),
    }


def nearer(fake: Rows, training: Rows, held_out: Rows) -> float:
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


def uncertainty(lab: Lab, run: TrainedModel, held_out: Cloud) -> dict[str, float]:
    """Spearman's correlation over images of mean log sigma, the encoder's and the decoder's, with the squared error."""
    if lab.posterior is None:
        return {}
    code, error, of_decoder = uncertainties(lab, run, held_out)
    found = {"encoder_error": intervals.rank_correlation(code, error.mean(axis=1))}
    if of_decoder is not None:
        found["decoder_error"] = intervals.rank_correlation(np.log(of_decoder).mean(axis=1), error.mean(axis=1))
        found["pixel_error"] = intervals.rank_correlation(of_decoder.ravel(), error.ravel())
    return found


def uncertainties(lab: Lab, run: TrainedModel, held_out: Cloud) -> tuple[np.ndarray, Rows, Rows | None]:
    """Each image's mean log sigma, its pixels' squared errors, and its pixels' sd under a decoder that gives them."""
    pixels = lambda images: np.asarray(images).reshape(len(images), -1)  # noqa: E731
    error = pixels(np.square(run.decode(held_out.mean) - lab.test.seen))
    learned = run.config["likelihood"].get("scale") == "pixel" and run.config["likelihood"]["name"] == "gaussian"
    return (
        np.log(held_out.sigma).mean(axis=1),
        error,
        pixels(lab.deviation(run.params, held_out.mean)) if learned else None,
    )


def over_training(lab: Lab, run: TrainedModel, folder: Path) -> list[dict[str, Any]]:
    """Spreads and KL(q(z) || N(0, I)) before the first step and at each checkpoint that was kept, by step."""
    config, shape = run.config, run.image_shape
    start = initial_state(run.model, config, shape)
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    kept = [checkpoints.restore(jax.eval_shape(lambda: start), step) for step in checkpoints.steps()]
    checkpoints.close()
    key = jax.random.fold_in(stream(randomness.root_key(config["seed"]), "metrics"), AGGREGATE)
    found = []
    for step, state in [(0, start), *kept]:
        then = run.at(config, jax.tree.map(jnp.asarray, evaluation_params(state)), step)
        held_out = cloud(lab, then, lab.test.seen)
        gaussian = Gaussian(jnp.asarray(held_out.mean), 2 * jnp.log(jnp.asarray(held_out.sigma)))
        apart = float(aggregate_posterior.parts(gaussian, key, None)[""].mean())
        found.append({"step": step, **spreads(held_out), "aggregate": apart})
    return found
