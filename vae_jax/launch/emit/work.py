"""What is handed to other places: the programs of a study that are not done, and how each is started."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.errors import UserError
from vae_jax.sweeps.algebra import Program, Sweep


class Work(NamedTuple):
    """A sweep over the config `file` with `overrides`, its `points`, and those of its programs that are not done."""

    folder: Path
    file: str
    overrides: list[tuple[str, str]]
    points: Sweep
    programs: list[Program]

    @property
    def name(self) -> str:
        """What the study is called."""
        return self.folder.resolve().name

    def members_file(self, program: str) -> str:
        """Where the members of a program, given by its id, are listed."""
        return str(self.folder / "programs" / f"{program}.json")

    def members(self, program: Program) -> list[dict[str, Any]]:
        """What is listed there, as experiments.population reads it."""
        return [{"workdir": str(self.folder / run.id), "words": run.words} for run in program.runs]

    def splits_batches(self) -> bool:
        """Whether every run is split over all hosts of its program."""
        return all(run.config.parallel.mode == "data" for program in self.programs for run in program.runs)

    def environment(self) -> dict[str, str]:
        """What a process's environment gains: in W&B, the runs of a study are a group."""
        configs = [run.config.wandb for program in self.programs for run in program.runs]
        grouped = any(wandb.mode != "disabled" and not wandb.group for wandb in configs)
        return {"WANDB_RUN_GROUP": self.name} if grouped else {}


def trainer(python: str, members: str) -> list[str]:
    """The command that trains a program; this Python unless another is named."""
    return [python or "python", "-m", "vae_jax", "population", f"--members={members}"]


def cloud_name(text: str, most: int = 63) -> str:
    """A name as clouds take it: lower case letters, digits and dashes, a letter first, of `most` characters at most."""
    dashed = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    return (dashed if dashed[:1].isalpha() else f"study-{dashed}")[:most].strip("-")


def needed(word: str, value: str, what: str) -> str:
    """The value of a word. Raises UserError where it was not given."""
    if not value:
        raise UserError(f"--{word}: missing; give {what}")
    return value
