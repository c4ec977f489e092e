"""The local launcher with real processes: programs that end, diverge, crash, are stopped and killed; and its folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vae_jax import cli
from vae_jax.config.parse import load_sweep
from vae_jax.errors import UserError
from vae_jax.sweeps import algebra, machine, plan, study
from vae_jax.sweeps.study import Planned
from vae_jax.training.writers import write_json

ROOT = Path(__file__).parents[2]

FLAG = "--xla_backend_optimization_level=1"

FAKE = '''
"""Stands in for experiments.population: counts to 40 in each member's folder, and does what its environment says."""

import fcntl, json, os, pathlib, signal, sys, time

members = json.loads(pathlib.Path(sys.argv[1].partition("=")[2]).read_text())
hidden = next(w for w in members[0]["words"] if "net.hidden" in w).partition("=")[2]
told = lambda name: os.environ.get(name) in ("all", hidden)
stopped = []
if told("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
held, status = [], 0
cores, group = sorted(os.sched_getaffinity(0)), os.environ.get("WANDB_RUN_GROUP")
print("on", json.dumps([cores, os.environ["XLA_FLAGS"], group, os.getpid()]))
for number, member in enumerate(members):
    folder = pathlib.Path(member["workdir"])
    folder.mkdir(exist_ok=True)
    held.append(os.open(folder, os.O_RDONLY))
    fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    ended = [folder / name for name in ("evaluation.json", "failed.json", "dropped.json")]
    if any(file.exists() for file in ended):
        continue
    (folder / "starts").open("a").write("x")
    records = folder / "metrics.jsonl"
    step = len(records.read_text().splitlines()) if records.exists() else 0
    while step < 40 and not stopped:
        time.sleep(float(os.environ.get("SLEEP", 0)))
        step += 1
        with records.open("a") as file:
            file.write(json.dumps({"step": step, "split": "train"}) + chr(10))
    if told("CRASH"):
        raise RuntimeError("out of memory, say")
    if stopped:
        sys.exit(143)
    if told("DIVERGE") and number == 0:
        (folder / "failed.json").write_text(json.dumps({"step": 7, "error": "step 8: loss not finite"}))
        status = 1
    else:
        (folder / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 40}))
sys.exit(status)
'''

CONFIG = """
from configs import digits
from launch.sweep import grid

def get_config():
    config = digits.get_config()
    config.train.steps = 40
    return config

def sweep():
    return grid(**{"net.hidden": [(8,), (16,), (32,)], "seed": range(2)})
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a config, and a launcher whose programs are fakes."""
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "launcher.py").write_text(
        "import sys\nfrom experiments import settings\nfrom launch import local\n"
        f"local.COMMAND, local.REFRESH = [sys.executable, {str(tmp_path / 'fake.py')!r}], 0.05\n"
        "settings.start(local.main, '')\n"
    )
    return tmp_path


def start(place, *words, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": FLAG, **environment}
    command = [sys.executable, "launcher.py", "--config=config.py", "--workdir=study", *words]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def launch(place, expected, *words, **environment):
    process = start(place, *words, **environment)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == expected, output
    return output


def starts(place):
    return sorted(file.read_text() for file in (place / "study").glob("*/starts"))


def wait_for(condition, process, seconds=60):
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"ended too early:\n{process.communicate()[0]}"
        assert time.monotonic() < limit
        time.sleep(0.01)
    return found


def recorded(place):
    return lambda: list((place / "study").glob("*/metrics.jsonl"))


def children(place):
    """(cores, XLA_FLAGS, group, process id) of each program that was started, in no order."""
    logs = [file.read_text() for file in (place / "study/programs").glob("*.log")]
    return [json.loads(line[3:]) for text in logs for line in text.splitlines() if line.startswith("on ")]


def test_a_program_that_crashes_stops_no_other_and_is_tried_again(place):
    output = launch(place, 1, CRASH="(16,)")
    assert "ended with status 1 before its runs had ended" in output
    assert "RuntimeError: out of memory, say" in output
    assert "4 done, 0 failed, 0 dropped, 2 remaining" in output
    assert "to go on: " in output
    assert "--config=config.py --workdir=study" in output
    programs = place / "study/programs"
    (error,) = programs.glob("*.error")
    assert "RuntimeError: out of memory, say" in error.read_text()
    assert starts(place) == ["x"] * 5  # the crash came at the first of two

    output = launch(place, 0)
    assert "6 done, 0 failed, 0 dropped, 0 remaining" in output
    assert starts(place) == ["x"] * 5 + ["xx"]  # those that had ended were left alone
    assert not list(programs.glob("*.error"))
    assert "RuntimeError" in (programs / f"{error.stem}.log").read_text()
    assert "6 ended before" in launch(place, 0)
    assert len(children(place)) == 4

    plan_file = study.read_plan(place / "study")
    assert len(plan_file) == 6
    speeds = [json.loads((programs / f"{run.program}.speed.json").read_text()) for run in plan_file]
    assert [speed["member_steps"] for speed in speeds] in ([80] * 2 + [40] * 2 + [80] * 2, [80] * 6)


def test_a_diverged_run_is_shown_is_a_failure_and_is_not_tried_again(place):
    for _ in range(2):
        output = launch(place, 1, DIVERGE="(8,)")
        assert "5 done, 1 failed, 0 dropped, 0 remaining" in output
    assert starts(place) == ["x"] * 6
    assert "step 8: loss not finite" in (place / "study").joinpath(failed(place), "failed.json").read_text()


def failed(place):
    (folder,) = (place / "study").glob("*/failed.json")
    return folder.parent.name


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(place):
    process = start(place, SLEEP="0.03")
    wait_for(recorded(place), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "stopping: 1 to save and end" in output
    assert "to go on: " in output
    before = {file: file.read_text() for file in recorded(place)()}
    assert sum(map(len, starts(place))) < 6
    launch(place, 0)
    for file, text in before.items():
        assert file.read_text().startswith(text)
        assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == list(range(1, 41))


def test_a_second_ctrl_c_does_not_wait(place):
    process = start(place, SLEEP="0.2", STUBBORN="all")
    wait_for(recorded(place), process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert all(gone(child[3]) for child in children(place))


def gone(pid):
    """Whether a process has ended; one that nobody waits for has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_killed_launcher_leaves_no_orphan(place):
    process = start(place, "--processes=1", SLEEP="1", STUBBORN="all")
    wait_for(recorded(place), process)
    refused = start(place)
    output = refused.communicate(timeout=60)[0]
    assert refused.returncode == 2
    assert "in use by another launcher" in output
    assert output.count("\n") == 1
    process.kill()
    process.communicate(timeout=20)
    (child,) = children(place)
    limit = time.monotonic() + 20
    while not gone(child[3]):
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert "6 done" in launch(place, 0)


@pytest.mark.skipif(len(machine.cores()) < 2, reason="needs two cores to share out")
def test_processes_share_the_cores(place):
    launch(place, 0, "--processes=2", SLEEP="0.005")
    found = children(place)
    assert len({tuple(cores) for cores, *_ in found}) == 2
    assert sorted({core for cores, *_ in found for core in cores}) == machine.cores()
    for cores, flags, group, _ in found:
        assert flags == f"{FLAG} --xla_force_host_platform_device_count={len(cores)}"
        assert group == "study"


def test_nothing_is_launched_where_a_point_is_wrong_or_the_folder_is_a_runs(place):
    (place / "config.py").write_text(CONFIG.replace('"seed": range(2)', '"seed": [0, -1]'))
    output = launch(place, 2)
    assert "3 of 6 points of the sweep are wrong" in output
    assert not (place / "study").exists()
    (place / "run").mkdir()
    (place / "run/config.json").write_text("{}")
    with pytest.raises(UserError, match="is the folder of one run"), study.hold(place / "run"):
        pass
    with pytest.raises(UserError, match="--processes: 'two' is not allowed"):
        cli.sweep([f"--config={place / 'config.py'}", "--processes=two"])


def test_a_study_in_the_queue_of_slurm_is_left_to_it(tmp_path, monkeypatch):
    runs = [Planned(f"run_{i}", "program", 40, (), []) for i in range(2)]
    with study.hold(tmp_path):
        study.write_plan(tmp_path, runs)
    write_json(study.submission(tmp_path, "program"), {"job": "7_0", "runs": ["run_0", "run_1"]})

    def refused(says):
        with pytest.raises(UserError, match=says) as refusal, study.hold(tmp_path):
            pass
        assert "\n" not in str(refusal.value)

    def silent():
        raise UserError("squeue failed: No such file or directory")

    queue = {}
    monkeypatch.setattr(study, "ask_queue", lambda: queue)
    with study.hold(tmp_path):
        pass  # it has left the queue
    for state in ("pending: Priority", "running", "completing"):
        queue["7_0"] = state
        refused("program as job 7_0 .*; scancel it, or use launch.slurm$")
    study.error(tmp_path, "program").write_text("crashed")
    with study.hold(tmp_path):
        pass  # its job is ending
    study.error(tmp_path, "program").unlink()
    monkeypatch.setattr(study, "ask_queue", silent)
    refused("program as job 7_0 .*, or remove that file if the job is gone$")
    for run in runs:
        (tmp_path / run.id).mkdir()
        write_json(tmp_path / run.id / "evaluation.json", {"loss": 1.0, "step": 40})
    with study.hold(tmp_path):
        pass  # all has ended


def test_a_changed_sweep_adds_runs_and_forgets_what_was_never_begun(place):
    runs = [Planned(f"run_{i}", "program", 40, (), []) for i in range(4)]
    with study.hold(place):
        study.write_plan(place, runs[:2])
        (place / "run_0").mkdir()
        study.write_plan(place, runs[2:])
    assert [run.id for run in study.read_plan(place)] == ["run_2", "run_3", "run_0"]


def test_real_programs_from_launch_to_status(tmp_path):
    (tmp_path / "config.py").write_text(
        "from configs import digits\nfrom launch.sweep import grid\n\ndef get_config():\n"
        "    config = digits.get_config()\n    config.train.steps = 4\n    config.net.hidden = (8,)\n"
        "    return config\n\ndef sweep():\n    return grid(seed=range(2))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = kept | {"PYTHONPATH": str(ROOT)}
    words = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'study'}"]
    command = [sys.executable, "-m", "launch.local", *words]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 done, 0 failed, 0 dropped, 0 remaining" in found.stdout
    assert cli.status([str(tmp_path / "study")]) == 0
    for run in study.read_plan(tmp_path / "study"):
        saved = json.loads((tmp_path / "study" / run.id / "config.json").read_text())["config"]
        assert study.identity(saved) == run.id

    # Its record gives the time of more of the same.
    longer = f"{sys.executable} -m launch.local {' '.join(words)} --dry_run"
    found = subprocess.run(longer.split(), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert "2 runs in 1 program, at most 2 in one; 2 ended before; 1 program at once; time about 0 s" in found.stdout


def test_gpus_are_shared_out_and_a_lone_program_has_all(tmp_path, monkeypatch):
    for i in range(4):
        (tmp_path / f"nvidia{i}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(machine, "find_spec", lambda name: name == "jax_cuda12_plugin")
    assert machine.gpus({}, tmp_path) == ["0", "1", "2", "3"]
    assert machine.gpus({"CUDA_VISIBLE_DEVICES": "2,3"}, tmp_path) == ["2", "3"]
    assert machine.gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert machine.gpus({"JAX_PLATFORMS": "cpu"}, tmp_path) == []
    assert machine.gpus({}, tmp_path / "none") == []
    monkeypatch.setattr(machine, "gpus", lambda environment: ["0", "1", "2", "3"])
    visible = lambda *numbers: [p.environment["CUDA_VISIBLE_DEVICES"] for p in machine.places(*numbers, {})]  # noqa: E731
    assert visible(1, 0) == ["0,1,2,3"]
    assert visible(2, 0) == ["0,1", "2,3"]
    assert visible(9, 0) == ["0", "1", "2", "3"]
    assert visible(9, 3) == ["0", "1", "2,3"]
    with pytest.raises(UserError, match="--processes: 5 is not allowed; give at most 4, the GPUs here"):
        machine.places(9, 5, {})


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: [0, 1, 4, 5, 6])
    monkeypatch.setattr(machine, "gpus", lambda environment: [])
    assert [place.cores for place in machine.places(3, 2, {})] == [(0, 1), (4, 5, 6)]
    (place,) = machine.places(3, 0, {"XLA_FLAGS": "--a"})
    assert place == machine.Place("5 cores", {"XLA_FLAGS": "--a --xla_force_host_platform_device_count=5"}, ())
    assert len(machine.places(1, 4, {})) == 1
    with pytest.raises(UserError, match="--processes: 6 is not allowed; give at most 5, the cores here"):
        machine.places(9, 6, {})


def test_a_dry_run_writes_nothing_and_says_what_it_cannot_tell(place):
    launch(place, 0, "--dry_run")
    assert not (place / "study").exists()
    folder = place / "study"
    overrides = [("data.name", "dsprites")]
    programs = algebra.programs(algebra.runs(str(ROOT / "configs/digits.py"), overrides, [{"seed": 0}, {"seed": 1}]))
    text = plan.describe(programs, folder, 1, {})
    assert "2 runs in 1 program, at most 2 in one; 0 ended before" in text
    assert "no times: config.data.path is empty" in text


def test_the_calibration_counts_a_steps_operations_and_a_states_bytes():
    (run,) = algebra.runs(str(ROOT / "configs/digits.py"), [("net.hidden", "(32,)"), ("latent_dim", "4")], [{}])
    weights = 64 * 32 + 32 * 8 + 4 * 32 + 32 * 64
    biases = 32 + 8 + 32 + 64
    # Parameters, two moments of each, and three counters of four bytes.
    assert plan.state_bytes(run.config, (8, 8, 1)) == 4 * 3 * (weights + biases) + 4 * 3
    # Forward, and backward to weights and to inputs but the first layer's; what is not a product comes on top.
    products = 2 * 128 * (3 * weights - 64 * 32)
    assert products < plan.step_flops(run.config, (8, 8, 1)) < 1.6 * products
    assert plan.duration(59) == "59 s"
    assert plan.duration(3 * 86400) == "3.0 days"
    assert plan.size(1.5e9) == "1.5 GB"
    # 10,000 steps: the two newest checkpoints and the best; a record every 100 steps and an evaluation every 1000.
    assert plan.run_bytes(run.config, 1000) == 3 * 1000 + (100 + 10) * plan.RECORD + plan.PICTURES


def test_the_plan_says_how_many_rounds_a_set_number_of_members_makes(monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: ["0", "1"])
    file = str(ROOT / "configs/digits.py")
    for each, expected in ((3, "6 rounds of at most 3 members on each of 2 devices"), (0, "rounds: set by the memory")):
        runs = algebra.runs(file, [("sweep.members_per_device", str(each))], load_sweep(file))
        assert expected in plan._rounds(algebra.programs(runs)[0], 1)
