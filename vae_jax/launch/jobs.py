"""What the launchers share: a program while they watch it, how its end is told, and signals to stop.

No jax here: a job on a node tells of its program in the same words.
"""

import contextlib
import dataclasses
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vae_jax.sweeps import study
from vae_jax.sweeps.machine import Place
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, Planned
from vae_jax.training.signals import signal_handlers
from vae_jax.training.writers import write_json

LOG_LINES = 12
"""Lines of a crashed program's output that are shown."""

FRAME = re.compile(r"\s+@\s+0x")
"""How the lines of a C++ stack begin, of which an abort of JAX prints dozens after its reason."""


@dataclasses.dataclass
class Job:
    """A program while a launcher has it: its runs, how far they are, and its process where it has one here.

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

    def over(self) -> bool:
        """Whether nothing remains to be done."""
        return len(self.ended) == len(self.runs)

    def begin(self) -> None:
        """Marks that its process starts now, after a look."""
        self.began, self.done_before, self.first = time.monotonic(), self.done_steps(), None

    def measure(self) -> None:
        """How fast it is, after a look."""
        now, done = time.monotonic(), self.done_steps()
        if self.first is None and done > self.done_before:
            self.first = (now, done)
        elif self.first is not None and done > self.first[1]:
            self.speed = (done - self.first[1]) / (now - self.first[0])

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


def look_at_all(planned: dict[str, list[Planned]], folder: Path) -> tuple[list[Job], list[Job]]:
    """(all programs, those that have something to do)."""
    jobs = [Job(name, runs) for name, runs in planned.items()]
    for job in jobs:
        job.look(folder)
    return jobs, [job for job in jobs if not job.over()]


def tally(jobs: Sequence[Job]) -> Counter:
    """How many runs have ended, by how."""
    return Counter(how for job in jobs for how in job.ended.values())


def write_members_file(job: Job, folder: Path) -> Path:
    """Writes the members of a program that is about to be started, and forgets its last crash; the members' file."""
    study.error(folder, job.id).unlink(missing_ok=True)
    members = folder / "programs" / f"{job.id}.json"
    write_json(members, [{"workdir": str(folder / run.id), "words": run.words} for run in job.runs])
    return members


def record_speed(job: Job, folder: Path, at_once: int) -> None:
    """Keeps for later plans how fast a program is, over the launch that did most of its steps."""
    file, steps = folder / "programs" / f"{job.id}.speed.json", job.done_steps() - job.done_before
    if steps > study.read(file).get("member_steps", 0):  # a launch of a moment does not replace a long one
        seconds = (time.monotonic() - job.began) / at_once  # of the whole machine
        write_json(file, {"member_steps": steps, "seconds": seconds})


def announce(job: Job, folder: Path, say: Callable[[str], Any]) -> None:
    """Says which of its runs have failed, and that it has ended, if it has."""
    counts = tally([job])
    failed = [run.id for run in job.runs if job.ended.get(run.id) == FAILED]
    for name in failed[:5]:
        say(f"failed: {name}: {study.read(folder / name / 'failed.json').get('error', 'it does not say why')}")
    if job.over():
        say(f"{job.id}: ended; {counts[DONE]} done, {counts[FAILED]} failed, {counts[DROPPED]} dropped")


def crash(job: Job, how: str, folder: Path, say: Callable[[str], Any]) -> None:
    """Marks a program as crashed, and keeps and says how, with the end of what it printed."""
    job.crashed = True
    log = folder / "programs" / f"{job.id}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    tail = [line for line in lines if not FRAME.match(line)][-LOG_LINES:]
    text = "\n".join([f"{job.id}: {how} before its runs had ended; the end of {log}:", *(f"  {t}" for t in tail)])
    study.error(folder, job.id).write_text(text + "\n")
    say(text)


def opening(jobs: Sequence[Job], where: str, folder: Path) -> str:
    """What is about to be done, in a line."""
    count, ended = sum(len(job.runs) for job in jobs), sum(len(job.ended) for job in jobs)
    return (
        f"{count:,} run{'s' * (count != 1)} in {len(jobs):,} program{'s' * (len(jobs) != 1)}, {ended:,} ended before; "
        f"in {folder}; on {where}"
    )


def conclude(jobs: Sequence[Job], stop: Sequence[int], folder: Path, again: str) -> int:
    """Says how the launch ended and how to go on; the exit status."""
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
    return int(bool(counts[FAILED] or left))


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

    with signal_handlers(catch, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        yield caught
