"""The runs under some folders, solo or parts of a study, read from their files alone.

What is no run is skipped by name, with why; what failed, was dropped, still runs or was left unfinished is a run like
the others, without metrics.
"""

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax import model
from vae_jax.comparison.results import ComparedRun, Number
from vae_jax.config.free_fields import flatten_tree
from vae_jax.errors import UserError, unknown_name
from vae_jax.files import read_json, reason
from vae_jax.sweeps import study
from vae_jax.training.run_results import VALIDATION

REQUIRED_FIELDS = {"seed": int, "variant.name": str, "train.steps": int}
"""Fields of every run's config, and their types."""

LARGEST = 10**300
"""Whole numbers from here on are larger than a float can be."""

SPEEDS = re.compile(rb'"steps_per_second": ([0-9.eE+-]+)(?=[,}])')
TAIL_BYTES = 32_768
"""The end of metrics.jsonl that is read: 25 records or more."""


EVALUATIONS = {"latest": "evaluation.json", "best": "evaluation_best.json"}
"""The file of each checkpoint's numbers."""

START_FIELD = "from"
"""Of a run that began with the weights of another."""


class NotARun(Exception):
    """Why a folder is not that of a run."""


def load_runs(roots: Sequence[Path], checkpoint: str = "latest") -> tuple[list[ComparedRun], list[tuple[str, str]]]:
    """(runs, what was skipped and why) of folders of runs, or of one run.

    Args:
        roots: the folders.
        checkpoint: whose numbers: "latest", of the last step, or "best" by the validation split.

    Raises:
        UserError: where one is no folder, and for another checkpoint.
    """
    if checkpoint not in EVALUATIONS:
        raise unknown_name("checkpoint", checkpoint, EVALUATIONS)
    runs: dict[tuple[str, str], ComparedRun] = {}
    skipped = []
    for name, folder in _named_folders(roots):
        try:
            run = read_run(name, folder, checkpoint)
            identity = study.digest(run.config), run.data
        except NotARun as problem:
            skipped.append((name, str(problem)))
            continue
        except OSError as error:
            skipped.append((name, f"cannot be read ({reason(error)})"))
            continue
        except RecursionError:
            skipped.append((name, "config.json is nested too deep"))
            continue
        earlier = runs.get(identity)
        if earlier and (earlier.status == study.DONE or run.status != study.DONE):
            skipped.append((name, f"is the same run as {earlier.name}"))
            continue
        if earlier:
            del runs[identity]
            skipped.append((earlier.name, f"is the same run as {name}, which has finished"))
        runs[identity] = run
    return list(runs.values()), skipped


def _named_folders(roots: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each folder once, by its name; with that above it where there are several roots, more where they collide.

    Raises UserError where a root is no folder, or cannot be read.
    """
    folders: dict[Path, Path] = {}
    parts: dict[Path, int] = {}
    for root in roots:
        for path in _entries(root):
            absolute = root.resolve() if path == root else root.resolve() / path.name
            folders.setdefault(absolute, path)
            parts.setdefault(absolute, 1 if path == root or len(roots) == 1 else 2)
    while True:
        names = {absolute: str(Path(*absolute.parts[-count:])) for absolute, count in parts.items()}
        uses = Counter(names.values())
        if max(uses.values(), default=1) == 1:
            return [(names[absolute], path) for absolute, path in folders.items()]
        parts = {absolute: count + 1 if uses[names[absolute]] > 1 else count for absolute, count in parts.items()}


def _entries(root: Path) -> list[Path]:
    """The root itself where it is a run; what is in it, and the runs of its plan that are not begun.

    Raises UserError where it is no folder, or cannot be read.
    """
    try:
        if not root.is_dir():
            raise UserError(f"--runs: {str(root)!r} is not a folder; give one that holds runs")
        if (root / "config.json").exists():
            return [root]
        names = sorted(os.listdir(root))
    except OSError as error:
        raise UserError(f"--runs: {str(root)!r} cannot be read ({reason(error)}); give another") from None
    named = [root / name for name in names if name not in study.STUDY_FILES and not name.startswith(".")]
    return [*named, *_not_begun(root)]


def _not_begun(root: Path) -> list[Path]:
    try:
        return [root / run.id for run in study.read_plan(root) if not os.path.lexists(root / run.id)]
    except (UserError, TypeError):  # without a plan, or with a damaged one, the folders are what there is
        return []


def read_run(name: str, folder: Path, checkpoint: str = "latest") -> ComparedRun:
    """The run of a folder. Raises NotARun where it is none, is damaged, or has no best checkpoint and that is asked."""
    content = _read_content(folder)
    config = _flat_config(content)
    file = folder / "evaluation.json"
    evaluation = read_json(file)
    if file.exists() and not evaluation:
        raise NotARun("evaluation.json is damaged")
    status = study.run_state(folder, config["train.steps"])
    numbers = _numbers(evaluation, folder, checkpoint) if status == study.DONE else {}
    return ComparedRun(
        name=name,
        folder=str(folder),
        group="",
        seed=config["seed"],
        config=config,
        metrics={metric: value for metric, value in numbers.items() if not metric.startswith(VALIDATION)},
        status=status,
        error=_read_error(folder) if status == study.FAILED else "",
        environment=_plain_values(read_json(folder / "environment.json")),
        steps_per_second=median_speed(folder / "metrics.jsonl"),
        data=_data_digest(content),
        validation={
            metric.removeprefix(VALIDATION): value for metric, value in numbers.items() if metric.startswith(VALIDATION)
        },
    )


def _numbers(latest: Mapping[str, Any], folder: Path, checkpoint: str) -> dict[str, float]:
    """The numbers of a finished run's checkpoint; those of the latest are known."""
    file = folder / EVALUATIONS[checkpoint]
    if not file.exists():
        raise NotARun(f"has no {file.name}: it had no validation split to choose by")
    numbers = numeric_metrics(latest if checkpoint == "latest" else read_json(file))
    if "loss" not in numbers:
        raise NotARun(f"{file.name} is damaged")
    if checkpoint == "best" and f"{VALIDATION}loss" not in numbers:
        raise NotARun(f"{file.name} is of a checkpoint that no validation split chose")
    return numbers


def _read_content(folder: Path) -> dict[str, Any]:
    """What config.json holds."""
    if not os.path.lexists(folder):
        raise NotARun("is planned and not begun")
    if not folder.is_dir():
        raise NotARun("is not a folder")
    file = folder / "config.json"
    if not file.exists():
        raise NotARun(_missing_config(folder))
    content = read_json(file)
    if not content:
        raise NotARun("config.json is damaged")
    return content


def _flat_config(content: Mapping[str, Any]) -> dict[str, Any]:
    config = flatten_config(content["config"]) if isinstance(content.get("config"), dict) else {}
    names = [config.get(f"{section}.name", "") for section in model.SECTIONS]
    if not all(type(config.get(field)) is kind for field, kind in REQUIRED_FIELDS.items()):
        raise NotARun("config.json is of no run of vae_jax")
    if not all(isinstance(name, str) for name in names):
        raise NotARun("config.json is of no run of vae_jax")
    for field, value in config.items():
        if not _is_small(value):
            raise NotARun(f"config.json has a number in {field} that is too large")
    return config | _start(content.get("from"))


def _start(recorded: Any) -> dict[str, str]:
    """The field "from" of a run that began with another's weights: that run, its checkpoint, their digest."""
    if not isinstance(recorded, dict):
        return {}
    run, checkpoint, digest = (str(recorded.get(name)) for name in ("run", "checkpoint", "digest"))
    return {START_FIELD: f"{run}:{checkpoint} {digest[:8]}"}


def _is_small(value: Any) -> bool:
    """Whether whole numbers, however deep in lists and dicts, are such that other programs can hold."""
    if isinstance(value, dict):
        return all(map(_is_small, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_small, value))
    return not isinstance(value, int) or abs(value) < LARGEST


def _data_digest(content: Mapping[str, Any]) -> str:
    """The digest of the data that a run was trained on; empty where it does not say."""
    data = content.get("data")
    digest = data.get("digest") if isinstance(data, dict) else None
    return digest if isinstance(digest, str) else ""


def _plain_values(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if isinstance(value, str) or _is_number(value)}


def _missing_config(folder: Path) -> str:
    if (folder / "plan.json").exists():
        return "is a study of its own; name it in --runs"
    return "has no config.json" if any(folder.iterdir()) else "is empty"


def flatten_config(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of nested dicts by its dotted name, lists as tuples."""
    flat = flatten_tree(tree)
    return {field: tuple(value) if isinstance(value, list) else value for field, value in flat.items()}


def numeric_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation.json; null is where a number was not finite, and NaN."""
    return {
        name: _to_float(value)
        for name, value in evaluation.items()
        if name != "step" and (value is None or _is_number(value))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _to_float(value: Number | None) -> float:
    """The number, zero without its sign; NaN for none, infinite where it is larger than any float."""
    if value is None:
        return math.nan
    try:
        return float(value) + 0.0
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _read_error(folder: Path) -> str:
    error = read_json(folder / "failed.json").get("error")
    return error if isinstance(error, str) else "failed.json is damaged"


def median_speed(file: Path) -> float | None:
    """The median of the last records' steps per second, of which only the end of the file is read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            speeds = [float(match) for match in SPEEDS.findall(stream.read())]
    except (OSError, ValueError):
        return None
    return statistics.median(speeds) if speeds and all(map(math.isfinite, speeds)) else None
