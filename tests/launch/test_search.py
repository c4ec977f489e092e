"""A search as one runs it: generations that compile once, kills, pruning, static fields, several objectives."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers.small_run import SMALL

from vae_jax import cli
from vae_jax.api import compare
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.launch import generations
from vae_jax.launch.search import goals
from vae_jax.sweeps import study
from vae_jax.sweeps.objectives import Objective
from vae_jax.sweeps.trial_records import read_trials

pytest.importorskip("optuna")

CONFIG = """
from vae_jax.configs.digits import get_config
from vae_jax.sweeps.algebra import choice, log_uniform

def search():
    return SPACE
"""
TRACED = "{'variant.beta': log_uniform(0.1, 10.0), 'train.learning_rate': log_uniform(1e-4, 1e-1)}"
FIELDS = {**SMALL, "log.pictures": "false"}


def words(folder, space, *flags, **fields):
    """The command line of a search of this space in a folder."""
    (folder / "mine.py").write_text(CONFIG.replace("SPACE", space))
    settings = [f"--config.{field}={value}" for field, value in (FIELDS | fields).items() if field not in space]
    return [f"--config={folder / 'mine.py'}", f"--workdir={folder / 'study'}", *flags, *settings]


def trials(folder):
    return json.loads((folder / "study/trials.json").read_text())["trials"]


@pytest.fixture(autouse=True)
def restore_environment():
    """A search tells jax of its devices, and W&B of its group, by variables."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def compilations(monkeypatch):
    """How many programs were compiled when each generation had been told."""
    from jax import monitoring

    names, counts = [], []

    def listen(name, seconds, **words):
        names.extend([name] * ("backend_compile" in name))

    monitoring.register_event_duration_secs_listener(listen)
    tell = generations.Journal.tell
    monkeypatch.setattr(
        generations.Journal, "tell", lambda *arguments: (tell(*arguments), counts.append(len(names)))[0]
    )
    yield counts
    monitoring.unregister_event_duration_listener(listen)


@pytest.mark.usefixtures("undrawn")
def test_generations_over_traced_fields_compile_once_and_leave_a_study(tmp_path, compilations, capsys):
    flags = ("--trials=8", "--at_once=3", "--seeds=2", "--sampler=random")
    assert cli.search(words(tmp_path, TRACED, *flags)) == 0
    assert len(compilations) == 3
    assert 0 < compilations[0] == compilations[2]  # also of the last generation, which is smaller
    printed = capsys.readouterr().out
    told = trials(tmp_path)
    assert [trial["state"] for trial in told] == ["COMPLETE"] * 8
    runs = [run for trial in told for run in trial["runs"]]
    assert len(set(runs)) == 16
    for trial in told:
        values = [json.loads((tmp_path / "study" / run / "evaluation.json").read_text()) for run in trial["runs"]]
        assert trial["values"]["elbo"] == pytest.approx(sum(v["validation.elbo"] for v in values) / 2)
        config = json.loads((tmp_path / "study" / trial["runs"][1] / "config.json").read_text())["config"]
        assert (config["seed"], config["variant"]["beta"]) == (1, trial["params"]["variant.beta"])
    best = max(told, key=lambda trial: trial["values"]["elbo"])
    assert f"trial {best['number']}  elbo {best['values']['elbo']:.5g} ± " in printed
    assert "what elbo varies with (fANOVA): " in printed
    (again,) = (line for line in printed.splitlines() if "trial.py" in line)
    file = shlex.split(again)[-2].removeprefix("--config=")
    assert load_config(file)["variant"]["beta"] == best["params"]["variant.beta"]
    assert load_config(file).sweep.halving == ()
    assert f"seed=range(2, {2 + 8})" in (tmp_path / "study/trial.py").read_text()  # that had no part in the choice
    with pytest.raises(UserError, match="has no trial '99'"):
        load_config(f"{tmp_path / 'study/trial.py'}:99")

    assert cli.status([str(tmp_path / "study")]) == 0
    assert "not of this study" not in capsys.readouterr().out
    comparison = compare(tmp_path / "study")
    assert len(comparison.groups) == 8
    assert not comparison.skipped
    assert cli.search(words(tmp_path, TRACED, *flags)) == 0  # and again: nothing is left to do
    assert trials(tmp_path) == told
    with pytest.raises(UserError, match=r"variant\.beta in its space is"):
        cli.search(words(tmp_path, TRACED.replace("10.0", "9.0"), *flags))


@pytest.mark.usefixtures("undrawn")
def test_pruned_trials_are_frozen_in_the_program(tmp_path, compilations):
    flags = ("--trials=12", "--at_once=6", "--sampler=random")
    assert cli.search(words(tmp_path, TRACED, *flags, **{"sweep.halving": "(20,40)"})) == 0
    states = [trial["state"] for trial in trials(tmp_path)]
    assert "PRUNED" in states[6:]
    assert "PRUNED" not in states[:6]  # a median is of trials that are told
    assert compilations[0] == compilations[1]
    for trial in trials(tmp_path):
        (run,) = trial["runs"]
        assert (
            study.end_state(tmp_path / "study" / run, 60)
            == {
                "COMPLETE": study.DONE,
                "PRUNED": study.DROPPED,
                "FAIL": study.FAILED,
            }[trial["state"]]
        )
        if trial["state"] == "PRUNED":
            reason = json.loads((tmp_path / "study" / run / "dropped.json").read_text())
            assert reason["pruner"] == "median"
            assert str(reason["step"]) == max(trial["intermediate"], key=int)


@pytest.mark.usefixtures("undrawn")
def test_static_fields_are_programs_of_their_own_and_goals_may_be_several(tmp_path, capsys):
    space = "{'variant.beta': log_uniform(1, 4), 'net.hidden': choice((4,), (10**9, 10**9))}"
    flags = ("--trials=6", "--at_once=3", "--objective=rate:min,smoothness:max", "--sampler=nsga2")
    assert cli.search(words(tmp_path, space, *flags, **{"train.steps": 20})) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "own, at most 2 in all: net.hidden (choice((4,), (1000000000, 1000000000)))" in printed
    assert "the Pareto set (none is better in all)" in printed
    told = trials(tmp_path)
    too_large = [trial for trial in told if trial["params"]["net.hidden"] == [10**9, 10**9]]
    assert 0 < len(too_large) < len(told)
    for trial in told:
        assert trial["state"] == ("FAIL" if trial in too_large else "COMPLETE")
    read = read_trials(tmp_path / "study")
    evaluation = json.loads((tmp_path / "study" / read.trials[0]["runs"][0] / "evaluation.json").read_text())
    assert evaluation["validation.smoothness"] == read.trials[0]["values"]["smoothness"]
    assert "smoothness" not in evaluation  # the test split had no part in it


@pytest.mark.usefixtures("undrawn")
def test_options_that_come_twice_are_one_run_and_a_bad_one_fails_whenever_it_comes(tmp_path, compilations, capsys):
    space = "{'variant.beta': choice(1.0, 2.0, 3.0)}"
    flags = ("--at_once=4", "--sampler=random", "--objective=elbo")
    settings = {"train.steps": 20, "sweep.members_per_device": 1}
    assert cli.search(words(tmp_path, space, "--trials=4", *flags, **settings)) == 0
    assert cli.search(words(tmp_path, space, "--trials=8", *flags, **settings)) == 0  # as in another process
    assert len(trials(tmp_path)) == 8
    assert len({trial["runs"][0] for trial in trials(tmp_path)}) == 3
    assert capsys.readouterr().out.count("elbo -") >= 3
    # What is bad alone in a generation, where others have ended before, fails; a fault of the machine fails nothing.
    space = "{'net.hidden': choice((4,), (10**9, 10**9))}"
    (tmp_path / "second").mkdir()
    command = words(tmp_path / "second", space, "--at_once=1", "--sampler=random", **settings)
    with pytest.raises(UserError, match="this machine has"):
        cli.search([*command, "--trials=1", "--config.parallel.devices=64"])
    assert not list((tmp_path / "second/study").glob("*/failed.json"))
    shutil.rmtree(tmp_path / "second/study")
    for limit in range(1, 7):
        if cli.search([*command, f"--trials={limit}"]):
            break
        states = {tuple(t["params"]["net.hidden"]): t["state"] for t in trials(tmp_path / "second")}
        if len(states) == 2:
            break
    assert states == {(4,): "COMPLETE", (10**9, 10**9): "FAIL"}


def test_what_no_program_can_do_ends_the_search_and_fails_no_trial(tmp_path):
    command = words(tmp_path, TRACED, "--trials=4", "--at_once=2", **{"train.batch_size": 100000})
    with pytest.raises(UserError, match=r"config\.train\.batch_size: 100000 is more than"):
        cli.search(command)
    assert [trial["state"] for trial in trials(tmp_path)] == ["RUNNING"] * 2
    assert not list((tmp_path / "study").glob("*/failed.json"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sampler=tpee", "--sampler: 'tpee' is unknown; known: cmaes, gp, nsga2, random, tpe; did you mean 'tpe'"),
        ("--at_once=0", "--at_once: '0' is not allowed; give a whole number of at least 1"),
        ("--trials=many", "--trials: 'many' is not allowed"),
        ("--pruner=median", "--pruner: 'median' prunes at the steps of config.sweep.halving, which is empty"),
        ("--objective=elbow", "--objective: 'elbow' is unknown"),
        ("--gpus=2", "--slurm: missing beside flags of vae-jax slurm"),
        ("--objective=,", "--objective: missing; give at least one"),
        ("--config.data.validation=0", "leaves no validation split, by which a search goes"),
    ],
)
def test_a_wrong_flag_is_said_and_nothing_is_begun(tmp_path, flag, message):
    with pytest.raises(UserError, match=message):
        cli.search(words(tmp_path, TRACED, flag))
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"needs optuna, which the extra 'search' brings: pip install .*\[search\]"):
        cli.search(words(tmp_path, TRACED))
    assert not (tmp_path / "study").exists()


@pytest.mark.full
def test_a_search_that_is_killed_ends_with_the_trials_of_one_that_was_not(tmp_path):
    flags = ("--trials=8", "--at_once=4")
    command = [sys.executable, "-m", "vae_jax", "search"]
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=2")}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    fields = {"sweep.halving": "(20,40)"}
    whole = words(tmp_path / "whole", TRACED, *flags, **fields)
    assert subprocess.run([*command, *whole], env=environment, capture_output=True).returncode == 0
    killed = words(tmp_path / "killed", TRACED, *flags, **fields)
    for pattern in ("*/metrics.jsonl", "*/evaluation.json"):  # in the middle of a generation, and at its end
        process = subprocess.Popen([*command, *killed], env=environment, stdout=subprocess.DEVNULL)
        while not list((tmp_path / "killed/study").glob(pattern)) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run([*command, *killed], env=environment, capture_output=True).returncode == 0
    assert trials(tmp_path / "killed") == trials(tmp_path / "whole")
    for trial in trials(tmp_path / "whole"):
        (run,) = trial["runs"]
        for name in {"evaluation.json", "dropped.json"}:
            texts = [file.read_text() for file in tmp_path.glob(f"*/study/{run}/{name}")]
            assert len(texts) in (0, 2)
            assert len(set(texts)) <= 1


def test_what_a_search_goes_by_says_its_unit_and_which_way_is_better():
    assert goals([Objective("elbo", True)]) == "elbo:max of the validation split (nats per image, higher is better)"
    both = goals([Objective("distortion", False), Objective("mig:bins=30", True)])
    first, second = both.split(" and ")
    assert first == "distortion:min of the validation split (nats per image, lower is better)"
    assert second.startswith("mig:bins=30:max of")
    assert second.endswith(" (higher is better)")
