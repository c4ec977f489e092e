"""The pictures of a comparison: what rate buys in distortion, and the score of choice against the strength."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.comparison.comparability import incomparable_groups
from vae_jax.comparison.families import Family, distant_groups, families
from vae_jax.comparison.results import ComparedRun, Comparison, Number, Summary
from vae_jax.comparison.search_results import FORMATS, draw_search
from vae_jax.comparison.wording import checkpoint_phrase, direction
from vae_jax.metrics import unit
from vae_jax.phrases import plural
from vae_jax.plots import comparison_plots
from vae_jax.plots.captions import format_fixed
from vae_jax.plots.comparison_plots import End
from vae_jax.sweeps.group_names import format_value

Point = tuple[Number, Number]


def draw(comparison: Comparison, out: Path) -> list[Path]:
    """Writes those pictures that the runs have numbers for; their files."""
    return [*rate_distortion(comparison, out), *score(comparison, out), *draw_search(comparison, out)]


def rate_distortion(comparison: Comparison, out: Path) -> list[Path]:
    """Every run a dot, paler where another has less of both; at the right end those without a rate, or far out."""
    points, rateless = _rates_and_distortions(comparison)
    dots = [dot for dots in points.values() for dot in dots]
    if not dots:
        return []
    count = len(dots) + sum(map(len, rateless.values()))
    pale = dict(zip(dots, intervals.is_dominated(*np.array(dots).T).tolist(), strict=True))
    drawn = families(comparison)
    colours = {group.name: number for number, family in enumerate(drawn) for group in family.groups}
    ends = {
        f"{group}: {format_fixed(float(np.mean(distortions)), 2)}, no rate": End(colours[group], distortions)
        for group, distortions in rateless.items()
        if group not in points
    }
    for group in distant_groups({group: float(np.mean(dots, axis=0)[0]) for group, dots in points.items()}):
        rates, distortions = zip(*points.pop(group), strict=True)
        numbers = f"{format_fixed(float(np.mean(distortions)), 2)}, rate {format_fixed(float(np.mean(rates)), 0)}"
        ends[f"{group}: {numbers}"] = End(colours[group], distortions)
    curves = [
        _curve(number, family, points, pale)
        for number, family in enumerate(drawn)
        if any(group.name in points for group in family.groups)
    ]
    files = [out / f"rate_distortion.{kind}" for kind in FORMATS]
    title = f"What rate buys: {plural(count, 'run')} of {comparison.folder}\n{checkpoint_phrase(comparison)}"
    comparison_plots.rate_distortion(files, curves, ends, title)
    return files


def _rates_and_distortions(comparison: Comparison) -> tuple[dict[str, list[Point]], dict[str, list[Number]]]:
    """((rate, distortion) by group, distortions of runs without a rate by group) of the comparable runs."""
    points: dict[str, list[Point]] = {}
    rateless: dict[str, list[Number]] = {}
    excluded = incomparable_groups(comparison, "distortion")
    for run in comparison.runs:
        if run.group in excluded or not _is_finite(run, "distortion"):
            continue
        distortion = run.metrics["distortion"]
        if _is_finite(run, "rate"):
            points.setdefault(run.group, []).append((run.metrics["rate"], distortion))
        else:
            rateless.setdefault(run.group, []).append(distortion)
    return points, rateless


def _curve(
    number: int, family: Family, points: Mapping[str, Sequence[Point]], pale: Mapping[Point, bool]
) -> comparison_plots.Curve:
    drawn = [points[group.name] for group in family.groups if group.name in points]
    dots = [dot for dots in drawn for dot in dots]
    means = np.array([np.mean(dots, axis=0) for dots in drawn])
    dim = np.array([pale[dot] for dot in dots])
    return comparison_plots.Curve(family.name, number, np.array(dots), dim, means, _labels(family, points))


def _labels(family: Family, drawn: Collection[str]) -> list[str]:
    """The strengths, the first with its name; the name of a group by itself."""
    groups = [group for group in family.groups if group.name in drawn]
    if not family.field:
        return [group.name for group in groups]
    first, *others = (format_value(group.values[family.field]) for group in groups)
    return [f"{_leaf(family.field)}={first}", *others]


def _leaf(field: str) -> str:
    return field.rpartition(".")[2]


def _is_finite(run: ComparedRun, metric: str) -> bool:
    return math.isfinite(run.metrics.get(metric, math.nan))


def score(comparison: Comparison, out: Path) -> list[Path]:
    """The score of choice against the strength, with its intervals; groups that have none as levels."""
    metric = comparison.metrics[0]
    excluded = incomparable_groups(comparison, metric)
    drawn = []
    for number, family in enumerate(families(comparison)):
        if scores := _scores(family, metric, excluded):
            drawn.append((family, _line(number, family.name, scores, metric, comparison.runs)))
    lines = [line for family, line in drawn if family.field]
    levels = [line for family, line in drawn if not family.field]
    if not lines:
        return []
    strengths = list(dict.fromkeys(_leaf(family.field) for family, _ in drawn if family.field))
    files = [out / f"score.{kind}" for kind in FORMATS]
    comparison_plots.score_by_strength(
        files,
        lines,
        levels,
        f"strength: {', '.join(strengths)}" if len(strengths) > 1 else strengths[0],
        ", ".join(filter(None, [metric, unit(metric), direction(comparison, metric)])),
        f"Means over seeds with their 95% intervals: {comparison.folder}\n{checkpoint_phrase(comparison)}",
    )
    return files


def _scores(family: Family, metric: str, excluded: Collection[str]) -> dict[str, tuple[float, Summary]]:
    """The strength of each group that has the metric, and its summary."""
    return {
        group.name: (strength, group.summaries[metric])
        for strength, group in zip(family.strengths, family.groups, strict=True)
        if metric in group.summaries and group.name not in excluded
    }


def _line(
    number: int, name: str, scores: Mapping[str, tuple[float, Summary]], metric: str, runs: Sequence[ComparedRun]
) -> comparison_plots.Line:
    dots = [
        (scores[run.group][0], run.metrics[metric]) for run in runs if run.group in scores and _is_finite(run, metric)
    ]
    strengths, summaries = zip(*scores.values(), strict=True)
    band = [(s.mean, s.mean, s.mean) if s.low is None else (s.mean, s.low, s.high) for s in summaries]
    return comparison_plots.Line(name, number, np.array(strengths), np.array(band), np.array(dots))
