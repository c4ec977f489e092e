"""Two real processes of two CPU devices each: one run, stopped, killed and started again, and one population."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.run_process import reached, result, wait_for

import vae_jax
from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.training import processes as processes_module
from vae_jax.training.writers import read_metrics

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "train.steps": 200,
    "train.dispatch": 10,
    "train.ema": 0.9,
    "log.every": 20,
    "evaluation.every": 100,
    "evaluation.batch_size": 100,  # the last batch is ragged
    "checkpoint.every": 40,
    "net.hidden": "(16,)",
    "latent_dim": 3,
    "parallel.heartbeat": 10,
}


UNLUCKY = """
import jax
from experiments import settings, train
from vae_jax.checkpoint import Checkpoints

restore, tries = Checkpoints._restore, []

def unlucky(self, step, like):
    tries.append(step)
    if jax.process_index() == 1 and len(tries) == 1:
        raise OSError("this host alone cannot read it")
    return restore(self, step, like)

Checkpoints._restore = unlucky
settings.start(train.main, "")
"""
"""experiments.train, whose second process cannot read the newest checkpoint."""


def words(**more):
    options = [f"--config.{name}={value}" for name, value in (OPTIONS | more).items()]
    return [f"--config={ROOT / 'configs/digits.py'}", *options]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a process for each of `lines`, the command lines of a program, as one job; what is left is killed."""
    folder, every = tmp_path_factory.mktemp("job"), []
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
    }
    folder.joinpath("unlucky.py").write_text(UNLUCKY)

    def start(module, *lines, devices=(2, 2)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        job = [f"--coordinator={address}", f"--processes={len(lines)}"]
        for index, line in enumerate(lines):
            command = [sys.executable, "-m", module, *line, *job, f"--process={index}"]
            output = (folder / f"{len(every)}.txt").open("w+")
            flags = os.environ["XLA_FLAGS"].replace("device_count=8", f"device_count={devices[index]}")
            own = environment | {"XLA_FLAGS": flags}
            process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=output, stderr=subprocess.STDOUT)
            every.append((process, output))
        return [process for process, _ in every[-len(lines) :]]

    def finish(processes, *expected):
        """What each printed, once it has ended with the status that is expected of it."""
        printed = []
        for process, allowed in zip(processes, expected, strict=True):
            status = process.wait(timeout=300)
            (output,) = (output for of, output in every if of is process)
            output.seek(0)
            printed.append(output.read())
            assert status in allowed, printed[-1]
        return printed

    yield start, finish
    for process, output in every:
        process.kill()
        process.wait()
        output.close()


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A run of two processes that nothing has disturbed, and what each of them printed."""
    begin, finish = start
    folder = tmp_path_factory.mktemp("whole")
    line = [*words(), f"--workdir={folder}"]
    return folder, finish(begin("experiments.train", line, line), [0], [0])


def newest(folder):
    return max(folder.joinpath("checkpoints").iterdir(), key=lambda step: int(step.name))


def damage(step):
    file = max((file for file in step.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_two_processes_are_the_run_of_one_on_as_many_devices(whole, tmp_path, monkeypatch):
    def never(*arguments, **named):
        raise AssertionError("a run of its own joins nobody")

    monkeypatch.setattr(jax.distributed, "initialize", never)
    assert cli.train([*words(**{"parallel.devices": 4}), f"--workdir={tmp_path}"]) == 0
    near = lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)  # noqa: E731
    jax.tree.map(near, vae_jax.open_run(whole[0]).params, vae_jax.open_run(tmp_path).params)
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (whole[0], tmp_path))
    assert [(record["step"], record["split"]) for record in ours] == [(r["step"], r["split"]) for r in theirs]
    for record, other in zip(ours, theirs, strict=True):
        near(record["loss"], other["loss"])
        near(record["kl"], other["kl"])
    final = [json.loads((folder / "evaluation.json").read_text()) for folder in (whole[0], tmp_path)]
    near(*(found["elbo"] for found in final))
    files = [{str(file.relative_to(folder)) for file in folder.rglob("*.[pj]*")} for folder in (whole[0], tmp_path)]
    assert files[0] == files[1]


def test_only_the_first_speaks(whole):
    first, second = whole[1]
    assert "4 cpu devices of 2 processes" in first
    assert "step 200/200  test" in first
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []


def test_a_job_that_is_stopped_and_killed_and_damaged_ends_with_the_same_bits(whole, start, tmp_path):
    begin, finish = start
    line = [*words(), f"--workdir={tmp_path}"]
    lost = [processes_module.LOST, -signal.SIGABRT]

    job = begin("experiments.train", line, line)
    wait_for(reached(tmp_path, 20), job[0])
    job[1].send_signal(signal.SIGTERM)  # of one: both hear it at one step
    first, second = finish(job, [128 + signal.SIGTERM], [128 + signal.SIGTERM])
    stopped = int(newest(tmp_path).name)
    assert f"stopped by a signal at step {stopped}, saved" in first
    assert "stopped" not in second

    for victim, after in ((1, 80), (0, 120)):
        job = begin("experiments.train", line, line)
        wait_for(reached(tmp_path, after), job[0])
        job[victim].kill()
        expected = [lost, lost]
        expected[victim] = [-signal.SIGKILL]
        finish(job, *expected)

    damage(newest(tmp_path))
    first, second = finish(begin("experiments.train", line, line), [0], [0])
    assert "is damaged" in first
    assert "damaged" not in second
    assert result(tmp_path) == result(whole[0])


def test_what_one_process_cannot_restore_is_damaged_for_all_at_once(whole, start, tmp_path):
    begin, finish = start
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "evaluation.json").unlink()
    line = [*words(), f"--workdir={folder}"]
    first, _ = finish(begin("unlucky", line, line), [0], [0])
    assert "checkpoint 200 in" in first
    assert "is damaged (this host alone cannot read it)" in first
    assert "resuming at step 160 of 200" in first
    assert result(folder) == result(whole[0])


def test_a_job_of_two_configs_is_refused_in_one_line(start, tmp_path):
    begin, finish = start
    line = [*words(), f"--workdir={tmp_path / 'run'}"]
    for printed in finish(begin("experiments.train", line, [*line, "--config.variant.beta=2"]), [2], [2]):
        assert "error: config.variant.beta: 2.0 in process 1, 1.0 in process 0" in printed
        assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_divergence_and_a_folder_that_is_not_its_own_end_all_processes(start, tmp_path):
    begin, finish = start
    line = [*words(**{"train.learning_rate": 1e30}), f"--workdir={tmp_path}"]
    first, _ = finish(begin("experiments.train", line, line), [1], [1])
    assert "not finite" in first
    assert "not finite" in json.loads((tmp_path / "failed.json").read_text())["error"]
    line = [*words(**{"train.learning_rate": 1e-2}), f"--workdir={tmp_path}"]
    for printed in finish(begin("experiments.train", line, line), [2], [2]):
        assert "holds a run of another config: config.train.learning_rate" in printed


def members(folder, **more):
    """Four members that are halved at two steps: two for each process."""
    more |= {"sweep.halving": "(60,120)"}
    listed = [
        {"workdir": str(folder / name), "words": words(**more, **{"train.learning_rate": rate})}
        for name, rate in {"a": 1e-2, "b": 1e-5, "c": 1e-6, "d": 3e-3}.items()
    ]
    folder.mkdir(exist_ok=True)
    (folder / "members.json").write_text(json.dumps(listed))
    return [f"--members={folder / 'members.json'}"]


def test_two_processes_share_the_members_of_a_population(start, tmp_path):
    begin, finish = start
    assert cli.population(members(tmp_path / "alone")) == 0
    line = members(tmp_path / "shared")
    job = begin("experiments.population", line, line)
    wait_for(reached(tmp_path / "shared/a", 20), job[0])
    job[1].send_signal(signal.SIGTERM)
    finish(job, [128 + signal.SIGTERM], [128 + signal.SIGTERM])
    first, second = finish(begin("experiments.population", line, line), [0], [0])
    assert ("a: dropped" in first, "b: dropped" in second, "c: dropped" in first) == (False, True, True)
    for name in "abcd":
        ours, theirs = tmp_path / "shared" / name, tmp_path / "alone" / name
        assert {file.name for file in ours.iterdir()} == {file.name for file in theirs.iterdir()}
        for file in ("dropped.json", "evaluation.json"):
            if (theirs / file).exists():
                assert json.loads((ours / file).read_text()) == json.loads((theirs / file).read_text())
            else:
                (ours / file).write_text("{}"), (theirs / file).write_text("{}")  # what result() reads too
        assert result(ours) == result(theirs)


def listed(folder, **more):
    """One member: nothing is left for a second process."""
    folder.joinpath("members.json").write_text(json.dumps([{"workdir": str(folder / "a"), "words": words(**more)}]))
    return [f"--members={folder / 'members.json'}"]


def test_who_waits_for_others_at_the_end_hears_a_signal(start, tmp_path):
    begin, finish = start
    line = listed(tmp_path, **{"train.steps": 4000})
    job = begin("experiments.population", line, line)
    wait_for(reached(tmp_path / "a", 20), job[0])
    job[1].send_signal(signal.SIGTERM)
    first, _ = finish(job, [128 + signal.SIGTERM], [128 + signal.SIGTERM])
    assert "stopped by a signal at step" in first


def test_a_population_that_does_not_fit_on_one_host_is_refused_by_all(start, tmp_path):
    begin, finish = start
    line = members(tmp_path, **{"parallel.devices": 2})
    for printed in finish(begin("experiments.population", line, line, devices=(2, 1)), [2], [2]):
        assert "error: config.parallel.devices: 2 is not allowed; this machine has 1" in printed
        assert "Traceback" not in printed
    assert not list(tmp_path.glob("*/metrics.jsonl"))


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (jax.errors.JaxRuntimeError("UNAVAILABLE: connection reset"), processes_module.LOST),
        (caused(RuntimeError("barrier"), jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")), processes_module.LOST),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), 1),
        (caused(RuntimeError("step"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")), 1),
        (ZeroDivisionError("in a picture"), 1),
    ],
)
def test_what_is_taken_for_the_loss_of_another(error, status, monkeypatch, capsys):
    def leave(number):
        raise SystemExit(number)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left, processes_module.abort_on_failure(processes_module.ProcessGroup(0, 2)):
        raise error
    assert left.value.code == status
    assert ("is probably lost" in capsys.readouterr().err) == (status == processes_module.LOST)


@pytest.mark.parametrize(
    ("own", "environment", "asked"),
    [
        ({}, {}, None),
        ({}, {"JAX_COORDINATOR_ADDRESS": "a:1"}, None),
        ({"coordinator": "a:1", "processes": "1", "process": "0"}, {}, None),
        ({"coordinator": "a:1", "processes": "2", "process": "1"}, {}, ("a:1", 2, 1)),
        ({"process": "1"}, {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, ("a:1", 2, 1)),
        ({}, {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "0"}, ("a:1", 3, 0)),
        ({}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),
        ({}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, (None, 2, 1)),
        ({}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "JAX_COORDINATOR_ADDRESS": "a:1"}, ("a:1", 2, 1)),
        ({}, {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({}, {"TPU_WORKER_HOSTNAMES": "a,b"}, ()),
        ({"coordinator": "auto"}, {}, ()),
    ],
)
def test_who_is_asked_for(own, environment, asked, monkeypatch):
    for name in (
        "TPU_PROCESS_ADDRESSES",
        "TPU_WORKER_HOSTNAMES",
        "SLURM_STEP_NUM_TASKS",
        *processes_module.FLAGS.values(),
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: given.append(arguments))
    assert (
        processes_module.join(own, 7) == processes_module.SINGLE_PROCESS
    )  # nothing was started, so JAX knows of one process
    if asked is None:
        assert given == []
        return
    (arguments,) = given
    names = ("coordinator_address", "num_processes", "process_id")
    assert {name: arguments[name] for name in names if name in arguments} == dict(zip(names, asked, strict=False))
    assert arguments["heartbeat_timeout_seconds"] == 7


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"coordinator": "a:1", "processes": "2"}, "--process: missing"),
        ({"coordinator": "a", "processes": "2", "process": "0"}, "--coordinator: 'a' is not allowed; give HOST:PORT"),
        (
            {"coordinator": "a:1", "processes": "2", "process": "2"},
            "--process: 2 is not allowed; give a whole number from 0 to 1",
        ),
        ({"coordinator": "a:1", "processes": "two", "process": "0"}, "--processes: 'two' is not allowed"),
        ({"coordinator": "auto"}, "--coordinator: 'auto' starts no job of several processes"),
    ],
)
def test_flags_that_are_wrong_are_named(own, error, monkeypatch):
    def initialize(**arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=error):
        processes_module.join(own, 7)
