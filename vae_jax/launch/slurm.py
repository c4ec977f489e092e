"""Runs a sweep on a SLURM cluster, a job array with one element a program."""

import argparse
import contextlib
import functools
import io
import math
import re
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.config.command_line import Overrides, command
from vae_jax.config.parse import checked_config, load_sweep
from vae_jax.errors import UserError
from vae_jax.launch import requeue
from vae_jax.launch.jobs import Job, announce, conclude, look_at_all, opening, stop_signals, write_members_file
from vae_jax.launch.live_table import Table
from vae_jax.launch.slurm_queue import ask_queue, in_a_line
from vae_jax.sweeps import algebra, plan, study
from vae_jax.sweeps.study import Planned
from vae_jax.training.writers import write_json

COMMAND = [sys.executable, "-m", "vae_jax", "population"]
"""What trains a program, given --members=FILE."""

POLL, REFRESH, ASK = 0.1, 1.0, 5.0
"""Seconds between looks at signals, at the runs' folders, and at the queue."""

GONE = 90.0
"""Seconds that a job is not in the queue until it is gone: its last files may come later than its end."""


class Request(NamedTuple):
    """What each program is to have, as the command line says; None leaves it to the cluster."""

    partition: str | None
    gpus: int | None
    cpus: int | None
    memory: float | None
    minutes: int | None
    max_parallel: int | None
    nodes: int
    requeues: int
    grace: int


def request_of(flags: argparse.Namespace) -> Request:
    """The resources of a command line. Raises UserError where the time is no longer than the grace."""
    if flags.time is not None and flags.time * 60 <= flags.grace:
        raise UserError(
            f"--time: {flags.time} min is not allowed; give more than --grace, which is {flags.grace} seconds"
        )
    return Request(
        partition=flags.partition,
        gpus=flags.gpus,
        cpus=flags.cpus,
        memory=flags.memory,
        minutes=flags.time,
        max_parallel=flags.max_parallel,
        nodes=flags.nodes,
        requeues=flags.requeues,
        grace=flags.grace,
    )


def gigabytes(text: str) -> float:
    """The flag --memory."""
    if not (re.fullmatch(r"\d+(\.\d+)?", text) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give gigabytes a node, as in --memory=16")
    return float(text)


def minutes(text: str) -> int:
    """The flag --time: minutes, rounded up."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):(\d\d):(\d\d))|(\d+)", text)
    days, hours, minutes, seconds, alone = (int(part or 0) for part in (found.groups() if found else "00000"))
    total = alone or math.ceil(((days * 24 + hours) * 60 + minutes) + seconds / 60)
    if not total:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give minutes, HH:MM:SS or D-HH:MM:SS")
    return total


def describe(file: str, overrides: Overrides, folder: Path, request: Request) -> str:
    """What the sweep of a config's file would take, in lines. Raises UserError naming what is wrong."""
    points = load_sweep(file)
    asked = plan.ask_shape(checked_config(file, overrides).data)  # the data are read while the points are
    programs = algebra.programs(algebra.runs(file, overrides, points))
    check_nodes(programs, request.nodes)
    return plan.describe(programs, folder, min(len(programs), request.max_parallel or len(programs)), asked)


def launch_sweep(file: str, overrides: Overrides, folder: Path, request: Request, wait: bool, again: str) -> int:
    """Submits the sweep of a config's file; the exit status, where it is to `wait` that of the whole study.

    `again` is the command that goes on with it. Raises UserError naming what is wrong.
    """
    programs = algebra.programs(algebra.runs(file, overrides, load_sweep(file)))
    check_nodes(programs, request.nodes)
    check_tools()
    with study.lock(folder):
        planned = {program.id: plan.of_program(program) for program in programs}
        jobs, waiting, numbers = submit(folder, planned, request, wait)
    return watch(folder, jobs, waiting, numbers, again) if wait else 0


def check_nodes(programs: Sequence[algebra.Program], nodes: int) -> None:
    """Raises UserError naming a program that would leave nodes idle: its runs are shared out, each of them whole."""
    for program in programs:
        if len(program.runs) < nodes and program.runs[0].config.parallel.mode != "data":
            count = f"{len(program.runs)} run{'s' * (len(program.runs) != 1)}"
            raise UserError(
                f"--nodes: {nodes} is not allowed for {program.id}, which has {count}; give at most as many nodes, or "
                "--config.parallel.mode=data, which splits each run over all of them"
            )


def check_tools() -> None:
    """Raises UserError saying what to install, where something is missing to submit with."""
    for tool in ("sbatch", "squeue", "scontrol", "srun"):
        if shutil.which(tool) is None:
            raise UserError(
                f"vae-jax slurm: {tool} is not here; launch from a machine that has SLURM's clients (on Debian: "
                "apt install slurm-client), or use launch.local"
            )
    if find_spec("submitit") is None:
        raise UserError("vae-jax slurm: submitit is not installed; pip install submitit, or this project's [slurm]")


def submit(
    folder: Path, planned: dict[str, list[Planned]], request: Request, stays: bool
) -> tuple[list[Job], list[Job], dict[str, str]]:
    """Writes the plan and submits the programs that have something to do and are not queued; says so.

    Returns all programs, those that have something to do, and the SLURM job of each of these.
    """
    jobs, waiting = look_at_all(planned, folder)
    queue = ask_queue()
    there = study.queued(folder, queue)
    study.write_plan(folder, [run for runs in planned.values() for run in runs], there)
    numbers = {job.id: there[job.id] for job in waiting if job.id in there}
    fresh = [job for job in waiting if job.id not in there]
    if fresh:
        numbers |= send(folder, fresh, request)
    where = (
        f"{len(fresh)} submitted as SLURM job {numbers[fresh[0].id].partition('_')[0]}" if fresh else "none submitted"
    )
    print(opening(jobs, f"SLURM, {where}" if waiting else "nothing to do", folder))
    for job in waiting:
        if job.id in there:
            print(f"{job.id} is queued already: SLURM job {there[job.id]} ({queue[there[job.id]]})")
            if new := {run.id for run in job.runs} - set(study.read(study.submission(folder, job.id)).get("runs", [])):
                print(f"  without {len(new)} of its runs, which are new; launch again when it has ended")
    if numbers and not stays:
        print(f"watch: {command('status')} {folder}, or this command again with --wait")
    if numbers:
        print(f"stop: scancel {' '.join(arrays(numbers))}", flush=True)
    return jobs, waiting, numbers


def arrays(numbers: dict[str, str]) -> list[str]:
    """The job arrays that jobs are of, each once."""
    return list(dict.fromkeys(number.partition("_")[0] for number in numbers.values()))


def send(folder: Path, jobs: Sequence[Job], request: Request) -> dict[str, str]:
    """Submits programs as one array; the SLURM job of each. Raises UserError where SLURM refuses it."""
    import submitit

    for job in jobs:
        write_members_file(job, folder)
    papers = folder / "programs" / "slurm"
    before = set(papers.glob("*")) | set(papers.glob(".*"))
    executor = submitit.SlurmExecutor(papers.absolute())
    executor.update_parameters(**parameters(folder, len(jobs), request))
    attempt = functools.partial(requeue.attempt, str(folder), COMMAND, request.nodes, request.requeues)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit shows what sbatch says, which the error holds too
            found = executor.map_array(attempt, [job.id for job in jobs], [job.runs for job in jobs])
    except RuntimeError as error:
        for file in (set(papers.glob("*")) | set(papers.glob(".*"))) - before:
            file.unlink()
        raise UserError(
            f"vae-jax slurm: sbatch refused: {in_a_line(str(error).replace('sbatch: error: ', ''))}"
        ) from None
    numbers = {job.id: sent.job_id for job, sent in zip(jobs, found, strict=True)}
    for job in jobs:
        write_json(study.submission(folder, job.id), {"job": numbers[job.id], "runs": [run.id for run in job.runs]})
    return numbers


def parameters(folder: Path, count: int, request: Request) -> dict[str, Any]:
    """What submitit is told: each element starts its steps itself, and SLURM queues it again when its node is lost."""
    return {
        "job_name": folder.resolve().name,
        "partition": request.partition,
        "nodes": request.nodes,
        "ntasks_per_node": 1,
        "gpus_per_node": request.gpus,
        "cpus_per_task": request.cpus,
        "mem": None if request.memory is None else f"{math.ceil(request.memory * 1024)}M",
        "time": request.minutes,
        "array_parallelism": request.max_parallel or count,
        "wckey": None,
        "stderr_to_stdout": True,
        "use_srun": False,
        # TERM in place of submitit's USR2, which would end the trainers, and to the steps alone.
        "additional_parameters": {"signal": f"TERM@{request.grace}", "requeue": True},
    }


def watch(folder: Path, jobs: Sequence[Job], waiting: Sequence[Job], numbers: dict[str, str], again: str) -> int:
    """Shows how the programs stand until all have ended or left the queue; the exit status."""
    table = Table()
    with stop_signals() as stop:
        try:
            _follow(folder, jobs, list(waiting), numbers, table, stop)
        finally:
            table.close()
    status = conclude(jobs, stop, folder, again)
    if stop and status != 0:
        print(f"the jobs stay in the queue; to stop them: scancel {' '.join(arrays(numbers))}", flush=True)
    return status


def _follow(
    folder: Path, jobs: Sequence[Job], open_: list[Job], numbers: dict[str, str], table: Table, stop: list[int]
) -> None:
    """Looks at the folders and the queue in turn. What the folders say counts; the queue tells who is still coming."""
    queue, missed, running, told = {}, {}, [], ""
    asked = looked = -math.inf
    while open_ and not stop:
        if time.monotonic() - asked >= ASK:
            try:
                queue = ask_queue()
                since = time.monotonic()
                missed = {job.id: missed.get(job.id, since) for job in open_ if numbers[job.id] not in queue}
            except UserError as error:
                table.say(str(error))
            asked = time.monotonic()
        if time.monotonic() - looked >= REFRESH:
            now = [job for job in open_ if queue.get(numbers[job.id]) in ("running", "completing")]
            why = ", ".join(sorted({state for job in open_ if (state := queue.get(numbers[job.id]))}))
            if not now and why not in ("", told):
                told = why
                table.say(f"in the queue: {why}")
            for job in open_:
                job.look(folder)
                if job in now and job not in running:
                    job.begin()
                job.measure()
            running = now
            table.draw(jobs, running, max(1, len(running)))
            looked = time.monotonic()
        for job in [job for job in open_ if job.over() or gone(job, folder, missed.get(job.id, math.inf))]:
            open_.remove(job)
            running = [other for other in running if other is not job]
            leave(job, folder, table)
        time.sleep(POLL)


def gone(job: Job, folder: Path, missed: float) -> bool:
    """Whether nothing more is to come of a job that has not been in the queue since `missed`."""
    now = time.monotonic()
    return now >= missed and (study.error(folder, job.id).exists() or now - missed >= GONE)


def leave(job: Job, folder: Path, table: Table) -> None:
    """Says how a program ended."""
    job.look(folder)
    announce(job, folder, table.say)
    known = study.read(study.submission(folder, job.id)).get("runs", [])
    if all(run.id in job.ended for run in job.runs if run.id in known):
        return
    job.crashed = True
    error = study.error(folder, job.id)
    table.say(
        error.read_text().rstrip()
        if error.exists()
        else f"{job.id}: has left the queue before its runs had ended: cancelled, or ended by SLURM; see {folder}/"
        f"programs/{job.id}.log and {folder}/programs/slurm"
    )
