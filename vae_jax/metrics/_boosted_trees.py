"""Gradient-boosted trees for classification (Friedman 2001), all classes' trees of a round grown at once.

Each round fits to each class k a tree of depth 3 on the residuals r = [y = k] - p_k of the softmax, by the splits that
lower the squared error most, and moves the class's logit by `rate` times the leaf's Newton step

    (K - 1) / K * sum r / sum p (1 - p)

as scikit-learn's GradientBoostingClassifier does, with its logits of the classes' shares to start from. What differs:
features are cut into `bins` of equally many rows, so that the sums over all possible splits are one matrix product
with the rows' bins; and equally good splits are chosen among by lot, tree by tree (there: by shuffled features).
10,000 rows of 6 features and 29 classes took 3 seconds with 64 bins where scikit-learn took 72.
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
Histograms = Float[Array, "class node feature bin"]


class Trees(NamedTuple):
    """Fitted trees: (round, class, node), the root first and then level by level; leaves from left to right.

    The classes are those of all labels, one label's after another's.

    Attributes:
        feature: the feature that a node splits on.
        last_left: the last bin that goes left; the last of all where a node is not split.
        leaf: what each leaf adds to its class's logit.
        start: the logits before the first round.
        importance: by how much the splits on each feature lowered the squared error, over all trees of a label, as a
            share.
    """

    feature: Int[Array, "round class node"]
    last_left: Int[Array, "round class node"]
    leaf: Float[Array, "round class leaf"]
    start: Float[Array, " class"]
    importance: Float[Array, "feature label"]


def bin_edges(rows: Float[np.ndarray, "row feature"], bins: int) -> Float[np.ndarray, "feature cut"]:
    """The values between `bins` parts of equally many rows; fewer parts where values repeat."""
    return np.quantile(rows, np.arange(1, bins) / bins, axis=0).T


def assign_bins(rows: Float[np.ndarray, "row feature"], edges: Float[np.ndarray, "feature cut"]) -> Bins:
    """Between which cuts each row's feature lies; a value on a cut is below it."""
    columns = [np.searchsorted(cut, column) for cut, column in zip(edges, rows.T, strict=True)]
    return jnp.asarray(np.stack(columns, axis=1), jnp.int32)


def _children(members, columns, feature, last_left):
    """members (class, node, row), 1 where a row is in a node, to those of the nodes' children, left before right."""
    right = members * (columns[feature] > last_left[:, :, None])
    return jnp.stack([members - right, right], axis=2).reshape(len(members), -1, members.shape[-1])


def _best_splits(jitter, sums, counts):
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
    jittered = (gain * (1 + JITTER * jitter[..., None])).reshape(*gain.shape[:2], -1)
    best = jnp.argmax(jittered, axis=-1)
    best_gain = jnp.take_along_axis(gain.reshape(jittered.shape), best[..., None], axis=-1)[..., 0]
    return best // bins, jnp.where(best_gain > 0, best % bins, bins - 1), best_gain


def _histograms(one_hot, members, residual, shape):
    """The sums of residuals, and the numbers of rows, of each node in each bin of each feature."""
    weights = jnp.concatenate([members * residual[:, None, :], members], axis=1)
    product = weights.reshape(-1, weights.shape[-1]) @ one_hot
    return jnp.split(product.reshape(len(members), -1, *shape), 2, axis=1)


def _child_histograms(one_hot, members, residual, sums, counts):
    """The histograms of the nodes' children: the right one has what its parent has and the left one has not."""
    left = _histograms(one_hot, members[:, ::2], residual, sums.shape[2:])
    pairs = [jnp.stack([child, parent - child], axis=2) for child, parent in zip(left, (sums, counts), strict=True)]
    return (pair.reshape(len(members), -1, *sums.shape[2:]) for pair in pairs)


def _level(level):
    return slice(2**level - 1, 2 ** (level + 1) - 1)


def _grow_trees(jitter, one_hot, columns, residual, counts):
    """A tree for each class on its residuals: the rows of each leaf, and (feature, bin, gain) of each node."""
    members = jnp.ones((len(residual), 1, residual.shape[1]))
    sums = (residual @ one_hot).reshape(counts.shape)
    splits = []
    for level in range(DEPTH):
        splits.append(_best_splits(jitter[:, _level(level)], sums, counts))
        members = _children(members, columns, *splits[-1][:2])
        if level < DEPTH - 1:
            sums, counts = _child_histograms(one_hot, members, residual, sums, counts)
    return members, [jnp.concatenate(part, axis=1) for part in zip(*splits, strict=True)]


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
    """Trees for each label (Friedman 2001, algorithm 6). Labels have nothing to do with each other.

    Args:
        key: chooses among splits that are equally good.
        rows: the bin of each feature.
        labels: label k of a row is below sizes[k], and takes all these values.
        sizes: how many values each label takes.
        bins: how many bins there are.
        rounds: trees for each value of a label.
        rate: what a leaf adds is this share of its Newton step.
    """
    count, features = rows.shape
    columns, label_of_class = rows.T, np.repeat(np.arange(len(sizes)), sizes)
    other_share = jnp.asarray(1 - 1 / np.repeat(sizes, sizes), jnp.float32)[:, None]
    one_hot = jax.nn.one_hot(rows, bins).reshape(count, features * bins)
    target = jnp.concatenate([jax.nn.one_hot(labels[:, k], size).T for k, size in enumerate(sizes)])
    start = jnp.log(jnp.mean(target, axis=1))
    root_counts = jnp.sum(one_hot, axis=0).reshape(features, bins)
    counts = jnp.broadcast_to(root_counts, (len(label_of_class), 1, features, bins))

    def softmax(logits):
        odds = jnp.exp(logits - jax.ops.segment_max(logits, label_of_class, len(sizes))[label_of_class])
        return odds / jax.ops.segment_sum(odds, label_of_class, len(sizes))[label_of_class]

    def boost(logits, number):
        tree_key = jax.random.fold_in(key, number)
        jitter = jax.random.uniform(tree_key, (len(label_of_class), 2**DEPTH - 1, features), jnp.float32)
        probability = softmax(logits)
        residual = target - probability
        members, (feature, last_left, gain) = _grow_trees(jitter, one_hot, columns, residual, counts)
        step = jnp.einsum("knr,kr->kn", members, residual) * other_share
        curvature = jnp.einsum("knr,kr->kn", members, probability * (1 - probability))
        leaf = rate * jnp.where(curvature > 0, step / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        gain_of_feature = jnp.sum(jax.nn.one_hot(feature, features) * gain[:, :, None], axis=1)
        return logits + jnp.einsum("kn,knr->kr", leaf, members), (feature, last_left, leaf, gain_of_feature)

    logits = jnp.broadcast_to(start[:, None], target.shape)
    _, (feature, last_left, leaf, gain) = jax.lax.scan(boost, logits, jnp.arange(rounds))
    importance = jax.ops.segment_sum(jnp.sum(gain, axis=0), label_of_class, len(sizes)).T
    total = jnp.sum(importance, axis=0)[None]
    return Trees(feature, last_left, leaf, start, importance / jnp.where(total > 0, total, 1.0))


@partial(jax.jit, static_argnames=("sizes",))
def predict(trees: Trees, rows: Bins, *, sizes: tuple[int, ...]) -> Int[Array, "row label"]:
    """The class of each label with the largest logit."""
    columns = rows.T

    def add_trees(logits, trees):
        feature, last_left, leaf = trees
        members = jnp.ones((len(logits), 1, len(rows)))
        for level in range(DEPTH):
            members = _children(members, columns, feature[:, _level(level)], last_left[:, _level(level)])
        return logits + jnp.einsum("kn,knr->kr", leaf, members), None

    logits = jnp.broadcast_to(trees.start[:, None], (len(trees.start), len(rows)))
    logits, _ = jax.lax.scan(add_trees, logits, (trees.feature, trees.last_left, trees.leaf))
    label_logits = jnp.split(logits, np.cumsum(sizes)[:-1])
    return jnp.stack([jnp.argmax(part, axis=0) for part in label_logits], axis=1)
