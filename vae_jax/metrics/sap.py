"""The separated attribute predictability score, SAP (Kumar et al. 2018, section 3).

Purpose    disentanglement, where factors are known
Shows      the gap between the two best latents when a line must read the factor from one latent.
Misleads   between data sets: even perfect codes are far from 1, and how far depends on the factors' number of values.

    SAP = mean over factors of (accuracy of the best single latent - accuracy of the second best)

The accuracy is that of a linear support vector machine that gets one latent alone. As Locatello et al. 2019 measure it:
10,000 images to learn from, 5,000 to be judged by, posterior means, C = 0.01, classes balanced, all factors taken as
classes (the paper regresses on ordered factors and takes R^2: another number). In [0, 1), and never 1: the second
latent is at least at chance, and one against the rest, cut at one threshold, can single out only the first and the last
of a factor's values. Codes that are the factors themselves reach 1/2 for a factor of two values, 0.65 for the 3 shapes
of sprites, 0.03 for their 32 places, 0.24 in all: compare SAP only on the same factors. The penalty makes it depend on
the codes' scale. A constant latent is at chance; a single latent's gap is its own accuracy. NaN for a factor of one
value, which leaves nothing to predict. Libraries' solvers shuffle images; this one, of the same objective, does not.
"""

import jax
import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.typing import Key


def accuracy(
    codes: Float[np.ndarray, " image"],
    classes: Int[np.ndarray, " image"],
    test_codes: Float[np.ndarray, " test"],
    test_classes: Int[np.ndarray, " test"],
) -> float:
    """How often one latent tells one factor; NaN for a factor of one value, which there is nothing to tell of."""
    from sklearn.svm import LinearSVC

    if len(np.unique(classes)) == 1:
        return np.nan
    machine = LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(codes[:, None], classes)
    return machine.score(test_codes[:, None], test_classes)


def compute(context: EvaluationContext, key: Key, *, train: int = 10_000, test: int = 5_000) -> dict[str, float]:
    """The separated attribute predictability (Kumar et al. 2018, section 3): the mean gap over factors, and each one's.

    Args:
        context: the run and its data.
        key: draws the images.
        train: images to learn from.
        test: images to be judged by.
    """
    train_key, test_key = jax.random.split(key)
    codes, classes = context.factor_codes.draw(train_key, train)
    test_codes, test_classes = context.factor_codes.draw(test_key, test)
    accuracies = np.zeros((codes.shape[1], classes.shape[1]))
    for j, k in np.ndindex(*accuracies.shape):
        accuracies[j, k] = accuracy(codes[:, j], classes[:, k], test_codes[:, j], test_classes[:, k])
    gaps = _information.gap(accuracies)
    return itemize("sap", gaps.mean(), context.factor_codes.names, gaps)


METRIC = Metric(
    compute, requires=("factors",), higher_is_better=True, details={"*": True}, minimum={"train": 2, "test": 2}
)
