"""Gradient-boosted trees of other libraries, one factor at a time: those that published DCI scores were made with."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from vae_jax.errors import UserError
from vae_jax.metrics import ArrayCodes

Fit = tuple[Float[np.ndarray, " latent"], Int[np.ndarray, " test"]]
"""How much each latent matters, in sum 1 unless none does, and the values that the test codes are told to have."""
Classifier = Callable[[int, ArrayCodes, Int[np.ndarray, " image"], ArrayCodes, int], Fit]
"""(seed, codes, values of a factor, test codes, rounds) -> the fit."""


def sklearn_trees(
    seed: int, codes: ArrayCodes, labels: Int[np.ndarray, " image"], test_codes: ArrayCodes, rounds: int
) -> Fit:
    """scikit-learn's GradientBoostingClassifier with its defaults: depth 3, rate 0.1, all cuts between codes."""
    from sklearn.ensemble import GradientBoostingClassifier

    trees = GradientBoostingClassifier(n_estimators=rounds, random_state=seed).fit(codes, labels)
    return trees.feature_importances_, trees.predict(test_codes)


def lightgbm_trees(
    seed: int, codes: ArrayCodes, labels: Int[np.ndarray, " image"], test_codes: ArrayCodes, rounds: int
) -> Fit:
    """LightGBM's LGBMClassifier with its defaults: at most 31 leaves of 20 images or more, rate 0.1, 255 bins.

    A latent matters by the gain of the splits on it; LightGBM's own default counts them.

    Raises UserError where LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise UserError("trees: 'lightgbm' needs the extra 'lightgbm': pip install -e .[lightgbm]") from None
    trees = lightgbm.LGBMClassifier(
        n_estimators=rounds, importance_type="gain", random_state=seed, deterministic=True, verbose=-1
    )
    trees.fit(codes, labels)
    gain = np.asarray(trees.feature_importances_, np.float64)
    return gain / max(gain.sum(), np.finfo(np.float64).tiny), np.asarray(trees.predict(test_codes))


CLASSIFIERS: dict[str, Classifier] = {"sklearn": sklearn_trees, "lightgbm": lightgbm_trees}
