"""Trials of a W&B sweep that train at once, with stand-ins for W&B and for the trainer."""

import io
import json
import signal
import subprocess
import sys
import types
from typing import ClassVar

import pytest

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.launch import local, wandb_heartbeats, wandb_trials
from vae_jax.launch.live_table import Table
from vae_jax.launch.local import Worker
from vae_jax.launch.machine import DeviceShare
from vae_jax.launch.progress import GroupProgress
from vae_jax.launch.stopping import StopSignals
from vae_jax.launch.wandb_heartbeats import Offer, SweepAgents, SweepPath, read_sweep_path
from vae_jax.sweeps import study
from vae_jax.training import writers

CONFIG = """
from vae_jax.configs import digits

def get_config():
    config = digits.get_config()
    config.train.steps = 40
    return config
"""


POPULATION = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
folders = [pathlib.Path(member["workdir"]) for member in json.load(open(sys.argv[-1].partition("=")[2]))]
with open("started", "a") as file:
    file.write(f"{len(folders)}{os.environ['WANDB_SERVICE']} ")
while len(folders) > 1:
    time.sleep(0.01)
(folders[0] / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 40}))
"""
"""Stands in for vae-jax population: waits to be told to end, and is done where it has one member."""


class Agents(SweepAgents):
    """Stands in for the agents of a sweep: gives trials of these `points`, by the id; None is a sweep that waits."""

    points: ClassVar[list] = []

    def __init__(self, path):
        super().__init__(path)
        self.busy = set()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.seats = 0

    def ask(self, seats):
        self.silent = self.silent and seats == self.seats
        self.seats = seats

    def next_offer(self, seconds):
        if len(self.busy) >= self.seats or self.silent:
            return None
        if not self.points:
            self.exhausted = True
            return None
        name, point = self.points.pop(0)
        self.silent = point is None
        if self.silent:
            return None
        self.busy.add(name)
        return Offer(name, {field: {"value": value} for field, value in point.items()})

    def release(self, trial):
        self.busy.discard(trial)


class Mirror(writers.WandbMirror):
    """Stands in for a run in W&B that the agent tells something itself."""

    made: ClassVar[list] = []

    def __init__(self, folder, settings, config):
        self.trial = json.loads((folder / writers.TRIAL_FILE).read_text())
        self.id, self.name, self.records, self.values = (folder / "wandb/id").read_text(), settings["name"], [], {}
        self.made.append(self)

    def metrics(self, record):
        self.records.append(record)

    def summary(self, values, prefix="final"):
        self.values[prefix] = values

    def close(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    for module, name, value in (
        (wandb_trials, "SweepAgents", Agents),
        (wandb_trials, "PATIENCE", 0.02),
        (writers, "WandbMirror", Mirror),
        (Mirror, "made", []),
    ):
        monkeypatch.setattr(module, name, value)
    return tmp_path


@pytest.fixture
def agent(place, monkeypatch):
    """Runs an agent of a sweep of these trials, and gives its exit status and the trials of each round.

    `end` is what becomes of a run that trains: called with its folder, its steps and the signals.
    """

    def done(folder, steps, stop):
        write_json(folder / "evaluation.json", {"loss": 1.0, "step": steps})
        (folder / "metrics.jsonl").write_text('{"step": 10, "split": "train"}\n')

    def run_agent(trials, *words, end=done):
        rounds = []

        def run_programs(folder, programs, stop, stopped_runs):
            entries = [entry for runs in programs.values() for entry in runs]
            rounds.append([(folder / entry.id / "wandb/id").read_text() for entry in entries])
            for entry in entries:
                assert (folder / entry.id).is_dir()
                end(folder / entry.id, entry.steps, stop)

        monkeypatch.setattr(wandb_trials, "run_programs", run_programs)
        monkeypatch.setattr(Agents, "points", list(trials))
        return cli.agent(["e/p/abc", "--config=config.py", "--workdir=study", *words]), rounds

    return run_agent


GOOD = {"variant.beta": 4, "seed": 1}


def seeds(*names):
    return [(name, {"seed": number}) for number, name in enumerate(names)]


def test_a_wrong_trial_fails_alone_and_its_agent_asks_for_another(agent, place, capfd):
    trials = [("good", GOOD), ("wrong", {"variant.bta": 4}), *seeds("zero", "one")]
    status, rounds = agent(trials, "--at_once=2")
    assert (status, rounds) == (1, [["good", "zero"], ["one"]])
    output, errors = capfd.readouterr()
    assert "3 trials done, 1 failed; in study" in output
    (line,) = [line for line in errors.splitlines() if "error" in line]
    assert line.startswith("error: trial wrong: config.variant.bta: 'bta' is unknown")
    (wrong,) = Mirror.made
    assert (wrong.id, wrong.name, wrong.exit_code) == ("wrong", "wrong", 1)
    assert "did you mean 'beta'?" in wrong.values["failed"]["error"]
    assert wrong.trial == {"sweep": "abc", "project": "p", "entity": "e", "parameters": {"variant.bta": 4}}
    planned = {run.id: run for run in study.read_plan(place / "study")}
    assert len(planned) == 3
    (folder,) = (place / "study").glob("beta=4_s1_*")
    assert folder.name in planned
    assert json.loads((folder / writers.TRIAL_FILE).read_text())["parameters"] == GOOD


def test_three_failures_in_a_row_end_the_agent_and_a_good_trial_between_them_does_not(agent, capfd):
    wrong = [(f"bad{i}", {"latent_dim": -i}) for i in range(1, 6)]
    assert agent([wrong[0], wrong[1], ("good", GOOD), wrong[2]], "--at_once=2")[1] == [["good"]]
    assert "3 trials in a row" not in capfd.readouterr().err
    assert agent(wrong, "--at_once=2") == (1, [])
    output, errors = capfd.readouterr()
    assert "3 trials in a row have failed; no more are asked for" in errors
    assert "0 trials done, 3 failed" in output
    assert Agents.points == wrong[3:]


@pytest.mark.parametrize(
    ("words", "expected", "remaining"),
    [
        (("--at_once=3", "--count=4"), [["a", "b", "c"], ["d"]], ["e"]),
        (("--at_once=3", "--count=2"), [["a", "b"]], ["c", "d", "e"]),
        (("--at_once=8",), [["a", "b", "c", "d", "e"]], []),
    ],
)
def test_rounds_of_as_many_trials_as_are_asked_for(agent, words, expected, remaining):
    assert agent(seeds(*"abcde"), *words) == (0, expected)
    assert [name for name, _ in Agents.points] == remaining


def test_a_wrong_trial_counts(agent):
    trials = [("a", {"seed": 1}), ("wrong", {"latent_dim": 0}), ("b", {"seed": 2})]
    assert agent(trials, "--at_once=2", "--count=2") == (1, [["a"]])
    assert [name for name, _ in Agents.points] == ["b"]


def test_trials_train_when_no_other_comes_for_a_while(agent, capfd):
    (a, b, c) = seeds("a", "b", "c")
    wait = ("", None)
    assert agent([a, b, wait, c], "--at_once=3") == (0, [["a", "b"], ["c"]])
    assert "gives no trial yet" not in capfd.readouterr().out


def test_a_run_that_two_trials_are_trains_once_and_one_that_was_done_not_at_all(agent, place):
    assert agent([("first", GOOD), ("twin", GOOD)], "--at_once=2") == (0, [["first"]])
    (folder,) = (place / "study").glob("beta=4_s1_*")
    (twin,) = Mirror.made
    assert agent([("again", GOOD), ("other", {"seed": 3})], "--at_once=2") == (0, [["other"]])
    again = Mirror.made[-1]
    for mirror, name in ((twin, "twin"), (again, "again")):
        assert (mirror.id, mirror.name, mirror.exit_code) == (name, folder.name, 0)
        assert mirror.records == [{"step": 10, "split": "train"}]
        assert mirror.values == {"final": {"loss": 1.0}}


def test_a_run_that_diverges_fails_all_of_its_trials(agent, capfd):
    def diverge(folder, steps, stop):
        write_json(folder / "failed.json", {"error": "loss\x1b[2J\nnot finite"})

    assert agent([("first", GOOD), ("twin", GOOD)], "--at_once=2", end=diverge)[0] == 1
    output, errors = capfd.readouterr()
    assert "0 trials done, 2 failed" in output
    assert "trial twin: beta=4_s1_" in errors
    assert "has failed before (loss\\x1b[2J\\nnot finite); remove its failed.json to try it again" in errors
    assert [(mirror.id, mirror.exit_code) for mirror in Mirror.made] == [("twin", 1)]  # the run told of itself


def test_a_run_that_crashes_is_tried_again(agent, capfd):
    assert agent([("first", GOOD)], "--at_once=2", end=lambda *what: None)[0] == 1
    assert "trial first: beta=4_s1_" in (errors := capfd.readouterr().err)
    assert "has not ended, programs/beta_digits_" in errors
    assert agent([("other", {"seed": 3})], "--at_once=2") == (0, [["first"], ["other"]])


def test_after_a_signal_the_same_command_goes_on_before_it_asks_for_others(agent, capfd):
    def interrupt(folder, steps, stop):
        stop.add(signal.SIGTERM)

    trials = [("first", GOOD), ("twin", GOOD), ("other", {"seed": 3}), ("late", {"seed": 4})]
    assert agent(trials, "--at_once=3", end=interrupt) == (128 + signal.SIGTERM, [["first", "other"]])
    assert "the same command goes on with 3 trials" in capfd.readouterr().out
    assert not Mirror.made
    status, rounds = agent([("late", {"seed": 4})], "--at_once=3")
    assert (status, sorted(rounds[0]), rounds[1:]) == (0, ["first", "other"], [["late"]])
    assert [mirror.id for mirror in Mirror.made] == ["twin"]
    assert "goes on, as the trial first" in capfd.readouterr().out


def test_an_agent_of_one_trial_goes_on_with_those_of_many(agent, monkeypatch):
    def interrupt(folder, steps, stop):
        stop.add(signal.SIGTERM)

    agent([("first", GOOD)], "--at_once=2", end=interrupt)
    resumed = []
    monkeypatch.setattr(wandb_trials.wandb_agent, "train", lambda words, folder, known: resumed.append(known) or 0)
    monkeypatch.setattr(wandb_trials.wandb_agent, "request_trials", lambda *what: None)
    assert cli.agent(["e/p/abc", "--config=config.py", "--workdir=study"]) == 0
    (known,) = resumed
    assert {name: known[f"WANDB_{name}"] for name in ("RUN_ID", "SWEEP_ID", "ENTITY", "PROJECT")} == {
        "RUN_ID": "first",
        "SWEEP_ID": "abc",
        "ENTITY": "e",
        "PROJECT": "p",
    }


def test_a_trial_that_is_stopped_in_wandb_stays_so(agent, place, capfd):
    def stop_it(folder, steps, stop):
        (folder / writers.STOP_FILE).touch()

    assert agent([("first", GOOD), ("twin", GOOD)], "--at_once=2", end=stop_it)[0] == 1
    output, errors = capfd.readouterr()
    assert "the trial first was stopped in W&B" in output
    assert "was stopped in W&B, as the trial first" in errors
    assert "0 trials done, 1 failed" in output
    assert agent([], "--at_once=2") == (0, [])
    assert agent([("new", GOOD)], "--at_once=2") == (0, [["new"]])  # it goes on as another
    assert not list((place / "study").glob("*/wandb/stopped"))


def test_trials_of_one_run_with_other_steps_follow_one_another(agent, place):
    lengths = [(name, GOOD | {"train.steps": steps}) for name, steps in (("a", 40), ("b", 80), ("c", 40), ("d", 120))]
    assert agent(lengths, "--at_once=4") == (0, [["a"], ["b"], ["d"]])
    assert [mirror.id for mirror in Mirror.made] == ["c"]
    assert len(list((place / "study").glob("*_s1_*"))) == 1


@pytest.mark.filterwarnings("ignore:os.fork")  # this process has devices, as the agent has not
def test_a_program_has_a_service_of_its_own_and_goes_on_without_a_member_that_is_stopped(place, monkeypatch):
    (place / "fake.py").write_text(POPULATION)
    monkeypatch.setattr(local, "COMMAND", [sys.executable, "fake.py"])
    monkeypatch.setattr(local, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("WANDB_SERVICE", "the agent's")
    entries = [study.PlanEntry(name, "program", 40, (), []) for name in ("a_s0_0", "b_s1_0")]
    (place / "programs").mkdir()
    for entry in entries:
        (place / entry.id).mkdir()

    def stopped_runs():
        begun = (place / "started").exists() and (place / "started").read_text()
        return {"a_s0_0"} if begun else set()

    wandb_trials.run_programs(place, {"program": entries}, StopSignals(), stopped_runs)
    assert (place / "started").read_text() == "2 1 "
    assert [study.end_state(place / entry.id, 40) for entry in entries] == [None, study.DONE]
    assert not study.error_file(place, "program").exists()


class Process(subprocess.Popen):
    """Stands in for the process of a program; counts its signals to end."""

    def __init__(self, pid):
        self.pid, self.signals = pid, 0

    def terminate(self):
        self.signals += 1


def test_a_program_that_ends_for_a_stopped_trial_is_not_killed_by_the_first_signal(tmp_path):
    scheduler = wandb_trials.TrialScheduler(tmp_path, [], [], [], Table(io.StringIO()), StopSignals([signal.SIGTERM]))
    group, share = GroupProgress("program", []), DeviceShare("a core", {}, (), 1)
    scheduler.workers = [Worker(group, share, Process(pid)) for pid in (1, 2)]
    scheduler.signal_pids.add(1)
    scheduler.pass_signals()
    assert [worker.process.signals for worker in scheduler.workers] == [0, 1]


# --- Heartbeats -----------------------------------------------------------------------------------


class Sweep:
    """Stands in for W&B: gives these answers to an agent's signs of life, by the trial that it names."""

    def __init__(self):
        self.answers, self.agents, self.beats = {}, 0, []

    def register(self, api, host, sweep_id, project, entity):
        self.agents += 1
        return {"id": f"agent{self.agents}"}

    def heartbeat(self, api, agent, metrics, states):
        (trial,) = states or [""]
        self.beats.append((agent, trial))
        answer = self.answers.get(trial, [])
        if isinstance(answer, Exception):
            raise answer
        return [answer.pop(0)] if answer else []


@pytest.fixture
def sweep(monkeypatch):
    sweep = Sweep()
    monkeypatch.setattr("wandb.Api", lambda: "api")
    monkeypatch.setattr(wandb_heartbeats, "_api_functions", lambda: (sweep.register, sweep.heartbeat))
    return sweep


@pytest.fixture
def agents():
    return SweepAgents(SweepPath("abc", "p", "e"))


def begin(name):
    return {"type": "run", "run_id": name, "args": {"seed": {"value": 1}}}


def test_agents_ask_for_as_many_trials_as_there_are_seats_and_keep_those_they_have(sweep, agents):
    sweep.answers[""] = [begin(name) for name in ("a", "b", "c", "d")]
    agents.ask(2)
    agents._beat_all()
    assert [agents.next_offer(0.0) for _ in range(3)] == [
        Offer("a", {"seed": {"value": 1}}),
        Offer("b", {"seed": {"value": 1}}),
        None,
    ]
    agents.ask(3)
    agents.release("a")
    agents._beat_all()
    assert sorted(agents.trials.values()) == ["b", "c", "d"]
    assert sweep.agents == 3
    sweep.beats.clear()
    agents.ask(0)
    agents.release("d")
    agents._beat_all()  # one without a trial is let go while the others train
    assert sorted(trial for _, trial in sweep.beats) == sorted(agents.trials.values()) == ["b", "c"]


def test_no_more_agents_ask_than_there_are_seats(sweep, agents):
    sweep.answers[""] = [begin(name) for name in ("a", "b", "c", "d")]
    agents.ask(2)
    agents._beat_all()
    agents.ask(1)
    for name in ("a", "b"):
        agents.release(name)
    agents._beat_all()
    assert sorted(agents.trials.values()) == ["", "c"]


def test_agents_are_told_to_stop_a_trial_and_that_there_are_no_more(sweep, agents):
    sweep.answers[""] = [begin("a"), begin("b"), {"type": "exit"}, begin("c")]
    agents.ask(3)
    agents._beat_all()
    assert (agents.exhausted, agents.stops) == (True, set())
    agents._beat_all()
    assert [agents.next_offer(0.0).id for _ in range(2)] == ["a", "b"]
    assert agents.next_offer(0.0) is None
    sweep.answers["b"] = [{"type": "stop", "run_id": "b"}]
    agents._beat_all()
    assert (agents.stops, list(agents.trials.values())) == ({"b"}, ["a", ""])
    sweep.answers["a"] = [{"type": "exit"}]  # the sweep is cancelled, and what runs with it
    agents._beat_all()
    assert agents.stops == {"a", "b"}


def test_a_deleted_sweep_gives_no_more_and_stops_nothing(sweep, agents):
    from wandb.sdk.sweeps import SweepNotFoundError

    sweep.answers = {"": [begin("a")], "a": SweepNotFoundError()}
    agents.ask(1)
    agents._beat_all()
    agents._beat_all()
    assert (agents.exhausted, agents.stops, agents.next_offer(0.0).id) == (True, set(), "a")


def test_an_id_that_is_no_name_of_a_file_is_not_taken(sweep, agents):
    sweep.answers[""] = [begin("../a")]
    agents.ask(1)
    agents._beat_all()
    assert agents.next_offer(0.0) is None


def test_a_server_that_is_away_is_asked_again_and_said_so_once(sweep, agents, capfd, monkeypatch):
    monkeypatch.setattr(wandb_heartbeats, "HEARTBEAT_SECONDS", 0.001)
    waits = []

    def beat_all():
        waits.append(1)
        if len(waits) == 4:
            agents.end.set()
        if len(waits) != 3:
            raise ConnectionError("away\x1b")

    monkeypatch.setattr(agents, "_beat_all", beat_all)
    agents._work()
    assert capfd.readouterr().err.count("W&B does not answer (away\\x1b); it is asked again") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("abc", SweepPath("abc", "lab", None)),
        ("p/abc", SweepPath("abc", "p", None)),
        ("e/p/abc", SweepPath("abc", "p", "e")),
    ],
)
def test_the_path_of_a_sweep(words, expected):
    assert read_sweep_path(words, "lab", "") == expected


@pytest.mark.parametrize("words", ["a/b/c/d", "", "e/p/"])
def test_what_is_no_path_of_a_sweep(words):
    with pytest.raises(UserError, match="is not allowed; give ID, PROJECT/ID or ENTITY/PROJECT/ID"):
        read_sweep_path(words, "lab", "")


def test_a_run_of_many_is_a_trial_by_its_folder_and_is_stopped_by_a_file(tmp_path):
    settings = dict.fromkeys(("project", "entity", "group", "name"), "") | {"mode": "online", "tags": ()}
    begun = []
    wandb = types.SimpleNamespace(Settings=dict, init=lambda **words: begun.append(words))
    mirror = writers.WandbMirror(tmp_path, settings | {"mode": "disabled"}, {"seed": 1})
    mirror._settings = settings | {"project": "lab"}
    mirror._init(wandb, "online")
    assert begun[0]["settings"].keys().isdisjoint({"sweep_id", "stop_fn"})
    write_json(tmp_path / "point.json", {"variant.beta": {"value": 4}})  # which is YAML too
    names = {"WANDB_RUN_ID": "first", "WANDB_SWEEP_ID": "abc", "WANDB_PROJECT": "p"}
    wandb_trials.mark_trial(tmp_path, names | {"WANDB_SWEEP_PARAM_PATH": str(tmp_path / "point.json")})
    mirror._init(wandb, "online")
    words = begun[1]
    assert (words["id"], words["project"], words["entity"]) == ("first", "p", None)
    assert words["settings"]["sweep_id"] == "abc"
    assert words["config"] == {"seed": 1, "variant.beta": 4}
    words["settings"]["stop_fn"]()
    assert (tmp_path / writers.STOP_FILE).exists()
