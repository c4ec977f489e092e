"""The report of a comparison: one HTML file that holds all it needs, to read, to print and to send.

Nothing is loaded from elsewhere, which the page's own policy forbids too; names and errors are text, never markup.
"""

import base64
import functools
import gzip
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from vae_jax.comparison import intervals, reproduce, wording
from vae_jax.comparison.comparability import comparable_runs, labelled_values
from vae_jax.comparison.notes import notes
from vae_jax.comparison.ranking import best_runs, sign
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Summary
from vae_jax.comparison.wording import format_correlation, format_p, format_share, format_value
from vae_jax.errors import UserError
from vae_jax.files import write_text
from vae_jax.phrases import plural
from vae_jax.report import explorer, search_section, sentences
from vae_jax.report.markup import Html, data, four_digits, join, number_cell, page, table, tag
from vae_jax.report.plotly_figures import figures
from vae_jax.report.png import read_png

ASSETS = Path(__file__).parent / "assets"
PICTURES = ("reconstructions", "samples", "traversals", "latents")
MAX_VERDICTS = 12
"""That are shown unfolded."""

MAX_PICTURE_BYTES = 3_000_000
"""Of all pictures, before their encoding adds a third."""

CAPTIONS = {
    "rate_distortion": "Rate and distortion. A dot is a run, pale where another is no worse in both; lines join "
    "the means of groups. Dotted: equal ELBO. At the right end are runs without a rate, as a code without noise has "
    "none, and those whose rate is far out.",
    "strength": "The score of choice. Dots are runs, lines join the means of groups, bands are their 95% intervals.",
    "correlation": "Rank correlation of metrics over runs (Spearman).",
}


def write(file: Path, comparison: Comparison, explorers: Sequence[Html] = ()) -> None:
    """Writes the report of a comparison.

    Args:
        file: the page.
        comparison: what it shows.
        explorers: fragments of latent explorers, as `explorer.fragment` makes them.

    Raises:
        UserError: where the plotting library is not installed.
    """
    library = plotly_source()
    style, script = ((ASSETS / name).read_text() for name in ("report.css", "report.js"))
    made = {name: make(comparison) for name, make in SECTIONS.items()}
    sections = {name: section for name, section in made.items() if section is not None}
    if explorers:
        style, script = style + explorer.style(), script + explorer.script()
        sections["Latent explorer"] = tag("div", *explorers, class_="vae-explorers")
    anchors = {name: "-".join(name.lower().replace(",", "").split()) for name in sections}
    body = join(
        header(comparison),
        tag("nav", *(tag("a", name, href=f"#{anchor}") for name, anchor in anchors.items())),
        *(join(tag("h2", name, id=anchors[name]), section) for name, section in sections.items()),
        compressed_script("plotly", library),
    )
    text = page(f"Comparison: {comparison.folder}", style, body, script, [library])
    write_text(file, text)


def plotly_source() -> str:
    """The source of plotly.js, which its Python package brings. Raises UserError where that is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        command = "pip install -c constraints.txt -e '.[compare]'"
        raise UserError(f"report.html needs plotly, which the extra 'compare' brings: {command}") from None
    return get_plotlyjs()


@functools.lru_cache(maxsize=1)  # plotly.js, for one report after the other
def compressed_script(id_: str, script: str) -> Html:
    """A script at a third of its size, which the page's own unpacks."""
    content = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    return tag("script", Html(content), type="text/plain", id=id_)


def header(comparison: Comparison) -> Html:
    """What was compared, how it ended, the command, and what to know before believing a table."""
    runs, groups = plural(len(comparison.runs), "run"), plural(len(comparison.groups), "group")
    summary = (
        f"{runs} in {groups} by {', '.join(comparison.by) or 'nothing but the seed'}: "
        f"{wording.status_counts(comparison.runs, comparison.skipped)}. "
        f"The baseline is {comparison.baseline}. The runs of a group are averaged over, seed by seed. "
        f"Numbers are of the {wording.checkpoint_phrase(comparison)}."
    )
    items = [tag("li", note) for note in notes(comparison)]
    return join(
        tag("h1", f"Comparison: {comparison.folder}"),
        tag("p", summary),
        tag("pre", tag("code", comparison.command)),
        *([tag("ul", *items)] if items else []),
    )


def verdicts(comparison: Comparison) -> Html:
    """In words: which group has the best score of choice, and how each stands against the baseline."""
    score = comparison.metrics[0]
    lines = [
        tag(
            "li",
            tag("b", sentences.verdict(difference)),
            f" {sentences.evidence(difference)}",
            class_=difference.verdict,
        )
        for difference in comparison.differences
        if difference.metric == score
    ]
    if unscored := [group.name for group in comparison.groups if score not in group.summaries]:
        lines.append(tag("li", tag("b", f"Without {score}: "), ", ".join(unscored), "."))
    note = (
        f"Against {comparison.baseline}: means over shared seeds, 95% intervals, p-values corrected for their number."
    )
    return join(
        tag("p", sentences.best_group(comparison)),
        *([_verdict_list(lines), tag("p", note, class_="quiet")] if lines else []),
    )


def _verdict_list(lines: Sequence[Html]) -> Html:
    """The verdicts, the rest of many of them folded away."""
    shown = tag("ul", *lines[:MAX_VERDICTS], class_="verdicts")
    if len(lines) <= MAX_VERDICTS:
        return shown
    rest = tag("ul", *lines[MAX_VERDICTS:], class_="verdicts")
    summary = tag("summary", f"{plural(len(lines) - MAX_VERDICTS, 'group')} more")
    return join(shown, tag("details", summary, rest))


def plots(comparison: Comparison) -> Html:
    """Elements for the plots, with captions; the page's script draws them."""
    drawn = figures(comparison)
    placeholder = "Plots need a browser that runs JavaScript."
    shown = {"rate_distortion": ("rate", "distortion"), "strength": comparison.metrics[:1]}
    captions = {
        name: f"{CAPTIONS[name]} {wording.comparable_share(comparison, *shown.get(name, ()))}".rstrip()
        for name in drawn
    }
    elements = [
        tag("figure", tag("div", placeholder, id=name, class_="plot"), tag("figcaption", captions[name]))
        for name in drawn
    ]
    section = tag("div", *elements, class_="plots") if elements else tag("p", "No run has the numbers for a plot.")
    return join(section, data("figures", drawn | search_section.figures(comparison)))


def groups(comparison: Comparison) -> Html:
    """The table of groups: seeds, and of each metric the mean, its interval and the interquartile mean."""
    finished = {run.name for run in comparison.runs if run.status == "done"}
    rows = [
        tag(
            "tr",
            tag("th", group.name, scope="row"),
            number_cell(sum(name in finished for name in group.runs)),
            number_cell(group.failed),
            *(summary_cell(group.summaries.get(name)) for name in comparison.metrics),
            class_="baseline" if group.name == comparison.baseline else None,
        )
        for group in comparison.groups
    ]
    headings = ". ".join(f"{name}: {wording.heading(comparison, name)}" for name in comparison.metrics)
    note = f"Mean over seeds, its 95% bootstrap interval, and the interquartile mean (IQM). {headings}."
    return join(table(["group"], ["done", "failed", *comparison.metrics], rows), tag("p", note, class_="quiet"))


def summary_cell(summary: Summary | None) -> Html:
    """A cell with the mean of a group's seeds."""
    if summary is None:
        return number_cell(None)
    interval = sentences.interval(summary.low, summary.high) or "no interval"
    details = f"IQM {four_digits(summary.interquartile_mean)}, {plural(summary.n, 'seed')}"
    return number_cell(summary.mean, tag("small", interval), tag("small", details))


def differences(comparison: Comparison) -> Html | None:
    """The table of every difference from the baseline."""
    rows = [
        tag(
            "tr",
            tag("th", difference.group, scope="row"),
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
    return join(table(["group", "metric", "verdict"], numbers, rows), note) if rows else None


def pictures(comparison: Comparison) -> Html | None:
    """The pictures of the best run of each group side by side, as many as there is room for."""
    room, omitted = MAX_PICTURE_BYTES, 0
    elements: dict[str, list[Html]] = {}
    damaged: list[str] = []
    for kind, (group, run) in itertools.product(PICTURES, best_runs(comparison)):
        content = _read_picture(run, kind, damaged)
        if len(content) > room:
            omitted += 1
        elif content:
            room -= len(content)
            elements.setdefault(kind, []).append(picture(kind, group, run, content))
    if not elements:
        return None
    parts = [
        join(tag("h3", kind.capitalize()), tag("div", *images, class_=f"pictures {kind}"))
        for kind, images in elements.items()
    ]
    score = comparison.metrics[0]
    best = f"best run by validation {score}, or its first where none has it" if sign(comparison, score) else "first run"
    note = f"Of each group its {best}, at its last step. A click makes a picture wide."
    if omitted:
        note += f" {plural(omitted, 'picture')} left out for size."
    if damaged:
        note += f" Left out: {'; '.join(damaged)}."
    return join(tag("p", note, class_="quiet"), *parts)


def _read_picture(run: ComparedRun, kind: str, damaged: list[str]) -> bytes:
    """A PNG of a run; empty where it has none. What is wrong with one is added to `damaged`."""
    try:
        return read_png(Path(run.folder) / "pictures" / f"{kind}.png")
    except UserError as error:
        damaged.append(str(error))
        return b""


def picture(kind: str, group: Group, run: ComparedRun, content: bytes) -> Html:
    """A PNG of a run, with its name."""
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return tag(
        "figure",
        tag(
            "button", tag("img", src=source, alt=f"{kind} of {run.name}"), type="button", aria_label="wider or narrower"
        ),
        tag("figcaption", f"{group.name}, seed {run.seed}: ", tag("code", run.name)),
        class_="picture",
    )


def config_differences(comparison: Comparison) -> Html | None:
    """The fields of the config that are not the same in all groups, but for the seed."""
    by_name = {run.name: run.config for run in comparison.runs}
    configs = [[by_name[name] for name in group.runs if name in by_name] for group in comparison.groups]
    fields = dict.fromkeys(field for group in configs for config in group for field in config if field != "seed")
    columns = {field: [_values_in_words(group, field) for group in configs] for field in fields}
    columns = {field: values for field, values in columns.items() if len(set(values)) > 1}
    rows = [
        tag("tr", tag("th", group.name, scope="row"), *(tag("td", values[i]) for values in columns.values()))
        for i, group in enumerate(comparison.groups)
    ]
    return table(["group", *columns], [], rows) if columns else None


def _values_in_words(configs: Sequence[dict], field: str) -> str:
    return ", ".join(dict.fromkeys(format_value(config[field]) for config in configs if field in config)) or "none"


def runs(comparison: Comparison) -> Html:
    """The table of every run."""
    rows = [
        tag(
            "tr",
            tag("td", run.name, class_="name", title=run.folder),
            tag("td", run.group),
            tag("td", run.status),
            number_cell(run.seed),
            *(number_cell(run.metrics.get(name)) for name in comparison.metrics),
            id=f"run-{run.name}",
        )
        for run in comparison.runs
    ]
    return table(["run", "group", "status"], ["seed", *comparison.metrics], rows)


def unfinished(comparison: Comparison) -> Html | None:
    """Runs that have not finished and folders that were not read, each with why."""
    cells = [(run.name, run.group, run.status, run.error or "none") for run in comparison.runs if run.status != "done"]
    cells += [(folder, "none", "skipped", reason) for folder, reason in comparison.skipped]
    rows = [
        tag("tr", tag("td", name, class_="name"), *(tag("td", value) for value in values)) for name, *values in cells
    ]
    return table(["run or folder", "group", "status", "why"], [], rows) if rows else None


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
    return join(table(["metric"], intervals.PARTS, rows), tag("p", note, class_="quiet"))


def correlations(comparison: Comparison) -> Html | None:
    """Spearman's correlations as numbers."""
    rows = [
        tag("tr", tag("th", name, scope="row"), *(number_cell(value, formatter=format_correlation) for value in values))
        for name, values in zip(comparison.metrics, comparison.correlation, strict=True)
    ]
    if len(rows) < 2:
        return None
    note = tag("p", wording.comparable_share(comparison), class_="quiet")
    return join(table(["metric"], comparison.metrics, rows), note)


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
    return table(["metric", "unit, which way, of what", "what it is"], [], rows)


def commands(comparison: Comparison) -> Html:
    """The command of the best run of each group; folded away those of all runs and of this report."""
    lines, parts = reproduce.training_commands(comparison.runs), []
    for group, run in best_runs(comparison):
        parts += [tag("p", group.name, class_="quiet"), tag("pre", tag("code", lines[run.name]))]
    text = "\n".join([*lines.values(), comparison.command])
    summary = tag("summary", f"All of it: {plural(len(comparison.runs), 'run')}, then this report")
    return join(*parts, tag("details", summary, tag("pre", tag("code", text))))


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
    return table(names, ["runs"], rows) if names else None


SECTIONS: dict[str, Callable[[Comparison], Html | None]] = {
    "Search": search_section.section,
    "Verdicts": verdicts,
    "Plots": plots,
    "Groups": groups,
    "Differences from the baseline": differences,
    "Pictures": pictures,
    "Config differences": config_differences,
    "Variance explained": variance,
    "Rank correlations": correlations,
    "Failed, dropped and skipped": unfinished,
    "Metrics": definitions,
    "Commands": commands,
    "Versions": versions,
    "Runs": runs,
}
