"""Where a generation of a search trains: in this process, or as jobs of a SLURM cluster."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.jax_flags import pinned_flags
from vae_jax.launch import machine, slurm
from vae_jax.launch.progress import GroupProgress, incomplete, record_speed, report_end, write_members_file
from vae_jax.launch.slurm import SlurmRequest
from vae_jax.launch.slurm_queue import ask_queue, lock_unqueued, queued_jobs, submitted_runs
from vae_jax.phrases import printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.trials import Journal, Pruning, Trial
from vae_jax.training.population import Generation, read_members, train_members
from vae_jax.training.setup import SetupCache

REFUSED = "ended with status 2 before"
"""What report_crash says of a program that found its config wrong: a UserError."""


@runtime_checkable
class Place(Protocol):
    """Where a generation trains."""

    @property
    def name(self) -> str:
        """In words."""

    @property
    def prunes(self) -> bool:
        """Whether trials can be pruned there."""

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Holds the study for this launcher alone."""

    def train(self, groups: Sequence[GroupProgress], trials: Sequence[Trial], journal: Journal) -> int:
        """Trains what has not ended; the exit status, 128 + n where it was stopped by signal n.

        Runs of a program whose config proves wrong fail, and stop no other.
        """


@dataclasses.dataclass(frozen=True)
class ThisProcess:
    """Trains generations here, on all devices: what is compiled for one serves the next."""

    name: str = "this process"
    prunes: bool = True
    setups: SetupCache = dataclasses.field(default_factory=SetupCache)

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Holds the study for this launcher alone."""
        return lock_unqueued(folder)

    def train(self, groups: Sequence[GroupProgress], trials: Sequence[Trial], journal: Journal) -> int:
        """Trains one program after another."""
        os.environ.setdefault("WANDB_RUN_GROUP", journal.folder.resolve().name)
        refused: dict[str, UserError] = {}
        for group in incomplete(groups):
            try:
                self._prepare(group, journal.folder)
            except UserError as error:
                print(wrap_text(printable(f"{group.id}: error: {error}")), flush=True)
                refused[group.id] = error
                continue
            status = self._train_group(group, trials, journal)
            if status > 128:
                return status
        fail_refused(groups, refused, journal.folder)
        return 0

    @pinned_flags()
    def _prepare(self, group: GroupProgress, folder: Path) -> None:
        """Makes the setup of a program. Raises UserError where its config is wrong."""
        self.setups.get(read_members(write_members_file(group, folder))[0].config)

    def _train_group(self, group: GroupProgress, trials: Sequence[Trial], journal: Journal) -> int:
        group.mark_start()
        generation = Generation(self.setups, members_of(journal, len(group.runs)), Pruning(journal, trials))
        status = train_members(write_members_file(group, journal.folder), generation=generation)
        group.update(journal.folder)
        record_speed(group, journal.folder, processes=1)
        report_end(group, journal.folder, lambda line: print(wrap_text(line), flush=True))
        return status


def use_devices() -> None:
    """Lets jax, which has not been asked for a device yet, find a device a core on a CPU."""
    (share,) = machine.share_devices(1, 1)
    os.environ.update(share.environment)


def members_of(journal: Journal, count: int) -> int:
    """For how many members a program is compiled that trains `count` of a generation.

    For a whole generation where all its trials share a program, else for the next power of two: few programs, and
    little room that nobody takes.
    """
    whole = journal.settings.at_once * len(journal.settings.seeds)
    return whole if not journal.space.static else min(whole, 1 << (count - 1).bit_length())


def fail_refused(groups: Sequence[GroupProgress], refused: Mapping[str, UserError], folder: Path) -> None:
    """Marks the runs of programs whose config is wrong as failed.

    Raises UserError where no run of the study has ended: what is wrong then is wrong with all.
    """
    if refused and not any(study.end_state(folder / run.id, run.steps) for run in study.read_plan(folder)):
        raise next(iter(refused.values()))
    for group in groups:
        if group.id in refused:
            _fail_runs(group, folder, str(refused[group.id]))


def _fail_runs(group: GroupProgress, folder: Path, reason: str) -> None:
    for run in group.runs:
        if study.end_state(folder / run.id, run.steps) is None:
            (folder / run.id).mkdir(exist_ok=True)
            write_json(folder / run.id / "failed.json", {"step": 0, "error": reason})


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Trains a generation as an array of jobs of a SLURM cluster, and waits for it."""

    request: SlurmRequest
    name: str = "SLURM"
    prunes: bool = False

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Holds the study for this launcher alone."""
        slurm.check_tools()
        return study.lock(folder)

    def train(self, groups: Sequence[GroupProgress], trials: Sequence[Trial], journal: Journal) -> int:
        """Submits what is not in the queue, and waits until all has ended."""
        folder = journal.folder
        while leaving(folder, groups):
            time.sleep(slurm.QUEUE_SECONDS)
        jobs = slurm.submit(folder, list(groups), self.request)
        slurm.print_commands(folder, jobs, wait=True)
        stop = slurm.wait_for_jobs(folder, list(groups), jobs)
        if stop.requested:
            slurm.print_queued(jobs)
            return stop.exit_status
        crashes = {group.id: _crash(folder, group.id) for group in incomplete(groups)}
        fail_refused(groups, {name: UserError(line) for name, line in crashes.items() if line}, folder)
        return 0


def _crash(folder: Path, program: str) -> str:
    """What a program said that found its config wrong; empty where it ended otherwise."""
    file = study.error_file(folder, program)
    text = file.read_text(errors="replace") if file.exists() else ""
    return text.strip().splitlines()[-1].strip() if REFUSED in text else ""


def leaving(folder: Path, groups: Sequence[GroupProgress]) -> list[str]:
    """The programs whose job in the queue trains none of these runs: that of an earlier generation, about to end."""
    queued = queued_jobs(folder, ask_queue())
    return [
        group.id
        for group in groups
        if group.id in queued and not {run.id for run in group.runs} & set(submitted_runs(folder, group.id))
    ]
