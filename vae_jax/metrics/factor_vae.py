"""The FactorVAE score (Kim & Mnih 2018, section 4): does the stillest latent tell which factor is held fixed?

Purpose    disentanglement, where factors are known
Shows      whether the latent that stays still betrays which factor was held fixed.
Misleads   by being lenient: a latent that carries two factors is not punished if others are stiller.

    vote  = argmin_j Var_b(z_j) / Var(z_j)    over a batch of images alike in factor k
    score = accuracy of the majority vote: each latent stands for the factor it was most often the stillest of

In [0, 1]; chance is 1 / factors. As Locatello et al. 2019 measure it: Var(z_j) from 10,000 images, divided by n - 1;
latents whose deviation there is below 0.05 are dropped, or a latent that never moves would be the stillest of all;
10,000 votes to learn from and 5,000 to be judged by, of 64 images each. Kim & Mnih judge the 800 votes that they
learnt from, and drop latents by their KL from the prior. Where all are dropped every vote is the same and the score
is chance, with `factor_vae.latents` 0; disentanglement_lib gives 0 there.
Any latent that is still for one factor will do, so one that carries two factors is not punished as long as
others are stiller; the 0.05 is in the codes' own units.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from vae_jax.metrics import EvaluationContext, FactorCodes, Metric
from vae_jax.typing import Key


def stillest(
    batches: Float[np.ndarray, "vote image latent"],
    variance: Float[np.ndarray, " latent"],
    active: Bool[np.ndarray, " latent"],
) -> Int[np.ndarray, " vote"]:
    """The active latent whose variance in each batch is least beside its `variance`; 0 where none is active."""
    relative = batches.astype(np.float64).var(axis=1, ddof=1) / np.where(active, variance, 1.0)[None]
    return np.where(active[None], relative, np.inf).argmin(axis=1)


def count_votes(
    factor_codes: FactorCodes,
    key: Key,
    count: int,
    images: int,
    variance: Float[np.ndarray, " latent"],
    least_deviation: float,
) -> Int[np.ndarray, "latent factor"]:
    """How often each latent was the stillest in `count` batches that share each factor."""
    factor_key, images_key = jax.random.split(key)
    shared = np.asarray(jax.random.randint(factor_key, (count,), 0, len(factor_codes.names), np.int32))
    batches = factor_codes.draw_groups(images_key, shared, images)
    latents = stillest(batches, variance, np.sqrt(variance) >= least_deviation)
    votes = np.zeros((len(variance), len(factor_codes.names)), np.int64)
    np.add.at(votes, (latents, shared), 1)
    return votes


def compute(
    context: EvaluationContext,
    key: Key,
    *,
    points: int = 10_000,
    train: int = 10_000,
    test: int = 5_000,
    images: int = 64,
    least_deviation: float = 0.05,
) -> dict[str, float]:
    """The FactorVAE score (Kim & Mnih 2018, section 4), in [0, 1]: the accuracy of the majority vote on other votes.

    Its accuracy on the votes that it was learnt from, and how many latents were not dropped, are beside it.

    Args:
        context: the run and its data.
        key: draws the images.
        points: images that each latent's variance is of.
        train: votes to learn from.
        test: votes to be judged by.
        images: images in the batch of a vote.
        least_deviation: latents whose deviation is below it are dropped; in the codes' own units.
    """
    variance_key, train_key, test_key = jax.random.split(key, 3)
    factor_codes = context.factor_codes
    variance = factor_codes.draw(variance_key, points)[0].astype(np.float64).var(axis=0, ddof=1)
    # A latent without any variance has nothing to be divided by, however low the bar.
    least = max(least_deviation, float(np.finfo(np.float32).tiny))
    train_votes = count_votes(factor_codes, train_key, train, images, variance, least)
    test_votes = count_votes(factor_codes, test_key, test, images, variance, least)
    factor_of_latent = train_votes.argmax(axis=1)
    return {
        "factor_vae": accuracy(test_votes, factor_of_latent),
        "factor_vae.train": accuracy(train_votes, factor_of_latent),
        "factor_vae.latents": int(np.sum(np.sqrt(variance) >= least)),
    }


def accuracy(votes: Int[np.ndarray, "latent factor"], factor_of_latent: Int[np.ndarray, " latent"]) -> float:
    """The share of votes whose factor is the one that their latent stands for."""
    return float(votes[np.arange(len(votes)), factor_of_latent].sum() / votes.sum())


METRIC = Metric(
    compute,
    requires=("factors",),
    higher_is_better=True,
    minimum={"train": 1, "test": 1, "points": 2, "images": 2, "least_deviation": 0},
)
