"""Runs a sweep on this machine, one process a program."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vae_jax.config.command_line import Overrides
from vae_jax.config.parse import checked_config, load_sweep
from vae_jax.launch.jobs import (
    Job,
    announce,
    conclude,
    crash,
    look_at_all,
    opening,
    record_speed,
    stop_signals,
    write_members_file,
)
from vae_jax.launch.live_table import Table
from vae_jax.sweeps import algebra, machine, plan, study
from vae_jax.sweeps.machine import Place
from vae_jax.sweeps.study import Planned

COMMAND = [sys.executable, "-m", "vae_jax", "population"]
"""What trains a program, given --members=FILE."""

POLL, REFRESH = 0.1, 1.0
"""Seconds between looks at the processes, and at the runs' folders."""


def describe(file: str, overrides: Overrides, folder: Path, processes: int = 0) -> str:
    """What the sweep of a config's file would take here, in lines. Raises UserError naming what is wrong."""
    points = load_sweep(file)
    asked = plan.ask_shape(checked_config(file, overrides).data)  # the data are read while the points are
    programs = algebra.programs(algebra.runs(file, overrides, points))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a study may be running
    return plan.describe(programs, folder, len(machine.places(len(programs), processes)), asked)


def launch_sweep(file: str, overrides: Overrides, folder: Path, processes: int, again: str) -> int:
    """Runs the sweep of a config's file in `folder`; the exit status. `again` is the command that goes on with it."""
    programs = algebra.programs(algebra.runs(file, overrides, load_sweep(file)))
    with study.hold(folder):
        planned = {program.id: plan.of_program(program) for program in programs}
        study.write_plan(folder, [run for runs in planned.values() for run in runs])
        return launch(folder, planned, processes, again)


def launch(folder: Path, planned: dict[str, list[Planned]], processes: int, again: str) -> int:
    """Runs every program that has something to do; the exit status."""
    jobs, waiting = look_at_all(planned, folder)
    places = machine.places(len(waiting), processes)
    table = Table()
    where = ", ".join(place.name for place in places) if waiting else "nothing to do"
    table.say(opening(jobs, where, folder))
    with stop_signals() as stop:
        try:
            _go(folder, jobs, waiting, places, table, stop)
        finally:
            table.close()
            for job in jobs:
                if job.process is not None and job.process.poll() is None:  # something went wrong here
                    kill(job.process)
    return conclude(jobs, stop, folder, again)


def _go(
    folder: Path, jobs: Sequence[Job], waiting: list[Job], places: Sequence[Place], table: Table, stop: list[int]
) -> None:
    """Starts, watches and ends processes until all have ended."""
    queue, free, running, told, looked = list(waiting), list(places), [], 0, 0.0
    while running or (queue and not stop):
        while queue and free and not stop:
            job = queue.pop(0)
            job.place = free.pop(0)
            start(job, folder)
            running.append(job)
        for job in [job for job in running if job.process.poll() is not None]:
            running.remove(job)
            free.append(job.place)
            job.look(folder)
            record_speed(job, folder, len(places))
            finish(job, folder, table.say, bool(stop))
        if len(stop) > told:
            told = len(stop)
            if told == 1:
                table.say(f"stopping: {len(running)} to save and end; Ctrl-C again ends them at once")
            for job in running:
                job.process.terminate() if told == 1 else kill(job.process)
        if time.monotonic() - looked >= REFRESH:
            for job in running:
                job.look(folder)
                job.measure()
                record_speed(job, folder, len(places))
            looked = time.monotonic()
            table.draw(jobs, running, len(places))
        time.sleep(POLL)


def start(job: Job, folder: Path) -> None:
    """Starts the process of a program, in its place, with its output at the end of its log."""
    members, log = write_members_file(job, folder), folder / "programs" / f"{job.id}.log"
    environment = os.environ | job.place.environment | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("WANDB_RUN_GROUP", folder.resolve().name)
    with log.open("a") as output:
        output.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, on {job.place.name}\n")
        output.flush()
        # In a session of its own: Ctrl-C comes to the launcher alone, which tells its programs once.
        job.process = subprocess.Popen(
            [*COMMAND, f"--members={members}"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True, preexec_fn=_in_child(os.getpid(), job.place.cores),
        )  # fmt: skip
    job.begin()


def _in_child(launcher: int, cores: Sequence[int]) -> Callable[[], None]:
    """What a process does before it becomes a program: takes its cores, and asks to be killed when the launcher is.

    Killed and not stopped: nothing is lost but the steps since the last checkpoint, the same bits follow, and no
    orphan holds a device or a folder when the study is launched again.
    """
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare():
        if cores:
            os.sched_setaffinity(0, cores)
        if library is not None:
            library.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != launcher:  # it was killed before we could ask
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def kill(process: subprocess.Popen) -> None:
    """Ends a program and what it has started at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(job: Job, folder: Path, say: Callable[[str], Any], stopping: bool) -> None:
    """Says how a program ended, and keeps the end of what it printed if it crashed."""
    status = job.process.returncode
    announce(job, folder, say)
    if not job.over() and not stopping:
        crash(job, f"was killed by signal {-status}" if status < 0 else f"ended with status {status}", folder, say)
