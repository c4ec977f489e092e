"""Each statistic against scipy, a closed form or simulation."""

import itertools
import math

import numpy as np
import pytest
from helpers.type_checks import remove_type_checks
from scipy import stats

from vae_jax.comparison import intervals


def rng(seed=0):
    return np.random.default_rng(seed)


# --- intervals ------------------------------------------------------------------------------------

COVERED = {2: 0.93, 3: 0.94, 5: 0.95, 10: 0.95, 30: 0.95}


@pytest.mark.parametrize("n", COVERED)
def test_an_interval_covers_the_mean_as_often_as_it_says(n, monkeypatch):
    remove_type_checks(monkeypatch, intervals)
    ends = [intervals.interval(values) for values in rng(n).normal(3, 2, (3000, n))]
    covered = np.mean([low <= 3 <= high for low, high in ends])
    assert covered == pytest.approx(COVERED[n], abs=0.015)


@pytest.mark.parametrize(("n", "low", "high"), [(2, 0.45, 0.55), (5, 0.81, 0.87)])
def test_the_plain_percentile_interval_would_not(n, low, high):
    """What is said of it, and so why it is stretched."""
    means = intervals._shares(n) @ rng(n).normal(0, 1, (2000, n)).T
    ends = np.quantile(means, [0.025, 0.975], axis=0)
    assert low < np.mean((ends[0] <= 0) & (ends[1] >= 0)) < high


def test_an_interval_covers_skewed_means_nearly_as_often(monkeypatch):
    remove_type_checks(monkeypatch, intervals)
    ends = [intervals.interval(values) for values in rng(1).exponential(1, (3000, 10))]
    assert 0.89 < np.mean([low <= 1 <= high for low, high in ends]) < 0.95


def test_an_interval_is_the_bootstraps_but_for_its_stretch():
    values = rng(2).gamma(1.0, 1.0, 40)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=40_000, rng=rng(3)
    ).confidence_interval
    stretch = math.sqrt(40 / 39) * stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975)
    ours = (np.array(intervals.interval(values)) - values.mean()) / stretch
    assert ours == pytest.approx(np.array(theirs) - values.mean(), rel=0.03)
    assert -ours[0] < 0.97 * ours[1]  # longer on the side of the tail


def test_an_interval_follows_the_values():
    values = rng(4).normal(0, 1, 7)
    low, high = intervals.interval(values)
    assert intervals.interval(values) == (low, high)
    assert intervals.interval(10 - 3 * values) == pytest.approx((10 - 3 * high, 10 - 3 * low), rel=0.05)
    assert intervals.interval(np.full(4, 2.5)) == (2.5, 2.5)
    assert intervals.interval(np.array([1.0])) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3), ([1, 2], 1.5), ([1, 2, 9], 4), ([0, 1, 3, 100], 2), ([9, 1, 2, 3, 4, -50, 5, 99], 3.5), ([5] * 9, 5)],
)
def test_interquartile_mean(values, expected):
    assert intervals.interquartile_mean(np.array(values, float)) == pytest.approx(expected)


# --- paired differences ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 50])
def test_paired_is_students_t(n):
    seed, first, second = rng(n).normal(0, 5, n), rng(n + 1).normal(0.5, 1, n), rng(n + 2).normal(0, 1, n)
    ours = intervals.paired_test(intervals.paired_differences(seed + first, seed + second))
    theirs = stats.ttest_rel(seed + first, seed + second)
    interval = theirs.confidence_interval()
    assert ours == pytest.approx((np.mean(first - second), interval.low, interval.high, theirs.pvalue))


def test_one_pair_makes_no_claim():
    assert intervals.paired_test(np.array([3.0])) == (3.0, None, None, None)


def test_differences_that_do_not_vary_are_no_surer_than_signs():
    """Of 4 pairs all of one sign: 2 in 16, by the exact sign-flip test."""
    pairs = intervals.paired_differences(np.array([0.1, 0.2, 0.3, 0.4]) + 0.7, np.array([0.1, 0.2, 0.3, 0.4]))
    flips = np.array([np.mean(pairs * signs) for signs in itertools.product([-1, 1], repeat=4)])
    exact = np.mean(np.abs(flips) >= abs(pairs.mean()) - 1e-9)
    assert intervals.paired_test(pairs) == pytest.approx((0.7, 0.7, 0.7, exact))


def test_rounding_is_no_difference():
    values = np.array([0.1, 0.2, 0.3])
    assert intervals.paired_test(intervals.paired_differences(values + 0.7 - 0.7, values)) == (0, 0, 0, 1)
    assert intervals.paired_differences(np.array([1e-20]), np.array([2e-20])) == -1e-20


# --- Holm -----------------------------------------------------------------------------------------


def test_holm_by_hand():
    corrected = intervals.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert intervals.holm(np.array([0.03])) == pytest.approx([0.03])
    assert len(intervals.holm(np.array([]))) == 0


def test_holm_is_closed_testing():
    """p_i is the largest Bonferroni-corrected p of the intersections that it is part of."""
    p = rng(5).uniform(0, 0.3, 6)
    subsets = [list(subset) for size in range(1, 7) for subset in itertools.combinations(range(6), size)]
    expected = [min(1, max(len(subset) * p[subset].min() for subset in subsets if i in subset)) for i in range(6)]
    assert intervals.holm(p) == pytest.approx(expected)


# --- power ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "effect", "level"), [(34, 0.5, 0.05), (10, 1.2, 0.01), (5, 0.0, 0.05), (50, -0.3, 0.05)])
def test_power_is_that_of_scipys_noncentral_t(n, effect, level):
    critical, shift = stats.t.isf(level / 2, n - 1), effect * math.sqrt(n)
    expected = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert intervals.power(n, effect, level) == pytest.approx(expected, abs=2e-5)


def test_power_is_finite_everywhere():
    for n, effect, level in itertools.product((2, 3, 10, 2000), (0.0, 0.1, 10.0, 1e6), (0.05, 1e-9)):
        assert 0 <= intervals.power(n, effect, level) <= 1 + 1e-9


def standard(n, mean):
    """n numbers of this mean and of deviation 1."""
    values = rng(6).normal(0, 1, n)
    return (values - values.mean()) / values.std(ddof=1) + mean


def test_tables_say_34_pairs_for_half_a_deviation():
    """Cohen's d = 0.5, two-sided 0.05, power 0.8: the textbook's 34; at 0.01, 51."""
    assert intervals.more_seeds(standard(10, 0.5), 0.05) == 24
    assert intervals.more_seeds(standard(10, -0.5), 0.05) == 24
    assert intervals.more_seeds(standard(10, 0.5), 0.01) == 41


@pytest.mark.parametrize(("n", "effect", "level"), [(5, 0.9, 0.05), (8, 0.6, 0.05 / 6)])
def test_as_many_more_seeds_do_tell(n, effect, level):
    """Of studies that go on as this one did, 80% reject with so many, and fewer with 3 less."""
    more = intervals.more_seeds(standard(n, effect), level)
    for count, enough in ((n + more, True), (n + more - 3, False)):
        studies = rng(7).normal(effect, 1, (20_000, count))
        rejected = np.mean(stats.ttest_1samp(studies, 0, axis=1).pvalue <= level)
        assert (rejected > intervals.POWER - 0.01) == enough


def test_more_seeds_where_no_number_would():
    assert intervals.more_seeds(standard(10, 1e-6), 0.05) is None
    assert intervals.more_seeds(np.zeros(5), 0.05) is None
    assert intervals.more_seeds(np.full(5, 1.0), 0.05 / 6) == 3  # 2^(1 - 8) is below it, 2^(1 - 7) is not
    assert intervals.more_seeds(np.array([1.0]), 0.05) is None
    assert intervals.more_seeds(standard(3, 100.0), 0.05) == 1  # never none


# --- what goes with what, and what comes from where -----------------------------------------------


def test_rank_correlation_is_spearmans():
    first, second = rng(8).normal(0, 1, 30), np.round(rng(9).normal(0, 1, 30))
    assert intervals.rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    first[3], second[7] = np.nan, np.inf
    finite = np.isfinite(first) & np.isfinite(second)
    expected = stats.spearmanr(first[finite], second[finite]).statistic
    assert intervals.rank_correlation(first, second) == pytest.approx(expected)
    assert intervals.rank_correlation(first, np.exp(first)) == pytest.approx(1)
    assert math.isnan(intervals.rank_correlation(first, np.zeros(30)))
    assert math.isnan(intervals.rank_correlation(np.array([1.0, 2]), np.array([1.0, 2])))


def layout(strengths, seeds):
    """(variants, groups, seeds) of a full grid."""
    cells = [(v, f"{v}{s}", seed) for v, count in strengths.items() for s in range(count) for seed in range(seeds)]
    return tuple(map(list, zip(*cells, strict=True)))


def test_a_balanced_grid_is_the_textbooks_analysis_of_variance():
    labels = layout({"a": 3, "b": 3}, 4)
    values = rng(10).normal(0, 1, 24)
    grid = values.reshape(2, 3, 4)
    mean = grid.mean()
    squares = [
        12 * np.sum((grid.mean((1, 2)) - mean) ** 2),
        4 * np.sum((grid.mean(2) - grid.mean((1, 2))[:, None]) ** 2),
        6 * np.sum((grid.mean((0, 1)) - mean) ** 2),
    ]
    expected = [part / np.sum((grid - mean) ** 2) for part in squares]
    shares = intervals.variance_shares(values, *labels)
    assert [shares[part] for part in intervals.PARTS] == pytest.approx([*expected, 1 - sum(expected)])
    chance = intervals.chance_shares(*labels)
    assert [chance[part] for part in intervals.PARTS] == pytest.approx([1 / 23, 4 / 23, 3 / 23, 15 / 23])


def test_each_source_is_found_for_what_it_is():
    variants, groups, seeds = layout({"a": 3, "b": 1, "c": 2}, 5)
    kept = [i for i in range(len(groups)) if i not in (2, 9, 17)]  # some runs failed
    variants, groups, seeds = ([labels[i] for i in kept] for labels in (variants, groups, seeds))
    numbers = {name: i for i, name in enumerate("abc")}
    variant_effect = np.array([3.0 * numbers[v] for v in variants])
    group_effect = np.array([effect(g) for g in groups])
    seed_effect = np.array([0.7 * s**2 for s in seeds])
    assert intervals.variance_shares(variant_effect, variants, groups, seeds)["variant"] == pytest.approx(1)
    shares = intervals.variance_shares(variant_effect + group_effect, variants, groups, seeds)
    assert shares["variant"] + shares["strength"] == pytest.approx(1)
    assert shares["strength"] > 0.1
    shares = intervals.variance_shares(variant_effect + group_effect + seed_effect, variants, groups, seeds)
    assert shares["rest"] == pytest.approx(0, abs=1e-12)
    assert shares["seed"] > 0.1
    assert sum(shares.values()) == pytest.approx(1)


def effect(group):
    return {"a0": 0, "a1": 5, "a2": -2, "b0": 1, "c0": 4, "c1": -4}[group]


def test_noise_is_explained_by_chance_alone():
    labels = layout({"a": 3, "b": 1, "c": 2}, 5)
    shares = [intervals.variance_shares(values, *labels) for values in rng(11).normal(0, 1, (400, 30))]
    chance = intervals.chance_shares(*labels)
    for part in intervals.PARTS:
        assert np.mean([parts[part] for parts in shares]) == pytest.approx(chance[part], abs=0.02)


def test_what_does_not_vary_has_no_shares():
    assert all(map(math.isnan, intervals.variance_shares(np.full(6, 3.1), *layout({"a": 2}, 3)).values()))


def test_dominated_runs():
    rate, distortion = rng(12).integers(0, 6, 40).astype(float), rng(13).integers(0, 6, 40).astype(float)
    expected = [
        any(
            rate[j] <= rate[i]
            and distortion[j] <= distortion[i]
            and (rate[j], distortion[j]) != (rate[i], distortion[i])
            for j in range(40)
        )
        for i in range(40)
    ]
    assert intervals.is_dominated(rate, distortion).tolist() == expected
    assert not intervals.is_dominated(np.array([1.0, 1.0]), np.array([2.0, 2.0])).any()  # twice the same
