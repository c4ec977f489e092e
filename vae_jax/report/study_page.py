"""The report of a comparison: one HTML file that holds all it needs, to read, to print and to send.

Nothing is loaded from elsewhere, which the page's own policy forbids too; names and errors are text, never markup.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison import wording
from vae_jax.comparison.notes import notes
from vae_jax.comparison.results import Comparison, Summary
from vae_jax.errors import UserError
from vae_jax.files import write_text
from vae_jax.phrases import plural
from vae_jax.report import (
    explorer,
    group_pictures,
    learning_curves,
    overview,
    runs_section,
    search_section,
    sentences,
)
from vae_jax.report.folded_sections import FOLDED
from vae_jax.report.group_pictures import GroupPictures
from vae_jax.report.markup import Html, compressed, data, four_digits, join, number_cell, page, plot_place, table, tag
from vae_jax.report.plotly_figures import figures

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("elements.js", "report_tables.js", "report_plots.js", "report_runs.js")
Drawn = dict[str, Any]
"""The plots of a page by name, as its script draws them."""

MAX_VERDICTS = 12
"""That are shown unfolded."""

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


def write(
    file: Path, comparison: Comparison, explorers: Sequence[Html] = (), pictures: GroupPictures | None = None
) -> None:
    """Writes the report of a comparison.

    Args:
        file: the page.
        comparison: what it shows.
        explorers: fragments of latent explorers, as `explorer.fragment` makes them.
        pictures: what each group's model makes of the same input.

    Raises:
        UserError: where the plotting library is not installed.
    """
    library = plotly_source()
    style, script = (ASSETS / "report.css").read_text(), "".join((ASSETS / name).read_text() for name in SCRIPTS)
    if explorers:
        style, script = style + explorer.style(), script + explorer.script()
    drawn = drawn_figures(comparison)
    candidates = {
        "Search": search_section.section(comparison),
        "Verdicts": verdicts(comparison, drawn),
        "Latent explorer": tag("div", *explorers, class_="vae-explorers") if explorers else None,
        "Learning curves": curves(comparison, drawn),
        "Plots": plots(comparison, drawn),
        "Pictures by group": group_pictures.section(pictures),
        "Groups": groups(comparison),
        "Runs": runs_section.section(comparison),
        **{name: make(comparison) for name, make in FOLDED.items()},
    }
    sections = {name: section for name, section in candidates.items() if section is not None}
    anchors = {name: "-".join(name.lower().replace(",", "").split()) for name in sections}
    body = join(
        header(comparison),
        tag("nav", *(tag("a", name, href=f"#{anchor}") for name, anchor in anchors.items()), aria_label="Contents"),
        *(_titled(name, anchors[name], section) for name, section in sections.items()),
        data("figures", drawn),
        compressed("plotly", library),
        runs_section.records(comparison),
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
    curves = learning_curves.learning_curves(comparison)
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


def header(comparison: Comparison) -> Html:
    """What was compared, how it ended, the command, and what to know before believing a table."""
    runs, groups = plural(len(comparison.runs), "run"), plural(len(comparison.groups), "group")
    summary = (
        f"{runs} in {groups} by {', '.join(comparison.by) or 'nothing but the seed'}: "
        f"{wording.status_counts(comparison.runs, comparison.skipped)}. "
        f"The baseline is {comparison.baseline}. A group's number is the mean over its seeds, "
        f"of the {wording.checkpoint_phrase(comparison)}."
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
    words = [tag("p", note, class_="quiet"), _verdict_list(lines)] if lines else []
    left = tag("div", *_plots(comparison, drawn, ("forest",)), *words)
    return tag("div", left, *_plots(comparison, drawn, ("rate_distortion",)), class_="plots")


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
    caption = CAPTIONS["curves"] + overview.most_of(len(comparison.groups), learning_curves.MOST_CURVES)
    options = [tag("option", metric, value=metric) for metric in drawn["curves"]["choices"]]
    choice = tag("label", "metric ", tag("select", *options, id="curves-choice", autocomplete="off"), class_="choice")
    return join(choice, tag("div", plot_place("curves", caption), class_="plots single"))


def groups(comparison: Comparison) -> Html:
    """The table of groups: seeds, and of each metric the mean, its interval and the interquartile mean."""
    finished = {run.name for run in comparison.runs if run.status == "done"}
    rows = [
        tag(
            "tr",
            tag("th", group.name, scope="row", data_value=place),
            *(summary_cell(group.summaries.get(name)) for name in comparison.metrics),
            number_cell(sum(name in finished for name in group.runs)),
            number_cell(group.failed),
            class_="baseline" if group.name == comparison.baseline else None,
        )
        for place, group in enumerate(comparison.groups)
    ]
    headings = ". ".join(f"{name}: {wording.heading(comparison, name)}" for name in comparison.metrics)
    note = f"Mean over seeds, its 95% bootstrap interval, and the interquartile mean (IQM). {headings}."
    return join(
        table("groups", ["group"], [*comparison.metrics, "done", "failed"], rows), tag("p", note, class_="quiet")
    )


def summary_cell(summary: Summary | None) -> Html:
    """A cell with the mean of a group's seeds."""
    if summary is None:
        return number_cell(None)
    interval = sentences.interval(summary.low, summary.high) or "no interval"
    details = f"IQM {four_digits(summary.interquartile_mean)}, {plural(summary.n, 'seed')}"
    return number_cell(summary.mean, tag("small", interval), tag("small", details))
