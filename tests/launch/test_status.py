"""The state of a study: read from its folders, and drawn as a table."""

import fcntl
import io
import json
import os
import re

import pytest
from helpers.terminal import Terminal, patch_size

from vae_jax import cli
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.launch.live_table import Table, log_lines, remaining_seconds
from vae_jax.launch.progress import GroupProgress, record_speed, report_crash, report_end
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.sweeps import study
from vae_jax.sweeps.groups import plan_runs
from vae_jax.sweeps.study import PlanEntry


@pytest.fixture
def folders(tmp_path):
    """A study with a run in each state, made by hand."""
    runs = plan_runs("digits", [("train.steps", "40")], [{"seed": i} for i in range(7)])
    planned = [PlanEntry(run.id, "program", 40, (), run.words) for run in runs]
    with lock_unqueued(tmp_path):
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
    assert "  program  3 of 7 ended\n" in shown
    assert "damaged" not in shown
    assert "not of this study" not in shown
    os.close(handle)
    assert study.run_state(running, 40) == "missing"


def test_a_program_line_has_the_elbo_and_the_time_that_is_left(folders, capsys):
    folder, _, running = folders
    (running / "metrics.jsonl").write_text('{"step": 20, "split": "validation", "elbo": -30.5}\n')
    (folder / "programs/program.speed.json").write_text('{"member_steps": 10, "seconds": 30}')
    cli.status([str(folder)])
    steps = 20 + 30 + 40 + 40  # of the run that trains, one begun, and two of which nothing is there
    shown = capsys.readouterr().out
    assert f"  program  3 of 7 ended  validation elbo -30.50 nats per image  {3 * steps / 60:.1f} min left\n" in shown
    *_, head, group, missing = shown.splitlines()
    assert head.split("  ")[-1] == "time left"
    assert group.split() == ["all", "runs", "1/6", "-30.50", f"{3 * steps / 60:.1f}", "min"]
    assert missing == "  and 1 run not begun"


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
    assert f"damaged: {planned[2].id} holds another run (..._s0_" in shown
    assert "crashed: program" in shown

    (folder / "plan.json").write_text('{"runs": [{"id"')
    with pytest.raises(UserError, match=r"plan.json: is damaged"):
        cli.status([str(folder)])
    with pytest.raises(UserError, match=r"has no plan.json"):
        cli.status([str(folder / "programs")])
    with pytest.raises(UserError, match="give the folder of one study"):
        cli.status([])


def progress(name, steps, speed=None, ended=()):
    runs = [PlanEntry(f"{name}{i}", name, 100, (), []) for i in range(len(steps))]
    steps_of_run = {run.id: step for run, step in zip(runs, steps, strict=True)}
    return GroupProgress(name, runs, dict(ended), steps_of_run, steps_per_second=speed)


def test_the_table_tells_programs_runs_and_the_time_that_remains():
    groups = [
        progress("a", [100, 100], ended={"a0": "done", "a1": "failed"}),
        progress("b", [50, 30], 2.0),
        progress("c", [0]),
    ]
    *rows, summary = (line[len("2026-01-01 00:00:00  ") :] for line in log_lines(groups, [groups[1]], 1))
    assert rows == [" 40%  b  2 runs  2 steps/s  60 s left"]
    assert summary.startswith(" 56%  programs 1/3   runs 1/5 done, 2 running, 1 failed, 0 dropped, 1 to come")
    assert remaining_seconds(groups, 1) == 120 / 2 + 100 / 2  # what has no speed yet is taken to be as fast as the rest
    assert remaining_seconds(groups, 2) == 60
    assert remaining_seconds([progress("a", [0])], 1) is None


def test_a_damaged_speed_is_replaced(tmp_path):
    (tmp_path / "programs").mkdir()
    group = progress("a", [50])
    for damaged in ("x", None):
        study.speed_file(tmp_path, "a").write_text(json.dumps({"member_steps": damaged, "seconds": 1}))
        record_speed(group, tmp_path, 1)
        assert study.read_speed(tmp_path, "a")[0] == 50


def test_what_a_program_printed_reaches_no_terminal_as_a_command(tmp_path):
    group, lines = progress("a", [50], ended={"a0": "failed"}), []
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/a.log").write_text("first\n\tred \x1b[31m\x1b]0;title\x07\n" + "x" * 5000)
    (tmp_path / "a0").mkdir()
    (tmp_path / "a0/failed.json").write_text(json.dumps({"error": "loss\x1b[2J\nfailed: b"}))
    report_end(group, tmp_path, lines.append)
    report_crash(group, "ended", tmp_path, lines.append)
    failed, _, crash = lines
    assert failed == "failed: a0: loss\\x1b[2J\\nfailed: b"
    _, first, red, long = crash.split("\n")
    assert (first, red) == ("  first", "          red \\x1b[31m\\x1b]0;title\\x07")
    assert len(long) < 1100
    assert study.error_file(tmp_path, "a").read_text() == crash + "\n"


def test_the_table_is_redrawn_in_place_below_what_is_said(monkeypatch):
    patch_size(monkeypatch)
    stream = Terminal(120)
    table = Table(stream)
    table.draw([progress("a", [5])], [progress("a", [5])], 1)
    table.print("crashed")
    table.draw([progress("a", [9])], [progress("a", [9])], 1)
    assert stream.shown()[0] == "crashed"
    assert len(stream.shown()) == 4
    table.close()
    assert stream.shown() == ["crashed"]
    plain = io.StringIO()
    table = Table(plain)
    table.draw([progress("a", [5])], [], 1)
    assert plain.getvalue() == ""  # not yet
    table.print("crashed: \x1b[2J\nas said")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  crashed: \\x1b\[2J\nas said\n", plain.getvalue())
