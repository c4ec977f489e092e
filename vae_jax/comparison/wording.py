"""A comparison as lines of a terminal, 100 columns wide, and as one flat table."""

import math
import statistics
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vae_jax.comparison.intervals import LEVEL, PARTS, POWER, by_chance
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Summary
from vae_jax.phrases import join_names, plural
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, MISSING, RUNNING

WIDTH = 100
MOST_GROUPS = 30
"""Rows of a table; runs.csv and the report have the others."""

MOST_METRICS = 12
"""Columns of the matrix of correlations."""

UNITS = {
    "elbo": "nats per image",
    "distortion": "nats per image",
    "rate": "nats per image",
    "loss": "nats per image",
    "likelihood": "nats per image",
    "ais": "nats per image",
    "active_units": "latents",
    "bits_per_dim": "bits per dimension",
}

BOLD, DIM, PLAIN = "1", "2", "0"
COLOURS = {"better": "32", "worse": "31"}
"""Codes of ANSI terminals."""


def comparison_lines(comparison: Comparison, colour: bool | None = None) -> list[str]:
    """All that a terminal is told; in colour where standard output is one."""
    paint = _painter(sys.stdout.isatty() if colour is None else colour)
    found = [*header(comparison, paint), *notes(comparison)]
    for metric in comparison.metrics:
        found += ["", *metric_table(comparison, metric, paint)]
    found += ["", *legend(comparison)]
    found += ["", *wrapped(of_which(comparison)), *explained_table(comparison, paint)]
    if len(comparison.metrics) > 1:
        found += ["", *correlation_table(comparison, paint)]
    return found


def _painter(colour: bool):
    return lambda text, code: f"\033[{code}m{text}\033[0m" if colour and code != PLAIN else text


def standing(runs: Sequence[ComparedRun], skipped: Sequence[tuple[str, str]]) -> str:
    """How many runs stand how, and how much was skipped."""
    counts = Counter(run.status for run in runs)
    words = {MISSING: "unfinished"}
    parts = [
        f"{counts[how]:,} {words.get(how, how)}" for how in (DONE, FAILED, DROPPED, RUNNING, MISSING) if counts[how]
    ]
    return ", ".join([*(parts or ["no runs"]), *([f"{len(skipped):,} skipped"] if skipped else [])])


def header(comparison: Comparison, paint) -> list[str]:
    """What is compared."""
    by = ", ".join(comparison.by) or "nothing but the seed"
    count = len(comparison.groups)
    return [
        paint(f"{comparison.folder}: {standing(comparison.runs, comparison.skipped)}", BOLD),
        *wrapped(f"{plural(count, 'group')} by {by}; against {comparison.baseline}"),
    ]


def notes(comparison: Comparison) -> list[str]:
    """What a reader should know before believing a table."""
    runs, found = comparison.runs, []
    reasons = defaultdict(list)
    for name, why in comparison.skipped:
        reasons[why].append(name)
    found += [f"skipped {len(names):,}: {why} ({join_names(names, 3)})" for why, names in reasons.items()]
    failed = [run for run in runs if run.status == FAILED]
    if failed:
        spread = ", ".join(f"{n} of {group}" for group, n in Counter(run.group for run in failed).items())
        found.append(f"failed {len(failed):,}: {spread}; no mean has them, which may flatter what is left")
        found.append(f"the first to fail, {failed[0].name}: {failed[0].error}")
    for metric in comparison.metrics:
        bad = [run.name for run in runs if metric in run.metrics and not math.isfinite(run.metrics[metric])]
        if bad:
            found.append(f"{metric} is no finite number in {len(bad):,} (left out: {join_names(bad, 3)})")
    done = [run for run in runs if run.status == DONE]
    if len(done) > len({(run.group, run.seed) for run in done}):
        found.append(
            "some groups hold several runs of a seed (they differ in other fields): each seed's mean counts once"
        )
    for field in ("data.name", "data.binarize", "likelihood.name"):
        values = dict.fromkeys(shown(run.config.get(field)) for run in done)
        if len(values) > 1:
            of = f"runs differ in {field} ({join_names([*values], 3)})"
            found.append(f"{of}: what differs so from the baseline is not compared in nats")
    for name in ("git", "jax", "devices"):
        values = dict.fromkeys(str(run.environment.get(name)) for run in done if run.environment.get(name))
        if len(values) > 1:
            found.append(f"runs are of {len(values)} different {name}: {join_names([*values], 3)}")
    return [line for text in found for line in wrapped(f"- {text}", "  ")]


def metric_table(comparison: Comparison, metric: str, paint) -> list[str]:
    """A metric by group: mean, interval and interquartile mean; and each group against the baseline."""
    summaries = {group.name: group.summaries[metric] for group in comparison.groups if metric in group.summaries}
    found = {difference.group: difference for difference in comparison.differences if difference.metric == metric}
    digits, names = decimals(summaries.values()), [*summaries][:MOST_GROUPS]
    against = f"against {comparison.baseline}"
    longest = max((len(verdict(difference)) for difference in found.values()), default=0)
    width = min(max(map(len, [against, *names])), WIDTH - 60, WIDTH - 50 - longest)  # what the columns leave
    unit = UNITS.get(metric.partition(":")[0], "")
    rows = [["group", "seeds", "mean", "95% interval", "interquartile mean"]]
    for name in names:
        n, mean, low, high, middle = summaries[name]
        rows.append([name, str(n), number(mean, digits), span(low, high, digits), number(middle, digits)])
    table = [
        paint(metric, BOLD) + f"   {unit}{', ' * bool(unit)}{direction(comparison, metric)}",
        *_aligned(rows, width, (6, 11, 21, 20), paint),
    ]
    if len(summaries) > len(names):
        table.append(f"  and {len(summaries) - len(names):,} groups more")
    rows = [[against, "pairs", "difference", "95% interval", "p", "  verdict"]]
    for d in (found[name] for name in names if name in found):
        signed, word = number(d.mean, digits, sign=True) if d.pairs else "", verdict(d)
        apart = span(d.low, d.high, digits, sign=True)
        rows.append([d.group, str(d.pairs), signed, apart, chance(d.p), "  " + paint(word, COLOURS.get(word, PLAIN))])
    return [*table, *(["", *_aligned(rows, width, (6, 11, 21, 8), paint)] if found else [])]


def direction(comparison: Comparison, metric: str) -> str:
    """Which way is better."""
    words = {True: "higher is better", False: "lower is better", None: "neither way is better"}
    return words[comparison.higher_is_better[metric]]


def sign(comparison: Comparison, metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither way is."""
    return {True: 1, False: -1, None: 0}[comparison.higher_is_better[metric]]


def verdict(difference: Difference) -> str:
    """What may be said of a difference."""
    if difference.verdict in ("not comparable", "not tested"):
        return difference.verdict
    if difference.pairs == 0:
        return "no shared seed"
    if difference.pairs == 1:
        return "one seed makes no claim"
    if difference.verdict != "cannot tell":
        return difference.verdict
    if difference.more_seeds is None:
        return "the same" if difference.mean == 0 and difference.low == 0 else "cannot tell"
    return f"cannot tell, {difference.more_seeds:,} more would"


def legend(comparison: Comparison) -> list[str]:
    """What the numbers are."""
    tested = sum(difference.p is not None for difference in comparison.differences)
    text = (
        "Means over seeds, each with its 95% bootstrap interval; the interquartile mean leaves out the outer quarters."
    )
    if tested:
        text += (
            f" Differences are paired over shared seeds (Student's t), their intervals each for itself; p is corrected "
            f"for the {tested:,} comparisons here (Holm): the chance of one false better or worse, or more, is at most "
            f"{LEVEL:.0%} where differences are spread evenly about their mean (docs/comparing.md). "
            f"How many more seeds would tell is for a chance of {POWER:.0%}, "
            f"should the differences go on as they are."
        )
    if any(difference.verdict == "not tested" for difference in comparison.differences):
        text += " Where neither way is better nothing is tested, but for what --metrics names."
    return wrapped(text)


def explained_table(comparison: Comparison, paint) -> list[str]:
    """What share of a metric's spread comes from where."""
    rows = [["variance explained", "by variant", "by strength", "by seed", "not explained"]]
    alike = comparable(comparison)
    for metric, shares in comparison.explained.items():
        if math.isnan(shares["rest"]):
            rows.append([metric, "", "", "", "does not vary"])
            continue
        luck = by_chance(*labelled(alike, metric)[1:])
        rows.append([metric, *(f"{shares[part]:.0%} ({luck[part]:.0%})" for part in PARTS)])
    table = _aligned(rows, 28, (14, 14, 14, 16), paint)
    return [*table, "  in brackets: what as many labels explain of pure noise"]


def of_which(comparison: Comparison) -> str:
    """Which runs shares and correlations are of, where it is not all; nothing where it is."""
    alike = comparable(comparison)
    if len(alike) == len(comparison.runs):
        return ""
    if not alike:
        return f"The runs of the baseline differ in {LIKE}: no run is comparable with them."
    return f"Over the {len(alike):,} of {len(comparison.runs):,} runs that share {LIKE} with the baseline."


def correlation_table(comparison: Comparison, paint) -> list[str]:
    """Spearman's between metrics, the lower triangle."""
    names = comparison.metrics[:MOST_METRICS]
    rows = [["rank correlation", *(str(i + 1) for i in range(len(names)))]]
    for i, name in enumerate(names):
        row = comparison.correlation[i][:i]
        values = ["·" if math.isnan(value) else f"{value:+.2f}".replace("-0.00", "+0.00") for value in row]
        rows.append([f"{i + 1:>2} {name}", *values, "1"])
    more = len(comparison.metrics) - len(names)
    return [*_aligned(rows, 26, [6] * len(names), paint), *([f"  and {more} metrics more"] if more else [])]


def flat(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows): a row for each group and metric, with its difference from the baseline."""
    between = {(difference.group, difference.metric): difference for difference in comparison.differences}
    rows = []
    for group in comparison.groups:
        for metric, summary in group.summaries.items():
            difference = between.get((group.name, metric))
            told = [*difference[2:-2], verdict(difference)] if difference else [None] * 6
            rows.append([group.name, metric, group.failed, *summary, *told])
    told = [f"difference.{name}" for name in Difference._fields[2:-2]]
    return ["group", "metric", "failed", *Summary._fields, *told, "verdict"], rows


def _aligned(rows: Sequence[Sequence[str]], first: int, widths: Sequence[int], paint) -> list[str]:
    """Rows under a head: a name to the left, numbers to the right, and what is beyond `widths` as it is."""
    found = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=False)]
        found.append("".join([f"  {cut(row[0], first):<{first}}", *cells, *row[1 + len(widths) :]]).rstrip())
    return [paint(found[0], DIM), *found[1:]]


def decimals(summaries: Iterable[Summary]) -> int:
    """Decimals that show two digits of the middle interval's half; where there is none, four digits of the mean."""
    summaries = list(summaries)
    halves = [(s.high - s.low) / 2 for s in summaries if s.high is not None and s.high > s.low]
    if halves:
        return min(max(1 - math.floor(math.log10(statistics.median(halves))), 0), 4)
    largest = max((abs(s.mean) for s in summaries), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 4) if largest else 0


def number(value: float, digits: int, sign: bool = False) -> str:
    """With so many decimals, and a sign if asked for; large and small ones in powers of ten."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:{'+' * sign}.2e}"
    text = f"{value:{'+' * sign},.{digits}f}"
    return text.lstrip("+-") if not float(text.replace(",", "")) else text


def span(low: float | None, high: float | None, digits: int, sign: bool = False) -> str:
    """An interval; nothing where there is none."""
    return "" if low is None else f"{number(low, digits, sign)} to {number(high, digits, sign)}"


def chance(p: float | None) -> str:
    """A p-value."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def group_name(values: Mapping[str, Any], told: Sequence[str], by: Sequence[str] = ()) -> str:
    """The variant, then the other fields of `told` that there are, with their values: "tcvae beta=4".

    A field is called by its last word where no other of `by`, by default of `told`, ends so.
    """
    leaves, words = [field.rpartition(".")[2] for field in by or told], []
    for field in told:
        leaf = field.rpartition(".")[2]
        if field == "variant.name":
            words.append(shown(values[field]))
        elif field in values:
            short = field.removesuffix(".name") if leaf == "name" else leaf if leaves.count(leaf) == 1 else field
            words.append(f"{short}={shown(values[field])}")
    return " ".join(words) or "all runs"


def telling(values: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each group's values the fields of `by` that its name needs: not what over half of the groups share.

    The variant and its own fields are always said.
    """
    usual = {}
    for field in by:
        counted = Counter(shown(of.get(field)) for of in values)
        value, count = counted.most_common(1)[0]
        usual[field] = value if 2 * count > len(values) and not field.startswith("variant.") else None
    return [tuple(field for field in by if usual[field] != shown(of.get(field))) for of in values]


def shown(value: Any) -> str:
    """A config's value: 4 and 4.0 alike."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    return str(value)


LIKENESS = ("data.name", "data.binarize", "likelihood.name")
"""Fields that decide what a nat of a run is about: a density of grey levels is not a probability of black and white."""

NATS = frozenset(["elbo", "distortion", "loss", "bits_per_dim", "bound", "likelihood", "ais"])
"""Metrics that compare only among runs which share LIKENESS."""


LIKE = "data, binarize and likelihood"


def apart(comparison: Comparison) -> frozenset[str]:
    """The groups whose nats are of other things than the baseline's, or of several at once."""
    of = defaultdict(set)
    for run in comparison.runs:
        of[run.group].add(tuple(run.config.get(field) for field in LIKENESS))
    return frozenset(group for group, like in of.items() if len(like) > 1 or like != of[comparison.baseline])


def comparable(comparison: Comparison) -> list[ComparedRun]:
    """The runs whose nats are of what the baseline's are."""
    other = apart(comparison)
    return [run for run in comparison.runs if run.group not in other]


def labelled(runs: Sequence[ComparedRun], metric: str) -> tuple[np.ndarray, list[str], list[str], list[int]]:
    """(values, variants, groups, seeds) of the runs in which a metric is finite."""
    some = [run for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]
    values = np.array([run.metrics[metric] for run in some])
    return values, [run.config["variant.name"] for run in some], [run.group for run in some], [run.seed for run in some]


def in_nats(metric: str) -> bool:
    """Whether a metric is of NATS, whatever its parameters."""
    return metric.partition(":")[0].partition(".")[0] in NATS


def cut(text: str, width: int) -> str:
    """`text` in at most `width` characters, without some of its middle."""
    if len(text) <= width:
        return text
    end = (width - 3) * 2 // 3
    return f"{text[: width - 3 - end]}...{text[-end:]}"


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of at most WIDTH characters."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
