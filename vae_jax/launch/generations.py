"""Where a generation of a search trains: in this process, or as jobs of a SLURM cluster."""

import dataclasses
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.launch import machine, slurm
from vae_jax.launch.progress import GroupProgress, incomplete, record_speed, report_end, write_members_file
from vae_jax.launch.slurm import SlurmRequest
from vae_jax.launch.slurm_queue import ask_queue, lock_unqueued, queued_jobs, submitted_runs
from vae_jax.phrases import printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.trials import Journal, Pruning, Trial


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
        """Trains what has not ended; the exit status, 128 + n where it was stopped by signal n."""


class ThisProcess:
    """Trains generations here, on all devices: what is compiled for one serves the next."""

    name, prunes = "this process", True

    def __init__(self) -> None:
        (share,) = machine.share_devices(1, 1)
        os.environ.update(share.environment)  # before jax looks for devices
        from vae_jax.training.setup import SetupCache

        self.setups = SetupCache()

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Holds the study for this launcher alone."""
        return lock_unqueued(folder)

    def train(self, groups: Sequence[GroupProgress], trials: Sequence[Trial], journal: Journal) -> int:
        """Trains one program after another; a program that cannot train fails its runs, and stops no other.

        Raises UserError where none can and none could before: what is wrong then is wrong with all.
        """
        os.environ.setdefault("WANDB_RUN_GROUP", journal.folder.resolve().name)
        errors: dict[str, UserError] = {}
        for group in incomplete(groups):
            try:
                status = self._train_group(group, trials, journal)
            except UserError as error:
                print(wrap_text(printable(f"{group.id}: error: {error}")), flush=True)
                errors[group.id] = error
                continue
            if status > 128:
                return status
        if errors and not self.setups.setups:
            raise next(iter(errors.values()))
        for group in groups:
            if group.id in errors:
                fail_runs(group, journal.folder, str(errors[group.id]))
        return 0

    def _train_group(self, group: GroupProgress, trials: Sequence[Trial], journal: Journal) -> int:
        from vae_jax.training.population import Generation, train_members

        group.mark_start()
        room = members_of(journal, len(group.runs)) if trials[0].number else len(group.runs)
        generation = Generation(self.setups, room, Pruning(journal, trials))
        status = train_members(write_members_file(group, journal.folder), generation=generation)
        group.update(journal.folder)
        record_speed(group, journal.folder, processes=1)
        report_end(group, journal.folder, lambda line: print(wrap_text(line), flush=True))
        return status


def members_of(journal: Journal, count: int) -> int:
    """For how many members a program is compiled that trains `count` of a generation.

    For a whole generation where all its trials share a program, else for the next power of two: few programs, and
    little room that nobody takes.
    """
    whole = journal.settings.at_once * len(journal.settings.seeds)
    return whole if not journal.space.static else min(whole, 1 << (count - 1).bit_length())


def fail_runs(group: GroupProgress, folder: Path, reason: str) -> None:
    """Marks the runs of a program that cannot train as failed."""
    group.update(folder)
    for run in group.runs:
        if run.id not in group.end_states:
            (folder / run.id).mkdir(exist_ok=True)
            write_json(folder / run.id / "failed.json", {"step": 0, "error": reason})


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Trains a generation as an array of jobs of a SLURM cluster, and waits for it."""

    request: SlurmRequest
    resume_command: str
    name: str = "SLURM"
    prunes: bool = False

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Holds the study for this launcher alone."""
        slurm.check_tools()
        return study.lock(folder)

    def train(self, groups: Sequence[GroupProgress], trials: Sequence[Trial], journal: Journal) -> int:
        """Submits what is not in the queue, and waits until all has ended."""
        while leaving(journal.folder, groups):
            time.sleep(slurm.QUEUE_SECONDS)
        jobs = slurm.submit(journal.folder, list(groups), self.request)
        slurm.print_commands(journal.folder, jobs, wait=True)
        status = slurm.watch(journal.folder, list(groups), jobs, self.resume_command) if jobs else 0
        return status if status > 128 else 0


def leaving(folder: Path, groups: Sequence[GroupProgress]) -> list[str]:
    """The programs whose job in the queue trains none of these runs: that of an earlier generation, about to end."""
    queued = queued_jobs(folder, ask_queue())
    return [
        group.id
        for group in groups
        if group.id in queued and not {run.id for run in group.runs} & set(submitted_runs(folder, group.id))
    ]
