"""Disentanglement, completeness and informativeness, DCI (Eastwood & Williams 2018, section 2).

Purpose    disentanglement, where factors are known
Shows      three things apart: does a latent serve one factor (D), does a factor need one latent (C), can the factors be
           read at all (I).
Misleads   between libraries: other classifiers give other numbers. `trees` says which.

R_jk >= 0 says how much latent j matters to a classifier of factor k that gets all latents, here gradient-boosted trees:

    disentanglement  D = sum_j rho_j (1 - H_K(R_j. / sum_k R_jk)),      rho_j latent j's share of all R
    completeness     C = sum_k rho_k (1 - H_J(R_.k / sum_j R_jk)),      rho_k factor k's share
    informativeness  I = mean over factors of the classifier's accuracy on other images

with entropies in base K (factors) and J (latents). All in [0, 1]: D is 1 where each latent matters to one factor alone,
C where each factor needs one latent alone, I where every factor is predicted. As Locatello et al. 2019 measure it:
10,000 images to learn from, 5,000 to be judged by, posterior means, 100 rounds of trees of depth 3. "dci" is D, as in
tables that give one number. The paper's I is an error, and its R is from a lasso or a random forest: other numbers.
Trees find whatever is there, linear or not, and give other latents small importances, never quite zero: on sprites the
factors themselves score D = C = 1.000, and noise 0.002. Duplicates share importance by chance.

`trees` chooses the implementation. "sklearn" is scikit-learn's GradientBoostingClassifier, which published scores used.
"own" is the same trees on latents cut into 256 bins of equally many images, all factors at once, in a fraction of the
time (vae_jax/metrics/_boosted_trees.py). "lightgbm" is LightGBM's LGBMClassifier (the extra `lightgbm`) by the gain of
its splits: its trees are deeper, and its scores other numbers. Importances by counts of its splits, which are its own
default and what the library disent takes, give other numbers again. For one draw of images:

    vae-jax train --config=sprites --config.variant.beta=4 --config.train.steps=3000 --workdir=runs/sprites
    vae-jax evaluate --workdir=runs/sprites --metrics=dci,dci:bins=64,dci:trees=sklearn,dci:trees=lightgbm

                    that run                   factors mixed into ten latents
                    D       C       I          D       C       I
    sklearn         0.055   0.115   0.361      0.434   0.366   0.947
    own             0.053   0.117   0.369      0.432   0.364   0.947
    own, 64 bins    0.057   0.119   0.374      0.432   0.363   0.948
    lightgbm        0.032   0.059   0.419      0.365   0.312   0.975

To the right: standardised factors of 3, 6, 4, 4 and 4 values, times a matrix of N(0, 1), plus noise of deviation 0.3.
Fewer bins memorise less, and predict factors of many values better: x by 0.025 with 64 bins, by 0.013 with 256. On
grids of fewer images than are drawn, where the test images are among those to learn from, exact cuts score higher. D is
NaN where one factor alone varies and C for a single latent: there is nothing to be distinct from. A factor that took
one value in the images drawn has no classifier: I and its importances are NaN, and so are D and C.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax import registry
from vae_jax.metrics import EvaluationContext, Metric, _boosted_trees, _information
from vae_jax.metrics._reference_trees import CLASSIFIERS
from vae_jax.typing import Key

Importances = Float[np.ndarray, "latent factor"]


def importances(
    key: Key,
    codes: Float[np.ndarray, "image latent"],
    classes: Int[np.ndarray, "image factor"],
    test_codes: Float[np.ndarray, "test latent"],
    test_classes: Int[np.ndarray, "test factor"],
    bins: int,
    rounds: int,
    trees: str = "own",
) -> tuple[Importances, Float[np.ndarray, " factor"]]:
    """R, each factor's column summing to 1, and the accuracy on the test images; NaN for a factor of one value.

    Args:
        key: chooses among splits that are equally good.
        codes: the latents of the images to learn from.
        classes: the value of each factor in them.
        test_codes: the latents of the images to be judged by.
        test_classes: the value of each factor in those.
        bins: parts into which our own trees cut each latent.
        rounds: trees for each value of a factor.
        trees: "own", "sklearn" or "lightgbm".
    """
    matrix, accuracy = (np.full((codes.shape[1], classes.shape[1]), np.nan), np.full(classes.shape[1], np.nan))
    varying = np.flatnonzero(np.ptp(classes, axis=0) > 0)
    if not len(varying):
        return matrix, accuracy
    grow = registry.choose("trees", trees, TREES)
    matrix[:, varying], predicted = grow(key, codes, classes[:, varying], test_codes, bins, rounds)
    accuracy[varying] = np.mean(predicted == test_classes[:, varying], axis=0)
    return matrix, accuracy


def _own_trees(key, codes, classes, test_codes, bins, rounds):
    edges = _boosted_trees.bin_edges(codes, bins)
    rows, test_rows = (_boosted_trees.assign_bins(codes, edges), _boosted_trees.assign_bins(test_codes, edges))
    # Only values that occur have a tree: others are never predicted.
    values, labels = zip(*(np.unique(column, return_inverse=True) for column in classes.T), strict=True)
    sizes = tuple(map(len, values))
    labels = jnp.asarray(np.stack(labels, axis=1), jnp.int32)
    trees = _boosted_trees.fit(key, rows, labels, sizes=sizes, bins=bins, rounds=rounds)
    predicted = np.asarray(_boosted_trees.predict(trees, test_rows, sizes=sizes))
    return trees.importance, np.stack([values[k][column] for k, column in enumerate(predicted.T)], axis=1)


def _reference_trees(classifier, key, codes, classes, test_codes, bins, rounds):
    seeds = np.asarray(jax.random.randint(key, (classes.shape[1],), 0, 2**31 - 1, jnp.int32))
    pairs = zip(seeds, classes.T, strict=True)
    fits = [classifier(int(seed), codes, labels, test_codes, rounds) for seed, labels in pairs]
    return tuple(np.stack(part, axis=1) for part in zip(*fits, strict=True))


TREES = {"own": _own_trees, **{name: partial(_reference_trees, fit) for name, fit in CLASSIFIERS.items()}}
"""(key, codes, classes, test codes, bins, rounds) -> R and the values that the test codes are told to have."""


def specificity(matrix: Float[np.ndarray, "a b"]) -> float:
    """How far each row is from being spread evenly, 1 - H / log b, averaged by the rows' sums; NaN if b = 1."""
    weight = matrix.sum(axis=1)
    if matrix.shape[1] == 1 or not weight.sum() > 0:
        return np.nan
    weighted = weight > 0
    row_specificity = 1 - _information.entropy(matrix[weighted]) / np.log(matrix.shape[1])
    return float(np.average(row_specificity, weights=weight[weighted]))


def disentanglement(matrix: Importances) -> float:
    """D of the importances R (Eastwood & Williams 2018, section 2)."""
    return specificity(matrix)


def completeness(matrix: Importances) -> float:
    """C of the importances R (Eastwood & Williams 2018, section 2)."""
    return specificity(matrix.T)


def compute(
    context: EvaluationContext,
    key: Key,
    *,
    train: int = 10_000,
    test: int = 5_000,
    bins: int = 256,
    rounds: int = 100,
    trees: str = "own",
) -> dict[str, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 2), each in [0, 1].

    D is the score; the accuracy of each factor's classifier is beside I, their mean.

    Args:
        context: the run and its data.
        key: draws the images, and chooses among splits that are equally good.
        train: images to learn from.
        test: images to be judged by.
        bins: parts of equally many images into which our own trees cut each latent.
        rounds: trees for each value of a factor.
        trees: "own", "sklearn" or "lightgbm".

    Raises:
        UserError: where LightGBM is asked for and not installed.
    """
    train_key, test_key, tree_key = jax.random.split(key, 3)
    factor_codes = context.factor_codes
    drawn = *factor_codes.draw(train_key, train), *factor_codes.draw(test_key, test)
    matrix, accuracy = importances(tree_key, *drawn, bins, rounds, trees)
    return {
        "dci": disentanglement(matrix),
        "dci.completeness": completeness(matrix),
        "dci.informativeness": float(accuracy.mean()),
        **{f"dci.informativeness.{n}": float(a) for n, a in zip(factor_codes.names, accuracy, strict=True)},
    }


METRIC = Metric(
    compute,
    requires=("factors",),
    higher_is_better=True,
    details={"completeness": True, "informativeness": True, "informativeness.*": True},
    minimum={"train": 2, "bins": 2, "test": 1, "rounds": 1},
    choices={"trees": tuple(TREES)},
)
