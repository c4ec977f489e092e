"""Real processes, killed for real: the run that is started again ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.run_process import reached, result, wait_for

from vae_jax.training.workdir import claim

ROOT = Path(__file__).parents[2]
STEPS = 3000
OPTIONS = {
    "train.steps": STEPS,
    "train.dispatch": 30,
    "train.ema": 0.99,
    "train.cosine": True,
    "log.every": 60,
    "evaluation.every": 500,
    "checkpoint.every": 200,
    "net.hidden": "(32,)",
    "latent_dim": 4,
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return kept | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")), "PYTHONPATH": str(ROOT)}


def start(workdir, environment, **more):
    options = [f"--config.{name}={value}" for name, value in (OPTIONS | more).items()]
    command = [
        sys.executable,
        "-m",
        "experiments.train",
        "--config=configs/digits.py",
        f"--workdir={workdir}",
        *options,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(workdir, environment, expected=0):
    process = start(workdir, environment)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == expected, output
    return output


def saving(workdir):
    return lambda: any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


@pytest.fixture(scope="module")
def uninterrupted(environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    finish(workdir, environment)
    return result(workdir)


def test_a_run_killed_at_several_points_ends_with_the_same_bits(uninterrupted, environment, tmp_path):
    for step in (60, 900, 2300):
        process = start(tmp_path, environment)
        wait_for(reached(tmp_path, step), process)
        process.kill()
        process.communicate()
    finish(tmp_path, environment)
    assert result(tmp_path) == uninterrupted


def test_a_run_killed_during_a_save_ends_with_the_same_bits(uninterrupted, environment, tmp_path):
    for _ in range(6):  # a save lasts some 50 ms and may win the race
        process = start(tmp_path, environment)
        wait_for(saving(tmp_path), process)
        process.kill()
        process.communicate()
        if saving(tmp_path)():
            break
    assert saving(tmp_path)(), "no save was caught half-way"
    finish(tmp_path, environment)
    assert not saving(tmp_path)()
    assert result(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_a_damaged_checkpoint_falls_back(uninterrupted, environment, tmp_path, number):
    process = start(tmp_path, environment)
    wait_for(reached(tmp_path, 900), process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number, output
    assert "stopped by a signal" in output
    newest = max((folder for folder in (tmp_path / "checkpoints").iterdir()), key=lambda folder: int(folder.name))
    assert f"at step {newest.name}, saved" in output

    file = max((file for file in newest.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    output = finish(tmp_path, environment)
    assert f"checkpoint {newest.name}" in output
    assert "damaged" in output
    assert result(tmp_path) == uninterrupted


def test_a_finished_run_says_so_and_another_config_is_refused(environment, tmp_path):
    workdir = tmp_path / "run"
    run = lambda **more: start(workdir, environment, **{"train.steps": 60, **more})  # noqa: E731
    first = run()
    first.communicate(timeout=120)
    assert first.returncode == 0
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}

    again = run()
    output = again.communicate(timeout=60)[0]
    assert again.returncode == 0
    assert "has finished" in output

    other = run(**{"train.steps": 61, "variant.beta": 2})
    output = other.communicate(timeout=60)[0]
    assert other.returncode == 2
    assert "config.train.steps (there 60, here 61)" in output
    assert "config.variant.beta (there 1.0, here 2.0)" in output

    saved = json.loads((workdir / "config.json").read_text())
    with claim(workdir, saved):
        second = run()
        output = second.communicate(timeout=60)[0]
    assert second.returncode == 2
    assert "in use by another process" in output
    assert before == {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}


def test_a_run_killed_between_its_last_save_and_its_evaluation_finishes(uninterrupted, environment, tmp_path):
    process = start(tmp_path, environment)
    wait_for(lambda: (tmp_path / "pictures").exists(), process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "evaluation.json").exists()
    finish(tmp_path, environment)
    assert result(tmp_path) == uninterrupted
