"""What drops members of a population before their last step, and the room that they leave behind."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.files import read_json, read_records, write_json
from vae_jax.training.run import TrainingRun
from vae_jax.training.selection import finite_score
from vae_jax.training.train_run import finished

Prune = Callable[[int, Sequence[Path]], Mapping[Path, dict[str, Any]]]
"""(step, folders of all members) -> what dropped.json says of each that is dropped there.

A function of what their files say, so that a restart decides the same.
"""


def run_ended(folder: Path, config: ConfigDict) -> bool:
    """Whether nothing remains to be done for this member."""
    stopped = any((folder / name).exists() for name in ("failed.json", "dropped.json"))
    return stopped or finished(folder, config.train.steps)


@dataclass(frozen=True)
class Room:
    """How many members the compiled program of a step has room for, `at_once` at most, however many still train.

    A program for fewer would have other last digits. So a member has the same numbers whichever others of the `shard`,
    the folders of this process, have ended; only those that were dropped leave no room behind, unless it is `fixed`,
    so that one program is compiled.
    """

    shard: Sequence[Path]
    at_once: int
    fixed: bool = False

    def after(self, step: int) -> int:
        """The room of the program that takes the steps after `step`."""
        if self.fixed:
            return self.at_once
        return min(self.at_once, sum(_dropped_at(folder) > step for folder in self.shard))


def _dropped_at(folder: Path) -> float:
    """The step at which a member was dropped; infinity for one that goes on."""
    file = folder / "dropped.json"
    if not file.exists():
        return math.inf
    step = read_json(file).get("step")
    if type(step) is not int:  # a damaged file: no record is later
        step = max((record["step"] for record in read_records(folder / "metrics.jsonl")), default=0)
    return float(step)


@dataclass(frozen=True)
class Halving:
    """Drops members at each of the steps `rungs`: those that `prune` names.

    `folders` are those of all members, those that ended before too. `all_reach(rung)` waits for other processes; False
    where they will not come.
    """

    folders: Sequence[Path]
    rungs: Sequence[int]
    all_reach: Callable[[int], bool]
    prune: Prune

    def drop_members(self, runs: Sequence[TrainingRun]) -> bool:
        """Drops runs at each rung that all of them have reached; False where other processes will not come."""
        for rung in self.rungs:
            unfinished = [run for run in runs if run.alive and not run_ended(run.folder, run.config)]
            if any(run.step < rung for run in unfinished):
                break
            if not self.all_reach(rung):
                return False
            reasons = self.prune(rung, self.folders)
            for run in filter(lambda run: run.folder in reasons, unfinished):
                drop(run, {"step": rung, **reasons[run.folder]})
        return True


def drop(run: TrainingRun, reason: dict[str, Any]) -> None:
    """Ends a run before its last step."""
    write_json(run.folder / "dropped.json", reason)
    why = ", ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in reason.items()
    )
    run.say(f"dropped: {why}")
    run.close(0)


def lower_half(rung: int, folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """The half of the members with the lower bound of the validation split at `rung`: the place that each has there."""
    bounds = {folder: bound for folder in folders if (bound := bound_at(folder, rung)) is not None}
    order = sorted(bounds, key=lambda folder: (-bounds[folder], str(folder)))
    kept = -(-len(order) // 2)
    return {
        folder: {"place": place, "of": len(order), "bound": bounds[folder]}
        for place, folder in enumerate(order, start=1)
        if place > kept
    }


def bound_at(folder: Path, step: int) -> float | None:
    """The score of a member's evaluation at `step`; None where it was not evaluated there."""
    try:
        records = read_records(folder / "metrics.jsonl")
    except OSError:
        return None
    for record in records:
        if record["step"] == step and record.get("split") == "validation":
            return finite_score(record)
    return None
