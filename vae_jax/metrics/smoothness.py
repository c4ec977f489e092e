"""How smoothly pictures change along straight lines between the codes of two held-out images.

    evenness = mean over pairs of  1/T sum_t s_t / max_t s_t,    s_t = |f(x_t+1) - f(x_t)|,    x_t at z + t/T (z' - z)
    path     = sum over pairs of sum_t s_t  /  sum over pairs of |f(x_T) - f(x_0)|

f are the features of a classifier of the data's own labels (vae_jax/classifier.py), x expected images clipped to
[0, 1], T = 10 steps, 1,000 pairs. Evenness is in [1/T, 1]: 1 where all steps are of one length, 1/T where all happens
in one. A path is at least 1, its length in chords. `plausible` is the share of midpoints that the classifier is as sure
of as of all but the least sure 5% of held-out images, so that the data score 0.95; `plausible_ends` is that of the
reconstructions at the ends of the line, without which a soft decoder looks like a bad line. `pixel`, `pixel_path` and
`pixel_plausible` are those of the same pairs mixed in pixels: two images that fade into each other.

A line is not what the model says lies between: N(0, I) in many dimensions has little mass in the middle. Even steps
alone are no virtue, as fading has them too; read evenness with the midpoints. A classifier is sure of much
that is no picture. Where codes hold a label (conditional) pairs are of one class: no decoder was given a mixture of
labels, and the numbers are of easier lines. Pairs that decode to the same features all along have no steps and are
left out.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, Int

from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.metrics import Subject, _feature_classifier
from vae_jax.metrics._feature_classifier import Classifier
from vae_jax.metrics.samples import VALUES, shown, takes_labels
from vae_jax.typing import Key

NEEDS = ("classes",)
LEAST = {"pairs": 1, "points": 3}
LEAST_SURE = 0.05

Lines = Float[np.ndarray, "pair point feature"]


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


def ends(key: Key, groups: Int[np.ndarray, "image"], count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs of places, each of two different images of one group. Raises UserError where no group has two."""
    order = np.argsort(groups, kind="stable")
    _, start, inverse, size = np.unique(groups[order], return_index=True, return_inverse=True, return_counts=True)
    start, size = start[inverse], size[inverse]
    able = np.flatnonzero(size > 1)
    if not len(able):
        raise UserError("--metrics=smoothness: no two held-out images can be joined by a line; hold out more")
    which, other = jax.random.split(key)
    one = able[np.asarray(jax.random.randint(which, (count,), 0, len(able)))]
    shift = np.asarray(jax.random.randint(other, (count,), 1, size[one]))
    return order[one], order[start[one] + (one - start[one] + shift) % size[one]]


def between(a: np.ndarray, b: np.ndarray, points: int) -> np.ndarray:
    """(pair, ...) and (pair, ...) to (pair, point, ...): straight lines, both ends included."""
    weight = np.linspace(0, 1, points, dtype=np.float32).reshape(1, points, *[1] * (a.ndim - 1))
    return (1 - weight) * a[:, None] + weight * b[:, None]


def lines(subject: Subject, judge: Classifier, one: np.ndarray, other: np.ndarray, decode: Callable, points: int):
    """Features and confidences along the lines from `one` to `other`, of what `decode` makes of them."""
    at_once = max(1, VALUES // (points * math.prod(subject.run.image_shape)))
    starts = range(0, len(one), at_once)
    parts = []
    for start in subject.watched(starts, len(starts)):
        line = between(one[start : start + at_once], other[start : start + at_once], points)
        features, confidence = judge.see(shown(decode(line.reshape(-1, *line.shape[2:]))))
        parts.append((features.reshape(*line.shape[:2], -1), confidence.reshape(line.shape[:2])))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def compute(subject: Subject, key: Key, *, pairs: int = 1000, points: int = 11) -> dict[str, float]:
    """Evenness, path and plausible midpoints of `pairs` lines of `points` pictures, and of the same faded in pixels."""
    if points % 2 == 0:
        raise UserError(f"--metrics=smoothness: points = {points} is not allowed; give an odd number, with a midpoint")
    run, test, section = subject.run, subject.dataset.test, subject.run.config["data"]
    places = data.some(test, _feature_classifier.MOST)
    labels = np.asarray(test.labels)[places] if takes_labels(run) else None
    one, other = ends(key, np.zeros(len(places), int) if labels is None else labels, pairs)
    judge = _feature_classifier.trained(subject.dataset, section, watched=subject.watched)
    real = _feature_classifier.pictures(test, section["binarize"], places)
    codes = run.encode(real, labels)
    features, confidence = lines(subject, judge, codes[one], codes[other], run.decode, points)
    mixed, faded = lines(subject, judge, real[one], real[other], lambda images: images, points)
    if not np.ptp(features, axis=1).any():
        raise UserError("--metrics=smoothness: all codes decode to the same picture, so there are no steps")
    sure, middle = np.quantile(judge.see(real)[1], LEAST_SURE, method="inverted_cdf"), points // 2
    return {
        "smoothness": evenness(features),
        "smoothness.path": path(features),
        "smoothness.plausible": float(np.mean(confidence[:, middle] >= sure)),
        "smoothness.plausible_ends": float(np.mean(confidence[:, [0, -1]] >= sure)),
        "smoothness.pixel": evenness(mixed),
        "smoothness.pixel_path": path(mixed),
        "smoothness.pixel_plausible": float(np.mean(faded[:, middle] >= sure)),
        "smoothness.accuracy": judge.accuracy,
    }
