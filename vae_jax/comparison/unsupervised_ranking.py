"""Unsupervised disentanglement ranking of a study: within each group, which runs found what other seeds found too."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jax import model, registry
from vae_jax.comparison.grouping import group_runs
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.results import ComparedRun
from vae_jax.comparison.wording import status_counts
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.inference import TrainedModel
from vae_jax.jax_flags import pinned_flags
from vae_jax.metrics import ArrayCodes, EvaluationContext, check_finite
from vae_jax.metrics._evaluation_context import BATCH
from vae_jax.metrics._requirements import REQUIREMENTS
from vae_jax.metrics.udr import RELATIONS, score
from vae_jax.phrases import printable
from vae_jax.plots.captions import format_fixed
from vae_jax.sweeps import study
from vae_jax.sweeps.group_names import select_fields
from vae_jax.sweeps.short_names import cut_middle
from vae_jax.training.metric_runner import merge_evaluation, read_evaluation
from vae_jax.training.open_run import open_run
from vae_jax.typing import Batch

FILE = "udr.json"
FEWEST_IMAGES = 100
"""Of fewer, latents correlate by chance."""
LONGEST_NAME = 60
"""Characters of a name in the table."""


class RankedGroup(NamedTuple):
    """The runs of a group, by name, and their UDR, NaN for one that uses no latent."""

    name: str
    scores: dict[str, float]

    @property
    def median(self) -> float:
        """The median UDR of the runs that have one; NaN where none has."""
        known = [value for value in self.scores.values() if not np.isnan(value)]
        return float(np.median(known)) if known else np.nan

    @property
    def best(self) -> str:
        """The run of the highest UDR; empty where none has one, or all have the same, as two may."""
        known = {name: value for name, value in self.scores.items() if not np.isnan(value)}
        return max(known, key=known.__getitem__) if len(set(known.values())) > 1 else ""


class StudyRanking(NamedTuple):
    """The ranked groups of a study, and the names of those that could not be ranked with why."""

    groups: list[RankedGroup]
    left_out: dict[str, str]
    relation: str
    images: int


@pinned_flags()
def rank_folders(folders: Sequence[Path], relation: str = "lasso", images: int = 10_000) -> StudyRanking:
    """UDR (Duan et al. 2020, section 4) of the finished runs in `folders` among those that differ in the seed alone.

    Each run's score joins its evaluation.json as "udr", under other relations than the lasso with its name
    ("udr:relation=spearman"), and all of them udr.json in the first of the folders.

    Args:
        folders: studies, or folders of runs.
        relation: "lasso" or "spearman": how alike two latents are.
        images: how many held-out images the runs encode, the same for all of a group; 0 takes all.

    Raises:
        UserError: for an unknown relation, where one is no folder, and where no group can be ranked.
    """
    registry.choose("--relation", relation, RELATIONS)
    if 0 < images < FEWEST_IMAGES:
        raise UserError(f"--images: {images} is not allowed; give at least {FEWEST_IMAGES}, or 0 for all")
    runs, skipped = load_runs(folders)
    finished = [run for run in runs if run.status == study.DONE]
    ranked, left_out = [], {}
    for name, members in group_runs(finished, select_fields((), [run.config for run in finished]))[1].items():
        try:
            ranked.append(_rank_group(name, members, relation, images))
        except UserError as problem:
            left_out[name] = str(problem)
    if not ranked:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or status_counts(runs, skipped)
        raise UserError(f"--runs: {','.join(map(str, folders))}: no group of runs can be ranked: {reasons}")
    ranking = StudyRanking(ranked, left_out, relation, images)
    write_json(folders[0] / FILE, as_json(ranking))
    return ranking


def _rank_group(name: str, members: Sequence[ComparedRun], relation: str, images: int) -> RankedGroup:
    if len(members) < 2:
        raise UserError("one finished run alone has nothing to agree with; train it under more seeds")
    if len({run.data for run in members}) > 1:
        raise UserError("its runs are of different data")
    models = [_open(Path(run.folder)) for run in members]
    dataset = model.load_data(models[0].config["data"])
    codes, kl = zip(*encode(models, dataset, images), strict=True)
    scores = score(codes, kl, relation=relation).scores.tolist()
    label = "udr" if relation == "lasso" else f"udr:relation={relation}"
    protocol = f"relation={relation} images={images} runs={len(members)}"
    for run, trained, value in zip(members, models, scores, strict=True):
        file = Path(run.folder) / "evaluation.json"
        merge_evaluation(file, label, {label: value, f"{label}.protocol": protocol}, trained.step)
    return RankedGroup(name, {run.name: value for run, value in zip(members, scores, strict=True)})


def _open(folder: Path) -> TrainedModel:
    """The run of a folder. Raises UserError where its newest checkpoint is not the one that was evaluated."""
    trained = open_run(folder)
    if not read_evaluation(folder / "evaluation.json", trained.step):
        raise UserError(f"{folder}: its newest checkpoint is not that of evaluation.json; let it end first")
    return trained


def encode(models: Sequence[TrainedModel], dataset: Dataset, images: int) -> Iterator[tuple[ArrayCodes, np.ndarray]]:
    """The posterior means of the same held-out images by each model, and each latent's mean KL from N(0, 1), nats.

    Args:
        models: of one config but for the seed.
        dataset: their data.
        images: how many; 0 takes all.

    Raises:
        UserError: for a posterior that is no diagonal Gaussian, and for codes that are not finite.
    """
    first = models[0]
    context = EvaluationContext(first, dataset)
    if first.model.variant.posterior is None:
        raise UserError(f"udr needs {REQUIREMENTS['posterior']}")
    posterior = jax.jit(partial(first.model.variant.posterior, first.model.nets))

    def moments(params: Any, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        found = posterior(params, batch)
        return np.asarray(found.mean), np.asarray(found.kl())

    for trained in models:
        parts = [moments(trained.params, batch) for batch in context.held_out(BATCH, images)]
        mean, kl = (check_finite(np.concatenate(part)[:, : first.latent_dim]) for part in zip(*parts, strict=True))
        yield mean, kl.mean(axis=0)


def as_json(ranking: StudyRanking) -> dict[str, Any]:
    """What udr.json holds."""
    groups = [group._asdict() | {"median": group.median, "best": group.best} for group in ranking.groups]
    return ranking._asdict() | {"groups": groups}


def ranking_lines(ranking: StudyRanking) -> list[str]:
    """The ranking as an aligned table, and what was left out."""
    rows = [("group", "runs", "median UDR", "best run", "UDR")]
    for group in ranking.groups:
        best = format_fixed(group.scores.get(group.best, np.nan), 4)
        name, run = (cut_middle(printable(text), LONGEST_NAME) for text in (group.name, group.best or "none"))
        rows.append((name, str(len(group.scores)), format_fixed(group.median, 4), run, best))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    return [*lines, *(f"left out: {printable(name)}: {reason}" for name, reason in ranking.left_out.items())]


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Names to the left, numbers to the right."""
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield f"{cell:<{width}}" if column in (0, 3) else f"{cell:>{width}}"
