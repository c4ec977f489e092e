"""Explicitness (Ridgeway & Mozer 2018, section 3): how well does a linear classifier read the factors off the code?

    explicitness = mean over factors of the mean over their values of AUC(value against all others)

The area under the ROC curve of the probability that multinomial logistic regression gives each value, told all
latents. Chance is 0.5 and the best 1: this is the area itself; some tables stretch it to 2 AUC - 1. 10,000 images to
learn from and 5,000 to be judged by, latents scaled to unit deviation, scikit-learn's penalty. disentanglement_lib
dates from when LogisticRegression meant one classifier for each value; here all values share one softmax, whose
probabilities can single out middle values of an ordered factor.
It rewards any code that keeps the factors in linear reach, mixed or not: read it beside modularity.
NaN for a factor that took one value in the images drawn; values that the test images lack are not averaged over.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from vae_jax.metrics import Subject, named
from vae_jax.typing import Key

NEEDS = ("factors",)
LEAST = {"train": 2, "test": 2}


def areas(scores: Float[np.ndarray, "image value"], is_value: Bool[np.ndarray, "image value"]) -> np.ndarray:
    """The area under the ROC curve of each column: how often one of the value outranks one of the others.

    NaN where there are none of either kind.
    """
    from scipy.stats import rankdata

    of, others = is_value.sum(axis=0), (~is_value).sum(axis=0)
    above = np.sum(rankdata(scores, axis=0) * is_value, axis=0) - of * (of + 1) / 2
    return above / np.where(of * others > 0, of * others, np.nan)


def explicitness(
    codes: Float[np.ndarray, "image latent"],
    classes: Int[np.ndarray, " image"],
    test_codes: Float[np.ndarray, "test latent"],
    test_classes: Int[np.ndarray, " test"],
) -> float:
    """The mean area over the values of one factor."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(classes)) == 1:
        return np.nan
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    scaled = [(part - mean[None]) / np.where(deviation > 0, deviation, 1.0)[None] for part in (codes, test_codes)]
    classifier = LogisticRegression(max_iter=1000).fit(scaled[0], classes)
    each = areas(classifier.predict_proba(scaled[1]), test_classes[:, None] == classifier.classes_[None])
    known = each[~np.isnan(each)]
    return float(known.mean()) if len(known) else np.nan


def compute(subject: Subject, key: Key, *, train: int = 10_000, test: int = 5_000) -> dict[str, float]:
    """The mean over factors, and each one's."""
    (codes, classes), (test_codes, test_classes) = map(subject.coded.draw, jax.random.split(key), (train, test))
    factors = zip(classes.T, test_classes.T, strict=True)
    each = np.asarray([explicitness(codes, values, test_codes, judged) for values, judged in factors])
    return named("explicitness", each.mean(), subject.coded.names, each)
