"""The local launcher with real processes: programs that end, diverge, crash, are stopped and killed; and its folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.fake_studies import CONFIG, FLAG, open_launcher

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.launch import machine
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.sweeps import study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """A process whose programs are fakes."""
    with open_launcher(tmp_path_factory.mktemp("launcher")) as launcher:
        yield launcher


@pytest.fixture
def folder(tmp_path):
    """A folder with a config."""
    (tmp_path / "config.py").write_text(CONFIG)
    return tmp_path


def starts(folder):
    return sorted(file.read_text() for file in (folder / "study").glob("*/starts"))


def recorded(folder):
    return lambda: list((folder / "study").glob("*/metrics.jsonl"))


def children(folder):
    """(cores, XLA_FLAGS, group, process id) of each program that was started, in no order."""
    logs = [file.read_text() for file in (folder / "study/programs").glob("*.log")]
    return [json.loads(line[3:]) for text in logs for line in text.splitlines() if line.startswith("on ")]


def has_ended(pid):
    """Whether a process has ended; one that nobody waits for has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_program_that_crashes_stops_no_other_and_is_tried_again(launcher, folder):
    output = launcher.launch(1, folder, CRASH="(16,)")
    assert "ended with status 1 before its runs had ended" in output
    assert "RuntimeError: out of memory, say" in output
    assert "4 done, 0 failed, 0 dropped, 2 remaining" in output
    assert "to go on: " in output
    assert "--config=config.py --workdir=study" in output
    programs = folder / "study/programs"
    (error,) = programs.glob("*.error")
    assert "RuntimeError: out of memory, say" in error.read_text()
    assert starts(folder) == ["x"] * 5  # the crash came at the first of two

    output = launcher.launch(0, folder)
    assert "6 done, 0 failed, 0 dropped, 0 remaining" in output
    assert starts(folder) == ["x"] * 5 + ["xx"]  # those that had ended were left alone
    assert not list(programs.glob("*.error"))
    assert "RuntimeError" in (programs / f"{error.stem}.log").read_text()
    assert "6 ended before" in launcher.launch(0, folder)
    assert len(children(folder)) == 4

    entries = study.read_plan(folder / "study")
    assert len(entries) == 6
    speeds = [json.loads((programs / f"{run.program}.speed.json").read_text()) for run in entries]
    assert [speed["member_steps"] for speed in speeds] in ([80] * 2 + [40] * 2 + [80] * 2, [80] * 6)


def test_a_diverged_run_is_shown_is_a_failure_and_is_not_tried_again(launcher, folder):
    for _ in range(2):
        output = launcher.launch(1, folder, DIVERGE="(8,)")
        assert "5 done, 1 failed, 0 dropped, 0 remaining" in output
    assert starts(folder) == ["x"] * 6
    (failed,) = (folder / "study").glob("*/failed.json")
    assert "step 8: loss not finite" in failed.read_text()


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(launcher, folder):
    launcher.start(folder, SLEEP="0.03")
    launcher.wait_for(recorded(folder))
    launcher.process.send_signal(signal.SIGINT)
    status, output = launcher.finish()
    assert status == 130, output
    assert "stopping: 1 to save and end" in output
    assert "to go on: " in output
    before = {file: file.read_text() for file in recorded(folder)()}
    assert sum(map(len, starts(folder))) < 6
    launcher.launch(0, folder)
    for file, text in before.items():
        assert file.read_text().startswith(text)
        assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == list(range(1, 41))


def test_a_second_ctrl_c_does_not_wait(launcher, folder):
    launcher.start(folder, SLEEP="0.2", STUBBORN="all")
    launcher.wait_for(recorded(folder))
    launcher.process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    assert not any(has_ended(child[3]) for child in children(folder))
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.finish(20).status == 128 + signal.SIGTERM
    assert all(has_ended(child[3]) for child in children(folder))


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_killed_launcher_leaves_no_orphan(launcher, folder, tmp_path):
    (tmp_path / "other").mkdir()
    with open_launcher(tmp_path / "other") as other:
        other.start(folder, "--processes=1", SLEEP="1", STUBBORN="all")
        other.wait_for(recorded(folder))
        output = launcher.launch(2, folder)
        assert "in use by another launcher" in output
        assert output.count("\n") == 1
    (child,) = children(folder)
    launcher.wait_for(lambda: has_ended(child[3]), 20)
    assert "6 done" in launcher.launch(0, folder)


@pytest.mark.skipif(len(machine.usable_cores()) < 2, reason="needs two cores to share out")
def test_processes_share_the_cores(launcher, folder):
    launcher.launch(0, folder, "--processes=2", SLEEP="0.005")
    shares = children(folder)
    assert len({tuple(cores) for cores, *_ in shares}) == 2
    assert sorted({core for cores, *_ in shares for core in cores}) == machine.usable_cores()
    for cores, flags, group, _ in shares:
        assert flags == f"{FLAG} --xla_force_host_platform_device_count={len(cores)}"
        assert group == "study"


def test_nothing_is_launched_where_a_point_is_wrong_or_the_folder_is_a_runs(launcher, folder):
    (folder / "config.py").write_text(CONFIG.replace('"seed": range(2)', '"seed": [0, -1]'))
    output = launcher.launch(2, folder)
    assert "3 of 6 points of the sweep are wrong" in output
    assert not (folder / "study").exists()
    (folder / "run").mkdir()
    (folder / "run/config.json").write_text("{}")
    with pytest.raises(UserError, match="is the folder of one run"), lock_unqueued(folder / "run"):
        pass
    with pytest.raises(UserError, match="--processes: 'two' is not allowed"):
        cli.sweep([f"--config={folder / 'config.py'}", "--processes=two"])


@pytest.mark.full
def test_a_dry_run_writes_nothing(launcher, folder):  # the last to ask this launcher, as it starts jax there
    output = launcher.launch(0, folder, "--dry_run")
    assert "6 runs in 3 programs, at most 2 in one; 0 ended before; 1 program at once" in output
    assert not (folder / "study").exists()


@pytest.mark.full
def test_real_programs_from_launch_to_status(tmp_path):
    (tmp_path / "config.py").write_text(
        "from vae_jax.configs import digits\nfrom vae_jax.sweeps.algebra import grid\n\ndef get_config():\n"
        "    config = digits.get_config()\n    config.train.steps = 4\n    config.net.hidden = (8,)\n"
        "    config.log.pictures = False\n    return config\n\ndef sweep():\n    return grid(seed=range(2))\n"
    )
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
    words = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'study'}"]
    command = [sys.executable, "-m", "launch.local", *words]
    environment = os.environ | {"XLA_FLAGS": flags}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 done, 0 failed, 0 dropped, 0 remaining" in ran.stdout
    assert cli.status([str(tmp_path / "study")]) == 0
    for run in study.read_plan(tmp_path / "study"):
        saved = json.loads((tmp_path / "study" / run.id / "config.json").read_text())["config"]
        assert run.id.endswith(study.run_suffix(saved))

    # Its record gives the time of more of the same.
    plan = [sys.executable, "-m", "vae_jax", "sweep", *words, "--dry_run"]
    ran = subprocess.run(plan, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert "2 runs in 1 program, at most 2 in one; 2 ended before; 1 program at once; time about 0 s" in ran.stdout
