"""Runs a sweep on a SLURM cluster, a job array with one element a program.

    python -m launch.slurm --config=FILE[:ARG] --workdir=runs/study [--config.a.b=v ...] [--wait] [--dry_run]
        [--partition=NAME] [--gpus=N] [--cpus=N] [--memory=GB] [--time=HH:MM:SS] [--max_parallel=N] [--nodes=N]
        [--requeues=N] [--grace=SECONDS]

The plan, the ids and the folder are those of launch.local; the folder must be one that all nodes see. --gpus, --cpus
and --memory are of a node, --nodes of a program (1), --max_parallel of each submission. A program that is preempted,
whose node is lost, or that is stopped --grace seconds (120) before its --time ends, has saved, is queued again, at most
--requeues times (100), and goes on. One that crashes stops no other. What is queued already is not submitted again.
Submits and returns; with --wait shows how it stands until all has ended, and Ctrl-C leaves the jobs in the queue.
Everything else that sbatch takes comes from its environment (SBATCH_ACCOUNT, SBATCH_QOS, ...).
Exit status: 0 all is submitted (with --wait: done), 1 something failed, 130 Ctrl-C. docs/sweeps.md.
"""

import contextlib
import functools
import io
import math
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from experiments import settings
from launch import plan, requeue, study, sweep
from launch.squeue import ask_queue, in_a_line
from launch.study import Planned
from launch.table import Table
from launch.watch import Job, announce, conclude, look_at_all, opening, prepare, stop_signals
from vae_jax.registry import UserError
from vae_jax.writers import write_json

RESOURCES = ("partition", "gpus", "cpus", "memory", "time", "max_parallel", "nodes", "requeues", "grace")
KNOWN, SWITCHES = ("config", "workdir", *RESOURCES), ("dry_run", "wait")

COMMAND = [sys.executable, "-m", "experiments.population"]
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


def main(argv: list[str]) -> int:
    """Plans the sweep of the command line, and submits it; the exit status."""
    own, overrides = settings.Arguments(KNOWN, SWITCHES).parse(argv)
    request, file = read_request(own), own.get("config", settings.DEFAULT)
    folder = Path(own.get("workdir", f"runs/{Path(file.partition(':')[0]).stem}_sweep"))
    planning, points = own.get("dry_run") == "true", settings.load_sweep(file)
    asked = plan.ask_shape(settings.parse(argv, KNOWN, SWITCHES)[0].data) if planning else {}
    programs = sweep.programs(sweep.runs(file, overrides, points))
    check_nodes(programs, request.nodes)
    if planning:
        print(plan.describe(programs, folder, min(len(programs), request.max_parallel or len(programs)), asked))
        return 0
    check_tools()
    again, stays = f"{settings.interpreter()} -m launch.slurm {shlex.join(argv)}", own.get("wait") == "true"
    with study.lock(folder):
        planned = {program.id: plan.of_program(program) for program in programs}
        jobs, waiting, numbers = submit(folder, planned, request, stays)
    return watch(folder, jobs, waiting, numbers, again) if stays else 0


def read_request(own: dict[str, str]) -> Request:
    """The resources of a command line. Raises UserError for what is none."""
    memory, minutes = own.get("memory"), _minutes(own["time"]) if "time" in own else None
    if memory is not None and not (re.fullmatch(r"\d+(\.\d+)?", memory) and float(memory) > 0):
        raise UserError(f"--memory: {memory!r} is not allowed; give gigabytes a node, as in --memory=16")
    grace = _whole(own, "grace", 1, 120)
    if minutes is not None and minutes * 60 <= grace:
        raise UserError(f"--time: {own['time']!r} is not allowed; give more than --grace, which is {grace} seconds")
    return Request(
        own.get("partition"),
        *(_whole(own, name, 1, None) for name in ("gpus", "cpus")),
        None if memory is None else float(memory),
        minutes,
        _whole(own, "max_parallel", 1, None),
        _whole(own, "nodes", 1, 1),
        _whole(own, "requeues", 0, 100),
        grace,
    )


def _whole(own: dict[str, str], name: str, least: int, otherwise: Any) -> Any:
    text = own.get(name)
    if text is not None and not (text.isdecimal() and int(text) >= least):
        raise UserError(f"--{name}: {text!r} is not allowed; give a whole number of at least {least}")
    return otherwise if text is None else int(text)


def _minutes(text: str) -> int:
    """Minutes of a time, rounded up."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):(\d\d):(\d\d))|(\d+)", text)
    days, hours, minutes, seconds, alone = (int(part or 0) for part in (found.groups() if found else "00000"))
    total = alone or math.ceil(((days * 24 + hours) * 60 + minutes) + seconds / 60)
    if not total:
        raise UserError(f"--time: {text!r} is not allowed; give minutes, HH:MM:SS or D-HH:MM:SS")
    return total


def check_nodes(programs: Sequence[sweep.Program], nodes: int) -> None:
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
                f"launch.slurm: {tool} is not here; launch from a machine that has SLURM's clients (on Debian: "
                "apt install slurm-client), or use launch.local"
            )
    if find_spec("submitit") is None:
        raise UserError("launch.slurm: submitit is not installed; pip install submitit, or this project's [slurm]")


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
        print(f"watch: {settings.interpreter()} -m launch.status {folder}, or this command again with --wait")
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
        prepare(job, folder)
    papers = folder / "programs" / "slurm"
    before = set(papers.glob("*")) | set(papers.glob(".*"))
    executor = submitit.SlurmExecutor(papers.absolute())
    executor.update_parameters(**parameters(folder, len(jobs), request))
    command = functools.partial(requeue.attempt, str(folder), COMMAND, request.nodes, request.requeues)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit shows what sbatch says, which the error holds too
            found = executor.map_array(command, [job.id for job in jobs], [job.runs for job in jobs])
    except RuntimeError as error:
        for file in (set(papers.glob("*")) | set(papers.glob(".*"))) - before:
            file.unlink()
        raise UserError(
            f"launch.slurm: sbatch refused: {in_a_line(str(error).replace('sbatch: error: ', ''))}"
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


if __name__ == "__main__":
    settings.start(main, __doc__)
