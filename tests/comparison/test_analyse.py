"""Made-up studies whose answer is known: their groups, and what is claimed."""

import math

import numpy as np
import pytest
from helpers.made_up_studies import compare_study, config, elbo_parts, printed, write_run, write_study
from helpers.type_checks import remove_type_checks
from scipy import stats

from vae_jax import cli
from vae_jax.comparison import analyse, intervals
from vae_jax.comparison.wording import comparable_share, verdict
from vae_jax.errors import UserError
from vae_jax.report import sentences
from vae_jax.sweeps.group_names import distinguishing_fields, format_value, group_name


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "study")


@pytest.fixture(scope="module")
def comparison(root):
    return compare_study(root)


# --- groups ---------------------------------------------------------------------------------------


def test_groups_are_of_the_fields_in_which_runs_differ(comparison):
    assert comparison.by == ("variant.name", "variant.beta")  # and not wandb.name, nor what only some variants have
    names = ["autoencoder", "beta beta=0.5", "beta beta=1", "beta beta=2", "beta beta=4"]
    assert [group.name for group in comparison.groups] == names
    assert comparison.groups[0].values == {"variant.name": "autoencoder"}
    assert comparison.groups[1].values == {"variant.name": "beta", "variant.beta": 0.5}
    assert comparison.baseline == "beta beta=1"
    assert [len(group.runs) for group in comparison.groups] == [8] * 5
    assert comparison.metrics == ("elbo", "distortion", "rate", "mig")
    assert comparison.higher_is_better == {"elbo": True, "distortion": False, "rate": None, "mig": True}


def test_solo_runs_need_nothing_but_their_folders(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2), name="first")
    write_run(tmp_path, config(0, beta=4.0), elbo_parts(1, 3), name="second")
    comparison = compare_study(tmp_path)
    assert (comparison.by, comparison.baseline) == (("variant.beta",), "beta=1")
    difference = comparison.differences[0]
    assert (difference.pairs, difference.mean, difference.p, difference.more_seeds) == (1, -1, None, None)
    assert "one seed makes no claim" in printed(comparison)
    assert all(summary.low is None for group in comparison.groups for summary in group.summaries.values())


def test_runs_that_differ_in_their_seeds_alone_are_one_group(tmp_path):
    for seed in range(3):
        write_run(tmp_path, config(seed, beta=1.0), elbo_parts(1, seed))
    comparison = compare_study(tmp_path)
    assert [group.name for group in comparison.groups] == ["all runs"]
    assert (comparison.by, comparison.differences) == ((), [])
    assert "nothing but the seed" in printed(comparison)


def test_several_runs_of_a_seed_count_once(tmp_path):
    for seed in range(3):
        for beta in (1.0, 3.0):
            write_run(tmp_path, config(seed, beta=beta), elbo_parts(0, seed + beta))
    (group,) = compare_study(tmp_path, by=("variant.name",), metrics=("distortion",)).groups
    assert group.summaries["distortion"][:2] == (3, 3)
    assert "several runs of a seed" in printed(compare_study(tmp_path, by=("variant.name",)))


def test_names_of_groups():
    values = {"variant.name": "tcvae", "variant.beta": 6.0, "data.name": "sprites", "net.hidden": (8, 4), "a.x": 0.1}
    assert group_name(values, tuple(values)) == "tcvae beta=6 data=sprites hidden=(8, 4) x=0.1"
    assert group_name(values, ("variant.beta", "other.beta")) == "variant.beta=6"
    texts = [format_value(value) for value in (0.1234567, 0.1234568, 4.0, 4, 1e-4, "4x", True)]
    assert texts == ["0.1234567", "0.1234568", "4", "4", "0.0001", "4x", "True"]


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--metrics=migg", "--metrics: 'migg' is unknown; .*did you mean 'mig'"),
        ("--baseline=beta beta=3", "--baseline: 'beta beta=3' is unknown; .*did you mean 'beta beta="),
        ("--by=variant.bta", "--by: 'variant.bta' is unknown; .*did you mean 'variant.beta'"),
        ("--by=seed", "--by: 'seed' is what groups are averaged over"),
    ],
)
def test_what_no_run_has_is_named(root, flag, says):
    with pytest.raises(UserError, match=says):
        cli.compare([f"--runs={root}", flag])


def test_nothing_to_compare_is_said(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="no run there has finished; no runs, 1 skipped"):
        compare_study(tmp_path)
    write_run(tmp_path, config(0), failed={"error": "x"})
    with pytest.raises(UserError, match="no run there has finished; 1 failed, 1 skipped"):
        compare_study(tmp_path)
    with pytest.raises(UserError, match="--runs: give the folder"):
        cli.compare([])
    with pytest.raises(UserError, match="did you mean 'runs'"):
        cli.compare(["--rns=x"])


def test_what_cannot_be_a_folder_is_said(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out: .* cannot be a folder"):
        cli.compare([f"--runs={root}", f"--out={tmp_path / 'file'}"])


# --- what is claimed ------------------------------------------------------------------------------


def test_numbers_are_those_of_scipy(comparison):
    values = {
        group.name: np.array([run.metrics["elbo"] for run in comparison.runs if run.group == group.name])
        for group in comparison.groups[1:]
    }
    by_name = {group.name: group.summaries["elbo"] for group in comparison.groups[1:]}
    for name, scores in values.items():
        assert by_name[name].n == 8
        assert by_name[name].mean == pytest.approx(scores.mean())
        assert by_name[name].interquartile_mean == pytest.approx(np.sort(scores)[2:6].mean())
        assert (by_name[name].low, by_name[name].high) == intervals.interval(scores)
    elbo = [difference for difference in comparison.differences if difference.metric == "elbo"]
    for difference in elbo:
        theirs = stats.ttest_rel(values[difference.group], values["beta beta=1"])
        interval = theirs.confidence_interval()
        assert difference[2:6] == pytest.approx(
            (8, np.mean(values[difference.group] - values["beta beta=1"]), *interval)
        )
        assert theirs.pvalue <= difference.p
    verdicts = {difference.group: difference.verdict for difference in elbo}
    # Seeds move the ELBO by 3 nats and a beta scores 1/2 by 1: only pairs tell.
    assert verdicts == {"beta beta=0.5": "worse", "beta beta=2": "cannot tell", "beta beta=4": "worse"}
    assert stats.ttest_ind(values["beta beta=0.5"], values["beta beta=1"]).pvalue > 0.05
    mig = {difference.group: difference.verdict for difference in comparison.differences if difference.metric == "mig"}
    assert mig["beta beta=4"] == "better"
    distortion = {d.group: d.verdict for d in comparison.differences if d.metric == "distortion"}
    assert (distortion["autoencoder"], distortion["beta beta=4"]) == ("better", "worse")


def test_the_family_is_all_that_is_compared(comparison):
    tested = [difference for difference in comparison.differences if difference.metric != "rate"]
    raw = [
        intervals.paired_test(intervals.paired_differences(*shared(comparison, difference)))[3] for difference in tested
    ]
    assert len(raw) == 10  # 3 betas in 3 metrics, and the autoencoder's distortion
    assert [d.p for d in tested] == pytest.approx(intervals.holm(np.array(raw)))


def test_where_neither_way_is_better_nothing_is_better(root, comparison):
    """Not tested and not counted, unless --metrics names it; then higher or lower."""
    rates = [difference for difference in comparison.differences if difference.metric == "rate"]
    assert [(d.verdict, d.p, d.more_seeds) for d in rates] == [("not tested", None, None)] * 3
    assert all(d.low < d.mean < d.high for d in rates)
    rates_alone = compare_study(root, metrics=("rate",))
    assert [d.verdict for d in rates_alone.differences] == ["higher", "lower", "lower"]
    raw = [
        intervals.paired_test(intervals.paired_differences(*shared(rates_alone, difference)))[3]
        for difference in rates_alone.differences
    ]
    assert [d.p for d in rates_alone.differences] == pytest.approx(intervals.holm(np.array(raw)))
    text = printed(rates_alone)
    assert "rate   nats per image, neither way is better" in text
    assert "higher is better" not in text
    assert sentences.best_group(rates_alone) == "Of rate neither way is better: no group is best."
    assert sentences.verdict(rates_alone.differences[0]) == "beta beta=0.5 is higher in rate."


def test_a_metric_of_ones_own_is_higher_or_lower_or_cannot_be_told(tmp_path):
    for seed in range(4):
        for beta, mine in ((1.0, 0.0), (2.0, 5.0), (4.0, 0.01 * (-1) ** seed)):
            write_run(tmp_path, config(seed, beta=beta), elbo_parts(1, 2, mine=mine + 0.01 * seed * beta))
    higher, same = compare_study(tmp_path, metrics=("mine",)).differences
    assert (higher.verdict, same.verdict) == ("higher", "cannot tell")
    assert "mine" not in compare_study(tmp_path).metrics


def test_more_seeds_are_for_the_level_that_is_left(comparison):
    undecided = [d for d in comparison.differences if d.verdict == "cannot tell"]
    assert 1 < len(undecided) < len(comparison.differences)
    for difference in undecided:
        pairs = intervals.paired_differences(*shared(comparison, difference))
        assert difference.more_seeds == intervals.more_seeds(pairs, intervals.LEVEL / len(undecided))
    assert all(d.more_seeds is None for d in comparison.differences if d not in undecided)


def shared(comparison, difference):
    def values(group):
        return np.array([run.metrics[difference.metric] for run in comparison.runs if run.group == group])

    return values(difference.group), values(comparison.baseline)


def test_only_shared_seeds_are_paired(tmp_path):
    for seed, beta in ((0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (7, 4), (8, 4)):
        write_run(tmp_path, config(seed, beta=float(beta)), elbo_parts(0, 10 * seed + beta + 0.1 * seed**2 * beta))
    two, four = compare_study(tmp_path, metrics=("distortion",)).differences
    assert (two.pairs, four.pairs) == (2, 0)
    assert two.mean == pytest.approx(1 + 0.1 * np.mean([1, 4]))
    assert four.p is None
    assert "no shared seed" in printed(compare_study(tmp_path, metrics=("distortion",)))


def simulated(effects, seeds, draw, rng):
    """{group: {metric: {seed: value}}} of two metrics, with an effect in deviations of the paired differences."""
    of_seed = 5 * rng.normal(size=seeds)
    return {
        group: {
            metric: dict(enumerate(of_seed + draw(seeds) / math.sqrt(2) + effect))
            for metric in ("elbo", "mig")
        }
        for group, effect in effects.items()
    }  # fmt: skip


def claims(study_of, baseline="a"):
    return [difference.verdict for difference in analyse.differences(study_of, baseline, ("elbo", "mig"))]


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("seeds", [3, 8])
def test_where_nothing_differs_a_study_claims_something_in_one_of_twenty(monkeypatch, kind, seeds):
    """5 groups, 2 metrics, 8 comparisons: any false better or worse in at most 5% of studies, but for noise."""
    remove_type_checks(monkeypatch, analyse, intervals)
    monkeypatch.setattr(intervals, "more_seeds", lambda *_: None)
    rng = np.random.default_rng(seeds)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "skewed": lambda n: rng.exponential(size=n),
        "heavy": lambda n: rng.standard_t(3, size=n) / math.sqrt(3),
    }[kind]
    studies = 1500
    false = sum(
        set(claims(simulated(dict.fromkeys("abcde", 0.0), seeds, draw, rng))) != {"cannot tell"} for _ in range(studies)
    )
    assert false / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert kind != "normal" or false / studies > 0.02  # and not by never claiming anything


def test_power_is_what_it_should_be(monkeypatch):
    """One group of five differs, by 2.2 deviations, with 8 seeds: claimed about as often as its level's power says."""
    remove_type_checks(monkeypatch, analyse, intervals)
    monkeypatch.setattr(intervals, "more_seeds", lambda *_: None)
    rng = np.random.default_rng(1)
    effects = dict.fromkeys("abcde", 0.0) | {"c": 2.2}
    studies = [claims(simulated(effects, 8, lambda n: rng.normal(size=n), rng)) for _ in range(600)]
    power = np.mean([verdicts[1] == "better" for verdicts in studies])
    assert power == pytest.approx(intervals.power(8, 2.2, 0.05 / 8), abs=0.06)
    assert power > 0.8
    assert not any("worse" in (verdicts[1], verdicts[5]) for verdicts in studies)


def test_as_many_more_seeds_as_it_says_do_tell(monkeypatch):
    """From studies that could not tell: of those that go on, drawn as their own differences are, most can then."""
    remove_type_checks(monkeypatch, analyse, intervals)
    rng = np.random.default_rng(2)
    significant, additional = [], []
    while len(significant) < 150:
        pilot = rng.normal(0.7, 1, 6)
        baseline = dict.fromkeys(range(6), 0.0)
        (difference,) = analyse.differences(
            {"a": {"mig": baseline}, "b": {"mig": dict(enumerate(pilot))}}, "a", ("mig",)
        )
        if difference.more_seeds is None or difference.more_seeds > 200:
            continue
        count = 6 + difference.more_seeds
        values = rng.normal(pilot.mean(), pilot.std(ddof=1), count)
        (repeated,) = analyse.differences(
            {"a": {"mig": dict.fromkeys(range(count), 0.0)}, "b": {"mig": dict(enumerate(values))}}, "a", ("mig",)
        )
        significant.append(repeated.verdict != "cannot tell")
        additional.append(difference.more_seeds)
    assert np.mean(significant) == pytest.approx(intervals.POWER, abs=0.1)
    assert min(additional) >= 1


def test_shares_and_correlations(comparison):
    assert comparable_share(comparison) == ""
    shares = comparison.variance_shares["elbo"]
    assert shares["variant"] == 0  # one variant has an ELBO
    assert shares["seed"] > 0.5 > shares["strength"] > 0.2 > 0.1 > shares["rest"]
    assert comparison.variance_shares["distortion"]["variant"] > 0.5
    done = [run for run in comparison.runs if "elbo" in run.metrics]
    expected = stats.spearmanr([run.metrics["elbo"] for run in done], [run.metrics["mig"] for run in done]).statistic
    assert comparison.correlation[0][3] == comparison.correlation[3][0] == pytest.approx(expected)


def test_fields_of_one_last_word_do_not_run_together(tmp_path):
    for seed in range(2):
        for i in range(6):
            tree = config(seed, beta=1.0)
            tree["net"]["scale"], tree["likelihood"]["scale"] = {0: (3, 1), 1: (1, 3)}.get(i % 3, (1, 1))
            tree["latent_dim"] = 2 + i
            write_run(tmp_path, tree, elbo_parts(5, 10 + i))
    comparison = compare_study(tmp_path, by=("net.scale", "likelihood.scale"))
    assert {group.name for group in comparison.groups} >= {"net.scale=3", "likelihood.scale=3"}


def test_a_name_leaves_out_what_most_groups_share():
    by = ("variant.name", "variant.beta", "likelihood.name", "latent_dim")
    groups = [dict(zip(by, ("beta", beta, "bernoulli", 2), strict=True)) for beta in (1.0, 4.0)]
    groups += [dict(zip(by, ("beta", 1.0, name, 8), strict=True)) for name in ("gaussian", "bernoulli")]
    names = [
        group_name(values, fields) for values, fields in zip(groups, distinguishing_fields(groups, by), strict=True)
    ]
    assert names == [
        "beta beta=1 latent_dim=2",
        "beta beta=4 latent_dim=2",
        "beta beta=1 likelihood=gaussian latent_dim=8",
        "beta beta=1 latent_dim=8",
    ]


def test_nats_of_other_things_are_not_compared(tmp_path):
    for seed in range(3):
        for name, elbo in (("bernoulli", -20.0), ("gaussian", 60.0)):
            tree = config(seed, beta=1.0)
            tree["likelihood"]["name"] = name
            write_run(tmp_path, tree, elbo_parts(5 + 0.1 * seed * (elbo > 0), -elbo))
    comparison = compare_study(
        tmp_path,
        by=("likelihood.name",),
        baseline="likelihood=bernoulli",
        metrics=("elbo", "distortion", "rate"),
    )
    verdicts = {d.metric: verdict(d) for d in comparison.differences}
    assert verdicts["elbo"] == verdicts["distortion"] == "not comparable"
    assert all(d.p is None for d in comparison.differences if d.metric in ("elbo", "distortion"))
    assert "rate" in [d.metric for d in comparison.differences if d.p is not None]
    assert "bernoulli" in sentences.best_group(comparison)


def write_two_likelihoods(root):
    """2 betas of 4 seeds under each of two likelihoods, whose nats are 80 apart."""
    rng = np.random.default_rng(0)
    for seed in range(4):
        for name, elbo in (("bernoulli", -20.0), ("gaussian", 60.0)):
            for beta in (1.0, 4.0):
                tree = config(seed, beta=beta)
                tree["likelihood"]["name"] = name
                rate = 5 / beta + rng.normal()
                write_run(root, tree, elbo_parts(rate, -elbo + rng.normal() - rate, mig=rng.uniform()))
    return root


def test_shares_and_correlations_do_not_mix_nats(tmp_path):
    comparison = compare_study(write_two_likelihoods(tmp_path))
    baseline = {run.config["likelihood.name"] for run in comparison.runs if run.group == comparison.baseline}
    comparable = [run for run in comparison.runs if {run.config["likelihood.name"]} == baseline]
    assert len(comparable) == 8
    values = [np.array([run.metrics[name] for run in comparable]) for name in ("elbo", "mig")]
    groups, seeds = [run.group for run in comparable], [run.seed for run in comparable]
    assert comparison.variance_shares["elbo"] == intervals.variance_shares(values[0], ["beta"] * 8, groups, seeds)
    index = comparison.metrics.index("mig")
    assert comparison.correlation[0][index] == pytest.approx(stats.spearmanr(*values).statistic)
    text = printed(comparison)
    assert "Runs that are comparable with the baseline: 8 of 16 in elbo, distortion." in text


def test_groups_of_several_likelihoods_have_no_nats_to_compare(tmp_path):
    comparison = compare_study(write_two_likelihoods(tmp_path), by=("variant.beta",), metrics=("elbo", "mig"))
    assert {d.metric: d.verdict for d in comparison.differences} == {"elbo": "not comparable", "mig": "cannot tell"}
    assert all(math.isnan(share) for share in comparison.variance_shares["elbo"].values())
    assert "comparable with the baseline: 0 of 16 in elbo." in printed(comparison)
    assert sentences.best_group(comparison) == "No group has a finite elbo that can be compared."
