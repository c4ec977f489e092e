"""The Wasserstein correlation: how far a Gaussian fitted to the codes is from independence (Locatello et al. 2019).

Purpose    disentanglement, without factors
Shows      how correlated the latents' means are, with latents weighed by their variance.
Misleads   as independence: only covariances count.

    W = W_2^2(N(m, S), N(m, D)) = 2 tr S - 2 tr (D^1/2 S D^1/2)^1/2,    D the diagonal of the codes' covariance S

The first number is W / tr S, in [0, 2): 0 where latents are uncorrelated, and free of the codes' common scale;
`wasserstein_correlation.raw` is W, in squared units of the codes. Of the posterior means of 10,000 held-out images:
it needs no factors. Unlike the total correlation it is finite for duplicates, and latents count by their
variance, so those that are not used hardly do. Only second moments count. The square is W_2 squared, as in the study's
code; its root would be a distance. NaN where all codes are the same, which is no distribution over images at all.
"""

import numpy as np
from jaxtyping import Float

from vae_jax.metrics import EvaluationContext, Metric
from vae_jax.typing import Key


def wasserstein(covariance: Float[np.ndarray, "latent latent"]) -> float:
    """W_2^2 of N(m, covariance) and N(m, its diagonal)."""
    deviation = np.sqrt(np.diag(covariance))
    # Similar to D S, and symmetric: real eigenvalues, of which rounding may leave a few below 0.
    spectrum = np.linalg.eigvalsh(deviation[:, None] * covariance * deviation[None, :])
    return float(2 * np.trace(covariance) - 2 * np.sqrt(np.maximum(spectrum, 0)).sum())


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The Wasserstein correlation of the posterior means (Locatello et al. 2019), over their variance and as it is.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images the means are of; 0 takes all.
    """
    covariance = np.atleast_2d(np.cov(context.codes(images).astype(np.float64).T))
    distance, variance = wasserstein(covariance), np.trace(covariance)
    return {
        "wasserstein_correlation": float(distance / variance) if variance > 0 else np.nan,
        "wasserstein_correlation.raw": distance,
    }


METRIC = Metric(compute, higher_is_better=False, details={"raw": False}, minimum={"images": 0})
