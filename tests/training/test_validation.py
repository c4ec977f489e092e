"""Validation decides, test reports: on data whose two splits disagree, nothing is chosen by the test split."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from helpers.run_folder import digest, records, steps
from helpers.small_run import small_words

import vae_jax
from vae_jax import cli
from vae_jax.comparison.analyse import compare_folders
from vae_jax.comparison.ranking import best_runs
from vae_jax.errors import UserError
from vae_jax.training.selection import decline, patience_step

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

FIELDS = {
    "data.name": "helpers.disagreeing_splits",
    "data.binarize": "static",
    "evaluation.every": 10,
    "checkpoint.every": 10,
    "train.learning_rate": 3e-2,
}


def train(folder, **fields):
    """Trains on data whose splits disagree; the exit status."""
    return cli.train([*small_words(**FIELDS | fields), f"--workdir={folder}"])


def evaluation(folder, name="evaluation"):
    return json.loads((folder / f"{name}.json").read_text())


def validation_scores(folder):
    """The ELBO of each evaluation of the validation split by its step."""
    return {row["step"]: row["elbo"] for row in records(folder) if row["split"] == "validation"}


def trained(folder, **fields):
    """(the folder of a run, what it said)."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert train(folder, **fields) == 0
    return folder, " ".join(said.getvalue().split())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def run(undisturbed):
    return undisturbed[0]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same run with a patience of two evaluations, and what it said."""
    return trained(tmp_path_factory.mktemp("stopped"), **{"train.patience": 2})


def test_the_best_checkpoint_is_best_by_validation_and_reported_on_test(run):
    scores = validation_scores(run)
    best = max(scores, key=scores.get)
    last, at_best = evaluation(run), evaluation(run, "evaluation_best")
    assert (last["step"], at_best["step"]) == (60, best)
    assert best < 60
    assert at_best["elbo"] < last["elbo"] - 1  # by the test split it would have been the last
    assert at_best["validation.elbo"] > last["validation.elbo"] + 1
    assert at_best["validation.elbo"] == pytest.approx(scores[best], rel=1e-6)
    assert last["validation.elbo"] == pytest.approx(scores[60], rel=1e-6)
    assert vae_jax.open_run(run, "best").step == best
    assert best in steps(run)


def test_the_test_split_is_read_once_after_the_last_step(run):
    read = [(row["step"], row["split"]) for row in records(run) if row["split"] != "train"]
    assert read == [*((step, "validation") for step in range(10, 61, 10)), (60, "test")]
    reported = records(run)[-1]
    assert reported["elbo"] == evaluation(run)["elbo"]


def test_evaluating_the_best_checkpoint_gives_what_training_reported(run, capsys):
    before = evaluation(run, "evaluation_best")
    assert cli.evaluate([f"--workdir={run}", "--checkpoint=best"]) == 0
    after = evaluation(run, "evaluation_best")
    assert after["elbo"] == pytest.approx(before["elbo"], rel=1e-5)
    assert f"step {before['step']}" in capsys.readouterr().out


@pytest.mark.parametrize(("checkpoint", "said"), [("latest", "last step"), ("best", "step {best} of 60")])
def test_an_explorer_says_of_which_checkpoint_it_is(run, tmp_path, checkpoint, said):
    out = tmp_path / "explore.html"
    assert cli.explore([f"--workdir={run}", f"--checkpoint={checkpoint}", f"--out={out}"]) == 0
    assert said.format(best=evaluation(run, "evaluation_best")["step"]) in out.read_text()


def test_a_long_decline_is_said(undisturbed):
    run, said = undisturbed
    best = evaluation(run, "evaluation_best")["step"]
    assert f"validation has not been better since step {best}" in said
    assert f"step 60 (last) step {best} (best by validation)" in said


def test_a_run_whose_patience_runs_out_ends_and_is_done(run, stopped, capsys):
    folder, said = stopped
    best = evaluation(run, "evaluation_best")["step"]
    ended = evaluation(folder)
    assert (ended["step"], ended["stopped_early"]) == (best + 20, True)
    assert evaluation(folder, "evaluation_best")["step"] == best
    assert steps(folder)[-1] == best + 20
    assert f"stopped at step {best + 20}: train.patience" in said
    scores = validation_scores(run)
    assert validation_scores(folder) == {step: scores[step] for step in scores if step <= best + 20}
    assert train(folder, **{"train.patience": 2}) == 0
    assert "this run has finished" in capsys.readouterr().out
    (compared,) = compare_folders([str(folder)]).runs
    assert compared.status == "done"


def test_a_stopped_run_whose_results_are_lost_gets_them_again(stopped, tmp_path):
    folder, _ = stopped
    shutil.copytree(folder, tmp_path / "run")
    for name in ("evaluation", "evaluation_best"):
        (tmp_path / "run" / f"{name}.json").unlink()
    assert train(tmp_path / "run", **{"train.patience": 2}) == 0
    for name in ("evaluation", "evaluation_best"):
        assert evaluation(tmp_path / "run", name) == evaluation(folder, name)
    assert records(tmp_path / "run") == records(folder)


def test_a_metric_of_a_stopped_run_stands_beside_its_results(stopped, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    assert cli.evaluate([f"--workdir={tmp_path / 'run'}", "--metrics=active_units"]) == 0
    assert evaluation(tmp_path / "run").keys() >= {"active_units.protocol", "loss", "stopped_early"}


def test_a_config_of_before_the_split_has_none(run, tmp_path):
    recorded = json.loads((run / "config.json").read_text())
    for field in ("validation", "flip"):
        del recorded["config"]["data"][field]
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    config = vae_jax.load_config(str(tmp_path / "config.json"))
    assert (config.data.validation, config.data.flip) == (0, False)


def members_file(folder, members):
    rows = [
        {"workdir": str(folder / name), "words": small_words(**FIELDS | fields)} for name, fields in members.items()
    ]
    (folder / "members.json").write_text(json.dumps(rows))
    return f"--members={folder / 'members.json'}"


QUICK, SLOW = {"train.learning_rate": 3e-2}, {"train.learning_rate": 1e-4}


def test_halving_drops_by_validation(tmp_path):
    fields = {"sweep.halving": "(30,)"}
    assert cli.population([members_file(tmp_path, {"quick": QUICK | fields, "slow": SLOW | fields})]) == 0
    assert (tmp_path / "quick/dropped.json").exists()  # and is better by the test split
    assert evaluation(tmp_path / "slow")["step"] == 60


def test_a_member_stops_when_its_own_patience_runs_out_and_gets_lost_results_again(stopped, tmp_path):
    alone, fields = stopped[0], {"train.patience": 2}
    file, quick = members_file(tmp_path, {"quick": QUICK | fields, "slow": SLOW | fields}), tmp_path / "quick"

    def check():
        assert digest(quick) == digest(alone)
        assert records(quick) == records(alone)
        for name in ("evaluation", "evaluation_best"):
            assert evaluation(quick, name) == evaluation(alone, name)

    assert cli.population([file]) == 0
    assert evaluation(quick)["step"] < 60
    assert evaluation(tmp_path / "slow")["step"] == 60
    check()
    for name in ("evaluation", "evaluation_best"):
        (quick / f"{name}.json").unlink()
    assert cli.population([file]) == 0
    check()


def test_the_run_that_is_shown_is_chosen_by_validation(run, tmp_path):
    shutil.copytree(run, tmp_path / "quick")
    assert train(tmp_path / "slow", **SLOW) == 0
    comparison = compare_folders([str(tmp_path)], by=("variant.name",))
    ((group, shown),) = best_runs(comparison)
    assert shown.name == "slow"
    by_test = max(comparison.runs, key=lambda run: run.metrics["elbo"])
    assert by_test.name == "quick"
    assert group.summaries["elbo"].mean == pytest.approx(np.mean([run.metrics["elbo"] for run in comparison.runs]))
    best = compare_folders([str(tmp_path)], by=("variant.name",), checkpoint="best")
    numbers = {run.name: run.metrics["elbo"] for run in best.runs}
    assert numbers == {name: evaluation(tmp_path / name, "evaluation_best")["elbo"] for name in ("quick", "slow")}
    assert numbers["quick"] < by_test.metrics["elbo"] - 1


def test_without_a_validation_split_nothing_decides(tmp_path):
    assert train(tmp_path / "run", **{"data.validation": 0}) == 0
    assert {row["split"] for row in records(tmp_path / "run")} == {"train", "test"}
    assert not (tmp_path / "run/evaluation_best.json").exists()
    with pytest.raises(UserError, match="none was evaluated on a validation split"):
        vae_jax.open_run(tmp_path / "run", "best")
    for field, value in (("train.patience", 3), ("sweep.halving", "(30,)")):
        with pytest.raises(UserError, match=rf"^config\.{field}: .* needs the validation split"):
            train(tmp_path / "other", **{"data.validation": 0, field: value})
    assert not (tmp_path / "other").exists()


def test_patience_counts_evaluations_that_are_not_better():
    scores = {10: -5.0, 20: -4.0, 30: -4.0, 40: -4.5, 50: -3.0}
    assert patience_step(scores, 2) == 40
    assert patience_step(scores, 3) is None
    assert patience_step(scores, 0) is None
    assert patience_step({}, 1) is None
    assert patience_step({10: float("nan"), 20: -1.0}, 2) is None


def test_a_decline_is_long_after_three_evaluations_and_a_fifth_of_all():
    falling = {step: -float(step) for step in range(10, 50, 10)}
    assert "since step 10 (-10.00 there, -40.00 at step 40)" in decline(falling, 10)
    assert not decline({step: falling[step] for step in (10, 20, 30)}, 10)
    long = {step: 0.0 if step == 960 else -1.0 for step in range(10, 1001, 10)}
    assert not decline(long, 960)
    assert not decline(falling, 40)
    assert not decline(falling | {35: 0.0}, 10)  # of a step that was not saved
