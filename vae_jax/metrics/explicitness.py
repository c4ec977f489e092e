"""Explicitness (Ridgeway & Mozer 2018, section 3): how well does a linear classifier read the factors off the code?

Purpose    disentanglement, where factors are known
Shows      whether a linear classifier can read the factors from the whole code.
Misleads   as a score of disentanglement: mixed codes score as well if they are linear. Chance is 0.5 here, not 0.

    explicitness = mean over factors of the mean over their values of AUC(value against all others)

The area under the ROC curve of the probability that multinomial logistic regression gives each value, from all latents.
Chance is 0.5 and the best 1: this is the area itself; some tables stretch it to 2 AUC - 1. 10,000 images to learn from
and 5,000 to be judged by, latents scaled to unit deviation, scikit-learn's penalty. disentanglement_lib dates from when
LogisticRegression meant one classifier for each value; here all values share one softmax, whose probabilities can
single out middle values of an ordered factor. It rewards any code that keeps the factors in linear reach, mixed or not:
read it beside modularity. NaN for a factor that took one value in the images drawn; values that the test images lack
are not averaged over.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from vae_jax.metrics import EvaluationContext, Metric, itemize
from vae_jax.typing import Key


def areas(
    scores: Float[np.ndarray, "image value"], is_value: Bool[np.ndarray, "image value"]
) -> Float[np.ndarray, " value"]:
    """The area under the ROC curve of each column: how often one of the value outranks one of the others.

    NaN where there are none of either kind.
    """
    from scipy.stats import rankdata

    positives, negatives = is_value.sum(axis=0), (~is_value).sum(axis=0)
    outranked = np.sum(rankdata(scores, axis=0) * is_value, axis=0) - positives * (positives + 1) / 2
    return outranked / np.where(positives * negatives > 0, positives * negatives, np.nan)


def explicitness(
    codes: Float[np.ndarray, "image latent"],
    classes: Int[np.ndarray, " image"],
    test_codes: Float[np.ndarray, "test latent"],
    test_classes: Int[np.ndarray, " test"],
) -> float:
    """The mean area over the values of one factor; NaN where there is nothing to tell."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(classes)) == 1:
        return np.nan
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    classifier = LogisticRegression(max_iter=1000).fit((codes - mean[None]) / scale[None], classes)
    probabilities = classifier.predict_proba((test_codes - mean[None]) / scale[None])
    value_areas = areas(probabilities, test_classes[:, None] == classifier.classes_[None])
    known = value_areas[~np.isnan(value_areas)]
    return float(known.mean()) if len(known) else np.nan


def compute(context: EvaluationContext, key: Key, *, train: int = 10_000, test: int = 5_000) -> dict[str, float]:
    """Explicitness (Ridgeway & Mozer 2018, section 3): the mean area over factors, and each one's; chance is 0.5.

    Args:
        context: the run and its data.
        key: draws the images.
        train: images to learn from.
        test: images to be judged by.
    """
    train_key, test_key = jax.random.split(key)
    codes, classes = context.factor_codes.draw(train_key, train)
    test_codes, test_classes = context.factor_codes.draw(test_key, test)
    factors = zip(classes.T, test_classes.T, strict=True)
    scores = np.asarray([explicitness(codes, column, test_codes, test_column) for column, test_column in factors])
    return itemize("explicitness", scores.mean(), context.factor_codes.names, scores)


METRIC = Metric(
    compute, requires=("factors",), higher_is_better=True, details={"*": True}, minimum={"train": 2, "test": 2}
)
