"""How smoothly pictures change along straight lines between the codes of two held-out images.

Purpose    quality of samples
Shows      whether pictures change evenly along a line between two codes, and whether the middle of the line is
           plausible.
Misleads   when a decoder ignores its code, or is very soft: then all lines are smooth. Read evenness beside `plausible`
           and the active units.

    evenness = mean over pairs of  1/T sum_t s_t / max_t s_t,    s_t = |f(x_t+1) - f(x_t)|,    x_t at z + t/T (z' - z)
    path     = sum over pairs of sum_t s_t  /  sum over pairs of |f(x_T) - f(x_0)|

f are the features of a classifier of the data's own labels (vae_jax/metrics/_feature_classifier.py), x expected images
clipped to [0, 1], T = 10 steps, 1,000 pairs. Evenness is in [1/T, 1]: 1 where all steps have one length, 1/T where all
change is in one step. A path is at least 1, its length in chords. `plausible` is the share of midpoints of which the
classifier is surer than of the least sure 5% of held-out images, so that the data score 0.95. `plausible_ends` is that
share for the reconstructions at the ends of the line; without it a soft decoder looks like a bad line. `pixel`,
`pixel_path` and `pixel_plausible` are the same numbers for pairs mixed in pixels: two images that fade into each other.

A straight line is not where the model puts its mass: N(0, I) in many dimensions has little mass in the middle. Even
steps alone are no virtue, as fading has them too; read evenness with the midpoints. A classifier is sure of much that
does not look like a picture. If codes hold a label (conditional), both ends of a line have the same class, because no
decoder was trained on a mixture of labels; such lines are easier. Pairs that decode to the same features all along have
no steps and are left out.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, Int

from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric, _feature_classifier
from vae_jax.metrics._feature_classifier import Classifier, Pictures
from vae_jax.metrics.samples import VALUES, clip_images, takes_labels
from vae_jax.typing import Key

LEAST_SURE = 0.05

Lines = Float[np.ndarray, "pair point feature"]
Confidences = Float[np.ndarray, "pair point"]


def evenness(features: Lines) -> float:
    """The mean over pairs of mean step / largest step; NaN where no pair has a step."""
    steps = np.linalg.norm(np.diff(features.astype(np.float64), axis=1), axis=-1)
    moving = steps.max(axis=1) > 0
    return float(np.mean(steps[moving].mean(axis=1) / steps[moving].max(axis=1))) if moving.any() else np.nan


def path(features: Lines) -> float:
    """The length of all lines over that of their chords; NaN where no line moves."""
    features = features.astype(np.float64)
    length = np.linalg.norm(np.diff(features, axis=1), axis=-1).sum()
    chord = np.linalg.norm(features[:, -1] - features[:, 0], axis=-1).sum()
    return float(length / chord) if chord > 0 else np.nan


def draw_pairs(key: Key, groups: Int[np.ndarray, " image"], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the first and of the second image of `count` pairs, two different images of one group each.

    Raises UserError where no group has two.
    """
    order = np.argsort(groups, kind="stable")
    _, start, inverse, size = np.unique(groups[order], return_index=True, return_inverse=True, return_counts=True)
    start, size = start[inverse], size[inverse]
    paired = np.flatnonzero(size > 1)
    if not len(paired):
        raise UserError("images: no two held-out images can be joined by a line; hold out more")
    first_key, shift_key = jax.random.split(key)
    first = paired[np.asarray(jax.random.randint(first_key, (count,), 0, len(paired), np.int32))]
    shift = np.asarray(jax.random.randint(shift_key, (count,), 1, size[first], np.int32))
    return order[first], order[start[first] + (first - start[first] + shift) % size[first]]


def interpolate(a: np.ndarray, b: np.ndarray, points: int) -> np.ndarray:
    """(pair, ...) and (pair, ...) to (pair, point, ...): straight lines, both ends included."""
    weight = np.linspace(0, 1, points, dtype=np.float32).reshape(1, points, *[1] * (a.ndim - 1))
    return (1 - weight) * a[:, None] + weight * b[:, None]


def trace_lines(
    context: EvaluationContext,
    judge: Classifier,
    starts: np.ndarray,
    ends: np.ndarray,
    decode: Callable[[np.ndarray], Pictures],
    points: int,
) -> tuple[Lines, Confidences]:
    """Features and confidences along the lines from `starts` to `ends`, of the images that `decode` makes of them."""
    chunk_size = max(1, VALUES // (points * math.prod(context.run.image_shape)))
    chunks = range(0, len(starts), chunk_size)
    parts = []
    for start in context.progress(chunks, len(chunks)):
        line = interpolate(starts[start : start + chunk_size], ends[start : start + chunk_size], points)
        images = clip_images(decode(line.reshape(-1, *line.shape[2:])))
        features, confidence = judge.features_and_confidence(images)
        parts.append((features.reshape(*line.shape[:2], -1), confidence.reshape(line.shape[:2])))
    features, confidence = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, confidence


def compute(context: EvaluationContext, key: Key, *, pairs: int = 1000, points: int = 11) -> dict[str, float]:
    """The evenness of the steps along lines between codes, in [1/T, 1].

    The lines' length in chords, the share of plausible midpoints, and the same of fading in pixels, are beside it.

    Args:
        context: the run and its data.
        key: draws the pairs.
        pairs: how many lines.
        points: pictures on a line, T + 1; odd, so that one is in the middle.

    Raises:
        UserError: for an even number of points, where no two images can be joined, and where nothing changes.
    """
    if points % 2 == 0:
        raise UserError(f"points = {points} is not allowed; give an odd number, with a midpoint")
    run, test, section = context.run, context.dataset.test, context.run.config["data"]
    indices = data.sample_indices(test, _feature_classifier.MOST)
    labels = np.asarray(test.labels)[indices] if takes_labels(run) else None
    first, second = draw_pairs(key, np.zeros(len(indices), int) if labels is None else labels, pairs)
    judge = _feature_classifier.load_or_train(context.dataset, section, progress=context.progress)
    real = _feature_classifier.pictures(test, section["binarize"], indices)
    codes = run.encode(real, labels)
    features, confidence = trace_lines(context, judge, codes[first], codes[second], run.decode, points)
    mixed, faded = trace_lines(context, judge, real[first], real[second], lambda images: images, points)
    if not np.ptp(features, axis=1).any():
        raise UserError("all codes decode to the same picture, so there are no steps")
    bar = np.quantile(judge.features_and_confidence(real)[1], LEAST_SURE, method="inverted_cdf")
    middle = points // 2
    return {
        "smoothness": evenness(features),
        "smoothness.path": path(features),
        "smoothness.plausible": float(np.mean(confidence[:, middle] >= bar)),
        "smoothness.plausible_ends": float(np.mean(confidence[:, [0, -1]] >= bar)),
        "smoothness.pixel": evenness(mixed),
        "smoothness.pixel_path": path(mixed),
        "smoothness.pixel_plausible": float(np.mean(faded[:, middle] >= bar)),
        "smoothness.accuracy": judge.accuracy,
    }


METRIC = Metric(compute, requires=("classes", "grey"), minimum={"pairs": 1, "points": 3})
