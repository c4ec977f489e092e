"""A study's plan, and how far its runs are."""

import json

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
    file.write_text('{"step": 1')
    assert study.last_step(tmp_path) == 0


def test_halving_leaves_fewer_steps():
    run = PlanEntry("a", "p", 100, (20, 60), [])
    assert study.remaining_steps(run, 0) == 20 + 40 / 2 + 40 / 4
    assert study.remaining_steps(run, 30) == 30 + 40 / 2
    assert study.remaining_steps(run, 60) == 40 / 2  # whether it is dropped there is not known yet
    assert study.remaining_steps(run._replace(halving=()), 30) == 70
