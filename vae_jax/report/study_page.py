"""The report of a comparison: one HTML file that holds all it needs, to read, to print and to send.

Nothing is loaded from elsewhere, which the page's own policy forbids too; names and errors are text, never markup.
"""

import base64
import gzip
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from vae_jax.comparison import intervals, wording
from vae_jax.comparison import reproduce as remade
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Summary
from vae_jax.comparison.wording import (
    chance,
    comparable,
    direction,
    in_nats,
    labelled,
    legend,
    notes,
    of_which,
    shown,
    sign,
)
from vae_jax.errors import UserError
from vae_jax.report import sentences as words
from vae_jax.report.markup import Html, data, join, number, page, table, tag, text
from vae_jax.report.plotly_figures import figures

ASSETS = Path(__file__).parent / "assets"
PICTURES = ("reconstructions", "samples", "traversals", "latents")
MOST_BYTES = 3_000_000
"""Of pictures, before their encoding adds a third."""

CAPTIONS = {
    "rate_distortion": "Rate and distortion. A dot is a run, pale where another is no worse in both; lines join "
    "the means of groups. Dotted: equal ELBO. At the right end are runs without a rate, as a code without noise has "
    "none, and those whose rate is far out.",
    "strength": "The score of choice. Dots are runs, lines join the means of groups, bands are their 95% intervals.",
    "correlation": "Rank correlation of metrics over runs (Spearman).",
}


def write(file: Path, comparison: Comparison, explorers: Sequence[Html] = ()) -> None:
    """Writes the report of a comparison, with these fragments of explore.py.

    Raises UserError where the plotting library is not installed.
    """
    library = plotly()
    style, script = ((ASSETS / name).read_text() for name in ("report.css", "report.js"))
    found = {name: make(comparison) for name, make in SECTIONS.items()}
    sections = {name: section for name, section in found.items() if section is not None}
    if explorers:
        from vae_jax.report import explorer  # brings JAX, as whoever has made the fragments did

        style, script = style + explorer.style(), script + explorer.script()
        sections["Latent explorer"] = tag("div", *explorers, class_="vae-explorers")
    places = {name: "-".join(name.lower().replace(",", "").split()) for name in sections}
    body = join(
        header(comparison),
        tag("nav", *(tag("a", name, href=f"#{place}") for name, place in places.items())),
        *(join(tag("h2", name, id=places[name]), section) for name, section in sections.items()),
        packed("plotly", library),
    )
    file.write_text(page(f"Comparison: {comparison.folder}", style, body, script, [library]), encoding="utf-8")


def plotly() -> str:
    """The source of plotly.js, which its Python package brings."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        command = "pip install -c constraints.txt -e '.[compare]'"
        raise UserError(f"report.html needs plotly, which the extra 'compare' brings: {command}") from None
    return get_plotlyjs()


def packed(id_: str, script: str) -> Html:
    """A script at a third of its size, which the page's own unpacks."""
    content = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    return tag("script", Html(content), type="text/plain", id=id_)


def header(comparison: Comparison) -> Html:
    """What was compared, how it ended, the command, and what to know before believing a table."""
    standing = wording.standing(comparison.runs, comparison.skipped)
    told = "\n".join(notes(comparison)).replace("\n  ", " ").splitlines()
    cautions = [line.removeprefix("- ") for line in told]
    return join(
        tag("h1", f"Comparison: {comparison.folder}"),
        tag(
            "p",
            f"{words.count(len(comparison.runs), 'run')} in {words.count(len(comparison.groups), 'group')} "
            f"by {', '.join(comparison.by) or 'nothing but the seed'}: {standing}. "
            f"The baseline is {comparison.baseline}. The runs of a group are averaged over, seed by seed.",
        ),
        tag("pre", tag("code", comparison.command)),
        *([tag("ul", *(tag("li", line) for line in cautions))] if cautions else []),
    )


def verdicts(comparison: Comparison) -> Html:
    """In words: which group has the best score of choice, and how each stands against the baseline."""
    score = comparison.metrics[0]
    lines = [
        tag("li", tag("b", words.verdict(found)), f" {words.evidence(found)}", class_=found.verdict)
        for found in comparison.differences
        if found.metric == score
    ]
    if without := [group.name for group in comparison.groups if score not in group.summaries]:
        lines.append(tag("li", tag("b", f"Without {score}: "), ", ".join(without), "."))
    note = (
        f"Against {comparison.baseline}: means over shared seeds, 95% intervals, p-values corrected for their number."
    )
    return join(
        tag("p", words.best_group(comparison)),
        *([tag("ul", *lines, class_="verdicts"), tag("p", note, class_="quiet")] if lines else []),
    )


def plots(comparison: Comparison) -> Html:
    """Places for the plots and what they show; the page's script draws them."""
    drawn = figures(comparison)
    waiting = "Plots need a browser that runs JavaScript."
    alike = of_which(comparison)
    told = {name: f"{CAPTIONS[name]} {alike}" for name in drawn}
    if not in_nats(comparison.metrics[0]):
        told["strength"] = CAPTIONS["strength"]
    places = [
        tag("figure", tag("div", waiting, id=name, class_="plot"), tag("figcaption", told[name])) for name in drawn
    ]
    shown = tag("div", *places, class_="plots") if places else tag("p", "No run has the numbers for a plot.")
    return join(shown, data("figures", drawn))


def groups(comparison: Comparison) -> Html:
    """The table of groups: seeds, and of each metric the mean, its interval and the interquartile mean."""
    done = {run.name for run in comparison.runs if run.status == "done"}
    rows = [
        tag(
            "tr",
            tag("th", group.name, scope="row"),
            number(sum(name in done for name in group.runs)),
            number(group.failed),
            *(summarized(group.summaries.get(name)) for name in comparison.metrics),
            class_="baseline" if group.name == comparison.baseline else None,
        )
        for group in comparison.groups
    ]
    ways = "; ".join(f"{name}: {direction(comparison, name)}" for name in comparison.metrics)
    note = f"Mean over seeds, its 95% bootstrap interval, and the interquartile mean (IQM). {ways}."
    return join(table(["group"], ["done", "failed", *comparison.metrics], rows), tag("p", note, class_="quiet"))


def summarized(summary: Summary | None) -> Html:
    """A cell with the mean of a group's seeds."""
    if summary is None:
        return number(None)
    sure = words.interval(summary.low, summary.high) or "no interval"
    about = f"IQM {text(summary.interquartile_mean)}, {words.count(summary.n, 'seed')}"
    return number(summary.mean, tag("small", sure), tag("small", about))


def differences(comparison: Comparison) -> Html | None:
    """The table of every difference from the baseline."""
    rows = [
        tag(
            "tr",
            tag("th", found.group, scope="row"),
            tag("td", found.metric),
            tag("td", words.short(found), class_=found.verdict),
            *map(number, (found.mean if found.pairs else None, found.low, found.high)),
            number(found.p, shown=chance),
            number(found.pairs),
        )
        for found in comparison.differences
    ]
    numbers = ["difference", "low", "high", "p", "shared seeds"]
    note = tag("p", " ".join(" ".join(legend(comparison)).split()), class_="quiet")
    return join(table(["group", "metric", "verdict"], numbers, rows), note) if rows else None


def pictures(comparison: Comparison) -> Html | None:
    """The pictures of the best run of each group side by side, as many as there is room for."""
    chosen = best_runs(comparison)
    left, missed, parts = MOST_BYTES, 0, []
    for kind in PICTURES:
        shown = []
        for group, run in chosen:
            file = Path(run.folder) / "pictures" / f"{kind}.png"
            content = file.read_bytes() if file.is_file() else b""
            if len(content) > left:
                missed += 1
            elif content:
                left -= len(content)
                shown.append(picture(kind, group, run, content))
        if shown:
            parts += [tag("h3", kind.capitalize()), tag("div", *shown, class_=f"pictures {kind}")]
    if not parts:
        return None
    score = comparison.metrics[0]
    best = f"best run by {score}, or its first where none has it" if sign(comparison, score) else "first run"
    note = f"Of each group its {best}. "
    note += "A click makes a picture wide."
    note += f" {words.count(missed, 'picture')} left out for size." if missed else ""
    return join(tag("p", note, class_="quiet"), *parts)


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


def best_runs(comparison: Comparison) -> list[tuple[Group, ComparedRun]]:
    """Of each group the finished run with the best score of choice; the first, where none has it or is better."""
    score = comparison.metrics[0]
    value = lambda run: sign(comparison, score) * run.metrics.get(score, math.nan)  # noqa: E731
    by_name = {run.name: run for run in comparison.runs if run.status == "done"}
    found = []
    for group in comparison.groups:
        done = [by_name[name] for name in group.runs if name in by_name]
        if done:
            found.append((group, max(done, key=lambda run: value(run) if math.isfinite(value(run)) else -math.inf)))
    return found


def config_differences(comparison: Comparison) -> Html | None:
    """The fields of the config that are not the same in all groups, but for the seed."""
    by_name = {run.name: run.config for run in comparison.runs}
    configs = [[by_name[name] for name in group.runs if name in by_name] for group in comparison.groups]
    fields = dict.fromkeys(field for own in configs for config in own for field in config if field != "seed")
    values = lambda own, field: dict.fromkeys(shown(config[field]) for config in own if field in config)  # noqa: E731
    columns = {field: [", ".join(values(own, field)) or "none" for own in configs] for field in fields}
    columns = {field: found for field, found in columns.items() if len(set(found)) > 1}
    rows = [
        tag("tr", tag("th", group.name, scope="row"), *(tag("td", found[i]) for found in columns.values()))
        for i, group in enumerate(comparison.groups)
    ]
    return table(["group", *columns], [], rows) if columns else None


def runs(comparison: Comparison) -> Html:
    """The table of every run."""
    rows = [
        tag(
            "tr",
            tag("td", run.name, class_="name", title=run.folder),
            tag("td", run.group),
            tag("td", run.status),
            number(run.seed),
            *(number(run.metrics.get(name)) for name in comparison.metrics),
        )
        for run in comparison.runs
    ]
    return table(["run", "group", "status"], ["seed", *comparison.metrics], rows)


def lost(comparison: Comparison) -> Html | None:
    """Runs that have not finished and folders that were not read, each with why."""
    found = [(run.name, run.group, run.status, run.error or "none") for run in comparison.runs if run.status != "done"]
    found += [(folder, "none", "skipped", why) for folder, why in comparison.skipped]
    rows = [tag("tr", tag("td", name, class_="name"), *(tag("td", value) for value in rest)) for name, *rest in found]
    return table(["run or folder", "group", "status", "why"], [], rows) if rows else None


def explained(comparison: Comparison) -> Html:
    """The share of each metric's variance by variant, its strength and the seed, beside that of pure noise."""
    rows, alike = [], comparable(comparison)
    for metric, shares in comparison.explained.items():
        luck = {}
        if not math.isnan(shares["rest"]):
            luck = intervals.by_chance(*labelled(alike, metric)[1:])
        below = {part: [tag("small", f"noise {share:.0%}")] for part, share in luck.items()}
        cells = [number(shares[part], *below.get(part, []), shown="{:.1%}".format) for part in intervals.PARTS]
        rows.append(tag("tr", tag("th", metric, scope="row"), *cells))
    note = (
        "Strength: what tells groups of a variant apart. Below each share: what as many labels explain of pure noise."
    )
    note = f"{of_which(comparison)} {note}"
    return join(table(["metric"], intervals.PARTS, rows), tag("p", note, class_="quiet"))


def correlations(comparison: Comparison) -> Html | None:
    """Spearman's correlations as numbers."""
    rows = [
        tag("tr", tag("th", name, scope="row"), *(number(value, shown="{:.2f}".format) for value in values))
        for name, values in zip(comparison.metrics, comparison.correlation, strict=True)
    ]
    if len(rows) < 2:
        return None
    return join(table(["metric"], comparison.metrics, rows), tag("p", of_which(comparison), class_="quiet"))


def definitions(comparison: Comparison) -> Html:
    """What each metric is, in a line."""
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", direction(comparison, name)),
            tag("td", words.definition(name)),
        )
        for name in comparison.metrics
    ]
    return table(["metric", "which way", "what it is"], [], rows)


def commands(comparison: Comparison) -> Html:
    """The command of the best run of each group; folded away those of all runs and of this report."""
    line, parts = remade.of_runs(comparison.runs), []
    for group, run in best_runs(comparison):
        parts += [tag("p", group.name, class_="quiet"), tag("pre", tag("code", line[run.name]))]
    lines = "\n".join([*line.values(), comparison.command])
    every = tag("summary", f"All of it: {words.count(len(comparison.runs), 'run')}, then this report")
    return join(*parts, tag("details", every, tag("pre", tag("code", lines))))


def versions(comparison: Comparison) -> Html | None:
    """What the runs were made with, and how many with each."""
    made = Counter(
        tuple(sorted((name, str(value)) for name, value in run.environment.items())) for run in comparison.runs
    )
    names = sorted({name for environment in made for name, _ in environment})
    rows = [
        tag("tr", *(tag("td", dict(environment).get(name, "none")) for name in names), number(amount))
        for environment, amount in made.most_common()
    ]
    return table(names, ["runs"], rows) if names else None


SECTIONS: dict[str, Callable[[Comparison], Html | None]] = {
    "Verdicts": verdicts,
    "Plots": plots,
    "Groups": groups,
    "Differences from the baseline": differences,
    "Pictures": pictures,
    "Config differences": config_differences,
    "Variance explained": explained,
    "Rank correlations": correlations,
    "Failed, dropped and skipped": lost,
    "Metrics": definitions,
    "Commands": commands,
    "Versions": versions,
    "Runs": runs,
}
