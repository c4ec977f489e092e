"""The SLURM launcher on a real cluster of virtual nodes: what is disturbed ends with the numbers of a local study."""

import argparse
import json
import math
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import slurm_cluster
from helpers.slurm_cluster import wait_for
from helpers.slurm_lab import CONFIG, Lab

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.launch import slurm, slurm_job
from vae_jax.launch.progress import GroupProgress
from vae_jax.launch.slurm import SlurmRequest
from vae_jax.launch.slurm_queue import submission_file
from vae_jax.sweeps import study
from vae_jax.sweeps.study import PlanEntry


def needs_slurm(test):
    """A test on a real cluster, which takes its time."""
    missing = slurm_cluster.missing()
    return pytest.mark.full(pytest.mark.skipif(bool(missing), reason=missing or "SLURM is here")(test))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with slurm_cluster.cluster() as cluster:
        yield Lab(tmp_path_factory.mktemp("lab"), cluster)


@pytest.fixture(scope="module")
def expected(lab):
    """The results of the study of two programs."""
    return lab.locally("two")


@needs_slurm
def test_an_array_with_a_throttle_a_crash_and_stops_ends_as_a_local_study(lab, expected):
    first = lab.launch(0, "array", "crash", "--max_parallel=2", "--time=60")
    assert "5 runs in 3 programs, 0 ended before; in array; on SLURM, 3 submitted" in first
    assert "watch: " in first
    stopped, requeued = disturbed = list(
        dict.fromkeys(run.program for run in study.read_plan(lab.folder / "local_two"))
    )
    commands = {stopped: ["scancel", "--signal=TERM"], requeued: ["scontrol", "requeue"]}
    shown = lab.cluster.call("scontrol", "show", "job")
    assert set(re.findall(r"ArrayTaskThrottle=(\d+)", shown)) == {"2"}  # how SLURM holds to it is its own
    watching = lab.start("array", "crash", "--max_parallel=2", "--wait")
    while watching.poll() is None:
        for program in [program for program in commands if lab.step("array", program) >= 20]:
            lab.cluster.call(*commands.pop(program), lab.jobs("array")[program])
        time.sleep(0.1)
    output = watching.communicate(timeout=120)[0]
    assert watching.returncode == 1, output
    queued = output.count("is queued already: SLURM job ")
    assert queued == 3 or (queued == 2 and "1 submitted" in output)  # what crashes may have done so by then
    assert "config.train.batch_size: 4096 is more than the 1347 training images" in output
    assert "4 done, 0 failed, 0 dropped, 1 remaining" in output
    (error,) = (lab.folder / "array/programs").glob("*.error")
    assert "ended with status 2 before its runs had ended" in error.read_text()
    assert not commands
    for program in disturbed:
        assert "stopped by a signal at step" in lab.log("array", program)
        assert lab.log("array", program).count("restart 1") == 1
    assert lab.results("array") == expected

    def planned(name):
        return {(run.id, run.program, run.steps) for run in study.read_plan(lab.folder / name)}

    assert planned("local_two") < planned("array")
    assert "nothing to do" in lab.launch(0, "array", "two", "--wait")


@needs_slurm
def test_a_program_that_is_preempted_and_then_loses_its_node_goes_on_exactly(lab, expected):
    lab.launch(0, "one", "one")
    ((program, job),) = lab.wait_for_step("one").items()
    preempt(lab)
    wait_for(lambda: "restart 1" in lab.log("one", program), 120, lab.logs)
    before = lab.log("one", program)
    assert "stopped by a signal at step" in before  # at the start of the grace time
    assert before.count("restart 1") == 1
    reached = lab.step("one")
    wait_for(lambda: lab.step("one") > reached, 120, lab.logs)
    node = lab.cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
    lab.cluster.kill_node(node)
    lab.launch(0, "one", "one", "--wait")
    after = lab.log("one", program).removeprefix(before)
    assert "saved" not in after
    assert after.count("restart 2") == 1
    _, lost, second = re.findall("on (n[1-4]), SLURM job", before + after)
    assert lost == node != second
    results = lab.results("one")
    assert len(results) == 2
    assert results == {name: expected[name] for name in results}
    lab.cluster.start_node(node)
    wait_for(lambda: slurm_cluster.idle(lab.cluster) == len(slurm_cluster.NODES), 120)


def preempt(lab):
    """Takes all nodes for a second, for who is more urgent."""
    words = ["-p", "high", "-N4", "--exclusive", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 1"]
    lab.cluster.call("sbatch", *words)


@needs_slurm
def test_a_search_trains_its_generations_as_jobs(lab):
    pytest.importorskip("optuna")
    flags = ("--trials=4", "--at_once=2", "--sampler=random", "--config.train.steps=40", "--config.evaluation.every=20")
    output = lab.launch(0, "search", "space", "--slurm", *flags, program="searcher.py")
    assert "on SLURM" in output
    assert len(set(re.findall(r"submitted as SLURM job (\d+)", output))) == 2
    assert "4 trials: 4 complete" in output
    command = [sys.executable, "searcher.py", "--config=space.py", "--workdir=local_search", *flags]
    subprocess.run(command, cwd=lab.folder, env=lab.environment, check=True, capture_output=True)
    trials = [json.loads((lab.folder / name / "trials.json").read_text()) for name in ("search", "local_search")]
    assert trials[0] == trials[1]


@needs_slurm
def test_a_run_on_two_nodes_that_is_preempted_goes_on_on_both(lab):
    expected = lab.locally("split")
    lab.environment["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{slurm_cluster.free_ports(1)[0]}"  # n1 is no host's name
    lab.launch(0, "split", "split", "--nodes=2")
    (program,) = lab.wait_for_step("split")
    preempt(lab)
    lab.launch(0, "split", "split", "--nodes=2", "--wait")
    log = lab.log("split", program)
    assert len(re.findall(r"on n\[?\d[-,]n?\d\]?, SLURM job", log)) == 2
    (step,) = re.findall(r"stopped by a signal at step (\d+), saved", log)
    assert f"resuming at step {step} of 120" in log
    assert log.count("2 cpu devices of 2 processes") == 2
    ((evaluation, records),) = lab.results("split").values()
    ((other, others),) = expected.values()
    assert [record["step"] for record in records] == [record["step"] for record in others]
    for name in ("loss", "elbo", "distortion", "rate", "step"):
        assert evaluation[name] == pytest.approx(other[name], rel=1e-5)


@needs_slurm
def test_what_is_cancelled_stays_so_and_stops_have_a_limit(lab):
    end, program = lab.folder / "end", {"program": "faker.py"}
    lab.launch(0, "fakes", "split", "--gpus=1", **program)
    ((name, first),) = lab.jobs("fakes").items()
    wait_for(lambda: len(starts(lab)) == 1, 120, lab.logs)
    gpu, cpus, flags, group = starts(lab)[0]
    assert (gpu, cpus, group) == ("0", "2", "fakes")
    assert "--xla_force_host_platform_device_count=" in flags
    lab.cluster.call("scancel", first)
    wait_for(lambda: not lab.state(first), 120)
    error = lab.folder / "fakes/programs" / f"{name}.error"
    assert not error.exists()

    watching = lab.start("fakes", "split", "--gpus=2", "--requeues=1", "--wait", **program)
    wait_for(lambda: len(starts(lab)) == 2, 120, lab.logs)
    assert starts(lab)[1][0] == "0,1"
    watching.send_signal(signal.SIGINT)
    output = watching.communicate(timeout=120)[0]
    assert watching.returncode == 130, output
    second = lab.jobs("fakes")[name]
    assert f"the jobs stay in the queue; to stop them: scancel {second}" in output
    assert lab.state(second) == "RUNNING"

    watching = lab.start("fakes", "split", "--wait", **program)
    lab.cluster.call("scancel", "--signal=TERM", second)
    wait_for(lambda: len(starts(lab)) == 3, 120, lab.logs)
    lab.cluster.call("scancel", "--signal=TERM", second)
    output = watching.communicate(timeout=120)[0]
    assert watching.returncode == 1, output
    assert "was stopped after 1 restart, all that --requeues allows" in output
    assert error.read_text() in output

    end.touch()
    output = lab.launch(0, "fakes", "split", "--wait", **program)
    assert "1 submitted" in output
    assert not error.exists()
    assert len(starts(lab)) == 4


def starts(lab):
    """What the fake found around it, each time that it was started."""
    lines = [line for file in (lab.folder / "fakes").glob("*/starts") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@needs_slurm
def test_what_sbatch_refuses_is_a_line_and_leaves_nothing_behind(lab):
    output = lab.launch(2, "refused", "one", "--partition=fast")
    assert output.count("\n") == 1
    assert "sbatch refused" in output
    assert "invalid partition" in output
    assert not list((lab.folder / "refused/programs").glob("*.slurm.json"))
    assert not list((lab.folder / "refused/programs/slurm").iterdir())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--gpus=two", "--gpus: 'two' is not allowed; give a whole number of at least 1"),
        ("--nodes=0", "--nodes: '0' is not allowed; give a whole number of at least 1"),
        ("--memory=8GB", "--memory: '8GB' is not allowed; give gigabytes a node"),
        ("--time=1:30", "--time: '1:30' is not allowed; give minutes, HH:MM:SS or D-HH:MM:SS"),
        ("--time=2", "--time: '2' is not allowed; give more than --grace, which is 120 seconds"),
        ("--partion=x", "--partion: 'partion' is unknown"),
        ("--nodes=2", "--nodes: 2 is not allowed for beta_digits_"),
        ("--config.train.steps=0", "1 of 1 points of the sweep are wrong"),
        ("--cpus=1", "vae-jax slurm: sbatch is not here; launch from a machine that has SLURM's clients"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, monkeypatch, word, expected):
    (tmp_path / "config.py").write_text(CONFIG.replace("{sweep}", "[{}]"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(expected)):
        cli.slurm([f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'study'}", word])
    assert not (tmp_path / "study").exists()


def test_without_submitit_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="submitit is not installed; pip install submitit"):
        slurm.check_tools()


def test_times_and_resources_are_read_as_slurm_means_them(tmp_path):
    for text, minutes in {"90": 90, "01:30:00": 90, "0:00:01": 1, "2-01:00:30": 2 * 1440 + 61}.items():
        assert slurm.time_limit(text) == (text, minutes)
    flags = argparse.Namespace(**SlurmRequest()._asdict(), time=slurm.time_limit("90"))
    assert slurm.read_request(flags) == SlurmRequest(minutes=90)
    request = SlurmRequest(memory=slurm.gigabytes("1.5"), gpus=2, max_parallel=3)
    parameters = slurm.submitit_parameters(tmp_path, 8, request)
    assert [parameters[name] for name in ("mem", "gpus_per_node", "array_parallelism", "time")] == ["1536M", 2, 3, None]
    assert parameters["additional_parameters"] == {"signal": "TERM@120", "requeue": True}
    assert slurm.submitit_parameters(tmp_path, 8, SlurmRequest())["array_parallelism"] == 8


def test_a_step_has_the_cores_of_its_job_and_no_more(tmp_path):
    assert slurm_job.srun_command(2, {"SLURM_CPUS_PER_TASK": "4"})[-1] == "--cpus-per-task=4"
    assert slurm_job.srun_command(1, {})[:3] == ["srun", "--nodes=1", "--ntasks=1"]
    variables = slurm_job.program_environment(tmp_path / "study", {"SLURM_CPUS_ON_NODE": "1", "XLA_FLAGS": "--a"})
    assert variables["XLA_FLAGS"] == "--a --xla_force_host_platform_device_count=1"
    assert variables["WANDB_RUN_GROUP"] == "study"
    assert slurm_job.program_environment(tmp_path, {"WANDB_RUN_GROUP": "mine"})["WANDB_RUN_GROUP"] == "mine"


def test_an_element_asks_for_itself_and_not_for_its_whole_array():
    last = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_job.own_job_id(last) == "7_2"
    assert slurm_job.own_job_id({"SLURM_JOB_ID": "7"}) == "7"


@pytest.mark.parametrize(
    ("status", "nodes", "steps", "restarts", "is_requeued", "crash"),
    [
        (75, 2, 20, 0, True, None),
        (134, 2, 20, 0, True, None),
        (137, 2, 20, 0, True, None),
        (143, 1, 10, 0, True, None),
        (75, 2, 10, 0, False, "ended with status 75, for it lost one of its processes, before"),
        (137, 1, 20, 0, False, "ended with status 137 before"),
        (1, 2, 20, 0, False, "ended with status 1 before"),
        (75, 2, 20, 3, False, "lost one of its processes after 3 restarts, all that --requeues allows, before"),
    ],
)
def test_a_lost_process_is_no_crash_where_the_program_came_further(
    status, nodes, steps, restarts, is_requeued, crash, tmp_path, monkeypatch
):
    (tmp_path / "programs").mkdir()
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text('{"step": 10}\n')
    stack = "".join(f"    @     0x7f{i:02}  absl::frame()\n" for i in range(40))

    def run_command(folder, program, command):
        (folder / "programs" / f"{program}.log").write_text(f"the reason\n{stack}")
        metrics.write_text(f'{{"step": {steps}}}\n')
        return status

    requeued = []
    monkeypatch.setattr(slurm_job, "run_command", run_command)
    monkeypatch.setattr(slurm_job, "requeue", requeued.append)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(SystemExit) as ending:
        slurm_job.run_group(str(tmp_path), [], nodes, 3, "program", [PlanEntry("run", "program", 40, (), [])])
    assert ending.value.code == status
    assert requeued == (["7"] if is_requeued else [])
    error = study.error_file(tmp_path, "program")
    assert error.exists() != is_requeued
    if crash:
        assert crash in error.read_text()
        assert "  the reason" in error.read_text()
        assert "0x7f" not in error.read_text()


def test_a_job_that_ends_is_gone_once_it_has_crashed_or_after_a_while(tmp_path, monkeypatch):
    group, now = GroupProgress("program", []), 1000.0
    (tmp_path / "programs").mkdir()
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now)
    vanished = [slurm.has_vanished(group, tmp_path, since) for since in (math.inf, 995.0, 905.0)]
    assert vanished == [False, False, True]
    study.error_file(tmp_path, "program").write_text("crashed")
    assert [slurm.has_vanished(group, tmp_path, since) for since in (math.inf, 995.0)] == [False, True]


def test_new_runs_of_a_queued_program_are_left_for_the_next_launch(tmp_path, monkeypatch, capsys):
    runs = [PlanEntry(f"run_{i}", "program", 40, (), []) for i in range(2)]
    (tmp_path / "programs").mkdir()
    submission_file(tmp_path, "program").write_text('{"job": "7_0", "runs": ["run_0"]}')
    monkeypatch.setattr(slurm, "ask_queue", lambda: {"7_0": "pending: Priority", "8": "running"})
    group = GroupProgress("program", runs)
    jobs = slurm.submit(tmp_path, [group], SlurmRequest())
    assert jobs == {"program": "7_0"}
    slurm.print_commands(tmp_path, jobs, wait=True)
    printed = capsys.readouterr().out
    assert "none submitted" in printed
    assert "program is queued already: SLURM job 7_0 (pending: Priority)" in printed
    assert "without 1 of its runs, which are new" in printed
    assert "stop: scancel 7\n" in printed
    assert "watch: " not in printed

    answers = iter([{"7_0": "pending: Priority"}, UserError("SLURM did not answer"), {}, {}])

    def ask():
        answer = next(answers)
        if isinstance(answer, UserError):
            raise answer
        (tmp_path / "run_0").mkdir(exist_ok=True)
        (tmp_path / "run_0/evaluation.json").write_text('{"loss": 1.0, "step": 40}')
        return answer

    monkeypatch.setattr(slurm, "ask_queue", ask)
    monkeypatch.setattr(slurm, "QUEUE_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "VANISHED_SECONDS", 0.0)
    assert slurm.watch(tmp_path, [group], jobs, "again") == 1
    printed = capsys.readouterr().out
    assert "in the queue: pending: Priority" in printed
    assert "SLURM did not answer" in printed  # and it went on
    assert "1 done, 0 failed, 0 dropped, 1 remaining" in printed
    assert "crashed" not in printed
