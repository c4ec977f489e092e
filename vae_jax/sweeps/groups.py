"""From points to runs, and from runs to groups that train as one compiled program."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.command_line import Overrides
from vae_jax.config.free_fields import is_free
from vae_jax.config.parse import apply_overrides, check_config, read_config, static_fields
from vae_jax.errors import UserError
from vae_jax.sweeps import study
from vae_jax.sweeps.algebra import Point
from vae_jax.sweeps.study import PlanEntry

SHOWN_ERRORS = 10

RUN_SUFFIX = re.compile(r"_s\d+_[0-9a-f]+$")
"""How the folder of a run ends, as study.run_suffix makes it."""


class PlannedRun(NamedTuple):
    """A run of a sweep: its id, its command line for vae-jax train but for the workdir, and its whole config."""

    id: str
    words: list[str]
    config: ConfigDict


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs that train as one compiled program; `swept` are the traced fields in which they differ, with the values."""

    id: str
    runs: list[PlannedRun]
    swept: dict[str, list]

    @property
    def config(self) -> ConfigDict:
        """The config of its first run, which all share in whatever is not traced."""
        return self.runs[0].config

    def entries(self) -> list[PlanEntry]:
        """Its runs as plan.json has them."""
        return [
            PlanEntry(run.id, self.id, run.config.train.steps, tuple(run.config.sweep.halving), run.words)
            for run in self.runs
        ]


def plan_runs(file: str, overrides: Overrides, points: Sequence[Any], folder: Path | None = None) -> list[PlannedRun]:
    """The runs of a sweep over the config NAME|FILE.py[:ARGUMENT] with `overrides`, every one checked.

    Points, dicts of fields as vae_jax.sweeps.algebra makes them, that give the same config are one run. A run that is
    in the study's `folder` keeps its id, whatever it was swept with.

    Raises:
        UserError: which names all points that are wrong.
    """
    runs = {run.id: run for run in plan_points(file, overrides, points, folder)}
    return list(runs.values())


def plan_points(file: str, overrides: Overrides, points: Sequence[Any], folder: Path | None = None) -> list[PlannedRun]:
    """The run of each point, as `plan_runs` gives those of all of them. Raises UserError as it does."""
    template = read_config(file)
    _check_points(file, points)
    base = [f"--config={file}", *_words(overrides)]
    planned: list[PlannedRun] = []
    errors: dict[str, list[Point]] = {}
    for point in points:
        try:
            planned.append(plan_run(template, base, overrides, point))
        except UserError as error:
            errors.setdefault(str(error), []).append(point)
    if errors:
        raise _point_errors(errors, len(points))
    runs: dict[tuple[str, int], PlannedRun] = {}
    for run in planned:
        runs.setdefault(_identity(run), run)
    known = dict(zip(runs, _with_known_ids(list(runs.values()), folder), strict=True))
    return [known[_identity(run)] for run in planned]


def _identity(run: PlannedRun) -> tuple[str, int]:
    """What two points of one run share, whatever they set."""
    return _suffix(run.id), run.config.train.steps


def _with_known_ids(runs: list[PlannedRun], folder: Path | None) -> list[PlannedRun]:
    """The runs, each with the id of its folder where the study has one that is of this run and no other."""
    if folder is None or not folder.is_dir():
        return runs
    known: dict[str, list[str]] = {}
    for path in folder.iterdir():
        known.setdefault(_suffix(path.name), []).append(path.name)
    suffixes = [_suffix(run.id) for run in runs]
    counts = Counter(suffixes)
    return [
        run._replace(id=known[suffix][0]) if counts[suffix] == len(known.get(suffix, ())) == 1 else run
        for run, suffix in zip(runs, suffixes, strict=True)
    ]


def _suffix(name: str) -> str:
    """How the id of a run ends, as study.run_suffix makes it; empty where a name is no such id."""
    match = RUN_SUFFIX.search(name)
    return match[0] if match else ""


def plan_run(template: ConfigDict, base: Sequence[str], overrides: Overrides, point: Point) -> PlannedRun:
    """The run of one point over the config `template`; `base` are its words. Raises UserError naming what is wrong."""
    if shared := point.keys() & {field for field, _ in overrides}:
        raise UserError(f"config.{min(shared)}: is set by the sweep; leave it out of the command line")
    settings = [(field, str(value)) for field, value in point.items()]
    config = template.copy_and_resolve_references()
    apply_overrides(config, [*overrides, *settings])
    check_config(config)
    return PlannedRun(study.run_id(config.to_dict(), point), [*base, *_words(settings)], config)


def _words(overrides: Overrides) -> list[str]:
    return [f"--config.{field}={value}" for field, value in overrides]


def _check_points(file: str, points: Any) -> None:
    if not isinstance(points, (list, tuple)) or not all(isinstance(point, dict) for point in points):
        raise UserError(f"--config: sweep() of {file!r} gives {type(points).__name__}; give a list of dicts of fields")
    if not points:
        raise UserError(f"--config: sweep() of {file!r} has no points")


def _point_errors(errors: Mapping[str, list[Point]], count: int) -> UserError:
    total = sum(map(len, errors.values()))
    lines = [f"{total:,} of {count:,} points of the sweep are wrong; nothing is launched"]
    for message, points in list(errors.items())[:SHOWN_ERRORS]:
        more = f" and {len(points) - 1:,} more" if len(points) > 1 else ""
        lines.append(f"  {message}   (at {points[0]}{more})")
    if len(errors) > SHOWN_ERRORS:
        lines.append(f"  and {len(errors) - SHOWN_ERRORS:,} errors more")
    return UserError("\n".join(lines))


def group_runs(runs: Sequence[PlannedRun]) -> list[RunGroup]:
    """The runs by compiled program: those that differ in nothing but traced fields share one."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        name = f"{run.config.variant.name}_{run.config.data.name}_{study.digest(_program_fields(run.config))}"
        groups.setdefault(name, []).append(run)
    return [RunGroup(name, members, _swept_values(members)) for name, members in groups.items()]


def _program_fields(config: ConfigDict) -> dict[str, Any]:
    """What decides the id of a program: the static fields that decide numbers."""
    return {field: value for field, value in static_fields(config).items() if not is_free(field)}


def plan_entries(groups: Sequence[RunGroup]) -> dict[str, list[PlanEntry]]:
    """The runs of each program, by its id, as plan.json has them."""
    return {group.id: group.entries() for group in groups}


def _swept_values(runs: Sequence[PlannedRun]) -> dict[str, list]:
    swept = {}
    for field in sorted(model.traced_fields(runs[0].config)):
        section, _, leaf = field.rpartition(".")
        values = [(run.config[section] if section else run.config)[leaf] for run in runs]
        if len(set(values)) > 1:
            swept[field] = list(dict.fromkeys(values))
    return swept
