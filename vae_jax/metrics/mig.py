"""The mutual information gap: how much more the best latent knows of a factor than the next best does.

Purpose    disentanglement, where factors are known
Shows      whether each factor has one latent to itself: the gap between the best and the second best latent.
Misleads   when a factor has more values than there are bins, or a latent has far outliers; and between libraries, as
           the name has two definitions (`mig_sampled`).

    MIG = mean over factors of (I(z_1st; v) - I(z_2nd; v)) / H(v)

As Locatello et al. 2019 measure it: 10,000 images, posterior means, each latent cut into 20 equally wide bins. In
[0, 1]; 1 where each factor has one latent to itself and no bin holds two of its values: the 32 places of sprites, in 20
bins, allow 0.85 at most. Chen et al. 2018 (eq. 6), who gave the score its name, take another quantity, samples of z and
the aggregate posterior: metrics/mig_sampled.py. The bins favour codes that fill their range evenly, a far outlier
costs resolution, and finite counts leave some (bins - 1)(values - 1) / (2 images) nats of information between
independent variables. With a single latent there is no second and the gap is its own.
"""

import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.typing import Key


def gaps(
    codes: Float[np.ndarray, "image latent"], classes: Int[np.ndarray, "image factor"], bins: int
) -> Float[np.ndarray, " factor"]:
    """(I_1st - I_2nd) / H of each factor; NaN for one of a single value, which nothing can know."""
    information, entropy = _information.binned_information(codes, classes, bins)
    return _information.gap(information) / np.where(entropy > 0, entropy, np.nan)


def compute(context: EvaluationContext, key: Key, *, points: int = 10_000, bins: int = 20) -> dict[str, float]:
    """The mutual information gap, as a share of each factor's entropy: the mean over factors, and each one's.

    As Locatello et al. 2019 measure it; the score is of Chen et al. 2018, eq. 6.

    Args:
        context: the run and its data.
        key: draws the images.
        points: images to draw.
        bins: equally wide bins into which each latent is cut.
    """
    scores = gaps(*context.factor_codes.draw(key, points), bins)
    return itemize("mig", scores.mean(), context.factor_codes.names, scores)


METRIC = Metric(
    compute, requires=("factors",), higher_is_better=True, details={"*": True}, minimum={"points": 2, "bins": 2}
)
