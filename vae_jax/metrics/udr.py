"""Unsupervised disentanglement ranking, UDR (Duan et al. 2020, section 4): do models find the same latents?

Purpose    disentanglement, without factors
Shows      which models of a study found latents that other seeds found too: a way to choose a model without labels.
Misleads   when all models agree on something wrong.

    UDR_ij = 1 / (d_i + d_j) [sum_b r_b^2 / sum_a R_ab + sum_a r_a^2 / sum_b R_ab],    r the largest of a row or column
    UDR_i  = median over the other models j of UDR_ij

R_ab says how alike latent a of model i and latent b of model j are over the same images: the size of the coefficient of
a in a lasso of b on all of i's latents (penalty 0.1, all scaled to unit deviation), or of Spearman's rank correlation.
Only latents that are used take part, d of each model: those whose mean KL from the prior is above 0.01. In [0, 1]: 1
where all models agree on single latents, up to order and sign (0.9 under the lasso, whose penalty takes 0.1 off each
coefficient), low where latents are mixed. disentanglement_lib averages rows and columns apart, which is the same only
if d_i = d_j. It needs several models, trained alike but for the seed; there is nothing to compute for one run:

    vae-jax udr --runs=runs/study

scores the runs of a study, and `score` takes codes and KLs of any models. Models that agree on something wrong score
well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.metrics import ArrayCodes, EvaluationContext, Metric, check_finite
from vae_jax.typing import Key

Relation = Float[np.ndarray, "a b"]


class Ranking(NamedTuple):
    """UDR of each model, and of each pair (row i, column j: i's latents explain j's); NaN where a model uses none."""

    scores: Float[np.ndarray, " model"]
    pairs: Float[np.ndarray, "model model"]


def lasso(first: Float[np.ndarray, "image a"], second: Float[np.ndarray, "image b"]) -> Relation:
    """|coefficient| of each latent of `first` in a lasso of each latent of `second`; codes of unit deviation."""
    from sklearn.linear_model import Lasso

    return np.abs(np.atleast_2d(Lasso(alpha=0.1).fit(first, second).coef_)).T


def spearman(first: Float[np.ndarray, "image a"], second: Float[np.ndarray, "image b"]) -> Relation:
    """|rank correlation| of each latent of `first` with each of `second`."""
    from scipy.stats import rankdata

    ranks = [_standardize(rankdata(codes, axis=0)) for codes in (first, second)]
    return np.abs(ranks[0].T @ ranks[1]) / len(first)


RELATIONS = {"lasso": lasso, "spearman": spearman}


def _standardize(codes: np.ndarray) -> np.ndarray:
    centred = codes - codes.mean(axis=0)[None]
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)[None]


def agreement(relation: Relation) -> float:
    """UDR_ij of the latents that are used; NaN where either model uses none."""
    if not relation.size:
        return np.nan
    strengths = 0.0
    for axis in (0, 1):
        total = relation.sum(axis=axis)
        strengths += np.sum(np.square(relation.max(axis=axis)) / np.where(total > 0, total, 1.0))
    return float(strengths / sum(relation.shape))


def score(
    codes_of_models: Sequence[Float[np.ndarray, "_ _"]],
    kl_of_models: Sequence[Float[np.ndarray, " _"]],
    *,
    relation: str = "lasso",
    least_kl: float = 0.01,
) -> Ranking:
    """UDR of each model (Duan et al. 2020, section 4).

    Args:
        codes_of_models: each model's posterior means of the same images, (image, latent).
        kl_of_models: the mean KL of each of its latents from the prior, nats.
        relation: "lasso" or "spearman": how alike two latents are.
        least_kl: latents with less KL are not used, nats.

    Raises:
        UserError: for fewer than two models, codes that do not fit each other, and an unknown relation.
    """
    relate = registry.choose("relation", relation, RELATIONS)
    count = len(codes_of_models)
    if count < 2 or count != len(kl_of_models):
        raise UserError(f"udr: {count} models and {len(kl_of_models)} KLs are not allowed; give two or more of both")
    if len(set(map(len, codes_of_models))) > 1:
        raise UserError("udr: the models' codes are of different numbers of images; give those of the same images")
    models = [_used_codes(codes, kl > least_kl) for codes, kl in zip(codes_of_models, kl_of_models, strict=True)]
    pairs = np.full((count, count), np.nan)
    for i, j in np.ndindex(count, count):
        if i != j and models[i].shape[1] and models[j].shape[1]:
            pairs[i, j] = agreement(relate(models[i], models[j]))
    known = [column[~np.isnan(column)] for column in pairs.T]
    return Ranking(np.array([np.median(column) if len(column) else np.nan for column in known]), pairs)


def _used_codes(codes: ArrayCodes, used: Bool[np.ndarray, " latent"]) -> np.ndarray:
    return _standardize(check_finite(codes).astype(np.float64))[:, used]


def compute(context: EvaluationContext, key: Key) -> dict[str, float]:
    """Raises UserError: one run has nothing to be ranked against."""
    raise UserError("udr: compares several models, not one run; vae-jax udr scores the runs of a study")


METRIC = Metric(compute, requires=("models",), higher_is_better=True)
