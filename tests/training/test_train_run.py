"""A run in this process: resumed to the same bits, stopped by signals, diverged, finished."""

import json
import logging
import shutil
import signal
from functools import partial

import numpy as np
import pytest
from helpers.run_folder import flip_a_byte, newest, results
from helpers.small_run import train_small

from vae_jax import cli, data
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.plots import run_pictures
from vae_jax.training.loop import dispatches
from vae_jax.training.recorder import Diverged, Recorder, check_finite
from vae_jax.training.workdir import claim

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

AVERAGED = {"train.ema": 0.9, "train.cosine": True}
"""What a state may hold beside weights and moments, and what depends on the step alone."""


class Killed(Exception):
    """Stands for the end of a process."""


def kill(*arguments):
    raise Killed


def train_until_step(folder, step, act):
    """Trains, and calls `act()` before the steps from `step` on are taken."""
    index_stream, acted = data.index_stream, []

    def stream(seed, start, *more):
        if start >= step and not acted:
            acted.append(start)
            act()
        return index_stream(seed, start, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "index_stream", stream)
        return train_small(folder, **AVERAGED)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train_small(folder, **AVERAGED) == 0
    return folder


def test_a_run_that_ends_early_and_loses_checkpoints_ends_with_the_same_bits(
    uninterrupted, tmp_path, monkeypatch, capsys, caplog
):
    caplog.set_level(logging.WARNING)
    with pytest.raises(Killed):
        train_until_step(tmp_path, 10, kill)

    stop = partial(signal.raise_signal, signal.SIGTERM)
    assert train_until_step(tmp_path, 20, stop) == 128 + signal.SIGTERM
    assert newest(tmp_path).name == "30"
    assert "stopped by a signal at step 30, saved" in capsys.readouterr().out

    flip_a_byte(newest(tmp_path))
    stop = partial(signal.raise_signal, signal.SIGINT)
    assert train_until_step(tmp_path, 40, stop) == 128 + signal.SIGINT
    out = capsys.readouterr().out
    assert "resuming at step 20 of 60" in out
    assert "stopped by a signal at step 50, saved" in out
    assert "checkpoint 30 in" in caplog.text
    assert "is damaged" in caplog.text

    flip_a_byte(newest(tmp_path))
    caplog.clear()
    monkeypatch.setattr(run_pictures, "draw", kill)
    with pytest.raises(Killed):
        train_small(tmp_path, **AVERAGED)
    assert "resuming at step 40 of 60" in capsys.readouterr().out
    assert "checkpoint 50 in" in caplog.text
    assert not (tmp_path / "evaluation.json").exists()

    monkeypatch.undo()
    assert train_small(tmp_path, **AVERAGED) == 0
    assert results(tmp_path) == results(uninterrupted)


def test_a_finished_run_says_so_and_another_config_or_process_is_refused(uninterrupted, capsys):
    before = {file: file.stat().st_mtime_ns for file in uninterrupted.rglob("*")}
    assert train_small(uninterrupted, **AVERAGED) == 0
    assert "has finished" in capsys.readouterr().out

    with pytest.raises(UserError) as refused:
        train_small(uninterrupted, **AVERAGED | {"train.steps": 61, "variant.beta": 2})
    assert "config.train.steps (there 60, here 61)" in str(refused.value)
    assert "config.variant.beta (there 1.0, here 2.0)" in str(refused.value)

    saved = json.loads((uninterrupted / "config.json").read_text())
    with claim(uninterrupted, saved), pytest.raises(UserError, match="in use by another process"):
        train_small(uninterrupted, **AVERAGED)
    assert before == {file: file.stat().st_mtime_ns for file in uninterrupted.rglob("*")}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """(folder, exit status) of a run that a signal stopped during its evaluation at step 20 of 40."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "evaluation", lambda *arguments: signal.raise_signal(signal.SIGTERM))
        return folder, train_small(folder, **STOPPED)


STOPPED = {"train.steps": 40, "evaluation.every": 20, "checkpoint.every": 1000}


def test_a_signal_during_an_evaluation_is_saved(stopped):
    folder, status = stopped
    assert status == 128 + signal.SIGTERM
    assert [step.name for step in (folder / "checkpoints").iterdir()] == ["20"]


@pytest.mark.full
def test_evaluating_an_unfinished_run_does_not_finish_it(stopped, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(stopped[0], folder)
    assert cli.evaluate([f"--workdir={folder}"]) == 0
    assert (folder / "evaluation_20.json").exists()
    assert not (folder / "evaluation.json").exists()
    assert train_small(folder, **STOPPED) == 0
    assert json.loads((folder / "evaluation.json").read_text())["step"] == 40


def test_a_run_that_diverges_names_step_and_term_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    fields = {"train.steps": 400, "log.every": 10, "checkpoint.every": 10, "evaluation.every": 400}
    assert train_small(tmp_path, **fields, **{"train.learning_rate": 1e3, "variant.beta": 1e6}) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("error: "))
    assert "not finite" in line
    bad = int(line.split("step ")[1].split(":")[0])
    steps = sorted(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir())
    assert all(step < bad for step in steps)
    assert ("no checkpoint" in line) if not steps else (f"step {steps[-1]}" in line)
    assert not (tmp_path / "evaluation.json").exists()
    rows = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) and row["step"] < bad for row in rows)


def test_held_out_numbers_that_are_not_finite_stop_a_run():
    with pytest.raises(Diverged, match="step 7: validation rate not finite"):
        check_finite({"loss": np.array([1.0]), "rate": np.array([np.nan])}, 6, "validation ")


def test_dispatches_end_wherever_anything_is_due():
    config = load_config("digits")
    config.train.steps, config.train.dispatch, config.log.every = 250, 60, 100
    config.evaluation.every, config.checkpoint.every = 70, 1000
    calls = list(dispatches(0, config.train.steps, config))
    assert [end for _, end in calls] == [60, 70, 100, 120, 140, 180, 200, 210, 240, 250]
    assert list(dispatches(120, config.train.steps, config)) == calls[4:]
