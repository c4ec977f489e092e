"""How good draws from the prior are, in the features of a classifier of the data's own labels.

Purpose    quality of samples
Shows      whether draws look like the data (Frechet distance, precision, density) and whether they cover the data
           (recall, coverage).
Misleads   when one number is read alone: a decoder that always draws one picture has high precision and no recall.
           Numbers compare only for one data set and one count.

    FD = |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2)    of means and covariances: Frechet (Heusel et al. 2017)
    precision, recall    share of samples in the data's manifold, of data in the samples' (Kynkaanniemi et al. 2019)
    density = 1/(k N') sum_ij [x'_i in B_j],  coverage = 1/N sum_j [some x'_i in B_j]               (Naeem et al. 2020)

B_j is the closed ball around image j that reaches its k-th nearest other image; a manifold is the union of a set's
balls. k is 3 for precision and recall, 5 for density and coverage. Samples are expected images p(x | z), z ~ p(z),
clipped to [0, 1]; data are held-out images, grey (thresholded where training did that); there are equally many of both,
10,000 or all there are (`images`). A conditional variant is given their labels. FD is in squared units of the features,
0 at best, and depends on the classifier (vae_jax/metrics/_feature_classifier.py) and the count: compare runs on one
dataset alone, beside `frechet_of_data`, that of as many training images. That is a scale and not a bound: the
classifier was trained on those images and is surer of them, and with few images the two sets differ by chance.
Precision, recall and coverage are in [0, 1]; fresh data score 1 - 2^-k in coverage and 1 in density, which has no upper
end. The authors' code of density and coverage has open balls: duplicates have balls of radius 0 and are not even in
their own.

`near_copies` is the share of samples that look copied from a training image: those with

    min_t |x - t| / min_h |x - h| <= c,    t training, h held-out images, |.| over pixels

where c is such that 0.01 of the held-out images (each without itself) fall below. Copies score 1, fresh data 0.01. A
plain threshold on |x - t| is set by the simplest images (MNIST's ones) and misses inexact copies of others. Soft images
can pass it without being copies: they are near to everything, to held-out images as much. Where over 1% of the held-out
images are training images too, as rotations of the square are, c is 0 and `near_copies_of_data` says what fresh data
score.

z may also be drawn from a density fitted to the codes of training images: `samples:sampler=gmm`, two_stage or
coupling_flow (docs/samplers.md). If they score far better than `sampler=prior`, the codes of the data are not
distributed as the prior is: the decoder is the same.

The features describe what separates classes, and little else. Expected images are softer than data, more so the fewer
grey levels data have, and score worse for it. One outlier among the data makes a large ball: it raises recall and
precision, but hardly density and coverage.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import data, randomness, samplers
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import EvaluationContext, Metric, Progress, _feature_classifier
from vae_jax.metrics._feature_classifier import Pictures, map_chunks
from vae_jax.typing import Key

Real = Float[np.ndarray, "real feature"]
Fake = Float[np.ndarray, "fake feature"]
VALUES = 2**24
"""Numbers in an array of distances or of images, 64 MiB, at most."""
ROUNDING = 1 + 1e-6
"""By how much a ball's squared radius grows, so that the image that it reaches is in it whatever the order of a sum."""
CANDIDATES = 4
"""Images nearest by |t|^2 - 2 x t, in which much cancels, whose distances are then computed from differences."""


def frechet(a: Real, b: Fake) -> float:
    """The squared Wasserstein distance between the Gaussians of these means and covariances (Heusel et al. 2017)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    spectrum, axes = np.linalg.eigh(covariance_a)
    root = axes * np.sqrt(np.maximum(spectrum, 0))[None] @ axes.T
    # Similar to S S', and symmetric: real eigenvalues, of which rounding may leave a few below 0.
    joint = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0)).sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(max(means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * joint, 0.0))


def _squared_distances(a: Float[Array, "a feature"], b: Float[Array, "b feature"]) -> Float[Array, "a b"]:
    # Not as a product of matrices: features are few, and differences do not cancel.
    return jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)


@partial(jax.jit, static_argnames="k")
def _nearest(a, b, k):
    return -jax.lax.top_k(-_squared_distances(a, b), k)[0]


@jax.jit
def _count_balls(points, centres, squared_radii):
    inside = _squared_distances(points, centres) <= squared_radii[None] * ROUNDING
    return jnp.any(inside, axis=1), jnp.sum(inside, axis=1)


def nearest(a: Real, b: Fake, k: int) -> Float[np.ndarray, "real {k}"]:
    """The squared distances from each of `a` to the `k` nearest of `b`, the nearest first."""
    return map_chunks(lambda rows: _nearest(rows, b, k), a, max(1, VALUES // len(b)))


def count_balls(
    points: Fake, centres: Real, squared_radii: Float[np.ndarray, " real"]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point is in a ball, and in how many."""
    return map_chunks(lambda rows: _count_balls(rows, centres, squared_radii), points, max(1, VALUES // len(centres)))


def manifold(real: Real, fake: Fake, k: int, density_k: int) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Args:
        real: features of data.
        fake: features of samples.
        k: the neighbour that a ball reaches to, for precision and recall.
        density_k: the same for density and coverage.

    Raises:
        UserError: for fewer images than neighbours.
    """
    fewest, furthest = min(len(real), len(fake)), max(k, density_k)
    if fewest <= furthest:
        raise UserError(f"images: {fewest} images are too few for a {furthest}-th nearest neighbour; give more")
    radii = nearest(real, real, furthest + 1)  # the nearest of all is the image itself
    _, balls = count_balls(fake, real, radii[:, density_k])
    covered = nearest(real, fake, 1)[:, 0] <= radii[:, density_k] * np.float32(ROUNDING)
    return {
        **precision_recall(real, fake, radii[:, k], k),
        "density": float(balls.mean() / density_k),
        "coverage": float(covered.mean()),
    }


def precision_recall(real: Real, fake: Fake, squared_radii: Float[np.ndarray, " real"], k: int) -> dict[str, float]:
    """The share of samples in the data's manifold, whose balls have `squared_radii`, and of data in the samples'."""
    precise, _ = count_balls(fake, real, squared_radii)
    recalled, _ = count_balls(real, fake, nearest(fake, fake, k + 1)[:, k])
    return {"precision": float(precise.mean()), "recall": float(recalled.mean())}


@jax.jit
def _nearest_candidates(x: Float[Array, "a pixel"], images: Float[Array, "b pixel"]) -> Float[Array, "a candidate"]:
    centre = jnp.mean(images, axis=0)[None]
    x_centred, images_centred = x - centre, images - centre
    product = jnp.matmul(x_centred, images_centred.T, precision="highest")
    order = jnp.sum(jnp.square(images_centred), axis=1)[None] - 2 * product
    _, candidates = jax.lax.top_k(-order, min(CANDIDATES, len(images)))
    return jnp.sort(jnp.sum(jnp.square(x[:, None] - images[candidates]), axis=-1), axis=1)


def nearest_two(x: Float[np.ndarray, "a pixel"], images: Float[np.ndarray, "b pixel"]) -> Float[np.ndarray, "a two"]:
    """The squared distances from each of `x` to the two nearest of `images`, infinite where there is no second."""
    chunk_size = max(1, VALUES // max(len(images), CANDIDATES * x.shape[1]))
    distances = map_chunks(lambda rows: _nearest_candidates(rows, images), x, chunk_size)
    return np.pad(distances, ((0, 0), (0, 2)), constant_values=np.inf)[:, :2]


def distance_ratio(
    to_training: Float[np.ndarray, " image"], to_held_out: Float[np.ndarray, " image"]
) -> Float[np.ndarray, " image"]:
    """How much nearer a training image is than a held-out one, as a ratio of squares; 1 where both are the same."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = to_training / to_held_out
    return np.where(to_training == to_held_out, 1.0, ratio)


def near_copies(fake: Float[np.ndarray, " fake"], real: Float[np.ndarray, " real"]) -> dict[str, float]:
    """The share of these ratios that are as small as the smallest 1% of those of held-out images."""
    bar = np.quantile(real, 0.01, method="inverted_cdf")
    return {"near_copies": float(np.mean(fake <= bar)), "near_copies_of_data": float(np.mean(real <= bar))}


def count_copies(
    fake: Float[np.ndarray, "fake height width channels"],
    real: Float[np.ndarray, "real height width channels"],
    fetch: Callable[[np.ndarray], Pictures],
    indices: np.ndarray,
    progress: Progress,
) -> dict[str, float]:
    """The share of near copies among samples, and among held-out images.

    Args:
        fake: the samples.
        real: the held-out images.
        fetch: indices -> those training images.
        indices: the training images to compare with.
        progress: follows the loop over them.
    """
    count, pixels = len(fake), fake[0].size
    images = np.concatenate([fake.reshape(count, pixels), real.reshape(len(real), pixels)])
    to_training = _distance_to_training(images, fetch, indices, progress)
    to_held_out = _distances_to_held_out(images, images[count:])
    return near_copies(
        distance_ratio(to_training[:count], to_held_out[:count, 0]),
        distance_ratio(to_training[count:], to_held_out[count:, 1]),  # the nearest is the image itself
    )


def _distance_to_training(
    images: Float[np.ndarray, "image pixel"],
    fetch: Callable[[np.ndarray], Pictures],
    indices: np.ndarray,
    progress: Progress,
) -> Float[np.ndarray, " image"]:
    """The squared distance to the nearest training image."""
    pixels = images.shape[1]
    chunk_size = max(1, VALUES // pixels)
    distance = np.full(len(images), np.inf, np.float32)
    starts = range(0, len(indices), chunk_size)
    for start in progress(starts, len(starts)):
        training = fetch(indices[start : start + chunk_size])
        distance = np.minimum(distance, nearest_two(images, training.reshape(len(training), pixels))[:, 0])
    return distance


def _distances_to_held_out(
    images: Float[np.ndarray, "image pixel"], held_out: Float[np.ndarray, "real pixel"]
) -> Float[np.ndarray, "image two"]:
    """The squared distances to the two nearest held-out images."""
    chunk_size = max(1, VALUES // images.shape[1])
    distances = np.full((len(images), 2), np.inf, np.float32)
    for start in range(0, len(held_out), chunk_size):
        chunk_distances = nearest_two(images, held_out[start : start + chunk_size])
        distances = np.sort(np.concatenate([distances, chunk_distances], axis=1), axis=1)[:, :2]
    return distances


def clip_images(images: Pictures) -> Pictures:
    """Expected images as they are looked at, clipped to [0, 1]. Raises UserError where one is not finite."""
    if not np.isfinite(images).all():
        broken = int((~np.isfinite(images.reshape(len(images), -1))).any(axis=1).sum())
        raise UserError(f"images: {broken} of {len(images)} decoded images are not finite")
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def takes_labels(run: TrainedModel) -> bool:
    """Whether the run's codes hold a label, which its draws from the prior may be given."""
    variant, nets = run.model.variant, run.model.nets

    def sample(key):
        return variant.sample_prior(nets, run.params, key, 1, run.latent_dim, np.zeros(1, np.int32))

    try:
        jax.eval_shape(sample, randomness.root_key(0))
    except UserError:
        return False
    return True


def draw_samples(context: EvaluationContext, key: Key, indices: np.ndarray, sampler: str) -> Pictures:
    """As many draws as there are indices of held-out images, whose labels a conditional prior is given."""
    run, test = context.run, context.dataset.test
    if sampler == samplers.PRIOR:
        return run.sample(key, len(indices), np.asarray(test.labels)[indices] if takes_labels(run) else None)
    run.fit_sampler(sampler, context.dataset.train)
    return run.sample(key, len(indices), sampler=sampler)


def compute(
    context: EvaluationContext,
    key: Key,
    *,
    images: int = 10_000,
    training: int = 60_000,
    k: int = 3,
    density_k: int = 5,
    sampler: str = samplers.PRIOR,
) -> dict[str, float]:
    """The Frechet distance of samples to held-out images (Heusel et al. 2017), in squared units of the features.

    Precision, recall, density and coverage, the share of near copies, and the distance of training images, are beside
    it.

    Args:
        context: the run and its data.
        key: draws z.
        images: how many samples, and how many held-out images; 0 takes as many as are held out.
        training: how many training images a copy is looked for in; 0 takes all.
        k: the neighbour that a ball reaches to, for precision and recall.
        density_k: the same for density and coverage.
        sampler: what z is drawn from: "prior", or a density fitted to codes of training images (docs/samplers.md).

    Raises:
        UserError: for too few held-out images, for samples that are not finite, and for a sampler that is unknown or
            not for this run.
    """
    run, train, test = context.run, context.dataset.train, context.dataset.test
    section = run.config["data"]
    indices = data.sample_indices(test, images or test.size)
    if len(indices) <= max(k, density_k):
        raise UserError(
            f"images: {len(indices)} held-out images are too few for a {max(k, density_k)}-th nearest neighbour"
        )
    judge = _feature_classifier.load_or_train(context.dataset, section, progress=context.progress)
    fake = clip_images(draw_samples(context, key, indices, sampler))
    real = _feature_classifier.pictures(test, section["binarize"], indices)
    fetch = partial(_feature_classifier.pictures, train, section["binarize"])
    known = fetch(data.sample_indices(train, len(indices)))
    fake_features, real_features, known_features = (
        judge.features_and_confidence(pictures)[0] for pictures in (fake, real, known)
    )
    details = {
        "frechet_of_data": frechet(known_features, real_features),
        **manifold(real_features, fake_features, k, density_k),
        **count_copies(fake, real, fetch, data.sample_indices(train, training or train.size), context.progress),
        "accuracy": judge.accuracy,
        "images": len(indices),
    }
    score = frechet(fake_features, real_features)
    return {"samples": score, **{f"samples.{name}": value for name, value in details.items()}}


METRIC = Metric(
    compute,
    requires=("classes", "grey"),
    unit="Frechet distance",
    higher_is_better=False,
    agreement=("binarize", "labels"),
    details={"precision": True, "recall": True, "density": True, "coverage": True, "near_copies": False},
    minimum={"images": 0, "training": 0, "k": 1, "density_k": 1},
    choices={"sampler": samplers.names()},
)
