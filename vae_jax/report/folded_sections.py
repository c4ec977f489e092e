"""The sections of a report that few read, and that stand folded below the others."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence

from vae_jax.comparison import intervals, reproduce, wording
from vae_jax.comparison.comparability import comparable_runs, labelled_values
from vae_jax.comparison.ranking import best_runs, group_places
from vae_jax.comparison.results import Comparison
from vae_jax.comparison.wording import format_correlation, format_p, format_share
from vae_jax.phrases import plural
from vae_jax.report import best_pictures, sentences
from vae_jax.report.markup import Html, join, number_cell, table, tag
from vae_jax.sweeps.group_names import format_value


def differences(comparison: Comparison) -> Html | None:
    """The table of every difference from the baseline."""
    places = group_places(comparison)
    rows = [
        tag(
            "tr",
            tag("th", difference.group, scope="row", data_value=places.get(difference.group)),
            tag("td", difference.metric),
            tag("td", sentences.verdict_phrase(difference), class_=difference.verdict),
            number_cell(difference.mean if difference.pairs else None),
            number_cell(difference.low),
            number_cell(difference.high),
            number_cell(difference.p, formatter=format_p),
            number_cell(difference.pairs),
        )
        for difference in comparison.differences
    ]
    numbers = ["difference", "low", "high", "p", "shared seeds"]
    note = tag("p", wording.legend(comparison), class_="quiet")
    return (
        join(table("differences from the baseline", ["group", "metric", "verdict"], numbers, rows), note)
        if rows
        else None
    )


def config_differences(comparison: Comparison) -> Html | None:
    """The fields of the config that are not the same in all groups, but for the seed."""
    by_name = {run.name: run.config for run in comparison.runs}
    configs = [[by_name[name] for name in group.runs if name in by_name] for group in comparison.groups]
    fields = dict.fromkeys(field for group in configs for config in group for field in config if field != "seed")
    columns = {field: [_values_in_words(group, field) for group in configs] for field in fields}
    columns = {field: values for field, values in columns.items() if len(set(values)) > 1}
    rows = [
        tag(
            "tr",
            tag("th", group.name, scope="row", data_value=i),
            *(tag("td", values[i]) for values in columns.values()),
        )
        for i, group in enumerate(comparison.groups)
    ]
    return table("config differences", ["group", *columns], [], rows) if columns else None


def _values_in_words(configs: Sequence[dict], field: str) -> str:
    return ", ".join(dict.fromkeys(format_value(config[field]) for config in configs if field in config)) or "none"


def unfinished(comparison: Comparison) -> Html | None:
    """Runs that have not finished and folders that were not read, each with why."""
    cells = [(run.name, run.group, run.status, run.error or "none") for run in comparison.runs if run.status != "done"]
    cells += [(folder, "none", "skipped", reason) for folder, reason in comparison.skipped]
    rows = [
        tag("tr", tag("td", name, class_="name"), *(tag("td", value) for value in values)) for name, *values in cells
    ]
    return table("runs that are not done", ["run or folder", "group", "status", "why"], [], rows) if rows else None


def variance(comparison: Comparison) -> Html:
    """The share of each metric's variance by variant, its strength and the seed, beside that of pure noise."""
    rows, percent = [], functools.partial(format_share, digits=1)
    for metric, shares in comparison.variance_shares.items():
        chance = {}
        if not math.isnan(shares["rest"]):
            runs = comparable_runs(comparison, metric)
            chance = intervals.chance_shares(*labelled_values(runs, metric)[1:])
        noise = {part: [tag("small", f"noise {format_share(share)}")] for part, share in chance.items()}
        cells = [number_cell(shares[part], *noise.get(part, []), formatter=percent) for part in intervals.PARTS]
        rows.append(tag("tr", tag("th", metric, scope="row"), *cells))
    note = (
        f"{wording.comparable_share(comparison)} Strength: what tells groups of a variant apart. "
        "Below each share: what as many labels explain of pure noise."
    )
    return join(table("variance explained", ["metric"], intervals.PARTS, rows), tag("p", note, class_="quiet"))


def correlations(comparison: Comparison) -> Html | None:
    """Spearman's correlations as numbers."""
    rows = [
        tag("tr", tag("th", name, scope="row"), *(number_cell(value, formatter=format_correlation) for value in values))
        for name, values in zip(comparison.metrics, comparison.correlation, strict=True)
    ]
    if len(rows) < 2:
        return None
    note = tag("p", wording.comparable_share(comparison), class_="quiet")
    return join(table("rank correlations", ["metric"], comparison.metrics, rows), note)


def definitions(comparison: Comparison) -> Html:
    """What each metric is, in a line."""
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", wording.heading(comparison, name)),
            tag("td", sentences.definition(name)),
        )
        for name in comparison.metrics
    ]
    return table("metrics", ["metric", "unit, which way, of what", "what it is"], [], rows)


def commands(comparison: Comparison) -> Html:
    """The command of this report and of the best run of each group; folded away those of all runs."""
    lines = reproduce.training_commands(comparison.runs)
    parts = [tag("p", "this report", class_="quiet"), tag("pre", tag("code", comparison.command))]
    for group, run in best_runs(comparison):
        parts += [tag("p", group.name, class_="quiet"), tag("pre", tag("code", lines[run.name]))]
    text = "\n".join([*lines.values(), comparison.command])
    summary = tag("summary", f"All of it: {plural(len(comparison.runs), 'run')}, then this report")
    return join(*parts, tag("details", summary, tag("pre", tag("code", text, id="all-commands"))))


def versions(comparison: Comparison) -> Html | None:
    """What the runs were made with, and how many with each."""
    counts = Counter(
        tuple(sorted((name, str(value)) for name, value in run.environment.items())) for run in comparison.runs
    )
    names = sorted({name for environment in counts for name, _ in environment})
    rows = [
        tag("tr", *(tag("td", dict(environment).get(name, "none")) for name in names), number_cell(count))
        for environment, count in counts.most_common()
    ]
    return table("versions", names, ["runs"], rows) if names else None


FOLDED: dict[str, Callable[[Comparison], Html | None]] = {
    "Pictures of the best runs": best_pictures.pictures,
    "Differences from the baseline": differences,
    "Config differences": config_differences,
    "Variance explained": variance,
    "Rank correlations": correlations,
    "Failed, dropped and skipped": unfinished,
    "Metrics": definitions,
    "Commands": commands,
    "Versions": versions,
}
"""By their headings."""
