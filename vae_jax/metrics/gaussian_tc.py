"""The total correlation of a Gaussian fitted to the codes (Locatello et al. 2019, section 5).

Purpose    disentanglement, without factors
Shows      how correlated the latents' means are, all together.
Misleads   as independence: only covariances count. Unused latents count by the correlations of their tiny means.

    TC = KL(N(m, S) || prod_j N(m_j, S_jj)) = -1/2 log det R,    S the codes' covariance, R their correlations

In nats, 0 where latents are uncorrelated, and without an upper limit: infinite where one is a linear function of
others, as duplicates are. Of the posterior means of 10,000 held-out images, so that it needs no factors. Means are
correlated where samples need not be: penalties on q(z) leave this free to grow. Only second moments count, so codes may
depend on each other and score 0. It does not change when latents are rescaled, yet a latent that is not used still
counts by the correlations of its tiny mean. A constant latent is independent of all and adds nothing. Finite counts add
about latents (latents - 1) / (4 images).
"""

import numpy as np
from jaxtyping import Float

from vae_jax.metrics import EvaluationContext, Metric
from vae_jax.typing import Key


def gaussian_tc(codes: Float[np.ndarray, "image latent"]) -> float:
    """TC of the Gaussian with these codes' covariance, nats."""
    codes = codes.astype(np.float64)
    varying = codes[:, np.ptp(codes, axis=0) > 0]
    if varying.shape[1] < 2:
        return 0.0
    spectrum = np.linalg.eigvalsh(np.corrcoef(varying.T))
    # What is 0 but for rounding: codes are float32.
    singular = spectrum[0] < len(spectrum) * np.finfo(np.float32).eps ** 2
    return np.inf if singular else float(-0.5 * np.sum(np.log(spectrum)))


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The total correlation of a Gaussian fitted to the posterior means (Locatello et al. 2019, section 5), nats.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images the means are of; 0 takes all.
    """
    return {"gaussian_tc": gaussian_tc(context.codes(images))}


METRIC = Metric(compute, unit="nats", higher_is_better=False, minimum={"images": 0})
