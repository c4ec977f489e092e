"""Numbers of different quantities are never ranked, tested, correlated or drawn together."""

import numpy as np
import pytest
from helpers.made_up_studies import compare_study, config, elbo_parts, printed, write_run
from scipy import stats

from vae_jax import variants
from vae_jax.comparison import figures
from vae_jax.comparison.comparability import comparable_runs, incomparable_groups
from vae_jax.comparison.ranking import best_runs, ranked_groups
from vae_jax.models.likelihoods import bernoulli
from vae_jax.plots import comparison_plots
from vae_jax.report import sentences
from vae_jax.report.plotly_figures import rate_distortion
from vae_jax.sweeps.variant_facts import variant_facts


def tree_of(seed, name="beta", fields=None, **weights):
    """A config of the variant with fields of other sections by dotted name."""
    tree = config(seed, **weights)
    tree["variant"]["name"] = name
    for field, value in (fields or {}).items():
        section, _, leaf = field.partition(".")
        tree.setdefault(section, {})[leaf] = value
    return tree


def write_pair(root, first, second, digests=("", ""), seeds=3):
    """Two groups whose second is higher by 5 in all that they have, and not in loss: trees by seed."""
    for seed in range(seeds):
        for i, (tree, digest) in enumerate(zip((first(seed), second(seed)), digests, strict=True)):
            scores = elbo_parts(1.0 + 5 * i + 0.01 * seed, 30.0 - 10 * i, likelihood=-20.0 + 5 * i + 0.01 * seed**2)
            own = {"mig": 0.1 + 5 * i + 0.01 * seed, "loss": 30.0 + 0.1 * seed - 9 * i, "mine": 5.0 * i + 0.1 * seed}
            write_run(root, tree, scores | own, name=f"{i}_{seed}", data=digest)


METRICS = ("elbo", "distortion", "rate", "loss", "likelihood", "mig", "mine")


def compared(comparison):
    """The metrics in which the other group was compared with the baseline."""
    return {d.metric for d in comparison.differences if d.verdict != "not comparable" and d.p is not None}


# --- bounds ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A VAE of two betas, and a conditional one whose bound, of log p(x|y), is higher by far."""
    root, rng = tmp_path_factory.mktemp("conditional"), np.random.default_rng(0)
    for seed in range(6):
        for name, beta, gain in (("beta", 1.0, 0), ("beta", 4.0, -2), ("conditional", 1.0, 3)):
            rate, noise = 8 / beta - gain / 6, 0.1 * rng.normal()
            scores = elbo_parts(rate, 30 - gain - rate + noise, mig=0.2 + noise)
            write_run(root, tree_of(seed, name, beta=beta), scores)
    return compare_study(root)


def test_a_bound_of_another_quantity_is_not_compared(conditional):
    verdicts = {(d.group, d.metric): d.verdict for d in conditional.differences}
    assert {verdicts["conditional beta=1", name] for name in ("elbo", "distortion", "rate")} == {"not comparable"}
    assert verdicts["conditional beta=1", "mig"] == "cannot tell"
    assert verdicts["beta beta=4", "elbo"] == "worse"
    assert [group.name for group in ranked_groups(conditional)] == ["beta beta=1", "beta beta=4"]
    best = sentences.best_group(conditional)
    assert best.startswith("beta beta=1 has the highest mean elbo among the 2 groups")
    assert best.endswith("(nats per image, higher is better; bounds log p(x)).")


def test_what_a_bound_is_of_is_said_beside_the_metric(conditional):
    text = " ".join(printed(conditional).split())
    assert "elbo nats per image, higher is better; bounds log p(x): beta; log p(x|y): conditional" in text
    assert "rate nats per image, neither way is better; its ELBO bounds log p(x): beta; log p(x|y): c" in text
    assert "(log p(x) of beta beta=1, beta beta=4, log p(x|y) of conditional beta=1): groups that differ so" in text
    assert "Runs that are comparable with the baseline: 12 of 18 in elbo, distortion, rate." in text


def test_shares_and_correlations_are_of_one_quantity(conditional):
    vaes = [run for run in conditional.runs if run.config["variant.name"] == "beta"]
    assert comparable_runs(conditional, "elbo") == vaes
    elbo, mig = ([run.metrics[name] for run in vaes] for name in ("elbo", "mig"))
    index = conditional.metrics.index("mig")
    assert conditional.correlation[0][index] == pytest.approx(stats.spearmanr(elbo, mig).statistic)
    assert conditional.variance_shares["elbo"]["variant"] == 0  # of the one that is left


def test_no_picture_holds_dots_of_two_quantities(conditional, tmp_path, monkeypatch):
    """The conditional ones have less of both, and would make every dot of the VAE pale."""
    seen = []
    monkeypatch.setattr(comparison_plots, "rate_distortion", lambda files, *what: seen.extend(what))
    figures.rate_distortion(conditional, tmp_path)
    (curve,), ends, _ = seen
    assert (len(curve.points), curve.labels, len(ends)) == (12, ["beta=1", "4"], 0)
    assert not curve.pale.all()
    drawn = [trace for trace in rate_distortion(conditional)["data"] if trace.get("mode") == "markers"]
    assert not any("conditional" in str(trace) for trace in drawn)


def test_where_nothing_else_is_comparable_nothing_is_best(tmp_path):
    write_pair(tmp_path, tree_of, lambda seed: tree_of(seed, "conditional"))
    comparison = compare_study(tmp_path, baseline="beta")
    assert sentences.best_group(comparison) == "No group has a finite elbo that can be held against that of beta."


@pytest.mark.parametrize(
    ("name", "bounds", "density"),
    [
        ("ada", "log p(x)/2 + log p(x')/2", "log p(x)"),
        ("conditional", "log p(x|y)", "log p(x|y)"),
        *[("beta", "log p(x)", "log p(x)"), ("vq", "log p(x)", "log p(x)"), ("iwae", "log p(x)", "log p(x)")],
        *[("autoencoder", "", "log p(x)"), ("rae", "", "log p(x)")],
    ],
)
def test_what_a_variant_says_that_its_elbo_bounds(name, bounds, density):
    variant = variants.get(name)(bernoulli.make())
    assert (variant.bounds, variant.density) == (bounds, density)


def test_static_fields_decide_what_a_variant_bounds():
    assert variant_facts({"variant.name": "info", "variant.deterministic": True}).bounds == ""
    assert variant_facts({"variant.name": "info", "variant.deterministic": False}).bounds == "log p(x)"
    assert variant_facts({"variant.name": "info"}).weights == {"beta", "lambda_mmd", "free_bits"}


def test_a_pairs_bound_is_not_an_images_but_its_density_is(tmp_path):
    write_pair(tmp_path, tree_of, lambda seed: tree_of(seed, "ada"))
    assert compared(compare_study(tmp_path, metrics=METRICS, baseline="beta")) == {"likelihood", "mig"}


def test_a_variant_that_is_not_here_is_a_kind_of_its_own(tmp_path):
    write_pair(tmp_path, tree_of, lambda seed: tree_of(seed, "nowhere.mine", beta=1.0))
    comparison = compare_study(tmp_path, metrics=METRICS, baseline="beta")
    assert compared(comparison) == {"mig"}
    assert "an unknown quantity (nowhere.mine): nowhere.mine" in printed(comparison)
    first, second = (lambda seed, beta=beta: tree_of(seed, "nowhere.mine", beta=beta) for beta in (1.0, 2.0))
    write_pair(tmp_path / "alone", first, second)
    alone = compare_study(tmp_path / "alone", metrics=METRICS)
    assert compared(alone) == {"elbo", "distortion", "rate", "likelihood", "mig"}


def test_a_variant_whose_fields_cannot_be_is_a_kind_of_its_own():
    for value in ("rbff", {"deep": [1]}, None):
        facts = variant_facts({"variant.name": "info", "variant.kernel": value})
        assert facts.bounds == "an unknown quantity (info)"


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values", "same"),
    [
        ("data.split", ("random 0.1", "without shape=2"), set()),
        ("data.name", ("digits", "mnist"), set()),
        ("data.validation", (0.1, 0.2), set()),
        ("data.size", (None, 1000), set()),
        ("data.binarize", ("dynamic", "none"), {"rate", "mig"}),
        ("likelihood.name", ("bernoulli", "gaussian"), {"rate", "mig"}),
        ("data.path", ("here", "there"), set(METRICS)),
        ("data.changed", (1, 2), set(METRICS)),
        ("net.name", ("mlp", "conv"), set(METRICS)),
    ],
)
def test_what_runs_must_agree_in_by_metric(tmp_path, field, values, same):
    write_pair(tmp_path, *(lambda seed, value=value: tree_of(seed, fields={field: value}) for value in values))
    comparison = compare_study(tmp_path, metrics=METRICS, by=(field,))
    assert compared(comparison) == same
    assert (f"runs differ in {field}" in printed(comparison)) == (same != set(METRICS))


def test_pairs_are_of_matter_to_a_bound_of_pairs_alone(tmp_path):
    first, second = (
        lambda seed, changed=changed: tree_of(seed, "ada", {"data.changed": changed}) for changed in (1, 2)
    )
    write_pair(tmp_path, first, second)
    comparison = compare_study(tmp_path, metrics=METRICS, by=("data.changed",))
    assert compared(comparison) == {"likelihood", "mig"}
    assert "runs differ in data.changed (1 of changed=1, 2 of changed=2)" in printed(comparison)


@pytest.mark.parametrize(
    ("digests", "same"), [(("a", "b"), False), (("a", "a"), True), (("a", ""), True), (("", ""), True)]
)
def test_the_digest_of_the_data_decides_where_both_have_one(tmp_path, digests, same):
    """Two paths hold the same images, or others."""
    first, second = (lambda seed, path=path: tree_of(seed, fields={"data.path": path}) for path in ("x", "y"))
    write_pair(tmp_path, first, second, digests)
    comparison = compare_study(tmp_path, metrics=METRICS, by=("data.path",))
    assert compared(comparison) == (set(METRICS) if same else set())
    assert ("the digest of their data" in printed(comparison)) != same


def test_of_several_digests_none_is_ranked_against_a_baseline_without_one(tmp_path):
    for seed in range(2):
        for path, digest in (("x", ""), ("y", "b"), ("z", "c"), ("old", "")):
            tree = tree_of(seed, fields={"data.path": path})
            write_run(tmp_path, tree, elbo_parts(1, 2), name=f"{path}{seed}", data=digest)
    comparison = compare_study(tmp_path, by=("data.path",), baseline="path=x")
    assert incomparable_groups(comparison, "mig") == {"path=y", "path=z"}


def test_a_group_of_several_data_is_compared_with_nothing(tmp_path):
    for seed in range(4):
        for beta in (1.0, 2.0):
            tree = tree_of(seed, beta=beta, fields={"data.path": f"p{seed % 2}"})
            scores = elbo_parts(1, 10 - seed, mig=float(seed))
            write_run(tmp_path, tree, scores, name=f"{seed} {beta}", data=f"d{seed % 2}")
    comparison = compare_study(tmp_path, by=("variant.beta",), metrics=("mig",))
    assert {d.verdict for d in comparison.differences} == {"not comparable"}
    assert [run.seed for _, run in best_runs(comparison)] == [0, 0]  # the first: none is best of two quantities
    assert ranked_groups(comparison) == []


def test_a_run_that_failed_is_no_part_of_what_its_group_is_of(tmp_path):
    write_pair(tmp_path, lambda seed: tree_of(seed, beta=1.0), lambda seed: tree_of(seed, beta=2.0))
    write_run(tmp_path, tree_of(9, beta=1.0, fields={"likelihood.name": "gaussian"}), failed={"error": "x"})
    assert compared(compare_study(tmp_path, metrics=("elbo",), by=("variant.beta",))) == {"elbo"}


# --- losses and other terms -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"beta": 1.0}, {"beta": 4.0}, False),
        ({"fields": {"schedule.name": "linear"}}, {"fields": {"schedule.name": "constant"}}, False),
        ({"name": "beta"}, {"name": "flow"}, False),
        ({"beta": 1}, {"beta": 1.0, "fields": {"net.name": "conv"}}, True),
        ({"fields": {"train.steps": 500}}, {"fields": {"train.learning_rate": 1.0}}, True),
    ],
)
def test_a_loss_compares_within_one_variant_and_equal_weights(tmp_path, first, second, same):
    write_pair(tmp_path, *(lambda seed, fields=fields: tree_of(seed, **fields) for fields in (first, second)))
    comparison = compare_study(tmp_path, metrics=("loss", "elbo"))
    assert compared(comparison) == ({"loss", "elbo"} if same else {"elbo"})
    assert ("loss is a term of each variant's own" in printed(comparison)) != same
    assert (len(ranked_groups(comparison)) == 2) == same


def test_a_term_that_nobody_described_compares_within_one_variant(tmp_path):
    """Neither its variant's static fields: an MMD of another kernel is another discrepancy."""
    for number, (first, second, same) in enumerate(
        [
            (tree_of, lambda seed: tree_of(seed, "flow"), False),
            (lambda seed: tree_of(seed, beta=1.0), lambda seed: tree_of(seed, beta=2.0), True),
            (lambda seed: tree_of(seed, "info", kernel="rbf"), lambda seed: tree_of(seed, "info", kernel="imq"), False),
        ]
    ):
        write_pair(tmp_path / str(number), first, second)
        assert compared(compare_study(tmp_path / str(number), metrics=("mine",))) == ({"mine"} if same else set())
