"""Real processes, killed for real: the run that is started again ends with the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.run_folder import flip_a_byte, newest, results
from helpers.run_process import reached, wait_for
from helpers.small_run import words

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]
FIELDS = {
    "train.steps": 3000,
    "train.dispatch": 30,
    "train.ema": 0.99,
    "train.cosine": True,
    "log.every": 60,
    "evaluation.every": 500,
    "checkpoint.every": 200,
    "net.hidden": "(32,)",
    "latent_dim": 4,
}


@pytest.fixture
def start():
    """Starts the run in a folder as a process of its own; what is left of it is killed."""
    processes = []
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}  # or what it prints would be lost with it

    def start(folder, **fields):
        command = [sys.executable, "-m", "experiments.train", *words(**FIELDS | fields), f"--workdir={folder}"]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **output))
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


def kill_once(condition, process):
    """What the process printed until it was killed, once the condition held."""
    wait_for(condition, process)
    process.kill()
    return process.communicate()[0]


def saving(folder):
    return lambda: any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def test_a_run_killed_stopped_and_damaged_at_several_points_ends_with_the_same_bits(start, tmp_path):
    uninterrupted = start(tmp_path / "uninterrupted", **{"log.pictures": False})
    folder = tmp_path / "run"
    kill_once(reached(folder, 60), start(folder))

    for _ in range(6):  # a save lasts some 50 ms and may win the race
        kill_once(saving(folder), start(folder))
        if saving(folder)():
            break
    assert saving(folder)(), "no save was caught half-way"

    step, damaged = 1500, None
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(folder)
        wait_for(reached(folder, step), process)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 128 + number, output
        assert not saving(folder)()
        assert "stopped by a signal" in output
        assert f"at step {newest(folder).name}, saved" in output
        assert damaged is None or (f"checkpoint {damaged}" in output and "damaged" in output)
        damaged = newest(folder).name
        flip_a_byte(newest(folder))
        step = int(damaged) + 300

    output = kill_once(reached(folder, step), start(folder))
    assert f"checkpoint {damaged}" in output
    assert "damaged" in output

    kill_once((folder / "pictures").exists, start(folder))
    assert not (folder / "evaluation.json").exists()

    process = start(folder)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert uninterrupted.wait(timeout=300) == 0, uninterrupted.communicate()[0]
    assert results(folder) == results(tmp_path / "uninterrupted")
