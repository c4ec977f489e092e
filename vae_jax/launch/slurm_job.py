"""What a SLURM job does: its program under srun, and the job back into the queue where the program was stopped.

srun, because TERM comes to its steps at the start of the grace time and to the batch script only at its end. A program
that has saved on TERM has ended as far as SLURM can tell, so that the job asks to be queued again itself.
Imports no jax.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from vae_jax.launch import machine
from vae_jax.launch.progress import GroupProgress, record_speed, report_crash, report_end
from vae_jax.phrases import plural
from vae_jax.screen import time_stamp
from vae_jax.sweeps.study import PlanEntry

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
"""How a program ends that a signal has stopped, whether it has saved or was about to begin."""

PROCESS_LOST = (75, 128 + signal.SIGABRT, 128 + signal.SIGKILL)
"""How a program of several processes ends once one of them is lost: the others notice, JAX notices, and its own end."""

ANSWER_SECONDS, ATTEMPTS = 60.0, 3
"""How long SLURM may take to answer, and how often it is asked."""


def run_group(
    folder: str, command: Sequence[str], nodes: int, requeues: int, program: str, runs: list[PlanEntry]
) -> NoReturn:
    """Runs a program of a study until it ends or is stopped, and leaves with its status.

    Args:
        folder: the study's.
        command: what trains a program, given --members=FILE.
        nodes: how many nodes it has, with a process on each.
        requeues: how often it may be queued again.
        program: its id.
        runs: its runs.
    """
    study, group = Path(folder), GroupProgress(program, runs)
    group.update(study)
    group.mark_start()
    status = run_command(study, program, [*srun_command(nodes, os.environ), *command])
    group.update(study)
    record_speed(group, study, 1)
    report_end(group, study, _print_line)
    if not group.complete and (crash := requeue_or_crash(group, status, nodes, requeues)):
        report_crash(group, crash, study, _print_line)
    sys.exit(status)


def _print_line(text: str) -> None:
    print(f"{time_stamp()}  {text}", flush=True)


def requeue_or_crash(group: GroupProgress, status: int, nodes: int, requeues: int) -> str | None:
    """Puts the job of a program that was stopped back into the queue; where that is not to be, how it crashed."""
    process_lost = nodes > 1 and status in PROCESS_LOST
    what = "lost one of its processes" if process_lost else "was stopped"
    # Where it comes no further the loss is its own doing.
    advanced = group.total_steps > group.start_steps
    if status not in STOPPED and not (process_lost and advanced):
        reason = f", for it {what}," if process_lost else ""
        return f"ended with status {status}{reason}"
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    if restarts >= requeues:
        return f"{what} after {plural(restarts, 'restart')}, all that --requeues allows,"
    error = requeue(own_job_id(os.environ))
    return f"{what} and could not be queued again ({error})" if error else None


def run_command(study: Path, program: str, command: list[str]) -> int:
    """The status of a program that was started with this command and its members, its output at the end of its log."""
    with (study / "programs" / f"{program}.log").open("a") as output:
        job, nodes, restarts = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "JOB_NODELIST", "RESTART_COUNT"))
        restart = f", restart {restarts}" if restarts else ""
        output.write(f"--- {time_stamp()}, on {nodes}, SLURM job {job}{restart}\n")
        output.flush()
        return subprocess.run(
            [*command, f"--members={study / 'programs' / f'{program}.json'}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=program_environment(study, os.environ),
        ).returncode


def srun_command(nodes: int, job_environment: Mapping[str, str]) -> list[str]:
    """How a step with one process a node is started in a job.

    A process that ends must not end the others: they may be saving.
    """
    words = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
    if cpus := job_environment.get("SLURM_CPUS_PER_TASK"):  # which srun does not take over by itself
        words.append(f"--cpus-per-task={cpus}")
    return words


def program_environment(study: Path, job_environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program in a job, as on one machine: on a CPU a device a core."""
    cores = min(len(machine.usable_cores()), int(job_environment.get("SLURM_CPUS_ON_NODE") or sys.maxsize))
    return {
        **job_environment,
        "XLA_FLAGS": machine.device_flags(job_environment, cores),
        "PYTHONUNBUFFERED": "1",
        "WANDB_RUN_GROUP": job_environment.get("WANDB_RUN_GROUP", study.resolve().name),
    }


def own_job_id(job_environment: Mapping[str, str]) -> str:
    """The id of this job alone; the number of an array's last element is that of the whole array too."""
    if "SLURM_ARRAY_TASK_ID" not in job_environment:
        return job_environment["SLURM_JOB_ID"]
    return f"{job_environment['SLURM_ARRAY_JOB_ID']}_{job_environment['SLURM_ARRAY_TASK_ID']}"


def requeue(job: str) -> str | None:
    """Puts a job back into the queue; what went wrong, if it did.

    Only while it runs: one that is cancelled, or in the queue again already, has been stopped by SLURM for good reason.
    """
    error = ""
    for _ in range(ATTEMPTS):
        try:
            _requeue_running(job)
            return None
        except (OSError, subprocess.SubprocessError) as failure:
            error = (getattr(failure, "stderr", "") or str(failure)).strip()
            time.sleep(1)
    return error


def _requeue_running(job: str) -> None:
    if "JobState=RUNNING" in _call("scontrol", "show", "job", "-o", job).split():
        _call("scontrol", "requeue", job)


def _call(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
