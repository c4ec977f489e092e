"""The BetaVAE score (Higgins et al. 2017, section 3): can a linear classifier tell which factor two images share?

Purpose    disentanglement, where factors are known
Shows      whether a linear classifier can name the factor that two images share.
Misleads   by being easy: it saturates early, and latents may mix factors.

    feature = 1/B sum_b |z(x_b) - z(x'_b)|,    x_b and x'_b alike in factor k and drawn apart in all others
    score   = accuracy of a linear classifier of k from the feature

In [0, 1]; chance is 1 / factors, 1 where the latent that moves least betrays the shared factor. As Locatello et al.
2019 measure it: 10,000 features to learn from and 5,000 to be judged by, of 64 pairs each, posterior means, multinomial
logistic regression with scikit-learn's penalty. The average is over the pairs of one point; a library that feeds the
classifier single pairs sets a harder task. It demands very little: K - 1 latents suffice for K factors, two latents may
mix two factors, and it saturates above 0.95 within an epoch of beta = 1. The penalty is on weights of raw differences,
so the score falls where codes are very small in scale. Constant codes leave the classifier at chance.
"""

import jax
import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import EvaluationContext, FactorCodes, Metric
from vae_jax.typing import Key


def draw_points(
    factor_codes: FactorCodes, key: Key, count: int, pairs: int
) -> tuple[Float[np.ndarray, "point latent"], Int[np.ndarray, " point"]]:
    """`count` features, each a mean over `pairs` of images, and the factor that the pairs of each share."""
    factor_key, images_key = jax.random.split(key)
    shared = np.asarray(jax.random.randint(factor_key, (count,), 0, len(factor_codes.names), np.int32))
    codes = factor_codes.draw_groups(images_key, np.repeat(shared, pairs), 2)
    return np.abs(codes[:, 0] - codes[:, 1]).reshape(count, pairs, -1).mean(axis=1), shared


def accuracies(
    points: Float[np.ndarray, "point latent"],
    shared: Int[np.ndarray, " point"],
    test_points: Float[np.ndarray, "test latent"],
    test_shared: Int[np.ndarray, " test"],
) -> tuple[float, float]:
    """How often the classifier tells the shared factor of the test points, and of those that it learns from."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(shared)) == 1:  # scikit-learn refuses a single class
        return float(np.mean(test_shared == shared[0])), 1.0
    classifier = LogisticRegression(max_iter=1000).fit(points, shared)
    return float(classifier.score(test_points, test_shared)), float(classifier.score(points, shared))


def compute(
    context: EvaluationContext, key: Key, *, train: int = 10_000, test: int = 5_000, pairs: int = 64
) -> dict[str, float]:
    """The BetaVAE score (Higgins et al. 2017, section 3), in [0, 1]: the accuracy on points not learnt from.

    Its accuracy on the points that it learnt from is beside it. Where one factor alone varies it is 1.

    Args:
        context: the run and its data.
        key: draws the points.
        train: points to learn from.
        test: points to be judged by.
        pairs: pairs of images whose differences are averaged for a point.
    """
    train_key, test_key = jax.random.split(key)
    train_points = draw_points(context.factor_codes, train_key, train, pairs)
    test_points = draw_points(context.factor_codes, test_key, test, pairs)
    test_accuracy, train_accuracy = accuracies(*train_points, *test_points)
    return {"beta_vae": test_accuracy, "beta_vae.train": train_accuracy}


METRIC = Metric(compute, requires=("factors",), higher_is_better=True, minimum={"train": 1, "test": 1, "pairs": 1})
