"""Trains the runs of a row, computes its metric of each, and summarises what they give."""

import datetime
import itertools
import json
import math
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reproduce.rows import Row
from vae_jax.config.command_line import Overrides
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.launch.local import launch
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.sweeps.algebra import seeds
from vae_jax.sweeps.groups import group_runs, plan_runs
from vae_jax.training.evaluate_run import evaluate_run

FILES = {"latest": "evaluation.json", "best": "evaluation_best.json"}
SMOKE_FOLDER = Path("smoke")
FEW_IMAGES, MANY_DRAWS, SMOKE_DRAWS = 500, 5000, 16
LIKELIHOOD = re.compile(r"likelihood:k=(\d+)")


def measure_row(
    row: Row, workdir: Path, paths: Mapping[str, Path | None], smoke: bool, evaluator: Executor, resume: str
) -> dict[str, Any] | None:
    """What the runs of a row give; None where some of them failed or were stopped, which then was said.

    They are evaluated by `evaluator`, a process of its own: one that has JAX's threads must not start programs.
    `resume` is what a person types to go on.
    """
    folder = workdir / (SMOKE_FOLDER if smoke else "") / row.folder
    points = seeds(2 if smoke else row.seeds)
    groups = group_runs(plan_runs(row.config, row_overrides(row, paths, smoke), points, folder))
    folder.mkdir(parents=True, exist_ok=True)
    with lock_unqueued(folder):
        if launch(folder, groups, 0, resume):
            return None
    folders = [folder / run.id for group in groups for run in group.runs]
    metric = re.sub(r"k=\d+", f"k={SMOKE_DRAWS}", row.metric) if smoke else row.metric
    result = metric if row.result == row.metric else row.result
    evaluations = [evaluator.submit(evaluate_folder, each, row.checkpoint, metric).result() for each in folders]
    measured = summarize([row.sign * evaluation[result] for evaluation in evaluations])
    errors = [evaluation.get(f"{result}.standard_error", math.nan) for evaluation in evaluations]
    measured |= {"error_over_images": statistics.median(errors)}
    if not smoke and LIKELIHOOD.fullmatch(metric):
        change = evaluator.submit(more_draws, folders[0], row.checkpoint, metric).result()
        measured |= {"change_with_5000_draws": row.sign * change}
    return measured | provenance(row, folders)


def row_overrides(row: Row, paths: Mapping[str, Path | None], smoke: bool) -> Overrides:
    """The fields that are set for a row: what --smoke sets, or where its data lie."""
    if smoke:
        return list(row.smoke.items())
    folder = paths.get(row.data)
    return [] if folder is None else [("data.path", str(folder.resolve()))]


def row_command(row: Row) -> str:
    """What a person types for a row."""
    data = f" --{row.data}=FOLDER" if row.data else ""
    return f"python -m experiments.reproduce --only={shlex.quote(row.name)}{data}"


def evaluate_folder(folder: Path, checkpoint: str, metric: str) -> dict[str, Any]:
    """The evaluation of a run's checkpoint, with a metric where one is named. Raises UserError where that fails."""
    if not metric:
        return read_json(folder / FILES[checkpoint])
    evaluation, failed = evaluate_run(folder, checkpoint, metric, missing_only=True)
    if failed:
        raise UserError(f"{folder}: {metric} could not be computed")
    return evaluation


def more_draws(folder: Path, checkpoint: str, metric: str) -> float:
    """By how much the bound of 5,000 draws is above that of fewer, on the same few images, nats."""
    few, many = (f"likelihood:k={k}:images={FEW_IMAGES}" for k in (LIKELIHOOD.findall(metric)[0], MANY_DRAWS))
    evaluation = evaluate_folder(folder, checkpoint, f"{few},{many}")
    return evaluation[many] - evaluation[few]


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """The values, their mean and its 95% interval over seeds (Student's t), which a single value has not."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    half = t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return {"values": list(values), "mean": mean, "low": mean - half, "high": mean + half}


def provenance(row: Row, folders: Sequence[Path]) -> dict[str, Any]:
    """With what, when, how long and by which command the runs were made."""
    environments = [read_json(folder / "environment.json") for folder in folders]
    records = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders]
    ended = max((folder / "metrics.jsonl").stat().st_mtime for folder in folders)
    return {
        "steps": [lines[-1]["step"] for lines in records],
        "active_units": read_json(folders[0] / FILES[row.checkpoint]).get("active_units"),
        "seconds": max(seconds_in_all(lines) for lines in records),
        "commit": ", ".join(dict.fromkeys(str(each.get("git")) for each in environments)),
        "jax": environments[0].get("jax"),
        "devices": environments[0].get("devices"),
        "date": datetime.date.fromtimestamp(ended).isoformat(),
        "command": row_command(row),
    }


def seconds_in_all(records: Sequence[Mapping[str, Any]]) -> float:
    """The seconds of all starts of a run, each of which counts from 0."""
    seconds = [record["seconds"] for record in records]
    ends = [now for now, after in itertools.pairwise([*seconds, -1.0]) if after < now]
    return sum(ends)
