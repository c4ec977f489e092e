"""Gradient-boosted trees for classification (Friedman 2001), all classes' trees of a round grown at once.

Each round fits to each class k a tree of depth 3 on the residuals r = [y = k] - p_k of the softmax, by the splits that
lower the squared error most, and moves the class's logit by `rate` times the leaf's Newton step

    (K - 1) / K * sum r / sum p (1 - p)

as scikit-learn's GradientBoostingClassifier does, with its logits of the classes' shares to start from. What differs:
features are cut into `bins` of equally many rows, so that the sums over all possible splits are one matrix product
with the rows' bins; and equally good splits are chosen among by lot, tree by tree (there: by shuffled features).
10,000 rows of 6 features and 29 classes took 3 seconds where scikit-learn took 72.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax.typing import Key

DEPTH = 3
JITTER = 1e-4
"""By how much of itself a split's gain is moved at random: more than rounding, less than matters."""
Bins = Int[Array, "row feature"]


class Trees(NamedTuple):
    """What was fitted: (round, class, node), the root first and then level by level; leaves from left to right.

    The classes are those of all labels, one label's after another's.
    """

    feature: Int[Array, "round class node"]
    last_left: Int[Array, "round class node"]
    """The last bin that goes left; the last of all where a node is not split."""
    leaf: Float[Array, "round class leaf"]
    start: Float[Array, "class"]
    importance: Float[Array, "feature label"]
    """By how much the splits on each feature lowered the squared error, over all trees of a label, as a share."""


def cuts(rows: Float[np.ndarray, "row feature"], bins: int) -> Float[np.ndarray, "feature cut"]:
    """The values between `bins` parts of equally many rows; fewer parts where values repeat."""
    return np.quantile(rows, np.arange(1, bins) / bins, axis=0).T


def binned(rows: Float[np.ndarray, "row feature"], edges: Float[np.ndarray, "feature cut"]) -> Bins:
    """Between which cuts each row's feature lies; a value on a cut is below it."""
    columns = [np.searchsorted(cut, column) for cut, column in zip(edges, rows.T, strict=True)]
    return jnp.asarray(np.stack(columns, axis=1), jnp.int32)


def _children(members, columns, feature, last_left):
    """members (class, node, row), 1 where a row is in a node, to those of the nodes' children, left before right."""
    right = members * (columns[feature] > last_left[:, :, None])
    return jnp.stack([members - right, right], axis=2).reshape(len(members), -1, members.shape[-1])


def _split(lot, sums, counts):
    """The split of each node (class, node) that lowers the squared error most: feature, bin, by how much.

    A split of n rows into l and r lowers it by l r / n (mean_l - mean_r)^2 = (S_l r - S_r l)^2 / (l r n).
    """
    bins = sums.shape[-1]
    up_to = jnp.triu(jnp.ones((bins, bins)))  # a product compiles in a fraction of a cumsum's time
    sum_left, left = sums @ up_to, counts @ up_to
    sum_right, right = sum_left[..., -1:] - sum_left, left[..., -1:] - left
    possible = (left > 0) & (right > 0)
    product = jnp.where(possible, left * right * (left + right), 1.0)
    gain = jnp.where(possible, jnp.square(sum_left * right - sum_right * left) / product, 0.0)
    drawn = (gain * (1 + JITTER * lot[..., None])).reshape(*gain.shape[:2], -1)
    best = jnp.argmax(drawn, axis=-1)
    found = jnp.take_along_axis(gain.reshape(drawn.shape), best[..., None], axis=-1)[..., 0]
    return best // bins, jnp.where(found > 0, best % bins, bins - 1), found


def _histograms(hot, members, residual, shape):
    """The sums of residuals, and the numbers of rows, of each node in each bin of each feature."""
    weights = jnp.concatenate([members * residual[:, None, :], members], axis=1)
    product = weights.reshape(-1, weights.shape[-1]) @ hot
    return jnp.split(product.reshape(len(members), -1, *shape), 2, axis=1)


def _level(level):
    return slice(2**level - 1, 2 ** (level + 1) - 1)


@partial(jax.jit, static_argnames=("sizes", "bins", "rounds"))
def fit(
    key: Key,
    rows: Bins,
    labels: Int[Array, "row label"],
    *,
    sizes: tuple[int, ...],
    bins: int,
    rounds: int = 100,
    rate: float = 0.1,
) -> Trees:
    """Trees for each label of rows with features in `bins`: label k is below sizes[k], and takes all these values.

    Labels have nothing to do with each other; they are fitted at once, in one program.
    """
    count, features = rows.shape
    columns, of = rows.T, np.repeat(np.arange(len(sizes)), sizes)
    others = jnp.asarray(1 - 1 / np.repeat(sizes, sizes), jnp.float32)[:, None]
    hot = jax.nn.one_hot(rows, bins).reshape(count, features * bins)
    target = jnp.concatenate([jax.nn.one_hot(labels[:, k], size).T for k, size in enumerate(sizes)])
    start = jnp.log(jnp.mean(target, axis=1))
    everyone = jnp.broadcast_to(jnp.sum(hot, axis=0).reshape(features, bins), (len(of), 1, features, bins))

    def softmax(logits):
        odds = jnp.exp(logits - jax.ops.segment_max(logits, of, len(sizes))[of])
        return odds / jax.ops.segment_sum(odds, of, len(sizes))[of]

    def grow(logits, number):
        lot = jax.random.uniform(jax.random.fold_in(key, number), (len(of), 2**DEPTH - 1, features))
        share = softmax(logits)
        residual = target - share
        members = jnp.ones((len(of), 1, count))
        sums, counts = (residual @ hot).reshape(everyone.shape), everyone
        splits = []
        for level in range(DEPTH):
            splits.append(_split(lot[:, _level(level)], sums, counts))
            members = _children(members, columns, *splits[-1][:2])
            if level < DEPTH - 1:
                # The right child has what its parent has and the left one has not.
                left = _histograms(hot, members[:, ::2], residual, (features, bins))
                both = [jnp.stack([a, b - a], axis=2) for a, b in zip(left, (sums, counts), strict=True)]
                sums, counts = (part.reshape(len(of), -1, features, bins) for part in both)
        step = jnp.einsum("knr,kr->kn", members, residual) * others
        curvature = jnp.einsum("knr,kr->kn", members, share * (1 - share))
        leaf = rate * jnp.where(curvature > 0, step / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        feature, last_left, gain = (jnp.concatenate(part, axis=1) for part in zip(*splits, strict=True))
        lowered = jnp.sum(jax.nn.one_hot(feature, features) * gain[:, :, None], axis=1)
        return logits + jnp.einsum("kn,knr->kr", leaf, members), (feature, last_left, leaf, lowered)

    logits = jnp.broadcast_to(start[:, None], target.shape)
    _, (feature, last_left, leaf, lowered) = jax.lax.scan(grow, logits, jnp.arange(rounds))
    importance = jax.ops.segment_sum(jnp.sum(lowered, axis=0), of, len(sizes)).T
    total = jnp.sum(importance, axis=0)[None]
    return Trees(feature, last_left, leaf, start, importance / jnp.where(total > 0, total, 1.0))


@partial(jax.jit, static_argnames=("sizes",))
def predict(trees: Trees, rows: Bins, *, sizes: tuple[int, ...]) -> Int[Array, "row label"]:
    """The class of each label with the largest logit."""
    columns = rows.T

    def add(logits, tree):
        feature, last_left, leaf = tree
        members = jnp.ones((len(logits), 1, len(rows)))
        for level in range(DEPTH):
            members = _children(members, columns, feature[:, _level(level)], last_left[:, _level(level)])
        return logits + jnp.einsum("kn,knr->kr", leaf, members), None

    logits = jnp.broadcast_to(trees.start[:, None], (len(trees.start), len(rows)))
    logits, _ = jax.lax.scan(add, logits, (trees.feature, trees.last_left, trees.leaf))
    each = jnp.split(logits, np.cumsum(sizes)[:-1])
    return jnp.stack([jnp.argmax(part, axis=0) for part in each], axis=1)
