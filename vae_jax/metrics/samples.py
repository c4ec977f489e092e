"""How good draws from the prior are, in the features of a classifier of the data's own labels (vae_jax/classifier.py).

    FD = |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2)    of means and covariances: Frechet (Heusel et al. 2017)
    precision, recall    share of samples in the data's manifold, of data in the samples' (Kynkaanniemi et al. 2019)
    density = 1/(k N') sum_ij [x'_i in B_j],  coverage = 1/N sum_j [some x'_i in B_j]               (Naeem et al. 2020)

B_j is the closed ball around image j that reaches its k-th nearest other image, a manifold the union of a set's balls.
k is 3 for precision and recall, 5 for density and coverage. Samples are expected images p(x | z), z ~ p(z), clipped to
[0, 1]; data are held-out images, grey (thresholded where training did that); as many of one as of the other, 10,000 or
all there are (`images`). A conditional variant is given their labels. FD is in squared units of the features, 0
at best, and depends on the classifier and the count: compare runs on one dataset alone, beside `frechet_of_data`, that
of as many training images. That is a scale and no bound: the classifier was taught those images and is surer of
them, and with few images the two sets differ by chance. Precision, recall and coverage are in [0, 1]; fresh data score
1 - 2^-k in coverage and 1 in density, which has no upper end. The authors' code of density and coverage has open balls,
in which duplicates, with balls of radius 0, are not even in their own.

`near_copies` is the share of samples that are copied from training images if anything is: those with

    min_t |x - t| / min_h |x - h| <= c,    t training, h held-out images, |.| over pixels

where c is such that 0.01 of the held-out images (each without itself) fall below. Copies score 1, fresh data 0.01. A
plain bar on |x - t| is set by the simplest images (MNIST's ones) and misses inexact copies of others, and soft images
can pass it that are no copies: they are near to everything, to held-out images as much. Where over 1% of the held-out
images are training images too, as the square's turns are, c is 0 and `near_copies_of_data` says what fresh data score.

The space knows what tells classes apart, and little else. Means are softer than data, the more so the fewer
grey levels data have, and are marked down for it. One outlier among the data makes a large ball: recall and
precision rise by it, density and coverage hardly.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import Subject, Watched, _feature_classifier
from vae_jax.metrics._feature_classifier import Pictures, in_chunks
from vae_jax.typing import Key

NEEDS = ("classes",)
LEAST = {"images": 0, "training": 0, "k": 1, "density_k": 1}
Real = Float[np.ndarray, "real feature"]
Fake = Float[np.ndarray, "fake feature"]
VALUES = 2**24
"""Numbers in an array of distances or of images, 64 MiB, at most."""
ROUNDING = 1 + 1e-6
"""By how much a ball's squared radius grows, so that the image that it reaches is in it whatever the order of a sum."""
CANDIDATES = 4
"""Images nearest by |t|^2 - 2 x t, in which much cancels, whose distances are then computed from differences."""


def frechet(a: Real, b: Fake) -> float:
    """The squared Wasserstein distance between the Gaussians of these means and covariances."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    one, other = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (a, b))
    spectrum, axes = np.linalg.eigh(one)
    root = axes * np.sqrt(np.maximum(spectrum, 0))[None] @ axes.T
    # Similar to S S', and symmetric: real eigenvalues, of which rounding may leave some below 0.
    joint = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    distance = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(one) + np.trace(other) - 2 * joint
    return float(max(distance, 0.0))


def _squared(a: Float[Array, "a feature"], b: Float[Array, "b feature"]) -> Float[Array, "a b"]:
    # Not as a product of matrices: features are few, and differences do not cancel.
    return jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)


@partial(jax.jit, static_argnames="k")
def _nearest(a, b, k):
    return -jax.lax.top_k(-_squared(a, b), k)[0]


@jax.jit
def _inside(points, centres, squared_radii):
    inside = _squared(points, centres) <= squared_radii[None] * ROUNDING
    return jnp.any(inside, axis=1), jnp.sum(inside, axis=1)


def nearest(a: Real, b: Fake, k: int) -> Float[np.ndarray, "real {k}"]:
    """The squared distances from each of `a` to the `k` nearest of `b`, the nearest first."""
    return in_chunks(lambda some: _nearest(some, b, k), a, max(1, VALUES // len(b)))


def inside(points: Fake, centres: Real, squared_radii: Float[np.ndarray, "real"]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point is in some ball, and in how many."""
    return in_chunks(lambda some: _inside(some, centres, squared_radii), points, max(1, VALUES // len(centres)))


def manifold(real: Real, fake: Fake, k: int, density_k: int) -> dict[str, float]:
    """Precision and recall with `k`, density and coverage with `density_k`. Raises UserError for fewer images."""
    fewest, most = min(len(real), len(fake)), max(k, density_k)
    if fewest <= most:
        raise UserError(f"--metrics=samples: {fewest} images are too few for a {most}-th nearest other; give more")
    radii = nearest(real, real, most + 1)  # the nearest of all is the image itself
    precise, _ = inside(fake, real, radii[:, k])
    recalled, _ = inside(real, fake, nearest(fake, fake, k + 1)[:, k])
    _, balls = inside(fake, real, radii[:, density_k])
    covered = nearest(real, fake, 1)[:, 0] <= radii[:, density_k] * np.float32(ROUNDING)
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "density": float(balls.mean() / density_k),
        "coverage": float(covered.mean()),
    }


@jax.jit
def _nearest_pixels(x: Float[Array, "a pixel"], images: Float[Array, "b pixel"]) -> Float[Array, "a candidate"]:
    centre = jnp.mean(images, axis=0)[None]
    near, others = x - centre, images - centre
    order = jnp.sum(jnp.square(others), axis=1)[None] - 2 * jnp.matmul(near, others.T, precision="highest")
    _, candidates = jax.lax.top_k(-order, min(CANDIDATES, len(images)))
    return jnp.sort(jnp.sum(jnp.square(x[:, None] - images[candidates]), axis=-1), axis=1)


def nearest_two(x: Float[np.ndarray, "a pixel"], images: Float[np.ndarray, "b pixel"]) -> Float[np.ndarray, "a two"]:
    """The squared distances from each of `x` to the two nearest of `images`, infinite where there is no second."""
    at_once = max(1, VALUES // max(len(images), CANDIDATES * x.shape[1]))
    found = in_chunks(lambda some: _nearest_pixels(some, images), x, at_once)
    return np.pad(found, ((0, 0), (0, 2)), constant_values=np.inf)[:, :2]


def relative(to_training: Float[np.ndarray, "image"], to_held_out: Float[np.ndarray, "image"]) -> np.ndarray:
    """How much nearer a training image is than a held-out one, as a ratio of squares; 1 where both are the same."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = to_training / to_held_out
    return np.where(to_training == to_held_out, 1.0, ratio)


def near_copies(fake: Float[np.ndarray, "fake"], real: Float[np.ndarray, "real"]) -> dict[str, float]:
    """The share of these ratios that are as small as the smallest 1% of those of held-out images."""
    bar = np.quantile(real, 0.01, method="inverted_cdf")
    return {"near_copies": float(np.mean(fake <= bar)), "near_copies_of_data": float(np.mean(real <= bar))}


def copies(
    fake: np.ndarray, real: np.ndarray, fetch: Callable[[np.ndarray], Pictures], places: np.ndarray, watched: Watched
) -> dict[str, float]:
    """`near_copies` of the images `fake`, by held-out images and those that `fetch` gives for training `places`."""
    pixels = fake[0].size
    flat_fake, flat_real = (images.reshape(len(images), pixels) for images in (fake, real))
    both = np.concatenate([flat_fake, flat_real])
    at_once = max(1, VALUES // pixels)
    to_training = np.full(len(both), np.inf, np.float32)
    starts = range(0, len(places), at_once)
    for start in watched(starts, len(starts)):
        some = fetch(places[start : start + at_once])
        to_training = np.minimum(to_training, nearest_two(both, some.reshape(len(some), pixels))[:, 0])
    to_held_out = np.full((len(both), 2), np.inf, np.float32)
    for start in range(0, len(flat_real), at_once):
        found = nearest_two(both, flat_real[start : start + at_once])
        to_held_out = np.sort(np.concatenate([to_held_out, found], axis=1), axis=1)[:, :2]
    count = len(fake)
    return near_copies(
        relative(to_training[:count], to_held_out[:count, 0]),
        relative(to_training[count:], to_held_out[count:, 1]),  # the nearest is the image itself
    )


def shown(images: Pictures) -> Pictures:
    """Expected images as they are looked at, clipped to [0, 1]. Raises UserError where some are not finite."""
    if not np.isfinite(images).all():
        bad = int((~np.isfinite(images.reshape(len(images), -1))).any(axis=1).sum())
        raise UserError(f"images: {bad} of the {len(images)} that are decoded are not finite")
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def takes_labels(run: TrainedModel) -> bool:
    """Whether the run's codes hold a label, which its draws from the prior may be given."""
    variant, nets = run.model.variant, run.model.nets
    draw = lambda key: variant.sample_prior(nets, run.params, key, 1, run.latent_dim, np.zeros(1, np.int32))  # noqa: E731
    try:
        jax.eval_shape(draw, jax.random.key(0))
    except UserError:
        return False
    return True


def compute(
    subject: Subject, key: Key, *, images: int = 10_000, training: int = 60_000, k: int = 3, density_k: int = 5
) -> dict[str, float]:
    """All of them, of `images` samples and held-out images and copies of `training` images (0: all there are)."""
    run, (_, train, test, _) = subject.run, subject.dataset
    section = run.config["data"]
    places = data.some(test, images or test.size)
    if len(places) <= max(k, density_k):
        raise UserError(
            f"--metrics=samples: {len(places)} held-out images are too few for a {max(k, density_k)}-th nearest other"
        )
    judge = _feature_classifier.trained(subject.dataset, section, watched=subject.watched)
    labels = np.asarray(test.labels)[places] if takes_labels(run) else None
    fake = shown(run.sample(key, len(places), labels))
    real = _feature_classifier.pictures(test, section["binarize"], places)
    fetch = partial(_feature_classifier.pictures, train, section["binarize"])
    other = fetch(data.some(train, len(places)))
    (of_fake, _), (of_real, _), (of_other, _) = map(judge.see, (fake, real, other))
    found = {
        "frechet_of_data": frechet(of_other, of_real),
        **manifold(of_real, of_fake, k, density_k),
        **copies(fake, real, fetch, data.some(train, training or train.size), subject.watched),
        "accuracy": judge.accuracy,
        "images": len(places),
    }
    return {"samples": frechet(of_fake, of_real), **{f"samples.{name}": value for name, value in found.items()}}
