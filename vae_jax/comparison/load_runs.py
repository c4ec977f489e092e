"""The runs under some folders, solo or members of a study, read from their files alone.

What is no run is skipped by name, with why; what failed, was dropped, still runs or was left unfinished is a run like
the others, without metrics.
"""

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vae_jax.comparison.results import ComparedRun
from vae_jax.errors import UserError
from vae_jax.sweeps import study

KNOWN = ("plan.json", "programs", "comparison")
"""What a study's folder holds beside runs."""

SPEEDS = re.compile(rb'"steps_per_second": ([0-9.eE+-]+)(?=[,}])')
TAIL = 32_768
"""Bytes of the end of metrics.jsonl: some 25 records or more."""


class NoRun(Exception):
    """Why a folder is not that of a run."""


def gather(roots: list[Path]) -> tuple[list[ComparedRun], list[tuple[str, str]]]:
    """(runs, what was skipped and why) of folders of runs, or of one run. Raises UserError where one is no folder."""
    for root in roots:
        if not root.is_dir():
            raise UserError(f"--runs: {str(root)!r} is no folder; give one that holds runs")
    runs, skipped, seen = [], [], {}
    for name, folder in _named(roots):
        try:
            run = read_run(name, folder)
            same = study.digest(run.config)
            earlier = seen.get(same)
            if earlier and (earlier.status == study.DONE or run.status != study.DONE):
                raise NoRun(f"is the same run as {earlier.name}")
        except NoRun as problem:
            skipped.append((name, str(problem)))
        except OSError as error:
            skipped.append((name, f"cannot be read ({error.strerror})"))
        else:
            if earlier:
                runs.remove(earlier)
                skipped.append((earlier.name, f"is the same run as {name}, which has finished"))
            seen[same] = run
            runs.append(run)
    return runs, skipped


def _named(roots: list[Path]) -> list[tuple[str, Path]]:
    """Each folder once, by its name; with that above it where --runs names several, with more where names meet."""
    folders, parts = {}, {}
    for root in roots:
        for path in _inside(root):
            place = root.resolve() if path == root else root.resolve() / path.name
            folders.setdefault(place, path)
            parts.setdefault(place, 1 if path == root or len(roots) == 1 else 2)
    while True:
        names = {place: str(Path(*place.parts[-count:])) for place, count in parts.items()}
        times = Counter(names.values())
        if max(times.values(), default=1) == 1:
            return [(names[place], path) for place, path in folders.items()]
        parts = {place: count + (times[names[place]] > 1) for place, count in parts.items()}


def _inside(root: Path) -> Iterator[Path]:
    """The root itself where it is a run; what is in it, and those of its plan that are not begun."""
    if (root / "config.json").exists():
        yield root
        return
    yield from (path for path in sorted(root.iterdir()) if path.name not in KNOWN and not path.name.startswith("."))
    yield from _not_begun(root)


def _not_begun(root: Path) -> list[Path]:
    try:
        return [root / run.id for run in study.read_plan(root) if not os.path.lexists(root / run.id)]
    except UserError:  # without a plan, or with a damaged one, the folders are what there is
        return []


def read_run(name: str, folder: Path) -> ComparedRun:
    """The run of a folder. Raises NoRun where it is none, or is damaged."""
    config = _config(folder)
    file, found = folder / "evaluation.json", {}
    if file.exists() and not (found := study.read_json(file)):
        raise NoRun("evaluation.json is damaged")
    status = study.run_state(folder, config["train.steps"])
    metrics = numbers(found) if status == study.DONE else {}
    if status == study.DONE and "loss" not in metrics:
        raise NoRun("evaluation.json is damaged")
    return ComparedRun(
        name=name,
        folder=str(folder),
        group="",
        seed=config["seed"],
        config=config,
        metrics=metrics,
        status=status,
        error=_error(folder) if status == study.FAILED else "",
        environment=study.read_json(folder / "environment.json"),
        steps_per_second=speed(folder / "metrics.jsonl"),
    )


def _config(folder: Path) -> dict[str, Any]:
    if not os.path.lexists(folder):
        raise NoRun("is planned and not begun")
    if not folder.is_dir():
        raise NoRun("is no folder")
    file = folder / "config.json"
    if not file.exists():
        if (folder / "plan.json").exists():
            raise NoRun("is a study of its own; name it in --runs")
        raise NoRun("has no config.json" if any(folder.iterdir()) else "is empty")
    found = study.read_json(file)
    if not found:
        raise NoRun("config.json is damaged")
    config = leaves(found["config"]) if isinstance(found.get("config"), dict) else {}
    kinds = {"seed": int, "variant.name": str, "train.steps": int}
    if not all(isinstance(config.get(field), kind) for field, kind in kinds.items()):
        raise NoRun("config.json is of no run of vae_jax")
    return config


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of nested dicts by its dotted name, lists as tuples."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(leaves(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = tuple(value) if isinstance(value, list) else value
    return found


def numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation.json; null is where a number was not finite, and NaN."""
    kept = {}
    for name, value in found.items():
        if name != "step" and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))):
            kept[name] = math.nan if value is None else float(value)
    return kept


def _error(folder: Path) -> str:
    found = study.read_json(folder / "failed.json")
    return str(found["error"]) if "error" in found else "failed.json is damaged"


def speed(file: Path) -> float | None:
    """The median of the last records' steps per second, of which only the end of the file is read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL))
            found = [float(match) for match in SPEEDS.findall(stream.read())]
    except (OSError, ValueError):
        return None
    return statistics.median(found) if found else None
