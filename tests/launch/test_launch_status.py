"""How a study stands: told from its folders, and drawn as a table."""

import fcntl
import io
import json
import os
import re
from pathlib import Path

import pytest

from vae_jax import cli
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.launch.live_table import Table, lines, remaining
from vae_jax.launch.local import Job
from vae_jax.sweeps import algebra, study
from vae_jax.sweeps.study import Planned

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path):
    """A study with a run in each state, made by hand."""
    runs = algebra.runs(str(ROOT / "configs/digits.py"), [("train.steps", "40")], [{"seed": i} for i in range(7)])
    planned = [Planned(run.id, "program", 40, (), run.words) for run in runs]
    with study.hold(tmp_path):
        study.write_plan(tmp_path, planned)
    for run in runs[:6]:
        (tmp_path / run.id).mkdir()
        (tmp_path / run.id / "config.json").write_text(json.dumps({"config": run.config.to_dict()}))
    done, running, failed, dropped, metrics_alone, begun = (tmp_path / run.id for run in runs[:6])
    (done / "evaluation.json").write_text('{"loss": 1, "step": 40}')
    (failed / "failed.json").write_text('{"step": 3, "error": "not finite"}')
    (dropped / "dropped.json").write_text('{"step": 20}')
    (metrics_alone / "evaluation.json").write_text('{"mig": 1, "step": 40}')
    (begun / "metrics.jsonl").write_text('{"step": 10}\n')
    return tmp_path, planned, running


def test_status_is_told_from_the_folders(folders, capsys):
    folder, _, running = folders
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert cli.status([str(folder)]) == 1
    shown = capsys.readouterr().out
    for how, count in {"done": 1, "running": 1, "failed": 1, "dropped": 1, "missing": 3}.items():
        assert re.search(rf"{how} +{count} ", shown), shown
    assert f"running      1   {running.name}" in shown
    assert "1 of them begun" in shown
    assert "damaged" not in shown
    assert "not of this study" not in shown
    os.close(handle)
    assert study.state(running, 40) == "missing"


def test_status_is_0_once_all_is_done_or_dropped_and_names_what_is_wrong(folders, capsys):
    folder, planned, _ = folders
    for run in planned:
        if not (folder / run.id / "dropped.json").exists():
            (folder / run.id).mkdir(exist_ok=True)
            (folder / run.id / "failed.json").unlink(missing_ok=True)
            (folder / run.id / "evaluation.json").write_text('{"loss": 1, "step": 40}')
    config = parse_config(planned[6].words)
    (folder / planned[6].id / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    assert cli.status([str(folder)]) == 0
    capsys.readouterr()

    (folder / "strange").mkdir()
    (folder / planned[1].id / "config.json").write_text('{"config": {"seed"')
    (folder / planned[2].id / "config.json").write_text((folder / planned[0].id / "config.json").read_text())
    (folder / "programs/program.error").write_text("crashed")
    assert cli.status([str(folder)]) == 1
    shown = capsys.readouterr().out
    assert "not of this study: strange" in shown
    assert f"damaged: {planned[1].id} has a damaged config.json" in shown
    assert f"damaged: {planned[2].id} holds another run ({planned[0].id})" in shown
    assert "crashed: program" in shown

    (folder / "plan.json").write_text('{"runs": [{"id"')
    with pytest.raises(UserError, match=r"plan.json: is damaged"):
        cli.status([str(folder)])
    with pytest.raises(UserError, match=r"has no plan.json"):
        cli.status([str(folder / "programs")])
    with pytest.raises(UserError, match="give the folder of one study"):
        cli.status([])


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
    run = Planned("a", "p", 100, (20, 60), [])
    assert study.steps_left(run, 0) == 20 + 40 / 2 + 40 / 4
    assert study.steps_left(run, 30) == 30 + 40 / 2
    assert study.steps_left(run, 60) == 40 / 2  # whether it is dropped there is not known yet
    assert study.steps_left(run._replace(halving=()), 30) == 70


def job(name, steps, speed=None, ended=()):
    runs = [Planned(f"{name}{i}", name, 100, (), []) for i in range(len(steps))]
    found = Job(name, runs, dict(ended), {run.id: step for run, step in zip(runs, steps, strict=True)})
    found.speed = speed
    return found


def test_the_table_tells_programs_runs_and_the_time_that_remains():
    jobs = [job("a", [100, 100], ended={"a0": "done", "a1": "failed"}), job("b", [50, 30], 2.0), job("c", [0])]
    *rows, whole = lines(jobs, [jobs[1]], 1)
    assert rows == ["  b                                        2 runs   40%  2 steps/s  60 s left"]
    assert whole.startswith("programs 1/3   runs 1/5 done, 2 running, 1 failed, 0 dropped, 1 to come")
    assert remaining(jobs, 1) == 120 / 2 + 100 / 2  # what has no speed yet is taken to be as fast as the rest
    assert remaining(jobs, 2) == 60
    assert remaining([job("a", [0])], 1) is None


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_table_is_redrawn_in_place_below_what_is_said():
    stream = Terminal()
    table = Table(stream)
    table.draw([job("a", [5])], [job("a", [5])], 1)
    table.say("crashed")
    table.draw([job("a", [9])], [job("a", [9])], 1)
    table.close()
    assert screen(stream.getvalue()) == ["crashed"]
    plain = io.StringIO()
    table = Table(plain)
    table.draw([job("a", [5])], [], 1)
    assert plain.getvalue() == ""  # not yet
    table.say("crashed")
    assert plain.getvalue() == "crashed\n"


def screen(text):
    """The lines that a terminal shows."""
    shown = []
    for part in re.split(r"(\033\[\d+F\033\[J)", text):
        if up := re.match(r"\033\[(\d+)F", part):
            del shown[len(shown) - int(up[1]) :]
        else:
            shown += part.splitlines()
    return shown
