"""Two real processes of two CPU devices each: one run, stopped, killed and started again, and one population."""

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.run_folder import flip_a_byte, results, steps
from helpers.run_process import reached, wait_for
from helpers.small_run import words

import vae_jax
from vae_jax import cli
from vae_jax.files import read_records
from vae_jax.training import processes as processes_module

pytestmark = pytest.mark.full
ROOT = Path(__file__).parents[2]
FIELDS = {
    "train.steps": 180,  # a step of two processes takes a CPU longer than one of a large model does
    "train.dispatch": 10,
    "train.ema": 0.9,
    "log.every": 10,
    "log.pictures": False,
    "evaluation.every": 90,
    "evaluation.batch_size": 100,  # the last batch is ragged
    "checkpoint.every": 20,
    "checkpoint.keep": 3,
    "net.hidden": "(16,)",
    "latent_dim": 3,
    "parallel.heartbeat": 10,
}


UNLUCKY = """
import jax
from vae_jax import cli
from vae_jax.config.command_line import run_program
from vae_jax.training.checkpoint import Checkpoints

restore, tries = Checkpoints._restore, []

def unlucky(self, step, shape):
    tries.append(step)
    if jax.process_index() == 1 and len(tries) == 2:
        raise OSError("this host alone cannot read it")
    return restore(self, step, shape)

Checkpoints._restore = unlucky
run_program(cli.train)
"""
"""experiments.train, whose second process cannot read the second checkpoint that is tried."""


def fields(**more):
    return words(**FIELDS | more)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a process for each of `lines`, the command lines of a program, as one job; what is left is killed."""
    folder, started = tmp_path_factory.mktemp("job"), []
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    folder.joinpath("unlucky.py").write_text(UNLUCKY)

    def start(module, *lines, devices=(2, 2)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        job = [f"--coordinator={address}", f"--processes={len(lines)}"]
        for index, line in enumerate(lines):
            command = [sys.executable, "-m", module, *line, *job, f"--process={index}"]
            output = (folder / f"{len(started)}.txt").open("w+")
            flags = os.environ["XLA_FLAGS"].replace("device_count=8", f"device_count={devices[index]}")
            variables = environment | {"XLA_FLAGS": flags}
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)
            started.append((process, output))
        return [process for process, _ in started[-len(lines) :]]

    def finish(processes, *expected):
        """What each printed, once it has ended with the status that is expected of it."""
        printed = []
        for process, allowed in zip(processes, expected, strict=True):
            status = process.wait(timeout=300)
            (output,) = (output for other, output in started if other is process)
            output.seek(0)
            printed.append(output.read())
            assert status in allowed, printed[-1]
        return printed

    yield start, finish
    for process, output in started:
        process.kill()
        process.wait()
        output.close()


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """A run of two processes that nothing has disturbed, and what each of them printed."""
    begin, finish = start
    folder = tmp_path_factory.mktemp("run")
    line = [*fields(), f"--workdir={folder}"]
    return folder, finish(begin("experiments.train", line, line), [0], [0])


def files(folder):
    """Pictures and JSON of a run, by name."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*.[pj]*")}


def test_two_processes_are_the_run_of_one_on_as_many_devices(undisturbed, tmp_path, monkeypatch):
    def never(*arguments, **named):
        raise AssertionError("a run of its own joins nobody")

    monkeypatch.setattr(jax.distributed, "initialize", never)
    assert cli.train([*fields(**{"parallel.devices": 4}), f"--workdir={tmp_path}"]) == 0
    near = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4)
    jax.tree.map(near, vae_jax.open_run(undisturbed[0]).params, vae_jax.open_run(tmp_path).params)
    ours, theirs = (read_records(folder / "metrics.jsonl") for folder in (undisturbed[0], tmp_path))
    assert [(record["step"], record["split"]) for record in ours] == [(r["step"], r["split"]) for r in theirs]
    for record, other in zip(ours, theirs, strict=True):
        near(record["loss"], other["loss"])
        near(record["kl"], other["kl"])
    final = [json.loads((folder / "evaluation.json").read_text()) for folder in (undisturbed[0], tmp_path)]
    near(*(evaluation["elbo"] for evaluation in final))
    files = [
        {str(file.relative_to(folder)) for file in folder.rglob("*.[pj]*")} for folder in (undisturbed[0], tmp_path)
    ]
    assert files[0] == files[1]


def test_only_the_first_speaks(undisturbed):
    first, second = undisturbed[1]
    assert "4 cpu devices of 2 processes" in first
    assert re.search(r"step 180/180 .*  test ", first)
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []


def test_a_job_stopped_killed_and_damaged_for_all_or_for_one_ends_with_the_same_bits(undisturbed, start, tmp_path):
    begin, finish = start
    line = [*fields(), f"--workdir={tmp_path}"]
    lost = [processes_module.LOST, -signal.SIGABRT]

    job = begin("experiments.train", line, line)
    wait_for(reached(tmp_path, 10), job[0])
    job[1].send_signal(signal.SIGTERM)  # of one: both hear it at one step
    first, second = finish(job, [128 + signal.SIGTERM], [128 + signal.SIGTERM])
    (stopped,) = steps(tmp_path)[-1:]
    assert f"stopped by a signal at step {stopped}, saved" in first
    assert "stopped" not in second

    for victim in (1, 0):
        saved = steps(tmp_path)[-1]
        job = begin("experiments.train", line, line)
        wait_for(reached(tmp_path, saved + 40), job[0])
        job[victim].kill()
        expected = [lost, lost]
        expected[victim] = [-signal.SIGKILL]
        finish(job, *expected)

    damaged, unread, kept = steps(tmp_path)[:-4:-1]
    flip_a_byte(tmp_path / "checkpoints" / str(damaged))
    first, second = finish(begin("unlucky", line, line), [0], [0])
    assert f"checkpoint {damaged} in {tmp_path / 'checkpoints'} is damaged" in first
    assert f"checkpoint {unread} in {tmp_path / 'checkpoints'} is damaged (this host alone cannot read it)" in first
    assert f"resuming at step {kept} of 180" in first
    assert "damaged" not in second
    assert results(tmp_path) == results(undisturbed[0])


def test_a_job_of_two_configs_is_refused_in_one_line(start, tmp_path):
    begin, finish = start
    line = [*fields(), f"--workdir={tmp_path / 'run'}"]
    for printed in finish(begin("experiments.train", line, [*line, "--config.variant.beta=2"]), [2], [2]):
        assert "error: config.variant.beta: 2.0 in process 1, 1.0 in process 0" in printed
        assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_divergence_and_a_folder_that_is_not_its_own_end_all_processes(start, tmp_path):
    begin, finish = start
    line = [*fields(**{"train.learning_rate": 1e30}), f"--workdir={tmp_path}"]
    first, _ = finish(begin("experiments.train", line, line), [1], [1])
    assert "not finite" in first
    assert "not finite" in json.loads((tmp_path / "failed.json").read_text())["error"]
    line = [*fields(**{"train.learning_rate": 1e-2}), f"--workdir={tmp_path}"]
    for printed in finish(begin("experiments.train", line, line), [2], [2]):
        assert "holds a run of another config: config.train.learning_rate" in printed


def members(folder, **more):
    """Four members that are halved at two steps: two for each process."""
    more |= {"sweep.halving": "(40,80)"}
    listed = [
        {"workdir": str(folder / name), "words": fields(**more, **{"train.learning_rate": rate})}
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
                (ours / file).write_text("{}"), (theirs / file).write_text("{}")  # what results() reads too
        assert results(ours) == results(theirs)


def listed(folder, **more):
    """One member: nothing is left for a second process."""
    folder.joinpath("members.json").write_text(json.dumps([{"workdir": str(folder / "a"), "words": fields(**more)}]))
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
