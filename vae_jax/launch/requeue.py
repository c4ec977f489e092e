"""What a SLURM job does: its program under srun, and the job back into the queue where the program was stopped.

srun, because TERM comes to its steps at the start of the grace time and to the batch script only at its end. A program
that has saved on TERM has ended as far as SLURM can tell, so that the job asks to be queued again itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_jax.launch.jobs import Job, announce, crash, record_speed
from vae_jax.sweeps import machine
from vae_jax.sweeps.study import Planned

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
"""How a program ends that a signal has stopped, whether it has saved or was about to begin."""

LOST = (75, 128 + signal.SIGABRT, 128 + signal.SIGKILL)
"""How a program of several processes ends once one of them is lost: the others notice, JAX notices, and its own end."""

ANSWER, TRIES = 60.0, 3
"""Seconds that SLURM may take to answer, and how often it is asked."""


def attempt(folder: str, command: Sequence[str], nodes: int, requeues: int, program: str, runs: list[Planned]) -> None:
    """Runs a program of a study until it ends or is stopped, and leaves with its status."""
    study, job = Path(folder), Job(program, runs)
    job.look(study)
    job.begin()
    status = train(study, program, [*srun(nodes, os.environ), *command])
    job.look(study)
    record_speed(job, study, 1)
    say = lambda text: print(text, flush=True)  # noqa: E731
    announce(job, study, say)
    if not job.over():
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        lost = nodes > 1 and status in LOST
        how = "lost one of its processes" if lost else "was stopped"
        # Where it comes no further the loss is its own doing.
        if status not in STOPPED and not (lost and job.done_steps() > job.done_before):
            crash(job, f"ended with status {status}" + f", for it {how}," * lost, study, say)
        elif restarts >= requeues:
            crash(
                job,
                f"{how} after {restarts} restart{'s' * (restarts != 1)}, all that --requeues allows,",
                study,
                say,
            )
        elif error := requeue(element(os.environ)):
            crash(job, f"{how} and could not be queued again ({error})", study, say)
    sys.exit(status)


def train(study: Path, program: str, command: list[str]) -> int:
    """The status of a program that was started with this command and its members, its output at the end of its log."""
    with (study / "programs" / f"{program}.log").open("a") as output:
        job, nodes, restarts = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "JOB_NODELIST", "RESTART_COUNT"))
        again = f", restart {restarts}" if restarts else ""
        output.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, on {nodes}, SLURM job {job}{again}\n")
        output.flush()
        return subprocess.run(
            [*command, f"--members={study / 'programs' / f'{program}.json'}"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(study, os.environ),
        ).returncode  # fmt: skip


def srun(nodes: int, given: Mapping[str, str]) -> list[str]:
    """How a step with one process a node is started in a job's environment `given`.

    A process that ends must not end the others: they may be saving.
    """
    words = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
    if cpus := given.get("SLURM_CPUS_PER_TASK"):  # which srun does not take over by itself
        words.append(f"--cpus-per-task={cpus}")
    return words


def environment(study: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What a program gets to know, as on one machine: a population is split over devices, on a CPU a device a core."""
    cores = min(len(machine.cores()), int(given.get("SLURM_CPUS_ON_NODE") or sys.maxsize))
    flags = f"{given.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={cores}".strip()
    group = given.get("WANDB_RUN_GROUP", study.resolve().name)
    return {**given, "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1", "WANDB_RUN_GROUP": group}


def element(given: Mapping[str, str]) -> str:
    """What this job alone is called; the number of an array's last element is that of the whole array too."""
    if "SLURM_ARRAY_TASK_ID" not in given:
        return given["SLURM_JOB_ID"]
    return f"{given['SLURM_ARRAY_JOB_ID']}_{given['SLURM_ARRAY_TASK_ID']}"


def requeue(job: str) -> str | None:
    """Puts this job back into the queue; what went wrong, if it did.

    Only while it runs: one that is cancelled, or in the queue again already, has been stopped by SLURM for good reason.
    """
    error = ""
    for _ in range(TRIES):
        try:
            found = _ask("scontrol", "show", "job", "-o", job)
            if "JobState=RUNNING" in found.split():
                _ask("scontrol", "requeue", job)
            return None
        except (OSError, subprocess.SubprocessError) as failed:
            error = (getattr(failed, "stderr", "") or str(failed)).strip()
            time.sleep(1)
    return error


def _ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER, check=True).stdout
