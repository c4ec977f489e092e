"""Runs a sweep on this machine, one process a program.

    python -m launch.local --config=FILE[:ARG] --workdir=runs/study [--config.a.b=v ...] [--processes=N] [--dry_run]

FILE has sweep() beside get_config(); --config.a.b=v holds for every run. Programs are started as places come free: one
a GPU, or N at once on the CPU (1 unless given), which share its cores. Ctrl-C stops them once they have saved, a second
one at once; the same command goes on where it stopped. A program that crashes stops no other, and is tried again by the
next launch. Exit status: 0 all is done, 1 something failed, 128 + n stopped by signal n (130: Ctrl-C). docs/sweeps.md.
"""

import contextlib
import ctypes
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import settings
from launch import machine, plan, study, sweep
from launch.machine import Place
from launch.study import DONE, DROPPED, FAILED, Planned
from launch.table import Table, tally
from vae_jax.registry import UserError
from vae_jax.writers import write_json

KNOWN, SWITCHES = ("config", "workdir", "processes"), ("dry_run",)

COMMAND = [sys.executable, "-m", "experiments.population"]
"""What trains a program, given --members=FILE."""

POLL, REFRESH = 0.1, 1.0
"""Seconds between looks at the processes, and at the runs' folders."""

LOG_LINES = 12
"""Lines of a crashed program's output that are shown."""


def main(argv: list[str]) -> int:
    """Plans the sweep of the command line, and runs it; the exit status."""
    own, overrides = settings.Arguments(KNOWN, SWITCHES).parse(argv)
    file = own.get("config", settings.DEFAULT)
    folder = Path(own.get("workdir", f"runs/{Path(file.partition(':')[0]).stem}_sweep"))
    processes = _processes(own.get("processes", "0"))
    planning, points = own.get("dry_run") == "true", settings.load_sweep(file)
    # The data are read while the points are.
    asked = plan.ask_shape(settings.parse(argv, KNOWN, SWITCHES)[0].data) if planning else {}
    programs = sweep.programs(sweep.runs(file, overrides, points))
    if planning:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a study may be running
        print(plan.describe(programs, folder, len(machine.places(len(programs), processes)), asked))
        return 0
    with study.hold(folder):
        planned = {program.id: plan.of_program(program) for program in programs}
        study.write_plan(folder, [run for runs in planned.values() for run in runs])
        again = f"{settings.interpreter()} -m launch.local {shlex.join(argv)}"
        return launch(folder, planned, processes, again)


def _processes(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--processes: {text!r} is not allowed; give a whole number, or 0 for what suits this machine")
    return int(text)


@dataclasses.dataclass
class Job:
    """A program while this launcher has it: its runs, how far they are, and its process once it has one.

    `ended` says how runs ended and `steps` where the others are. `speed` is of all its members together, in steps a
    second, since its first record here: without the time to compile.
    """

    id: str
    runs: list[Planned]
    ended: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: dict[str, int] = dataclasses.field(default_factory=dict)
    process: subprocess.Popen | None = None
    place: Place | None = None
    crashed: bool = False
    began: float = 0.0
    done_before: int = 0
    first: tuple[float, int] | None = None
    speed: float | None = None

    def look(self, folder: Path) -> None:
        """Reads from the folders how far its runs are."""
        for run in self.runs:
            if run.id in self.ended:
                continue
            self.steps[run.id] = study.last_step(folder / run.id)
            if how := study.ended(folder / run.id, run.steps):
                self.ended[run.id] = how

    def done_steps(self) -> int:
        """Steps of all its runs together, as recorded."""
        return sum(self.steps.values())

    def steps_left(self) -> float:
        """Steps that remain to be done."""
        return sum(study.steps_left(run, self.steps.get(run.id, 0)) for run in self.runs if run.id not in self.ended)

    def seconds_left(self, otherwise: float | None) -> float | None:
        """Seconds that remain, at its own speed, or `otherwise` seconds a step where that is not known yet."""
        each = 1 / self.speed if self.speed else otherwise
        return None if each is None else each * self.steps_left()


def launch(folder: Path, planned: dict[str, list[Planned]], processes: int, again: str) -> int:
    """Runs every program that has something to do; the exit status."""
    jobs = [Job(name, runs) for name, runs in planned.items()]
    for job in jobs:
        job.look(folder)
    waiting = [job for job in jobs if len(job.ended) < len(job.runs)]
    places = machine.places(len(waiting), processes)
    table = Table()
    table.say(_opening(jobs, waiting, places, folder))
    with stop_signals() as stop:
        try:
            _go(folder, jobs, waiting, places, table, stop)
        finally:
            table.close()
            for job in jobs:
                if job.process is not None and job.process.poll() is None:  # something went wrong here
                    kill(job.process)
    return _conclude(jobs, stop, folder, again)


def _opening(jobs: Sequence[Job], waiting: Sequence[Job], places: Sequence[Place], folder: Path) -> str:
    count, ended = sum(len(job.runs) for job in jobs), sum(len(job.ended) for job in jobs)
    where = ", ".join(place.name for place in places) if waiting else "nothing to do"
    return (
        f"{count:,} run{'s' * (count != 1)} in {len(jobs):,} program{'s' * (len(jobs) != 1)}, {ended:,} ended before; "
        f"in {folder}; on {where}"
    )


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
            measure(job, folder, len(places))
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
                measure(job, folder, len(places))
            looked = time.monotonic()
            table.draw(jobs, running, len(places))
        time.sleep(POLL)


def start(job: Job, folder: Path) -> None:
    """Starts the process of a program, in its place, with its output at the end of its log."""
    members, log = (folder / "programs" / f"{job.id}.{kind}" for kind in ("json", "log"))
    (folder / "programs" / f"{job.id}.error").unlink(missing_ok=True)
    write_json(members, [{"workdir": str(folder / run.id), "words": run.words} for run in job.runs])
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
    job.began, job.done_before = time.monotonic(), job.done_steps()


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


def measure(job: Job, folder: Path, at_once: int) -> None:
    """How fast a program is now, and for later plans over the launch that did most of its steps."""
    now, done = time.monotonic(), job.done_steps()
    if job.first is None and done > job.done_before:
        job.first = (now, done)
    elif job.first is not None and done > job.first[1]:
        job.speed = (done - job.first[1]) / (now - job.first[0])
    file, steps = folder / "programs" / f"{job.id}.speed.json", done - job.done_before
    if steps > study.read(file).get("member_steps", 0):  # a launch of a moment does not replace a long one
        write_json(file, {"member_steps": steps, "seconds": (now - job.began) / at_once})  # of the whole machine


def finish(job: Job, folder: Path, say: Callable[[str], Any], stopping: bool) -> None:
    """Says how a program ended, and keeps the end of what it printed if it crashed."""
    counts, status = tally([job]), job.process.returncode
    failed = [run.id for run in job.runs if job.ended.get(run.id) == FAILED]
    for name in failed[:5]:
        say(f"failed: {name}: {study.read(folder / name / 'failed.json').get('error', 'it does not say why')}")
    if len(job.ended) == len(job.runs):
        say(f"{job.id}: ended; {counts[DONE]} done, {counts[FAILED]} failed, {counts[DROPPED]} dropped")
    elif not stopping:
        job.crashed = True
        log = folder / "programs" / f"{job.id}.log"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        text = "\n".join([f"{job.id}: {how} before its runs had ended; the end of {log}:", *(f"  {t}" for t in tail)])
        (folder / "programs" / f"{job.id}.error").write_text(text + "\n")
        say(text)


def _conclude(jobs: Sequence[Job], stop: list[int], folder: Path, again: str) -> int:
    counts, crashed = tally(jobs), [job.id for job in jobs if job.crashed]
    left = sum(len(job.runs) for job in jobs) - sum(counts.values())
    print(f"{counts[DONE]} done, {counts[FAILED]} failed, {counts[DROPPED]} dropped, {left} remaining; in {folder}")
    if counts[FAILED]:
        print("a run that has failed is tried again once its failed.json is removed")
    if crashed:
        print(f"crashed, and tried again by the next launch: {study.named(crashed)}")
    if left:
        print(f"to go on: {again}", flush=True)
    if stop and left:
        return 128 + stop[0]
    return int(bool(counts[FAILED] or crashed))


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that gains the number of a signal to stop, and of the Ctrl-C after it, which is to stop at once."""
    caught: list[int] = []
    last = 0.0

    def catch(number, frame):
        nonlocal last
        soon = time.monotonic() - last < 0.5  # a wrapper around us may pass on what the terminal has sent already
        last = time.monotonic()
        if not caught or (number == signal.SIGINT and not soon):
            caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    settings.start(main, __doc__)
