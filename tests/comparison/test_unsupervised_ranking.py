"""The ranking of a study's runs by what other seeds found: the command against a direct call of the score."""

import json
import shutil

import numpy as np
import pytest
from helpers.made_up_studies import compare_study, config, write_run
from helpers.small_run import train_small

from vae_jax import cli, metrics, model
from vae_jax.comparison.unsupervised_ranking import RankedGroup, StudyRanking, ranking_lines
from vae_jax.errors import UserError
from vae_jax.metrics import udr
from vae_jax.training.open_run import open_run

pytestmark = pytest.mark.usefixtures("undrawn")

LEARNED = {"train.learning_rate": 1e-2}
"""Under which 60 steps are enough for latents that seeds agree on."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three seeds of one config and one of another, trained for 60 steps."""
    root = tmp_path_factory.mktemp("runs") / "study"
    for seed in range(3):
        assert train_small(root / f"one_s{seed}", seed=seed, **LEARNED, **{"variant.beta": 0.1}) == 0
    assert train_small(root / "two_s0", **LEARNED, **{"variant.beta": 0.2}) == 0
    return root


def evaluation(folder):
    return json.loads((folder / "evaluation.json").read_text())


def direct_scores(root, relation, images):
    """`score` of the means and KLs of the same held-out images, encoded all at once."""
    runs = [open_run(root / f"one_s{seed}") for seed in range(3)]
    context = metrics.EvaluationContext(runs[0], model.load_data(runs[0].config["data"]))
    (batch,) = context.held_out(images, images)
    codes, kls = [], []
    for run in runs:
        mean, logvar = (np.asarray(part) for part in run.model.nets.encode(run.params["nets"], batch["image"]))
        codes.append(mean)
        kls.append(np.mean(0.5 * (mean**2 + np.exp(logvar) - logvar - 1), axis=0))
    return udr.score(codes, kls, relation=relation).scores


@pytest.mark.full
def test_the_command_ranks_the_seeds_of_each_group(root, capsys):
    before = {folder.name: evaluation(folder) for folder in root.iterdir()}
    capsys.readouterr()
    assert cli.run(["udr", f"--runs={root}", "--images=200"]) == 0
    expected = direct_scores(root, "lasso", 200)
    assert 0.1 < np.median(expected) < expected.max()
    best = f"one_s{np.argmax(expected)}"
    head, row, left_out, file = capsys.readouterr().out.splitlines()
    assert head.split() == ["group", "runs", "median", "UDR", "best", "run", "UDR"]
    assert row.split() == ["beta=0.1", "3", f"{np.median(expected):.4f}", best, f"{expected.max():.4f}"]
    assert left_out.startswith("left out: beta=0.2: one finished run alone has nothing to agree with")
    assert file == str(root / "udr.json")
    for seed, value in enumerate(expected):
        found = evaluation(root / f"one_s{seed}")
        np.testing.assert_allclose(found.pop("udr"), value, atol=1e-4)
        assert found.pop("udr.protocol") == "relation=lasso images=200 runs=3"
        assert found == before[f"one_s{seed}"]
    assert evaluation(root / "two_s0") == before["two_s0"]
    stored = json.loads((root / "udr.json").read_text())
    assert (stored["relation"], stored["images"]) == ("lasso", 200)
    (group,) = stored["groups"]
    assert (group["name"], group["best"]) == ("beta=0.1", best)
    np.testing.assert_allclose([group["scores"][f"one_s{seed}"] for seed in range(3)], expected, atol=1e-4)
    np.testing.assert_allclose(group["median"], np.median(expected), atol=1e-4)


@pytest.mark.full
def test_compare_has_it_as_a_metric_and_the_study_no_foreign_file(root):
    assert cli.run(["udr", f"--runs={root}", "--images=200"]) == 0
    assert cli.run(["udr", f"--runs={root}", "--images=200", "--relation=spearman"]) == 0
    comparison = compare_study(root)
    assert not comparison.skipped
    assert comparison.higher_is_better["udr"] is comparison.higher_is_better["udr:relation=spearman"] is True
    for label, relation in (("udr", "lasso"), ("udr:relation=spearman", "spearman")):
        (summary,) = (group.summaries[label] for group in comparison.groups if label in group.summaries)
        np.testing.assert_allclose(summary.mean, direct_scores(root, relation, 200).mean(), atol=1e-4)


@pytest.mark.full
def test_a_group_that_cannot_be_ranked_says_why_and_stops_no_other(root, tmp_path, capsys):
    for name in ("one_s0", "one_s1", "two_s0"):
        shutil.copytree(root / name, tmp_path / name)
    for seed in (0, 1):
        assert train_small(tmp_path / f"vq_s{seed}", config="digits:vq", seed=seed, latent_dim=4, **LEARNED) == 0
    capsys.readouterr()
    assert cli.run(["udr", f"--runs={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "udr needs a variant whose posterior is a diagonal Gaussian" in printed
    assert sorted(json.loads((tmp_path / "udr.json").read_text())["left_out"]) == ["beta beta=0.2", "vq latent_dim=4"]
    (alone := tmp_path / "alone").mkdir()
    for seed in (0, 1):
        (tmp_path / f"vq_s{seed}").rename(alone / f"vq_s{seed}")
    with pytest.raises(UserError, match=r"^--runs: .*alone: no group of runs can be ranked: udr needs a variant whose"):
        cli.run(["udr", f"--runs={alone}"])
    assert not (alone / "udr.json").exists()


def test_a_study_of_single_seeds_is_refused_in_a_line(tmp_path):
    for beta in (1.0, 2.0):
        write_run(tmp_path, config(0, beta=beta), {})
    message = "no group of runs can be ranked: one finished run alone has nothing to agree with"
    with pytest.raises(UserError, match=rf"^--runs: \S+: {message}; train it under more seeds$"):
        cli.run(["udr", f"--runs={tmp_path}"])


def test_runs_of_different_data_do_not_agree_on_anything(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, config(seed), {}, data=f"digest {seed}")
    with pytest.raises(UserError, match="can be ranked: its runs are of different data"):
        cli.run(["udr", f"--runs={tmp_path}"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--runs: give the folder of a study"),
        (["--runs=nowhere"], "--runs: 'nowhere' is not a folder"),
        (
            ["--runs=.", "--relation=laso"],
            "--relation: 'laso' is unknown; known: lasso, spearman; did",
        ),
        (["--runs=.", "--images=-1"], "--images: '-1' is not allowed; give a whole number, or 0 for all"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, complaint):
    with pytest.raises(UserError, match=complaint.replace("?", r"\?")):
        cli.run(["udr", *words])


def test_an_empty_study_says_how_it_stands(tmp_path):
    with pytest.raises(UserError, match="no group of runs can be ranked: no runs"):
        cli.run(["udr", f"--runs={tmp_path}"])


def test_a_table_of_groups_one_of_which_uses_no_latent():
    groups = [
        RankedGroup("beta=1", {"a": 0.25, "b": np.nan, "c": 0.5}),
        RankedGroup("a longer name", {"d": np.nan, "e": np.nan}),
    ]
    assert ranking_lines(StudyRanking(groups, {"vq": "no posterior"}, "lasso", 0)) == [
        "group          runs  median UDR  best run     UDR",
        "beta=1            3      0.3750  c         0.5000",
        "a longer name     2         nan  none         nan",
        "left out: vq: no posterior",
    ]
