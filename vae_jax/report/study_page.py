"""The report of a comparison: one HTML file that holds all it needs, to read, to print and to send.

Nothing is loaded from elsewhere, which the page's own policy forbids too; names and errors are text, never markup.
"""

import base64
import functools
import gzip
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison import wording
from vae_jax.comparison.notes import notes
from vae_jax.comparison.ranking import best_runs, sign
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Summary
from vae_jax.errors import UserError
from vae_jax.files import write_text
from vae_jax.phrases import plural
from vae_jax.report import explorer, overview, search_section, sentences
from vae_jax.report.folded_sections import FOLDED
from vae_jax.report.markup import Html, data, four_digits, join, number_cell, page, plot_place, table, tag
from vae_jax.report.plotly_figures import figures
from vae_jax.report.png import read_png

ASSETS = Path(__file__).parent / "assets"
PICTURES = ("reconstructions", "samples", "traversals", "latents")
Drawn = dict[str, Any]
"""The plots of a page by name, as its script draws them."""

MAX_VERDICTS = 12
"""That are shown unfolded."""

MAX_PICTURE_BYTES = 3_000_000
"""Of all pictures, before their encoding adds a third."""

CAPTIONS = {
    "forest": "Every group against the baseline: the mean difference over shared seeds with its 95% interval. A filled "
    "dot is a difference that the corrected test is sure of.",
    "curves": "The validation split over the steps: the mean over a group's seeds, and a band from the least to the "
    "largest; a line ends where the first of its seeds does.",
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
    if explorers:
        style, script = style + explorer.style(), script + explorer.script()
    drawn = drawn_figures(comparison)
    candidates = {
        "Search": search_section.section(comparison),
        "Verdicts": verdicts(comparison, drawn),
        "Latent explorer": tag("div", *explorers, class_="vae-explorers") if explorers else None,
        "Learning curves": curves(comparison, drawn),
        "Plots": plots(comparison, drawn),
        "Pictures": pictures(comparison),
        "Groups": groups(comparison),
        "Runs": runs(comparison),
        **{name: make(comparison) for name, make in FOLDED.items()},
    }
    sections = {name: section for name, section in candidates.items() if section is not None}
    anchors = {name: "-".join(name.lower().replace(",", "").split()) for name in sections}
    body = join(
        header(comparison),
        tag("nav", *(tag("a", name, href=f"#{anchor}") for name, anchor in anchors.items()), aria_label="Contents"),
        *(_titled(name, anchors[name], section) for name, section in sections.items()),
        data("figures", drawn),
        compressed_script("plotly", library),
    )
    text = page(f"Comparison: {comparison.folder}", style, body, script, [library])
    write_text(file, text)


def _titled(name: str, anchor: str, section: Html) -> Html:
    """A section under its heading; what few read is folded away."""
    if name not in FOLDED:
        return join(tag("h2", name, id=anchor), section)
    return tag("details", tag("summary", tag("h2", name, id=anchor)), section, class_="folded")


def drawn_figures(comparison: Comparison) -> Drawn:
    """All plots of the page; learning curves have one for each metric."""
    curves = overview.learning_curves(comparison)
    drawn = {"forest": overview.forest(comparison), **figures(comparison), **search_section.figures(comparison)}
    drawn = {name: figure for name, figure in drawn.items() if figure is not None}
    return drawn | ({"curves": {"choices": curves}} if curves else {})


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
        tag("p", sentences.answer(comparison), class_="answer"),
        tag("p", summary),
        *([tag("ul", *items, class_="quiet")] if items else []),
    )


def verdicts(comparison: Comparison, drawn: Drawn) -> Html:
    """How each group stands against the baseline in the score of choice, as plots and in words."""
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
    plots = tag("div", *_plots(comparison, drawn, ("forest", "rate_distortion")), class_="plots")
    return join(plots, *([tag("p", note, class_="quiet"), _verdict_list(lines)] if lines else []))


def _plots(comparison: Comparison, drawn: Drawn, names: Sequence[str]) -> list[Html]:
    """The places of those of the plots that are drawn."""
    shown = {"rate_distortion": ("rate", "distortion"), "strength": comparison.metrics[:1]}
    more = {"forest": overview.most_of(len(comparison.groups), overview.MOST_GROUPS)}
    shares = {name: wording.comparable_share(comparison, *shown.get(name, ())) for name in names if name in drawn}
    return [
        plot_place(name, f"{CAPTIONS[name]}{more.get(name, '')} {share}".rstrip()) for name, share in shares.items()
    ]


def _verdict_list(lines: Sequence[Html]) -> Html:
    """The verdicts, the rest of many of them folded away."""
    shown = tag("ul", *lines[:MAX_VERDICTS], class_="verdicts")
    if len(lines) <= MAX_VERDICTS:
        return shown
    rest = tag("ul", *lines[MAX_VERDICTS:], class_="verdicts")
    summary = tag("summary", f"{plural(len(lines) - MAX_VERDICTS, 'group')} more")
    return join(shown, tag("details", summary, rest))


def plots(comparison: Comparison, drawn: Drawn) -> Html | None:
    """The plots that do not stand with the verdicts."""
    elements = _plots(comparison, drawn, ("strength", "correlation"))
    return tag("div", *elements, class_="plots") if elements else None


def curves(comparison: Comparison, drawn: Drawn) -> Html | None:
    """Learning curves, with a choice of the metric."""
    if "curves" not in drawn:
        return None
    caption = CAPTIONS["curves"] + overview.most_of(len(comparison.groups), overview.MOST_CURVES)
    options = [tag("option", metric, value=metric) for metric in drawn["curves"]["choices"]]
    choice = tag("label", "metric ", tag("select", *options, id="curves-choice"), class_="choice")
    return join(choice, tag("div", plot_place("curves", caption), class_="plots single"))


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


def runs(comparison: Comparison) -> Html:
    """The table of every run, each row a place that dots and tables link to; a click on a name shows its command."""
    counts = Counter(run.name for run in comparison.runs)
    places = {name: i for i, name in enumerate(counts)}
    rows = [
        tag(
            "tr",
            tag("td", tag("button", run.name, type="button", aria_expanded="false"), class_="name", title=run.folder),
            tag("td", run.group),
            tag("td", run.status),
            number_cell(run.seed),
            *(number_cell(run.metrics.get(name)) for name in comparison.metrics),
            id=f"run-{run.name}" if counts[run.name] == 1 else None,
            data_text=f"{run.name} {run.group} {run.status}".lower(),
            data_command=places[run.name],
        )
        for run in comparison.runs
    ]
    search = tag("input", type="search", id="runs-filter", placeholder="words of a name, group or status")
    controls = tag(
        "p",
        tag("label", "show runs with ", search),
        " ",
        tag("span", id="runs-count", role="status"),
        class_="controls",
    )
    return join(
        controls, tag("div", table(["run", "group", "status"], ["seed", *comparison.metrics], rows), id="runs-table")
    )
