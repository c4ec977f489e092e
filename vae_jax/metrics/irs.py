"""The interventional robustness score, IRS (Suter et al. 2019, section 4): does each latent stay when others move?

Purpose    disentanglement, where factors are known
Shows      whether a latent stays where it is while other factors than its own change.
Misleads   for unbounded latents: noise alone scores 0.36 on sprites, and rescaling a latent changes the score.

    EMPIDA(j, k) = E_{v_k} max |z_j - E[z_j | v_k]|        how far nuisance factors move latent j while factor k is set
    IRS_j        = max_k 1 - EMPIDA(j, k) / max |z_j - E z_j|
    IRS          = mean of IRS_j, weighted by max |z_j - E z_j|

In [0, 1]; 1 where each latent is a function of one factor. As the authors' code measures it: 10,000 images, the maximum
over the nuisance factors as the 0.99 quantile of the images that share the value (`quantile` = 1 is the paper's
maximum), the normaliser a true maximum. So latents that carry nothing are near 0 only if they are bounded: the largest
of 10,000 normal ones is 3.9 deviations away where their 0.99 quantile is 2.6, and normal noise scores 0.36 on sprites.
Latents count by their range: rescaling one changes the score. disentanglement_lib also cuts factors into 20 bins, so
that one of 32 values is never really held; here each value is its own class. Constant latents are left out; NaN where
none is left (0 in the library).
"""

import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import EvaluationContext, Metric, itemize
from vae_jax.typing import Key


def mean_displacement(
    codes: Float[np.ndarray, "image latent"], classes: Int[np.ndarray, "image factor"], quantile: float
) -> Float[np.ndarray, "latent factor"]:
    """EMPIDA: the quantile of |z - E[z | v]| among the images of one value, averaged over the values of each factor."""

    def displacement(codes):
        return np.quantile(np.abs(codes - codes.mean(axis=0)[None]), quantile, axis=0)

    def average(column):
        return np.mean([displacement(codes[column == value]) for value in np.unique(column)], axis=0)

    return np.stack([average(column) for column in classes.T], axis=1)


def robustness(
    codes: Float[np.ndarray, "image latent"], classes: Int[np.ndarray, "image factor"], quantile: float
) -> tuple[Float[np.ndarray, " latent"], Float[np.ndarray, " latent"]]:
    """IRS of each latent, NaN for a constant one, and its weight, the largest deviation from its mean."""
    codes = codes.astype(np.float64)
    largest = np.abs(codes - codes.mean(axis=0)[None]).max(axis=0)
    largest = np.where(np.ptp(codes, axis=0) > 0, largest, 0.0)
    relative = mean_displacement(codes, classes, quantile) / np.where(largest > 0, largest, np.nan)[:, None]
    return (1 - relative).max(axis=1), largest


def compute(context: EvaluationContext, key: Key, *, points: int = 10_000, quantile: float = 0.99) -> dict[str, float]:
    """The interventional robustness score (Suter et al. 2019, section 4), in [0, 1]: a weighted mean over latents.

    Each latent's is beside it.

    Args:
        context: the run and its data.
        key: draws the images.
        points: images to draw.
        quantile: of the displacements among the images of a value, in place of their maximum; 1 is the maximum.
    """
    scores, weight = robustness(*context.factor_codes.draw(key, points), quantile)
    varying = weight > 0
    score = np.average(scores[varying], weights=weight[varying]) if varying.any() else np.nan
    return itemize("irs", score, map(str, range(len(scores))), scores)


METRIC = Metric(
    compute,
    requires=("factors",),
    higher_is_better=True,
    details={"*": True},
    minimum={"points": 2, "quantile": 0.01},
    maximum={"quantile": 1.0},
)
