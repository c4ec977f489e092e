"""The BetaVAE score (Higgins et al. 2017, section 3): can a linear classifier tell which factor two images share?

    feature = 1/B sum_b |z(x_b) - z(x'_b)|,    x_b and x'_b alike in factor k and drawn apart in all others
    score   = accuracy of a linear classifier of k from the feature

In [0, 1]; chance is 1 / factors, 1 where the latent that moves least betrays the shared factor. As Locatello et al.
2019 measure it: 10,000 features to learn from and 5,000 to be judged by, of 64 pairs each, posterior means,
multinomial logistic regression with scikit-learn's penalty. The average is over the pairs of one point; a library
that feeds the classifier single pairs scores another, harder game.
It asks for very little: K - 1 latents suffice for K factors, two latents may mix two factors, and it saturates above
0.95 within an epoch of beta = 1. The penalty is on weights of raw differences, so the score falls where codes are very
small in scale. Constant codes leave the classifier at chance.
"""

import jax
import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import Coded, Subject
from vae_jax.typing import Key

NEEDS = ("factors",)
LEAST = {"train": 1, "test": 1, "pairs": 1}


def points(
    coded: Coded, key: Key, count: int, pairs: int
) -> tuple[Float[np.ndarray, "point latent"], Int[np.ndarray, " point"]]:
    """`count` features, and the factor that the pairs of each share."""
    which, images = jax.random.split(key)
    shared = np.asarray(jax.random.randint(which, (count,), 0, len(coded.names)))
    codes = coded.sharing(images, np.repeat(shared, pairs), 2)
    return np.abs(codes[:, 0] - codes[:, 1]).reshape(count, pairs, -1).mean(axis=1), shared


def compute(subject: Subject, key: Key, *, train: int = 10_000, test: int = 5_000, pairs: int = 64) -> dict[str, float]:
    """The accuracy on `test` points, and on those it was learnt from. 1 where one factor alone varies."""
    from sklearn.linear_model import LogisticRegression

    first, second = jax.random.split(key)
    known, judged = (points(subject.coded, part, n, pairs) for part, n in ((first, train), (second, test)))
    if len(np.unique(known[1])) == 1:  # scikit-learn refuses a single class
        right = [float(np.mean(shared == known[1][0])) for _, shared in (judged, known)]
    else:
        classifier = LogisticRegression(max_iter=1000).fit(*known)
        right = [float(classifier.score(*part)) for part in (judged, known)]
    return dict(zip(("beta_vae", "beta_vae.train"), right, strict=True))
