"""The pictures of a comparison: what rate buys in distortion, and the score of choice against the strength."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.comparison.results import ComparedRun, Comparison, Group
from vae_jax.comparison.wording import UNITS, apart, direction, group_name, in_nats, shown, telling
from vae_jax.plots import drawing

FORMATS = ("png", "svg")
BEYOND = 5.0


def draw(comparison: Comparison, out: Path) -> list[Path]:
    """Writes those pictures that the runs have numbers for; their files."""
    return [*rate_distortion(comparison, out), *score(comparison, out)]


class Family(NamedTuple):
    """Groups that differ in one number alone, their strength, in its order; `field` is empty for a group by itself."""

    name: str
    field: str
    strengths: tuple[float, ...]
    groups: tuple[Group, ...]


def families(comparison: Comparison) -> list[Family]:
    """The groups of each variant along the first number of --by that varies in it, one family for each other choice."""
    config = {run.group: run.config for run in comparison.runs}
    fields = {
        variant: _strength(comparison, [group for group in comparison.groups if _variant(config, group) == variant])
        for variant in dict.fromkeys(_variant(config, group) for group in comparison.groups)
    }
    names, values = zip(*((group.name, group.values) for group in comparison.groups), strict=True)
    telling_fields = dict(zip(names, telling(values, comparison.by), strict=True))
    found: dict[tuple[str, str], list[Group]] = {}
    for group in comparison.groups:
        variant = _variant(config, group)
        field = fields[variant]
        others = {name: value for name, value in group.values.items() if name != field}
        needed = [name for name in telling_fields[group.name] if name != field]
        name = group_name(others, needed, comparison.by) if others else variant
        found.setdefault((name, field), []).append(group)
    result = []
    for (name, field), groups in found.items():
        strength = [float(group.values[field]) if field else math.nan for group in groups]
        order = np.argsort(strength, kind="stable")
        result.append(Family(name, field, tuple(strength[i] for i in order), tuple(groups[i] for i in order)))
    return result


def _variant(config: dict[str, dict], group: Group) -> str:
    return config[group.name]["variant.name"]


def _strength(comparison: Comparison, groups: Sequence[Group]) -> str:
    def varies(field):
        values = [group.values.get(field) for group in groups]
        return len(set(values)) > 1 and all(type(value) in (int, float) for value in values)

    return next((field for field in comparison.by if varies(field)), "")


def rate_distortion(comparison: Comparison, out: Path) -> list[Path]:
    """Every run a dot, paler where another has less of both; at the right end those without a rate, or far out."""
    points: dict[str, list[tuple[float, float]]] = {}
    rateless: dict[str, list[float]] = {}
    other = apart(comparison)
    for run in comparison.runs:
        if run.group in other:  # its distortion is of something else
            continue
        if _finite(run, "rate", "distortion"):
            points.setdefault(run.group, []).append((run.metrics["rate"], run.metrics["distortion"]))
        elif _finite(run, "distortion"):
            rateless.setdefault(run.group, []).append(run.metrics["distortion"])
    every = [point for of in points.values() for point in of]
    if not every:
        return []
    pale = dict(zip(every, intervals.dominated(*np.array(every).T), strict=True))
    ends = {f"{group}: {np.mean(of):.2f}, no rate": of for group, of in rateless.items() if group not in points}
    for group in beyond({group: float(np.mean(of, axis=0)[0]) for group, of in points.items()}):
        rates, distortions = zip(*points.pop(group), strict=True)
        ends[f"{group}: {np.mean(distortions):.2f}, rate {np.mean(rates):.0f}"] = distortions
    count = len(every) + sum(map(len, rateless.values()))
    curves = []
    for number, family in enumerate(families(comparison)):
        of = {group: points[group] for group in (group.name for group in family.groups) if group in points}
        if of:
            dots = [point for some in of.values() for point in some]
            means = np.array([np.mean(some, axis=0) for some in of.values()])
            dim = np.array([pale[point] for point in dots])
            curves.append(drawing.Curve(family.name, number, np.array(dots), dim, means, _labels(family, of)))
    files = [out / f"rate_distortion.{kind}" for kind in FORMATS]
    drawing.rate_distortion(files, curves, ends, f"What rate buys: {count} runs of {comparison.folder}")
    return files


def beyond(rates: dict[str, float]) -> list[str]:
    """The few groups whose rate leaves no room for the others in a picture: more than BEYOND times that of the next."""
    order = sorted(rates, key=rates.__getitem__)
    first = max(2, len(order) - max(1, len(order) // 4))
    places = [i for i in range(first, len(order)) if rates[order[i]] > BEYOND * max(rates[order[i - 1]], 1.0)]
    return order[places[0] :] if places else []


def _labels(family: Family, shown_groups: Collection[str]) -> list[str]:
    """The strengths, the first with its name; the name of a group by itself."""
    groups = [group for group in family.groups if group.name in shown_groups]
    if not family.field:
        return [group.name for group in groups]
    first, *others = (shown(group.values[family.field]) for group in groups)
    return [f"{family.field.rpartition('.')[2]}={first}", *others]


def _finite(run: ComparedRun, *metrics: str) -> bool:
    return all(math.isfinite(run.metrics.get(metric, math.nan)) for metric in metrics)


def score(comparison: Comparison, out: Path) -> list[Path]:
    """The score of choice against the strength, with its intervals; groups that have none as levels."""
    metric, found = comparison.metrics[0], families(comparison)
    other = apart(comparison) if in_nats(metric) else ()
    lines, levels = [], []
    for number, family in enumerate(found):
        strengths = {
            group.name: (strength, group.summaries[metric])
            for strength, group in zip(family.strengths, family.groups, strict=True)
            if metric in group.summaries and group.name not in other
        }
        if strengths:
            dots = [
                (strengths[run.group][0], run.metrics[metric])
                for run in comparison.runs
                if run.group in strengths and _finite(run, metric)
            ]
            x, summaries = zip(*strengths.values(), strict=True)
            band = [(s.mean, s.mean, s.mean) if s.low is None else (s.mean, s.low, s.high) for s in summaries]
            line = drawing.Line(family.name, number, np.array(x), np.array(band), np.array(dots))
            (lines if family.field else levels).append(line)
    if not lines:
        return []
    drawn = {line.name for line in lines}
    fields = dict.fromkeys(family.field.rpartition(".")[2] for family in found if family.field and family.name in drawn)
    unit = UNITS.get(metric.partition(":")[0])
    files = [out / f"score.{kind}" for kind in FORMATS]
    drawing.against_strength(
        files,
        lines,
        levels,
        f"strength: {', '.join(fields)}" if len(fields) > 1 else next(iter(fields)),
        ", ".join([metric, *([unit] if unit else []), direction(comparison, metric)]),
        f"Means over seeds with their 95% intervals: {comparison.folder}",
    )
    return files
