"""Runs a sweep on this machine, one process a program."""

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vae_jax.config.command_line import Overrides
from vae_jax.config.parse import checked_config, load_sweep
from vae_jax.launch import machine
from vae_jax.launch.live_table import Table
from vae_jax.launch.machine import DeviceShare
from vae_jax.launch.progress import (
    GroupProgress,
    all_entries,
    incomplete,
    read_progress,
    record_speed,
    report_crash,
    report_end,
    start_line,
    write_members_file,
)
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.launch.stopping import StopSignals, catch_stop_signals
from vae_jax.launch.summary import print_summary
from vae_jax.screen import time_stamp
from vae_jax.sweeps import forecast, plan, study
from vae_jax.sweeps.chips import parse_machine
from vae_jax.sweeps.groups import RunGroup, group_runs, plan_entries, plan_runs

COMMAND = [sys.executable, "-m", "vae_jax", "population"]
"""What trains a program, given --members=FILE."""

POLL_SECONDS, REFRESH_SECONDS = 0.1, 1.0
"""Seconds between looks at the processes, and at the runs' folders."""

PR_SET_PDEATHSIG = 1


def describe(file: str, overrides: Overrides, folder: Path, processes: int = 0, elsewhere: str = "") -> str:
    """What the sweep of a config's file would take, in lines. Raises UserError naming what is wrong.

    Args:
        file: the config NAME|FILE.py[:ARGUMENT], which has sweep().
        overrides: fields of every run.
        folder: the study's; what has ended there is not counted. Not read where `elsewhere` is given.
        processes: how many run at once at most; 0 for what suits this machine. Not read likewise.
        elsewhere: a machine that is not here, as "tpu:v5e:2x4", where the whole sweep would run.
    """
    points = load_sweep(file)
    if elsewhere:
        forecast.use_cpu()
        there = parse_machine(elsewhere)
        return forecast.describe(group_runs(plan_runs(file, overrides, points)), there)
    shapes = plan.request_image_shape(checked_config(file, overrides).data)  # the data are read while the points are
    groups = group_runs(plan_runs(file, overrides, points, folder))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a study may be running
    shares = machine.share_devices(len(groups), processes)
    counts = [share.devices for share in shares if share.devices is not None]
    return plan.describe(groups, folder, len(shares), min(counts, default=None), shapes)


def launch_sweep(file: str, overrides: Overrides, folder: Path, processes: int, resume_command: str) -> int:
    """Runs the sweep of a config's file in `folder`; the exit status.

    Args:
        file: the config NAME|FILE.py[:ARGUMENT], which has sweep().
        overrides: fields of every run.
        folder: the study's.
        processes: how many run at once at most; 0 for what suits this machine.
        resume_command: what a person types to go on with it.
    """
    groups = group_runs(plan_runs(file, overrides, load_sweep(file), folder))
    with lock_unqueued(folder):
        return launch(folder, groups, processes, resume_command)


def launch(folder: Path, groups: Sequence[RunGroup], processes: int, resume_command: str) -> int:
    """Runs every program that has something to do in a folder that is locked; the exit status."""
    progress = read_progress(plan_entries(groups), folder)
    study.write_plan(folder, all_entries(progress))
    waiting = incomplete(progress)
    shares = machine.share_devices(len(waiting), processes)
    table = Table()
    where = ", ".join(share.name for share in shares) if waiting else "nothing to do"
    table.print(start_line(progress, where, folder))
    with catch_stop_signals() as stop:
        scheduler = Scheduler(folder, progress, waiting, shares, table, stop)
        try:
            scheduler.run()
        finally:
            table.close()
            scheduler.kill_workers()
    return print_summary(progress, stop, folder, resume_command)


@dataclasses.dataclass(frozen=True)
class Worker:
    """The process of a program, and the devices that it has."""

    group: GroupProgress
    share: DeviceShare
    process: subprocess.Popen

    def kill(self) -> None:
        """Ends the process and what it has started at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclasses.dataclass
class Scheduler:
    """Starts waiting programs as devices come free, watches their processes and ends them."""

    folder: Path
    groups: list[GroupProgress]
    waiting: list[GroupProgress]
    free_shares: list[DeviceShare]
    table: Table
    stop: StopSignals
    workers: list[Worker] = dataclasses.field(default_factory=list)
    signals_passed: int = 0
    refresh_time: float = 0.0

    def __post_init__(self):
        self.processes = len(self.free_shares)

    def run(self) -> None:
        """Returns when all have ended; after a signal to stop, when those that run have."""
        while self.workers or (self.waiting and not self.stop.requested):
            self.start_waiting()
            self.remove_ended()
            self.pass_signals()
            if time.monotonic() - self.refresh_time >= REFRESH_SECONDS:
                self.refresh()
            time.sleep(POLL_SECONDS)

    def start_waiting(self) -> None:
        """Starts programs on the devices that are free."""
        while self.waiting and self.free_shares and not self.stop.requested:
            self.workers.append(start_worker(self.waiting.pop(0), self.free_shares.pop(0), self.folder))

    def remove_ended(self) -> None:
        """Says how the programs ended that have, and frees their devices."""
        for worker in [worker for worker in self.workers if worker.process.poll() is not None]:
            self.workers.remove(worker)
            self.free_shares.append(worker.share)
            worker.group.update(self.folder)
            record_speed(worker.group, self.folder, self.processes)
            self.report(worker)

    def report(self, worker: Worker) -> None:
        """Says how a program ended, and keeps the end of what it printed if it crashed."""
        report_end(worker.group, self.folder, self.table.print)
        if worker.group.complete or self.stop.requested:
            return
        status = worker.process.returncode
        what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        report_crash(worker.group, what, self.folder, self.table.print)

    def pass_signals(self) -> None:
        """Lets the programs save and end at the first signal to stop, and ends them at once at the second."""
        if len(self.stop.numbers) == self.signals_passed:
            return
        if self.signals_passed:
            self.kill_workers()
        else:
            self.table.print(f"stopping: {len(self.workers)} to save and end; Ctrl-C again ends them at once")
            for worker in self.workers:
                worker.process.terminate()
        self.signals_passed = len(self.stop.numbers)

    def refresh(self) -> None:
        """Reads how far the programs are, and draws it."""
        running = [worker.group for worker in self.workers]
        for group in running:
            group.update(self.folder)
            group.measure_speed()
            record_speed(group, self.folder, self.processes)
        self.refresh_time = time.monotonic()
        self.table.draw(self.groups, running, self.processes)

    def kill_workers(self) -> None:
        """Ends every process that is left."""
        for worker in self.workers:
            worker.kill()


def start_worker(group: GroupProgress, share: DeviceShare, folder: Path) -> Worker:
    """Starts the process of a program on these devices, with its output at the end of its log."""
    members, log = write_members_file(group, folder), folder / "programs" / f"{group.id}.log"
    environment = os.environ | share.environment | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("WANDB_RUN_GROUP", folder.resolve().name)
    with log.open("a") as output:
        output.write(f"--- {time_stamp()}, on {share.name}\n")
        output.flush()
        process = subprocess.Popen(
            [*COMMAND, f"--members={members}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            # In a session of its own: Ctrl-C comes to the launcher alone, which tells its programs once.
            start_new_session=True,
            preexec_fn=_child_setup(os.getpid(), share.cores),
        )
    group.mark_start()
    return Worker(group, share, process)


def _child_setup(launcher: int, cores: Sequence[int]) -> Callable[[], None]:
    """What a process does before it becomes a program: takes its cores, and asks to be killed when the launcher is.

    Killed and not stopped: nothing is lost but the steps since the last checkpoint, the same bits follow, and no
    orphan holds a device or a folder when the study is launched again.
    """
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def set_up() -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        if library is not None:
            library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != launcher:  # it was killed before we could ask
                os.kill(os.getpid(), signal.SIGKILL)

    return set_up
