"""Statistics of a few seeds: intervals, paired tests, how many more seeds would tell, what a spread comes from.

Everything is a function of its numbers alone: resamples are drawn once for each count of values, from a fixed seed.
Products go through einsum: on a busy machine the threads of a matrix product wait for each other longer than it takes.
"""

import bisect
import functools
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

LEVEL = 0.05
"""Intervals cover 1 - LEVEL; the chance of one false claim or more in a family of comparisons is at most this."""

POWER = 0.8
"""The chance to tell a difference that `more_seeds` asks for."""

RESAMPLES = 10_000
MAX_SEEDS = 1000

_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(100) + np.array([[1.0], [0.0]])) / 2
"""Of the mean over (0, 1)."""

ROUNDING = 1e-12
"""Differences smaller than this share of the numbers are rounding."""


@functools.lru_cache(maxsize=64)
def _shares(n: int) -> np.ndarray:
    """(RESAMPLES, n): the share of each of n values in each resample."""
    return np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The 95% bootstrap interval of the mean of independent values; None for fewer than two.

    The percentile interval, stretched about the mean by sqrt(n / (n - 1)) t / z, the quantiles of Student's t (n - 1
    degrees of freedom) and of the normal. Resamples of n values spread less than means do, by sqrt((n - 1) / n), and
    percentiles know nothing of how badly a few values show their own spread (Hesterberg 2015): the plain percentile
    interval, which never leaves the range of the values, covers the mean of 2 normal values half of the time and of 5
    in 84% of cases, and BCa no better, as its corrections are of skew. Stretched it has the width of Student's
    interval and the bootstrap's shape: of 2 normal values it covers the mean in 93% of cases, of 3 and more in 95, of
    skewed ones (exponential) in 88 to 93.
    """
    n = len(values)
    if n < 2:
        return None
    mean = float(np.mean(values))
    tails = np.array([LEVEL / 2, 1 - LEVEL / 2])
    stretch = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, tails[1]) / special.ndtri(tails[1])
    low, high = mean + stretch * np.quantile(np.einsum("ij,j->i", _shares(n), values - mean), tails)
    return float(low), float(high)


def interquartile_mean(values: np.ndarray) -> float:
    """The mean without the lowest and the highest quarter, of whole values (Agarwal et al. 2021); of 2 or 3, of all."""
    return float(stats.trim_mean(values, 0.25))


class PairedTest(NamedTuple):
    """The mean difference over pairs, its 95% interval, and p of no difference; None for a single pair."""

    mean: float
    low: float | None
    high: float | None
    p: float | None


def paired_differences(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """values - baseline, where what is rounding alone is 0."""
    pairs = values - baseline
    return np.where(np.abs(pairs) <= ROUNDING * np.maximum(np.abs(values), np.abs(baseline)), 0.0, pairs)


def paired_test(pairs: np.ndarray) -> PairedTest:
    """Student's t on the differences of at least one pair.

    Runs of one seed share data, order and noise, so the pair takes away what the seed does to both. Student's t is
    exact for normal differences, and those of two scores of like shape are symmetric whatever that shape, which is
    what t needs most. A permutation test assumes less, and cannot speak at all of few seeds: its smallest p is
    2^(1 - n), above 0.05 up to 5 seeds and, of 20 comparisons, up to 9. It stands in where the differences are
    one number over and over (counts of latents, say), of which t would be surer than any data can make one.
    """
    n, mean = len(pairs), float(np.mean(pairs))
    if n < 2:
        return PairedTest(mean, None, None, None)
    error = float(np.std(pairs, ddof=1)) / np.sqrt(n)
    if error <= ROUNDING * np.max(np.abs(pairs)):
        return PairedTest(mean, mean, mean, 1.0 if mean == 0 else 2.0 ** (1 - n))
    half = -float(special.stdtrit(n - 1, LEVEL / 2)) * error
    return PairedTest(mean, mean - half, mean + half, float(2 * special.stdtr(n - 1, -abs(mean) / error)))


def holm(p: np.ndarray) -> np.ndarray:
    """p corrected so that all of a family at or below a level hold together at that level (Holm 1979).

    The i-th smallest of m is max_{j <= i} (m - j + 1) p_(j), at most 1.
    """
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1.0)
    return corrected


def power(n: int, effect: float, level: float) -> float:
    """The chance that a two-sided paired t test of n pairs rejects, where mean / deviation of differences is effect.

    P(|T| > t) for the noncentral t, as the mean of a normal's tails over the chi that it is divided by: scipy's own has
    no numbers for few pairs and large effects.
    """
    chi = np.sqrt(special.gammaincinv((n - 1) / 2, _NODES) / ((n - 1) / 2))
    critical, shift = -special.stdtrit(n - 1, level / 2) * chi, abs(effect) * np.sqrt(n)
    return float(_WEIGHTS @ (special.ndtr(shift - critical) + special.ndtr(-critical - shift)))


def more_seeds(pairs: np.ndarray, level: float) -> int | None:
    """How many more pairs would be told apart at `level` with a chance of POWER, were they to go on as these did.

    At least one; None where that is over MAX_SEEDS, or these are all nothing or but one. The effect is itself an
    estimate: of a difference that is none it is a large number that means nothing, and of 3 seeds it is rough.
    """
    n, spread = len(pairs), float(np.std(pairs, ddof=1)) if len(pairs) > 1 else 0.0
    if spread <= ROUNDING * np.max(np.abs(pairs)):
        # One constant number is told from none by its sign alone, as `paired_test` does: p = 2^(1 - n).
        return max(1, math.ceil(1 - math.log2(level)) - n) if n > 1 and np.mean(pairs) else None
    effect = float(np.mean(pairs)) / spread
    counts = range(n + 1, n + MAX_SEEDS + 1)
    seeds = 1 + bisect.bisect_left(counts, POWER, key=lambda count: power(count, effect, level))
    return seeds if seeds <= MAX_SEEDS else None


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, where both are finite; NaN for fewer than 3 such values, and where one does not vary."""
    finite = np.isfinite(first) & np.isfinite(second)
    if finite.sum() < 3:
        return float("nan")
    ranks = np.stack([stats.rankdata(first[finite]), stats.rankdata(second[finite])])
    deviations = ranks - ranks.mean(axis=1)[:, None]
    norms = np.sqrt(np.sum(deviations**2, axis=1))
    return float(deviations[0] @ deviations[1] / np.prod(norms)) if np.all(norms > 0) else float("nan")


PARTS = ("variant", "strength", "seed", "rest")


def variance_shares(
    values: np.ndarray, variants: Sequence[Hashable], groups: Sequence[Hashable], seeds: Sequence[Hashable]
) -> dict[str, float]:
    """The share of the values' variance by variant, by group within variant ("strength"), by seed, and the rest.

        SS = SS(variant) + SS(group | variant) + SS(seed | group) + SS(rest),    each by least squares after the last

    Of sums of squares, as in Locatello et al. 2019. The rest is what a seed does to one group and not to others. NaN
    where the values do not vary. Labels explain something of pure noise too: `chance_shares` says how much.
    """
    if not len(values) or np.ptp(values) <= ROUNDING * np.max(np.abs(values)):
        return dict.fromkeys(PARTS, float("nan"))
    squares = [float(np.sum(residual**2)) for residual, _ in _fits(values, variants, groups, seeds)]
    shares = -np.diff([*squares, 0.0]) / squares[0]
    return dict(zip(PARTS, np.maximum(shares, 0.0).tolist(), strict=True))


def chance_shares(
    variants: Sequence[Hashable], groups: Sequence[Hashable], seeds: Sequence[Hashable]
) -> dict[str, float]:
    """The shares that `variance_shares` is expected to find in independent noise: of the degrees of freedom."""
    n = len(groups)
    ranks = [rank for _, rank in _fits(np.zeros(n), variants, groups, seeds)]
    return dict(zip(PARTS, (np.diff([*ranks, n]) / (n - 1)).tolist(), strict=True))


def _fits(
    values: np.ndarray, variants: Sequence[Hashable], groups: Sequence[Hashable], seeds: Sequence[Hashable]
) -> list[tuple[np.ndarray, int]]:
    """(residuals, rank) of each of four fits: a mean, by variant, by group, by group and seed."""
    nested = _indices(list(zip(variants, groups, strict=True)))
    fits = [
        (_without_means(values, labels), int(labels.max()) + 1)
        for labels in (np.zeros(len(values), int), _indices(variants), nested)
    ]
    # Least squares on two labels: the values' residuals of one, on the residuals of the other's columns.
    columns = _without_means(np.eye(len(set(seeds)))[_indices(seeds)], nested)
    residual, group_rank = fits[-1]
    gram, moments = np.einsum("ij,ik->jk", columns, columns), np.einsum("ij,i->j", columns, residual)
    fit, _, rank, _ = np.linalg.lstsq(gram, moments, rcond=1e-9)
    return [*fits, (residual - np.einsum("ij,j->i", columns, fit), group_rank + int(rank))]


def _indices(labels: Sequence[Hashable]) -> np.ndarray:
    indices = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([indices[label] for label in labels])


def _without_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The values (or rows of them) less the mean of those of the same label."""
    sums = np.zeros((labels.max() + 1, *values.shape[1:]))
    np.add.at(sums, labels, values)
    counts = np.bincount(labels).reshape(-1, *[1] * (values.ndim - 1))
    return values - (sums / counts)[labels]


def is_dominated(rate: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Which runs another beats in rate or distortion and equals or beats in the other."""
    no_worse = (rate[None, :] <= rate[:, None]) & (distortion[None, :] <= distortion[:, None])
    better = (rate[None, :] < rate[:, None]) | (distortion[None, :] < distortion[:, None])
    return np.any(no_worse & better, axis=1)
