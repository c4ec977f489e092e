"""W&B's agent, sync and resume with real trainings, against a server on the loopback address."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import ClassVar

import pytest
import yaml
from helpers.wandb_server import serve

from vae_jax import cli
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.launch import wandb_agent
from vae_jax.sweeps import study
from vae_jax.training import workdir, writers

CONFIG = """
from vae_jax.configs import digits
from vae_jax.sweeps.algebra import grid

def get_config():
    config = digits.get_config()
    config.train.steps = 40
    config.train.dispatch = config.log.every = 10
    config.evaluation.every = config.checkpoint.every = 20
    config.net.hidden = (8,)
    config.latent_dim = 2
    config.log.pictures = False
    return config

def sweep():
    return grid(**{"variant.beta": [1.0, 4.0], "seed": [0]})
"""

LAUNCHER = """
from wandb.agents.pyagent import Agent
from vae_jax import cli
from vae_jax.config.command_line import run_program
from vae_jax.launch import wandb_heartbeats
Agent.HEARTBEAT_SLEEP_SECONDS = wandb_heartbeats.HEARTBEAT_SECONDS = 0.2
run_program(cli.agent)
"""
"""The agent, in less of a wait for its next trial."""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    return tmp_path


@pytest.fixture
def server():
    with serve() as server:
        yield server


def environment(home, server, **variables):
    kept = {name: value for name, value in os.environ.items() if "WANDB" not in name and "proxy" not in name.lower()}
    wandb = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": server.url, "WANDB_ERROR_REPORTING": "false"}
    return kept | {"HOME": str(home), "XLA_FLAGS": ""} | wandb | variables


def start(place, server, *words):
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=place,
        env=environment(place, server),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(place, server, expected, *words):
    process = start(place, server, *words)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == expected, output
    return output


def wait_for(condition, process, seconds=300):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended too early:\n{process.communicate()[0]}"
        assert time.monotonic() < limit
        time.sleep(0.05)


AGENT = ("launcher", "e/p/abc", "--config=config.py", "--workdir=study")
PLAIN = ["--config=config.py", "--config.wandb.mode=online"]


def folder_of(place, **point):
    """Where the run of this point belongs, and that it is there."""
    words = [*PLAIN, *(f"--config.{field.replace('__', '.')}={value}" for field, value in point.items())]
    with contextlib.chdir(place):
        config = parse_config(words)
    (folder,) = (place / "study").glob(f"*{study.run_suffix(config.to_dict())}")
    return folder


def steps(history):
    return [record["_step"] for record in history]


# --- With stand-ins for W&B and for the trainer ---------------------------------------------------

FAKE = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[-1].partition("=")[2])
(folder / "trial").write_text(os.environ["WANDB_RUN_ID"] + os.environ["WANDB_SERVICE"])
status = int(os.environ.get("STATUS", 0))
if not status:
    (folder / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 40}))
sys.exit(status)
"""
"""Stands in for vae-jax train: says of which trial it is, and ends with the status in its environment."""


class Mirror(writers.WandbMirror):
    """Stands in for a run in W&B."""

    made: ClassVar[list] = []

    def __init__(self, folder, settings, config):
        self.name, self.records, self.values, self.exit_code = settings["name"], [], {}, None
        self.made.append(self)

    def metrics(self, record):
        self.records.append(record)

    def picture(self, file, step):
        self.records.append(file.name)

    def summary(self, values, prefix="final"):
        self.values[prefix] = values

    def close(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def trials(place, monkeypatch):
    """Runs an agent whose sweep hands out these points, by the name of the trial; its exit status."""
    (place / "fake.py").write_text(FAKE)
    monkeypatch.setenv("WANDB_SERVICE", "the agent's")  # which ends with it: no trial is to depend on it
    monkeypatch.chdir(place)
    monkeypatch.setattr(wandb_agent, "COMMAND", [sys.executable, str(place / "fake.py")])
    monkeypatch.setattr(wandb_agent, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(writers, "WandbMirror", Mirror)
    monkeypatch.setattr(Mirror, "made", [])

    def run_trials(points, sweep="e/p/abc"):
        def hand_out(path, config, folder, count, run):
            assert path == sweep
            for name, point in points.items():
                values = {field: {"value": value} for field, value in point.items()}
                (place / "point.yaml").write_text(yaml.safe_dump({"wandb_version": 1, **values}))
                monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
                monkeypatch.setenv("WANDB_RUN_ID", name)
                monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(place / "point.yaml"))
                run()

        monkeypatch.setattr(wandb_agent, "request_trials", hand_out)
        return cli.agent([sweep, "--config=config.py", "--workdir=study"])

    return run_trials


def test_a_trial_is_trained_once_and_one_that_is_wrong_fails_alone(trials, place, capfd):
    good = {"variant.beta": 4, "seed": 1}
    assert trials({"first": good, "wrong": {"variant.bta": 4}}) == 1
    folder = folder_of(place, variant__beta=4, seed=1)
    assert (folder / "trial").read_text() == (folder / "wandb/id").read_text() == "first"
    (planned,) = study.read_plan(place / "study")
    assert planned.id == folder.name
    output, errors = capfd.readouterr()
    assert "1 trials done, 1 failed" in output
    (line,) = [line for line in errors.splitlines() if "error" in line]
    assert "error: trial wrong: config.variant.bta: 'bta' is unknown" in line
    (wrong,) = Mirror.made
    assert (wrong.name, wrong.exit_code) == ("wrong", 1)
    assert "did you mean 'beta'?" in wrong.values["failed"]["error"]

    (folder / "metrics.jsonl").write_text('{"step": 10, "split": "train"}\n')
    (folder / "pictures").mkdir()
    (folder / "pictures/samples.png").touch()
    assert trials({"again": good}) == 0
    assert (folder / "trial").read_text() == "first"  # it is uploaded, not trained anew
    upload = Mirror.made[-1]
    assert upload.records == [{"step": 10, "split": "train"}, "samples.png"]
    assert (upload.values, upload.exit_code) == ({"final": {"loss": 1.0}}, 0)


def test_a_trial_that_has_failed_is_not_tried_again_and_one_that_crashes_is(trials, place, capfd, monkeypatch):
    monkeypatch.setenv("STATUS", "3")
    assert trials({"crash": {"seed": 1}}) == 1
    folder = folder_of(place, seed=1)
    assert f"trial crash: {folder.name} ended with status 3; the same command tries it again" in capfd.readouterr().err
    monkeypatch.setenv("STATUS", "0")
    assert trials({}) == 0  # it goes on before others are asked for
    assert f"{folder.name}: goes on, as the trial crash" in capfd.readouterr().out
    (folder / "failed.json").write_text(json.dumps({"error": "loss\x1b[2J\nnot finite"}))
    assert trials({"diverged": {"seed": 1}}) == 1
    assert "has failed before (loss\\x1b[2J\\nnot finite); remove its failed.json" in capfd.readouterr().err


def test_why_a_trial_has_failed_is_one_line_of_a_terminal(trials, capfd, monkeypatch):
    plan_runs = wandb_agent.plan_runs

    def refuse(file, overrides, points, *folder):
        if folder:
            raise UserError("red \x1b[31m")
        return plan_runs(file, overrides, points)

    assert trials({"wrong": {"variant.b\x1b[2J\na": 4}}) == 1
    errors = capfd.readouterr().err
    assert "\x1b" not in errors
    assert "error: trial wrong: config.variant.b\\x1b[2J\\na: 'b\\x1b[2J\\na' is unknown" in errors
    monkeypatch.setattr(wandb_agent, "plan_runs", refuse)
    assert trials({"wrong": {}}) == 1
    assert "error: trial wrong: red \\x1b[31m" in capfd.readouterr().err


def test_a_trial_that_is_stopped_before_it_trains_has_not_failed(trials, capfd, monkeypatch):
    plan_runs = wandb_agent.plan_runs

    def stop(file, overrides, points, *folder):
        if folder:
            raise Exception  # as W&B's agent does
        return plan_runs(file, overrides, points)

    monkeypatch.setattr(wandb_agent, "plan_runs", stop)
    assert trials({"early": {"seed": 1}}) == 0
    output, errors = capfd.readouterr()
    assert "the trial early was stopped in W&B" in output
    assert "0 trials done, 0 failed" in output
    assert "error" not in errors


@pytest.mark.parametrize("error", [RuntimeError(), Exception("an error of a library")])
def test_another_error_is_not_taken_for_a_stop(trials, monkeypatch, error):
    plan_runs = wandb_agent.plan_runs

    def fail(file, overrides, points, *folder):
        if folder:
            raise error
        return plan_runs(file, overrides, points)

    monkeypatch.setattr(wandb_agent, "plan_runs", fail)
    with pytest.raises(type(error)) as raised:
        trials({"broken": {"seed": 1}})
    assert raised.value is error


def test_three_failures_in_a_row_end_the_agent(trials, capfd):
    assert trials({f"bad{i}": {"latent_dim": -i} for i in range(1, 9)}) == 1
    output, errors = capfd.readouterr()
    assert "3 trials in a row have failed" in errors
    assert "0 trials done, 3 failed" in output
    assert [mirror.name for mirror in Mirror.made] == ["bad1", "bad2", "bad3"]


# --- With W&B's own agent, and real trainings -----------------------------------------------------


@pytest.mark.full
def test_an_agent_runs_trials_and_one_that_is_wrong_fails_alone(place, server):
    good = {"variant.beta": 4, "seed": 1}
    server.trials = [("first", good), ("wrong", {"variant.bta": 4, "seed": 1}), ("again", good)]
    output = run(place, server, 1, *AGENT, "--count=3")
    folder = folder_of(place, variant__beta=4, seed=1)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    first, wrong, again = (server.runs[name] for name in ("first", "wrong", "again"))
    for trial in (first, again):  # the second is the same run: it is told, not trained anew
        assert trial.exit == 0
        assert trial.settings["sweep"] == "abc"
        assert (trial.settings["entity"], trial.settings["project"]) == ("e", "p")
        assert json.loads(trial.settings["config"])["variant"]["value"]["beta"] == 4
        assert steps(trial.history) == [10, 20, 30, 40]
        assert trial.summary["final/elbo"] == pytest.approx(evaluation["elbo"])
        assert trial.history[-1]["train/loss"] == first.history[-1]["train/loss"]
    assert len(re.findall(r"step 40/40 .*  test ", output)) == 1
    assert (wrong.exit, wrong.history) == (1, [])
    (said,) = [line for line in output.splitlines() if "trial wrong" in line and "error" in line]
    assert "error: trial wrong: config.variant.bta: 'bta' is unknown" in said
    assert "did you mean 'beta'?" in said
    assert "Traceback" not in output
    assert "2 trials done, 1 failed" in output
    (planned,) = study.read_plan(place / "study")
    assert planned.id == folder.name
    assert study.problem(folder) is None


@pytest.mark.full
def test_a_stopped_trial_goes_on_first_unless_it_was_stopped_in_wandb(place, server):
    changed = {"train.steps": 1000, "train.dispatch": 1, "log.every": 50, "evaluation.every": 500}
    slow = [f"--config.{field}={value}" for field, value in changed.items()]
    server.trials = [("slow", {"seed": 2})]
    process = start(place, server, *AGENT, *slow)
    wait_for(lambda: any(study.last_step(folder) for folder in (place / "study").glob("beta_*")), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert server.runs["slow"].exit == 128 + signal.SIGTERM
    (folder,) = (place / "study").glob("beta_*")
    reached = int(re.search(r"stopped by a signal at step (\d+)", output).group(1))
    assert 50 <= reached < 1000
    server.trials, server.stops = [("other", {"seed": 3})], ["other"]
    output = run(place, server, 0, *AGENT, *slow, "--count=1")
    assert f"resuming at step {reached} of 1000" in output
    assert f"{folder.name}: goes on, as the trial slow" in output
    assert server.runs["slow"].exit == 0
    assert server.runs["slow"].settings["sweep"] == "abc"
    assert sorted(set(steps(server.runs["slow"].history))) == list(range(50, 1001, 50))
    assert "the trial other was stopped in W&B" in output
    assert [file.name for file in (place / "study/programs").glob("*.trial.json")] == [f"{folder.name}.trial.json"]
    assert json.loads((folder / "evaluation.json").read_text())["step"] == 1000


def programs(place):
    """What each process of a population printed, one text a process."""
    logs = [file.read_text() for file in sorted((place / "study/programs").glob("*.log"))]
    return [text for log in logs for text in log.split("\n--- ")]


@pytest.mark.full
def test_trials_at_once_are_one_population_and_each_its_own_run(place, server):
    points = {
        "first": {"variant.beta": 4, "seed": 1},
        "wrong": {"variant.bta": 4, "seed": 1},
        "other": {"variant.beta": 1, "seed": 2},
        "twin": {"variant.beta": 4, "seed": 1},
        "wild": {"variant.beta": 1, "train.learning_rate": 1e30},
    }
    server.trials = list(points.items())
    output = run(place, server, 1, *AGENT, "--at_once=4")
    assert "Traceback" not in output
    assert "3 trials done, 2 failed" in output
    (log,) = programs(place)
    assert "3 members of" in log
    assert "3 at once, in 1 round" in log
    assert {name: trial.exit for name, trial in server.runs.items()} == dict.fromkeys(points, 0) | {
        "wrong": 1,
        "wild": 1,
    }
    for name in ("first", "other", "twin", "wild"):
        trial, config = server.runs[name], json.loads(server.runs[name].settings["config"])
        assert [trial.settings[field] for field in ("sweep", "entity", "project")] == ["abc", "e", "p"]
        assert config["variant"]["value"]["beta"] == config["variant.beta"]["value"] == points[name]["variant.beta"]
    for name, point in {"first": {"variant__beta": 4, "seed": 1}, "other": {"variant__beta": 1, "seed": 2}}.items():
        folder, trial = folder_of(place, **point), server.runs[name]
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses = {record["step"]: record["loss"] for record in records if record["split"] == "train"}
        assert {record["_step"]: record["train/loss"] for record in trial.history} == pytest.approx(losses)
        evaluation = json.loads((folder / "evaluation.json").read_text())
        assert trial.summary["final/elbo"] == pytest.approx(evaluation["elbo"])
        assert (folder / "wandb/id").read_text() == name
        assert study.problem(folder) is None
    assert [record["train/loss"] for record in server.runs["twin"].history] == [
        record["train/loss"] for record in server.runs["first"].history
    ]
    (said,) = [line for line in output.splitlines() if "trial wrong" in line]
    assert said.startswith("error: trial wrong: config.variant.bta: 'bta' is unknown")
    assert "not finite (loss nan)" in output
    beats = {(beat["id"], *json.loads(beat["runState"])) for beat in server.requests("Heartbeat")}
    assert len({agent for agent, *_ in beats}) == 4
    assert {name for _, *names in beats for name in names} >= {"first", "other", "twin", "wild"}


@pytest.mark.full
def test_trials_at_once_go_on_together_without_those_stopped_in_wandb(place, server):
    changed = {"train.steps": 2000, "train.dispatch": 1, "log.every": 50}
    changed |= {"evaluation.every": 1000, "checkpoint.every": 1000}
    slow = [f"--config.{field}={value}" for field, value in changed.items()]
    server.trials = [("slow", {"seed": 2}), ("other", {"seed": 3}), ("third", {"seed": 4})]
    process = start(place, server, *AGENT, *slow, "--at_once=3", "--count=3")

    def recorded():
        return [study.last_step(folder) for folder in sorted((place / "study").glob("beta_*"))]

    wait_for(lambda: all(recorded()) and len(recorded()) == 3, process)
    server.stops = ["other"]
    wait_for(lambda: len(programs(place)) == 2 and "2 members of" in programs(place)[1], process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the trial other was stopped in W&B" in output
    assert "the same command goes on with 2 trials" in output
    assert "crash" not in output
    stopped = folder_of(place, seed=3, **{field.replace(".", "__"): value for field, value in changed.items()})
    reached = study.last_step(stopped)
    server.stops = []
    output = run(place, server, 0, *AGENT, *slow, "--at_once=2", "--count=1")
    assert {"slow", "third"} == set(re.findall(r"goes on, as the trial (\w+)", output))
    assert "2 trials done, 0 failed" in output
    assert study.last_step(stopped) == reached < 2000
    for name in ("slow", "third"):
        assert server.runs[name].exit == 0
        assert server.runs[name].settings["sweep"] == "abc"
        assert sorted(set(steps(server.runs[name].history))) == list(range(50, 2001, 50))


def test_a_trial_that_another_process_still_trains_is_left_to_it(tmp_path, capsys):
    run = study.PlanEntry("beta_digits_s0_0", "program", 40, (), [])
    (tmp_path / "programs").mkdir()
    study.write_plan(tmp_path, [run])
    variables = {"WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "slow"}
    write_json(wandb_agent.trial_file(tmp_path, run.id), variables)
    with workdir.claim(tmp_path / run.id, {}):
        assert wandb_agent.unfinished_trials(tmp_path, "abc") == []
    assert f"{run.id}: another process trains it, as the trial slow" in capsys.readouterr().out
    assert wandb_agent.unfinished_trials(tmp_path, "abc") == [(run, variables)]
    write_json(wandb_agent.trial_file(tmp_path, run.id), {"WANDB_SWEEP_ID": "abc"})  # damaged
    assert wandb_agent.unfinished_trials(tmp_path, "abc") == []


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((), "SWEEP_ID: missing"),
        (("abc", "--cout=3"), "did you mean 'count'"),
        (("abc", "--count=many"), "--count: 'many' is not allowed"),
        (("abc", "--at_once=0"), "--at_once: '0' is not allowed; give a whole number of at least 1"),
        (("abc", "--at_once=two"), "--at_once: 'two' is not allowed; give a whole number of at least 1"),
        (("a/b/c/d", "--at_once=2"), "SWEEP_ID: 'a/b/c/d' is not allowed"),
        (("abc", "--config.wandb.mode=offline"), "config.wandb.mode: 'offline' is not allowed"),
        (("abc", "--config=config.py", "--config.latent_dim=0"), "config.latent_dim: 0 is not allowed"),
    ],
)
def test_a_wrong_command_line_is_refused_before_a_trial_is_asked_for(place, monkeypatch, words, match):
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=match):
        cli.agent(list(words))
    assert not (place / "runs").exists()


@pytest.mark.full
def test_a_sweep_that_is_not_there_is_one_line(place, server):
    server.sweep = None
    for words in ((), ("--at_once=2",)):
        output = run(place, server, 2, *AGENT, *words)
        assert "error: SWEEP_ID: 'e/p/abc': W&B does not give its trials" in output
        assert "Traceback" not in output


@pytest.mark.full
def test_trials_that_all_fail_end_the_agent(place, server):
    server.trials = [(f"bad{i}", {"latent_dim": -i}) for i in range(1, 9)]
    output = run(place, server, 1, *AGENT)
    assert "3 trials in a row have failed" in output
    assert [server.runs[f"bad{i}"].exit for i in (1, 2, 3)] == [1, 1, 1]
    assert "bad4" not in server.runs


@pytest.mark.full
def test_wandb_takes_the_sweep_file_of_a_grid(place, server):
    run(
        place,
        server,
        0,
        "vae_jax",
        "emit",
        "--to=wandb",
        "--config=config.py",
        "--workdir=study",
        "--output=sweep.yaml",
    )
    run(place, server, 0, "wandb", "sweep", "sweep.yaml")
    (request,) = server.requests("UpsertSweep")
    assert request["projectName"] == "vae_jax"
    config = yaml.safe_load(request["config"])
    assert config["method"] == "grid"
    assert config["parameters"] == {"variant.beta": {"values": [1.0, 4.0]}, "seed": {"values": [0]}}


@pytest.mark.full
def test_offline_runs_of_a_population_sync_one_run_a_member_in_one_group(place, server):
    offline = ("--config.wandb.mode=offline", "--config.wandb.project=lab")
    run(place, server, 0, "vae_jax", "sweep", "--config=config.py", "--workdir=study", *offline)
    assert not server.operations
    folders = {file.parent.name: file.parent for file in (place / "study").glob("*/config.json")}
    assert len(folders) == 2
    kept = [str(path) for path in (place / "study").glob("*/wandb/offline-run-*")]
    run(place, server, 0, "wandb", "sync", *kept)
    assert sorted(trial.settings["displayName"] for trial in server.runs.values()) == sorted(folders)
    for name, trial in server.runs.items():
        folder = folders[trial.settings["displayName"]]
        assert (folder / "wandb" / "id").read_text() == name
        assert (trial.settings["groupName"], trial.settings["project"]) == ("study", "lab")
        assert trial.exit == 0
        assert steps(trial.history) == [10, 20, 30, 40]
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses = {record["step"]: record["loss"] for record in records if record["split"] == "train"}
        assert {record["_step"]: record["train/loss"] for record in trial.history} == pytest.approx(losses)
