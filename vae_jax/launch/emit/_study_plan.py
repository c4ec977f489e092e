"""What is handed to other places: the programs of a study that are not done, and how each is started."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.config.command_line import Overrides
from vae_jax.errors import UserError
from vae_jax.launch.progress import member_list
from vae_jax.sweeps.algebra import Sweep
from vae_jax.sweeps.groups import RunGroup

NAME_LENGTH = 63
"""Characters that a name in a cloud has at most."""

PORT = 8476
"""Where the processes of one program find each other."""


class StudyPlan(NamedTuple):
    """A sweep over the config `file` with `overrides`, its `points`, and those of its programs that are not done."""

    folder: Path
    file: str
    overrides: Overrides
    points: Sweep
    groups: list[RunGroup]

    @property
    def name(self) -> str:
        """The study's name, which is that of its folder."""
        return self.folder.resolve().name

    def members_file(self, program: str) -> str:
        """The file that lists the members of a program, given by its id."""
        return str(self.folder / "programs" / f"{program}.json")

    def members(self, group: RunGroup) -> list[dict[str, Any]]:
        """What is listed there, as vae-jax population reads it."""
        return member_list(self.folder, {run.id: run.words for run in group.runs})

    def splits_batches(self) -> bool:
        """Whether every run is split over all hosts of its program."""
        return all(run.config.parallel.mode == "data" for group in self.groups for run in group.runs)

    def environment(self) -> dict[str, str]:
        """What a process's environment gains: in W&B, the runs of a study are a group."""
        sections = [run.config.wandb for group in self.groups for run in group.runs]
        grouped = any(wandb.mode != "disabled" and not wandb.group for wandb in sections)
        return {"WANDB_RUN_GROUP": self.name} if grouped else {}


def training_command(python: str, members_file: str) -> list[str]:
    """The command that trains a program; `python` of the path unless another is named.

    Raises UserError where what would start it might take that for an option.
    """
    if python.startswith("-"):
        raise UserError(f"--python: {python!r} is not allowed; give the path of a Python")
    if python.startswith("~"):  # quoted, as it has to be, no shell there knows it for a home
        raise UserError(f"--python: {python!r} is not allowed; give the whole path, as it is on the other machine")
    return [python or "python", "-m", "vae_jax", "population", f"--members={members_file}"]


def cloud_name(text: str, length: int = NAME_LENGTH) -> str:
    """A name as clouds take it: at most `length` lower case letters, digits and dashes, a letter first."""
    dashed = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    return (dashed if dashed[:1].isalpha() else f"study-{dashed}")[:length].strip("-")


def operand(path: Path) -> str:
    """A path that no program takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def require(word: str, value: str, meaning: str) -> None:
    """Raises UserError where a word of a place was not given."""
    if not value:
        raise UserError(f"--{word}: missing; give {meaning}")
