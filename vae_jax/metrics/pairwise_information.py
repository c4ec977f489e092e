"""What latents know of each other, two at a time: the mean mutual information of pairs (Locatello et al. 2019).

Purpose    disentanglement, without factors
Shows      how much two latents know of each other, dependence of every shape included.
Misleads   when latents are unused, which lowers it, and when three or more latents depend on each other and no two do.

    mean over j != k of I(z_j; z_k),    each latent cut into 20 equally wide bins between its least and largest code

In nats, at least 0 and at most log 20 = 3.0; 0 where no latent depends on another. Of the posterior means of 10,000
held-out images: it needs no factors. This is the study's unsupervised mutual information score. Unlike the Gaussian
total correlation it sees dependence of every shape, but only between two latents at a time, and a far outlier costs
resolution. Finite counts leave some (bins - 1)^2 / (2 images) nats, 0.018 here, between independent latents that fill
all their bins. A constant latent knows of nothing and counts with 0: unused latents lower the score. Each latent's mean
over the others is beside it. NaN for a single latent, which has no other.
"""

import numpy as np
from jaxtyping import Float

from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.typing import Key


def information_of_pairs(codes: Float[np.ndarray, "image latent"], bins: int) -> Float[np.ndarray, "latent latent"]:
    """I(z_j; z_k) of codes in `bins` equally wide bins, nats; the diagonal is each one's entropy."""
    binned = _information.assign_bins(codes, bins)
    columns = (binned[:, j : j + 1] for j in range(codes.shape[1]))
    rows = [_information.joint_counts(column, binned, (bins, bins)) for column in columns]
    return np.concatenate([_information.mutual_information(counts) for counts in rows])


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000, bins: int = 20) -> dict[str, float]:
    """The mean mutual information of two latents (Locatello et al. 2019), nats, and each latent's with the others.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images the codes are of; 0 takes all.
        bins: equally wide bins into which each latent is cut.
    """
    information = information_of_pairs(context.codes(images), bins)
    latents = len(information)
    others = information.sum(axis=1) - np.diag(information)
    means = others / (latents - 1) if latents > 1 else np.full(latents, np.nan)
    return itemize("pairwise_information", means.mean(), map(str, range(latents)), means)


METRIC = Metric(compute, unit="nats", higher_is_better=False, details={"*": False}, minimum={"images": 0, "bins": 2})
