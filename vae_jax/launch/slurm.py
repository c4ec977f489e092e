"""Runs a sweep on a SLURM cluster, a job array with one element a program."""

import argparse
import contextlib
import dataclasses
import functools
import io
import math
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.config.command_line import Overrides, Parser, command, text, whole
from vae_jax.config.parse import checked_config, load_sweep
from vae_jax.errors import UserError
from vae_jax.launch import slurm_job, slurm_queue
from vae_jax.launch.live_table import Table
from vae_jax.launch.progress import (
    GroupProgress,
    all_entries,
    incomplete,
    read_progress,
    report_end,
    start_line,
    write_members_file,
)
from vae_jax.launch.slurm_queue import ask_queue, in_one_line
from vae_jax.launch.stopping import StopSignals, catch_stop_signals
from vae_jax.launch.summary import print_summary
from vae_jax.phrases import plural, printable
from vae_jax.sweeps import plan, study
from vae_jax.sweeps.groups import RunGroup, group_runs, plan_entries, plan_runs

COMMAND = [sys.executable, "-m", "vae_jax", "population"]
"""What trains a program, given --members=FILE."""

POLL_SECONDS, REFRESH_SECONDS, QUEUE_SECONDS = 0.1, 1.0, 5.0
"""Seconds between looks at signals, at the runs' folders, and at the queue."""

VANISHED_SECONDS = 90.0
"""Seconds that a job is not in the queue until it is gone: its last files may come later than its end."""

MEBIBYTES = 1024
"""In a gigabyte, as SLURM counts."""


class SlurmRequest(NamedTuple):
    """What each program is to have, as the command line says; None leaves it to the cluster.

    `gpus`, `cpus` and `memory` (gigabytes) are of a node, `minutes` and `grace` (seconds) of one start.
    """

    partition: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: float | None = None
    minutes: int | None = None
    max_parallel: int | None = None
    nodes: int = 1
    requeues: int = 100
    grace: int = 120


def add_flags(parser: Parser) -> None:
    """The flags of a command line that say what each program is to have."""
    parser.flag("partition", text, None, "NAME", "the partition")
    parser.flag("gpus", whole(1), None, "N", "GPUs a node")
    parser.flag("cpus", whole(1), None, "N", "CPUs a node")
    parser.flag("memory", gigabytes, None, "GB", "memory a node")
    parser.flag("time", time_limit, None, "HH:MM:SS", "time limit")
    parser.flag("max_parallel", whole(1), None, "N", "programs at once, of this submission")
    parser.flag("nodes", whole(1), 1, "N", "nodes a program")
    parser.flag("requeues", whole(0), 100, "N", "times that a program is queued again")
    parser.flag("grace", whole(1), 120, "SECONDS", "how long before its end a job is told to save")


def read_request(flags: argparse.Namespace) -> SlurmRequest:
    """The resources of a command line. Raises UserError where the time is no longer than the grace."""
    limit = flags.time
    if limit is not None and limit.minutes * 60 <= flags.grace:
        raise UserError(
            f"--time: {limit.text!r} is not allowed; give more than --grace, which is {flags.grace} seconds"
        )
    values = vars(flags) | {"minutes": None if limit is None else limit.minutes}
    return SlurmRequest(**{field: values[field] for field in SlurmRequest._fields})


def gigabytes(text: str) -> float:
    """The flag --memory."""
    if not (re.fullmatch(r"\d+(\.\d+)?", text) and float(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give gigabytes a node, as in --memory=16")
    return float(text)


class TimeLimit(NamedTuple):
    """A time limit as it was typed, and in minutes, rounded up."""

    text: str
    minutes: int


def time_limit(text: str) -> TimeLimit:
    """The flag --time."""
    total = 0
    if text.isdecimal():
        total = int(text)
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = math.ceil((days * 24 + hours) * 60 + minutes + seconds / 60)
    if not total:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give minutes, HH:MM:SS or D-HH:MM:SS")
    return TimeLimit(text, total)


def describe(file: str, overrides: Overrides, folder: Path, request: SlurmRequest) -> str:
    """What the sweep of a config's file would take, in lines. Raises UserError naming what is wrong."""
    points = load_sweep(file)
    shapes = plan.request_image_shape(checked_config(file, overrides).data)  # the data are read while the points are
    groups = group_runs(plan_runs(file, overrides, points, folder))
    check_nodes(groups, request.nodes)
    devices = request.gpus or request.cpus
    return plan.describe(
        groups,
        folder,
        processes=min(len(groups), request.max_parallel or len(groups)),
        devices=None if devices is None else devices * request.nodes,
        shapes=shapes,
    )


def launch_sweep(
    file: str, overrides: Overrides, folder: Path, request: SlurmRequest, wait: bool, resume_command: str
) -> int:
    """Submits the sweep of a config's file; the exit status, where it is to `wait` that of the whole study.

    `resume_command` is what a person types to go on with it. Raises UserError naming what is wrong.
    """
    groups = group_runs(plan_runs(file, overrides, load_sweep(file), folder))
    check_nodes(groups, request.nodes)
    check_tools()
    with study.lock(folder):
        progress = read_progress(plan_entries(groups), folder)
        jobs = submit(folder, progress, request)
        print_commands(folder, jobs, wait)
    return watch(folder, progress, jobs, resume_command) if wait else 0


def check_nodes(groups: Sequence[RunGroup], nodes: int) -> None:
    """Raises UserError naming a program that would leave nodes idle: its runs are shared out, each of them whole."""
    for group in groups:
        if len(group.runs) < nodes and group.config.parallel.mode != "data":
            raise UserError(
                f"--nodes: {nodes} is not allowed for {group.id}, which has {plural(len(group.runs), 'run')}; give at "
                "most as many nodes, or --config.parallel.mode=data, which splits each run over all of them"
            )


def check_tools() -> None:
    """Raises UserError saying what to install, where something is missing to submit with."""
    for tool in ("sbatch", "squeue", "scontrol", "srun"):
        if shutil.which(tool) is None:
            raise UserError(
                f"vae-jax slurm: {tool} is not here; launch from a machine that has SLURM's clients (on Debian: "
                "apt install slurm-client), or use vae-jax sweep"
            )
    if find_spec("submitit") is None:
        raise UserError("vae-jax slurm: submitit is not installed; pip install submitit, or this project's [slurm]")


def submit(folder: Path, groups: Sequence[GroupProgress], request: SlurmRequest) -> dict[str, str]:
    """Writes the plan and submits the programs that have something to do and are not queued; says so.

    Returns the SLURM job of each program that has something to do.
    """
    queue = ask_queue()
    queued = slurm_queue.queued_jobs(folder, queue)
    study.write_plan(folder, all_entries(groups), queued)
    unfinished = incomplete(groups)
    unsubmitted = [group for group in unfinished if group.id not in queued]
    submitted = submit_array(folder, unsubmitted, request) if unsubmitted else {}
    what = f"{len(submitted)} submitted as SLURM job {job_arrays(submitted.values())[0]}" if submitted else ""
    print(start_line(groups, f"SLURM, {what or 'none submitted'}" if unfinished else "nothing to do", folder))
    for group in unfinished:
        if group.id in queued:
            job = queued[group.id]
            print(f"{group.id} is queued already: SLURM job {job} ({queue[job]})")
            _print_new_runs(folder, group)
    return {group.id: queued.get(group.id) or submitted[group.id] for group in unfinished}


def _print_new_runs(folder: Path, group: GroupProgress) -> None:
    new_runs = {run.id for run in group.runs} - set(slurm_queue.submitted_runs(folder, group.id))
    if new_runs:
        print(f"  without {len(new_runs)} of its runs, which are new; launch again when it has ended")


def print_commands(folder: Path, jobs: dict[str, str], wait: bool) -> None:
    """Says how to watch and to stop the SLURM job of each program; with `wait` they are watched already."""
    if jobs and not wait:
        print(f"watch: {command('status')} {folder}, or this command again with --wait")
    if jobs:
        print(f"stop: scancel {' '.join(job_arrays(jobs.values()))}", flush=True)


def job_arrays(jobs: Iterable[str]) -> list[str]:
    """The job arrays that jobs are of, each once."""
    return list(dict.fromkeys(job.partition("_")[0] for job in jobs))


def submit_array(folder: Path, groups: Sequence[GroupProgress], request: SlurmRequest) -> dict[str, str]:
    """Submits programs as one array; the SLURM job of each. Raises UserError where SLURM refuses it."""
    import submitit

    for group in groups:
        write_members_file(group, folder)
    scripts = folder / "programs" / "slurm"
    earlier_files = _all_files(scripts)
    executor = submitit.SlurmExecutor(scripts.absolute())
    executor.update_parameters(**submitit_parameters(folder, len(groups), request))
    run_group = functools.partial(slurm_job.run_group, str(folder), COMMAND, request.nodes, request.requeues)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit shows what sbatch says, which the error holds too
            elements = executor.map_array(run_group, [group.id for group in groups], [group.runs for group in groups])
    except RuntimeError as error:
        for file in _all_files(scripts) - earlier_files:
            file.unlink()
        reason = in_one_line(str(error).replace("sbatch: error: ", ""))
        raise UserError(f"vae-jax slurm: sbatch refused: {reason}") from None
    jobs = {group.id: element.job_id for group, element in zip(groups, elements, strict=True)}
    for group in groups:
        slurm_queue.write_submission(folder, group.id, jobs[group.id], [run.id for run in group.runs])
    return jobs


def _all_files(folder: Path) -> set[Path]:
    return set(folder.glob("*")) | set(folder.glob(".*"))


def submitit_parameters(folder: Path, programs: int, request: SlurmRequest) -> dict[str, Any]:
    """The parameters of submitit: an element starts its steps itself, and SLURM queues it again when its node is lost.

    Args:
        folder: the study's, after which the array is called.
        programs: how many elements the array has.
        request: the resources of each.
    """
    return {
        "job_name": folder.resolve().name,
        "partition": request.partition,
        "nodes": request.nodes,
        "ntasks_per_node": 1,
        "gpus_per_node": request.gpus,
        "cpus_per_task": request.cpus,
        "mem": None if request.memory is None else f"{math.ceil(request.memory * MEBIBYTES)}M",
        "time": request.minutes,
        "array_parallelism": request.max_parallel or programs,
        "wckey": None,
        "stderr_to_stdout": True,
        "use_srun": False,
        # TERM in place of submitit's USR2, which would end the trainers, and to the steps alone.
        "additional_parameters": {"signal": f"TERM@{request.grace}", "requeue": True},
    }


def watch(folder: Path, groups: list[GroupProgress], jobs: dict[str, str], resume_command: str) -> int:
    """Shows the state of the programs until all have ended or left the queue; the exit status.

    Args:
        folder: the study's.
        groups: all its programs.
        jobs: the SLURM job of each that has something to do.
        resume_command: what a person types to go on with it.
    """
    stop = wait_for_jobs(folder, groups, jobs)
    status = print_summary(groups, stop, folder, resume_command)
    if stop.requested and status != 0:
        print_queued(jobs)
    return status


def wait_for_jobs(folder: Path, groups: list[GroupProgress], jobs: dict[str, str]) -> StopSignals:
    """Shows the state of the programs until all have ended or left the queue; the signals to stop that came."""
    table = Table()
    with catch_stop_signals() as stop:
        watcher = QueueWatcher(folder, groups, jobs, table, stop, [group for group in groups if group.id in jobs])
        try:
            watcher.run()
        finally:
            table.close()
    return stop


def print_queued(jobs: dict[str, str]) -> None:
    """Says how to stop jobs that nobody waits for any more."""
    print(f"the jobs stay in the queue; to stop them: scancel {' '.join(job_arrays(jobs.values()))}", flush=True)


@dataclasses.dataclass
class QueueWatcher:
    """Looks at the folders and the queue in turn. What the folders say counts; the queue tells who is still coming.

    `watched` are the programs that may still do something; `missing_since` says since when a job is not in the queue.
    """

    folder: Path
    groups: list[GroupProgress]
    jobs: dict[str, str]
    table: Table
    stop: StopSignals
    watched: list[GroupProgress]
    running: list[GroupProgress] = dataclasses.field(default_factory=list)
    queue: dict[str, str] = dataclasses.field(default_factory=dict)
    missing_since: dict[str, float] = dataclasses.field(default_factory=dict)
    printed_reasons: str = ""
    queue_time: float = -math.inf
    refresh_time: float = -math.inf

    def run(self) -> None:
        """Returns when all have ended or left the queue, or at a signal to stop."""
        while self.watched and not self.stop.requested:
            if time.monotonic() - self.queue_time >= QUEUE_SECONDS:
                self.read_queue()
            if time.monotonic() - self.refresh_time >= REFRESH_SECONDS:
                self.refresh()
            self.remove_ended()
            time.sleep(POLL_SECONDS)

    def state(self, group: GroupProgress) -> str:
        """The state of a program's job in the queue; empty where it is not there."""
        return self.queue.get(self.jobs[group.id], "")

    def read_queue(self) -> None:
        """Asks SLURM for the queue; where it does not answer, what it said before holds."""
        try:
            self.queue = ask_queue()
        except UserError as error:
            self.table.print(str(error))
        else:
            now, missing = time.monotonic(), [group.id for group in self.watched if not self.state(group)]
            self.missing_since = {name: self.missing_since.get(name, now) for name in missing}
        self.queue_time = time.monotonic()

    def refresh(self) -> None:
        """Reads how far the programs are, and draws it."""
        running = [group for group in self.watched if self.state(group) in ("running", "completing")]
        reasons = ", ".join(sorted({self.state(group) for group in self.watched} - {""}))
        if not running and reasons not in ("", self.printed_reasons):
            self.printed_reasons = reasons
            self.table.print(f"in the queue: {reasons}")
        for group in self.watched:
            group.update(self.folder)
            if group in running and group not in self.running:
                group.mark_start()
            group.measure_speed()
        self.running = running
        self.table.draw(self.groups, running, max(1, len(running)))
        self.refresh_time = time.monotonic()

    def remove_ended(self) -> None:
        """Says how the programs ended that have, or are gone."""
        for group in list(self.watched):
            if group.complete or has_vanished(group, self.folder, self.missing_since.get(group.id, math.inf)):
                self.watched.remove(group)
                self.running = [other for other in self.running if other is not group]
                report_job_end(group, self.folder, self.table)


def has_vanished(group: GroupProgress, folder: Path, missing_since: float) -> bool:
    """Whether nothing more is to come of a program whose job has not been in the queue since `missing_since`."""
    now = time.monotonic()
    crashed = study.error_file(folder, group.id).exists()
    return now >= missing_since and (crashed or now - missing_since >= VANISHED_SECONDS)


def report_job_end(group: GroupProgress, folder: Path, table: Table) -> None:
    """Says how a program ended that is no longer in the queue."""
    group.update(folder)
    report_end(group, folder, table.print)
    submitted = slurm_queue.submitted_runs(folder, group.id)
    if all(run.id in group.end_states for run in group.runs if run.id in submitted):
        return
    group.crashed = True
    error = study.error_file(folder, group.id)
    table.print(
        "\n".join(map(printable, error.read_text(errors="replace").splitlines()))
        if error.exists()
        else f"{group.id}: has left the queue before its runs had ended: cancelled, or ended by SLURM; see {folder}/"
        f"programs/{group.id}.log and {folder}/programs/slurm"
    )
