"""A study's plan, and how far its runs are."""

import json
import re

import pytest

from vae_jax.errors import UserError
from vae_jax.sweeps import study
from vae_jax.sweeps.study import PlanEntry


def entries(count):
    return [PlanEntry(f"run_{i}", f"program_{i}", 40, (), []) for i in range(count)]


def test_a_changed_sweep_adds_runs_and_forgets_what_was_never_begun(tmp_path):
    runs = entries(4)
    with study.lock(tmp_path):
        study.write_plan(tmp_path, runs[:2])
        (tmp_path / "run_0").mkdir()
        study.write_plan(tmp_path, runs[2:])
    assert [run.id for run in study.read_plan(tmp_path)] == ["run_2", "run_3", "run_0"]


def test_a_queued_program_stays_in_the_plan(tmp_path):
    runs = entries(3)
    study.write_plan(tmp_path, runs[:2])
    study.write_plan(tmp_path, runs[2:], queued=["program_1"])
    assert [run.id for run in study.read_plan(tmp_path)] == ["run_2", "run_1"]


def test_the_last_step_is_read_from_the_end_of_the_records(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert study.last_step(tmp_path) == 0
    file.write_text('{"step": 5}\n{"ste')
    assert study.last_step(tmp_path) == 5
    wide = json.dumps({"step": 7, "kl": [0.123456] * 3000})
    file.write_text(f'{{"step": 5}}\n{wide}\n{wide[:9000]}')
    assert study.last_step(tmp_path) == 7
    for line in (
        '{"step": 1',
        '{"step": Infinity}',
        '{"step": "9"}',
        '{"step": -2}',
        '{"step":' + "[" * 5000 + "]" * 5000 + "}",
    ):
        file.write_text(line)
        assert study.last_step(tmp_path) == 0


def test_halving_leaves_fewer_steps():
    run = PlanEntry("a", "p", 100, (20, 60), [])
    assert study.remaining_steps(run, 0) == 20 + 40 / 2 + 40 / 4
    assert study.remaining_steps(run, 30) == 30 + 40 / 2
    assert study.remaining_steps(run, 60) == 40 / 2  # whether it is dropped there is not known yet
    assert study.remaining_steps(run._replace(halving=()), 30) == 70


JUNK = [
    *(("id", value) for value in (5, None, ["a"], {}, "", "..", "a/b", "../../etc", "/etc", "a\0b", "a\nb", "x" * 300)),
    *(("program", value) for value in (["p"], "a/b", None, "..")),
    *(("steps", value) for value in (float("inf"), float("nan"), 0, -1, 2.5, "40", True, None, [])),
    *(("halving", value) for value in ([0.5], ["a"], None, 3, "20", [True], [-1])),
    *(("words", value) for value in ("--config=x", [1], None, {})),
]


@pytest.mark.parametrize(("field", "value"), JUNK)
def test_a_plan_with_what_no_launcher_writes_is_damaged(tmp_path, field, value):
    entry = PlanEntry("a", "p", 40, (20,), ["--config=x"])._asdict()
    for runs in ([entry], [entry | {field: value}]):
        (tmp_path / "plan.json").write_text(json.dumps({"runs": runs}))
        if runs == [entry]:
            assert study.read_plan(tmp_path) == [PlanEntry(**entry)]
    with pytest.raises(UserError, match=r"plan\.json: is damaged \(.*; remove it") as refused:
        study.read_plan(tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("runs", [None, 5, {"a": 1}, [None], [[]], ["a"]])
def test_a_plan_of_another_form_is_damaged(tmp_path, runs):
    (tmp_path / "plan.json").write_text(json.dumps({"runs": runs}))
    with pytest.raises(UserError, match="is damaged"):
        study.read_plan(tmp_path)


@pytest.mark.parametrize("steps", ["x", None, [], -1, True, float("nan"), float("inf"), 10**400])
def test_a_speed_that_is_no_number_is_not_known(tmp_path, steps):
    (tmp_path / "programs").mkdir()
    file = study.speed_file(tmp_path, "p")
    file.write_text(json.dumps({"member_steps": steps, "seconds": 2}))
    assert study.read_speed(tmp_path, "p") == (0.0, 0.0)
    file.write_text(json.dumps({"member_steps": 3, "seconds": steps}))
    assert study.read_speed(tmp_path, "p") == (0.0, 0.0)
    file.write_text(json.dumps({"member_steps": 3, "seconds": 2}))
    assert study.read_speed(tmp_path, "p") == (3.0, 2.0)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('{"seed": 0, "a": ' + "[" * 600 + "]" * 600 + "}", "has a damaged config.json|holds another run"),
        ('{"seed": "' + "x" * 5000 + '"}', r"holds another run \(\.\.\."),
        ('{"seed": 1' + "0" * 400 + "}", "has a damaged config.json"),
    ],
)
def test_what_is_wrong_with_a_config_json_is_said_in_a_short_line(tmp_path, config, problem):
    (tmp_path / "config.json").write_text(f'{{"config": {config}}}')
    words = study.problem(tmp_path)
    assert re.match(problem, words)
    assert len(words) < 300


@pytest.mark.parametrize(("error", "reason"), [("a\x1b[2J\nb", "a\\x1b[2J\\nb"), ([1], "it does not say why")])
def test_why_a_run_failed_is_one_line(tmp_path, error, reason):
    (tmp_path / "failed.json").write_text(json.dumps({"error": error}))
    assert study.failure_reason(tmp_path) == reason
