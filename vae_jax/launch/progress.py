"""What the launchers share: how far a program is, and the lines that say how a launch begins, goes and ends.

Imports no jax: a job on a node tells of its program in the same words.
"""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vae_jax.files import write_json
from vae_jax.phrases import plural, printable, shorten
from vae_jax.sweeps import study
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, PlanEntry

LOG_LINES = 12
"""Lines of a crashed program's output that are shown."""

SHOWN_FAILURES = 5

STACK_FRAME = re.compile(r"\s+@\s+0x")
"""How the lines of a C++ stack begin, of which an abort of JAX prints dozens after its reason."""

PrintLine = Callable[[str], object]


@dataclasses.dataclass(eq=False)
class GroupProgress:
    """How far a group of runs is that trains as one program: `end_states` of the runs that have ended, `steps` of all.

    `steps_per_second` is of all its members together, since its first record in this launch: without the time to
    compile. `elbos` are those of the last evaluation of the validation split of each run that has one.
    """

    id: str
    runs: list[PlanEntry]
    end_states: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: dict[str, int] = dataclasses.field(default_factory=dict)
    elbos: dict[str, float] = dataclasses.field(default_factory=dict)
    crashed: bool = False
    start_time: float = 0.0
    start_steps: int = 0
    first_record: tuple[float, int] | None = None
    steps_per_second: float | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing remains to be done."""
        return len(self.end_states) == len(self.runs)

    @property
    def total_steps(self) -> int:
        """Steps of all its runs together, as recorded."""
        return sum(self.steps.values())

    @property
    def all_steps(self) -> int:
        """Steps that its runs have before them at the start."""
        return sum(run.steps for run in self.runs)

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return 1 - self.remaining_steps() / self.all_steps

    def update(self, folder: Path) -> None:
        """Reads from the folders how far its runs are."""
        for run in self.runs:
            if run.id in self.end_states:
                continue
            self.steps[run.id] = study.last_step(folder / run.id)
            if (elbo := study.last_elbo(folder / run.id)) is not None:
                self.elbos[run.id] = elbo
            if state := study.end_state(folder / run.id, run.steps):
                self.end_states[run.id] = state

    def mark_start(self) -> None:
        """Marks that its process starts now, after an update."""
        self.start_time, self.start_steps, self.first_record = time.monotonic(), self.total_steps, None

    def measure_speed(self) -> None:
        """Measures how fast it is, after an update."""
        now, steps = time.monotonic(), self.total_steps
        if self.first_record is None:
            self.first_record = (now, steps) if steps > self.start_steps else None
            return
        first_time, first_steps = self.first_record
        if steps > first_steps:
            self.steps_per_second = (steps - first_steps) / (now - first_time)

    def remaining_steps(self) -> float:
        """Steps that remain to be done."""
        unfinished = [run for run in self.runs if run.id not in self.end_states]
        return sum((study.remaining_steps(run, self.steps.get(run.id, 0)) for run in unfinished), 0.0)

    def remaining_seconds(self, default: float) -> float:
        """Seconds that remain, at its own speed, or `default` seconds a step where that is not known yet."""
        step_seconds = 1 / self.steps_per_second if self.steps_per_second else default
        return step_seconds * self.remaining_steps()


def read_progress(entries: Mapping[str, list[PlanEntry]], folder: Path) -> list[GroupProgress]:
    """How far each program is, from the folders of its runs, which are given by the program's id."""
    progress = [GroupProgress(program, runs) for program, runs in entries.items()]
    for group in progress:
        group.update(folder)
    return progress


def incomplete(groups: Sequence[GroupProgress]) -> list[GroupProgress]:
    """Those that have something to do."""
    return [group for group in groups if not group.complete]


def all_entries(groups: Sequence[GroupProgress]) -> list[PlanEntry]:
    """The runs of all groups, as plan.json has them."""
    return [run for group in groups for run in group.runs]


def count_states(groups: Sequence[GroupProgress]) -> Counter:
    """How many runs have ended, by their state."""
    return Counter(state for group in groups for state in group.end_states.values())


def member_list(folder: Path, runs: Mapping[str, list[str]]) -> list[dict]:
    """The members of a program as vae-jax population reads them, from the command line of each run by its id."""
    return [{"workdir": str(folder / name), "words": words} for name, words in runs.items()]


def write_members_file(group: GroupProgress, folder: Path) -> Path:
    """Writes the members of a program that is about to be started, and forgets its last crash; the members' file."""
    study.error_file(folder, group.id).unlink(missing_ok=True)
    members = folder / "programs" / f"{group.id}.json"
    write_json(members, member_list(folder, {run.id: run.words for run in group.runs}))
    return members


def record_speed(group: GroupProgress, folder: Path, processes: int) -> None:
    """Keeps for later plans how fast a program is, over the launch that did most of its steps.

    Seconds are of the whole machine: those of a program that ran beside others are divided by `processes`.
    """
    file, steps = study.speed_file(folder, group.id), group.total_steps - group.start_steps
    if steps > study.read_speed(folder, group.id)[0]:  # a launch of a moment does not replace a long one
        seconds = (time.monotonic() - group.start_time) / processes
        write_json(file, {"member_steps": steps, "seconds": seconds})


def report_end(group: GroupProgress, folder: Path, print_line: PrintLine) -> None:
    """Says which of its runs have failed, and that it has ended, if it has."""
    counts = count_states([group])
    failed = [run.id for run in group.runs if group.end_states.get(run.id) == FAILED]
    for name in failed[:SHOWN_FAILURES]:
        print_line(f"failed: {name}: {shorten(study.failure_reason(folder / name))}")
    if group.complete:
        print_line(f"{group.id}: ended; {counts_text(counts)}")


def report_crash(group: GroupProgress, what: str, folder: Path, print_line: PrintLine) -> None:
    """Marks a program as crashed, and keeps and says `what` happened, with the end of what it printed."""
    group.crashed = True
    log = folder / "programs" / f"{group.id}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    lines = [line for line in lines if not STACK_FRAME.match(line)][-LOG_LINES:]
    tail = [f"  {shorten(printable(line.expandtabs()))}" for line in lines]
    text = "\n".join([f"{group.id}: {what} before its runs had ended; the end of {log}:", *tail])
    study.error_file(folder, group.id).write_text(text + "\n")
    print_line(text)


def start_line(groups: Sequence[GroupProgress], where: str, folder: Path) -> str:
    """What is about to be done, in a line."""
    runs, ended = sum(len(group.runs) for group in groups), sum(len(group.end_states) for group in groups)
    return f"{plural(runs, 'run')} in {plural(len(groups), 'program')}, {ended:,} ended before; in {folder}; on {where}"


def counts_text(counts: Counter) -> str:
    """How many runs have ended, in words."""
    return ", ".join(f"{counts[state]} {state}" for state in (DONE, FAILED, DROPPED))
