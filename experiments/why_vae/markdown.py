"""The page that says what the numbers of studies make of the founding claims.

It is a function of these numbers, which stand beside it as JSON, a file a study.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.why_vae.claim import Claim, Row
from experiments.why_vae.claims import CLAIMS
from experiments.why_vae.rules import (
    AUTOENCODER,
    DECAY,
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    HOLDS_SO_FAR,
    MEASURES,
    NOISE,
    OPEN,
    VAE,
    YES,
    Check,
    Rule,
    Values,
    format_number,
    format_scores,
    scores_by_seed,
    verdict,
)

Study = dict[str, Any]
"""What the JSON of a study holds."""
Studies = Mapping[str, Study]
"""By the name of their data, the smallest first."""

DATA = "data"
NAMES = {"mnist": "MNIST"}
"""Of data whose name is no plain word."""

INTRODUCTION = (
    "An autoencoder codes an image as a point, and nothing says where the points lie. A VAE codes it as a cloud, and "
    "the KL holds the clouds together where the prior N(0, I) is. So a VAE can draw new images: take z from N(0, I) "
    "and decode it. That is the story. Here it is cut into ten claims, and each is put to the test."
)

WORDS = (
    "**Frechet distance**: how far decoded draws are from held-out images, in the features of a classifier. Lower is "
    "better.",
    "**As sure as data**: the share of draws of which that classifier is surer than of the least sure 5% of held-out "
    "images. Higher is better.",
    "**Distortion**: E -log p(x|z), nats per image. Lower is better: it is the price that a model pays in "
    "reconstruction.",
    "**beta = 0**: the VAE without the KL.",
    "**Weight decay of like price**: the autoencoder with weight decay whose distortion is nearest to the VAE's.",
)
"""What the tables of the page take for granted."""

MEANINGS = {
    HOLDS: "Every check that says anything agrees.",
    HOLDS_SO_FAR: "Every check that is decided agrees; some were not measured, or these seeds cannot decide them.",
    HOLDS_IN_PART: "Some checks agree and some do not.",
    FAILS: "No check agrees.",
    OPEN: "Nothing is decided: there are too few seeds or groups, or a premise is not met.",
}
"""What a verdict means, where a claim has no words of its own."""

CONVENTIONS = (
    "Numbers are means over seeds with a 95% interval of the mean (vae_jax/comparison/intervals.py). The JSON files in "
    "the folder of the pictures hold the numbers of every run.",
    "Intervals are over training seeds only: the held-out images and the classifier that judges are the same for all "
    "runs. They follow from the spread of the seeds, so an end may be a value that the quantity cannot take, below 0 "
    "or above 1.",
    "A check says yes or no if the whole 95% interval of a mean, or of a difference over the seeds that two groups "
    "share, says so; else it cannot tell. An interval is for one check: among as many as here some are wrong by "
    "chance.",
    "A claim is shown if all of its checks say yes. It is shown as far as these seeds can tell if some checks cannot "
    "be decided or were not measured and none says no; shown in part if some say yes and some no; refuted if some "
    "say no and none yes.",
    "A claim that gets two verdicts has no single one: what holds for small images need not hold for larger ones.",
    "Where the VAE has gained nothing over the autoencoder, being as good as the VAE counts for nothing.",
    "A premise must be true for the checks of its claim to mean anything. If it is not shown to be true, there is no "
    "verdict.",
)
"""How the numbers and verdicts of the page are to be read."""

ROWS = {
    "representation": ("sigma", "visited", "relative"),
    "structure": ("centre", "deviation", "overlap", "prior_covered", "neighbours", "smoothness", "smoothness.path"),
    "can generate": ("frechet", "precision", "recall", "confidence", "sure", "nearer_training"),
    "loss": ("distortion", "rate", "elbo", "rise_moved"),
}
"""Of the last claim's table, which stands on its side."""


def data_name(study: Study) -> str:
    """What the page calls the data of a study."""
    return NAMES.get(study["about"]["data"], study["about"]["data"])


def groups_of_claim(groups: Sequence[str], claim: Claim) -> list[str]:
    """The groups of a study that a claim's table has, in the study's order."""
    starts = tuple(start for start in claim.groups if start in (NOISE, DECAY, "beta"))
    return [group for group in groups if group in claim.groups or (starts and group.startswith(starts))]


def sort_studies(studies: Sequence[Study]) -> Studies:
    """Studies by the name of their data, the smallest first."""
    return {data_name(study): study for study in sorted(studies, key=lambda study: study["about"]["training"])}


def render(studies: Studies, page: Path) -> str:
    """The page, in Markdown; `page` is where it goes, its pictures into a folder of its name beside it."""
    sections = [_section(number, claim, studies, page.stem) for number, claim in enumerate(CLAIMS, 1)]
    notes = [f"{name}: {note}" for name, study in studies.items() for note in study["about"]["notes"]]
    parts = [
        "# Why a VAE is not an autoencoder",
        _fill(INTRODUCTION),
        _summary(studies),
        _fill(
            "Claims in quotation marks are things that are often said of VAEs. A verdict follows from checks, which "
            "were written before MNIST was measured. These words recur:"
        ),
        "\n".join(f"- {word}" for word in WORDS),
        *sections,
        "## How it was made",
        _studies_table(studies),
        _commands(studies, page),
        _times(studies),
        "## How to read the numbers",
        "\n".join(f"- {note}" for note in (*CONVENTIONS, *notes)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fill(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def claim_verdict(claim: Claim, values: Values) -> str:
    """The verdict on a claim."""
    return verdict(_checks(claim.rules, values), _checks(claim.premises, values))


def _checks(rules: Sequence[Rule], values: Values) -> list[Check]:
    return [rule(values) for rule in rules]


def _verdicts(claim: Claim, studies: Studies) -> dict[str, str]:
    return {name: claim_verdict(claim, study["values"]) for name, study in studies.items()}


def _summary(studies: Studies) -> str:
    rows = [
        [
            f"[{_heading(number, claim)}](#{_anchor(_heading(number, claim))})",
            *map(_marked, _verdicts(claim, studies).values()),
        ]
        for number, claim in enumerate(CLAIMS, 1)
    ]
    return _markdown(["claim", *studies], rows)


def _marked(decision: str) -> str:
    """A verdict in a table: bold where a claim is refuted."""
    return f"**{decision}**" if decision == FAILS else decision


def _heading(number: int, claim: Claim) -> str:
    return f"{number}. {claim.title}"


def _anchor(heading: str) -> str:
    """The id that Markdown gives a heading."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def _section(number: int, claim: Claim, studies: Studies, folder: str) -> str:
    verdicts = _verdicts(claim, studies)
    *others, largest = studies
    shown = [*others, largest] if len(set(verdicts.values())) > 1 else [largest]
    parts = [
        f"## {_heading(number, claim)}",
        f"> {claim.statement}",
        _decision(claim, verdicts),
        _exceptions(claim, studies),
        _markdown(["measure", *studies], [_row(row, studies) for row in claim.rows]),
        *(_image(claim, name, studies[name], folder) for name in shown),
        _fill(claim.figure.caption),
        _folded(_every_check(claim, studies), _checks_table(claim, studies)),
        _folded(
            "How it was measured, and all numbers",
            _fill(claim.method),
            *(part for name, study in studies.items() for part in (f"On {name}:", _table(claim, study))),
            *(_image(claim, name, studies[name], folder) for name in studies if name not in shown),
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _decision(claim: Claim, verdicts: Mapping[str, str]) -> str:
    """The verdict in bold, and what it means; each study's, where they differ."""
    if len(set(verdicts.values())) == 1:
        decision, names = next(iter(verdicts.values())), " and ".join(verdicts)
        return _fill(f"**{decision}** on {names}. {_meaning(claim, decision)}")
    lines = [f"- {name}: **{decision}.** {_meaning(claim, decision)}" for name, decision in verdicts.items()]
    return "\n".join(["The data sets disagree.", "", *lines])


def _meaning(claim: Claim, decision: str) -> str:
    return claim.meanings.get(decision, MEANINGS[decision])


def _exceptions(claim: Claim, studies: Studies) -> str:
    """Where a claim is shown in part, the checks that say yes or those that do not: whichever are fewer."""
    names: dict[str, list[str]] = {}
    for name, study in studies.items():
        if claim_verdict(claim, study["values"]) == HOLDS_IN_PART:
            names.setdefault(_minority_list(_checks(claim.rules, study["values"])), []).append(name)
    return "\n\n".join(f"On {' and '.join(group)} {text}" for text, group in names.items())


def _minority_list(checks: Sequence[Check]) -> str:
    """How many checks say yes, and a list of those that do, or of those that do not."""
    fewer = minority(checks)
    name = "Shown" if fewer[0].outcome == YES else "Not shown"
    return "\n".join([f"{_agreement(checks)}. {name}:", "", *(f"- {check.sentence}" for check in fewer)])


def _agreement(checks: Sequence[Check]) -> str:
    """How many checks say yes."""
    count = sum(check.outcome == YES for check in checks)
    return f"{count} of {len(checks)} checks {'says' if count == 1 else 'say'} yes"


def _every_check(claim: Claim, studies: Studies) -> str:
    counts = [f"on {name} {_agreement(_checks(claim.rules, study['values']))}" for name, study in studies.items()]
    return f"Every check: {', '.join(counts)}"


def minority(checks: Sequence[Check]) -> list[Check]:
    """The checks that say yes, or those that do not: whichever are fewer."""
    agreeing = [check for check in checks if check.outcome == YES]
    others = [check for check in checks if check.outcome != YES]
    return min(others, agreeing, key=len)


def _row(row: Row, studies: Studies) -> list[str]:
    cells = []
    for study in studies.values():
        values = study["values"]
        group = row.group if isinstance(row.group, str) else row.group(values)
        cells.append(_cell(values, group, row.measure))
    return [row.name, *cells]


def _image(claim: Claim, name: str, study: Study, folder: str) -> str:
    return f"![{claim.figure.title}, {name}]({folder}/{picture_name(study, claim)})"


def picture_name(study: Study, claim: Claim) -> str:
    """The file of a claim's figure."""
    return f"{study['about']['data']}_{claim.figure.stem}.png"


def _folded(summary: str, *parts: str) -> str:
    return "\n\n".join([f'<details markdown="1">\n<summary>{summary}</summary>', *parts, "</details>"])


def _checks_table(claim: Claim, studies: Studies) -> str:
    rows = []
    for rules, start in ((claim.premises, "premise: "), (claim.rules, "")):
        for rule in rules:
            checks = [rule(study["values"]) for study in studies.values()]
            rows.append([start + checks[0].sentence, *(f"{check.outcome}: {check.number}" for check in checks)])
    return _markdown(["check", *studies], rows)


def _table(claim: Claim, study: Study) -> str:
    if not claim.measures:
        return _transposed_table(study["values"])
    values, reference = study["values"], study["reference"]
    groups = groups_of_claim(list(values), claim)
    rows = [[group, *(_cell(values, group, measure) for measure in claim.measures)] for group in groups]
    if any(measure in reference for measure in claim.measures):
        rows.append([DATA, *(format_number(reference[m]) if m in reference else "-" for m in claim.measures)])
    return _markdown(["", *(MEASURES[measure].name for measure in claim.measures)], rows)


def _cell(values: Values, group: str, measure: str) -> str:
    return format_scores(scores_by_seed(values, group, measure))


def _transposed_table(values: Values) -> str:
    rows = []
    for part, measures in ROWS.items():
        for measure in measures:
            cells = (_cell(values, group, measure) for group in (AUTOENCODER, VAE))
            rows.append([part if measure == measures[0] else "", MEASURES[measure].name, *cells])
    return _markdown(["", "", AUTOENCODER, VAE], rows)


def _studies_table(studies: Studies) -> str:
    abouts = [study["about"] for study in studies.values()]
    groups = [len(study["values"]) for study in studies.values()]
    rows = [
        ["training images", *(f"{about['training']:,}" for about in abouts)],
        ["held-out images", *(f"{about['held_out']:,}" for about in abouts)],
        ["runs", *(f"{about['runs']} in {count} groups" for about, count in zip(abouts, groups, strict=True))],
        ["seeds of a group", *(str(len(study["values"][VAE])) for study in studies.values())],
        ["steps of a run", *(f"{about['steps']:,}" for about in abouts)],
        ["latents", *(str(about["latents"]) for about in abouts)],
    ]
    return _markdown(["", *studies], rows)


def _commands(studies: Studies, page: Path) -> str:
    abouts = [study["about"] for study in studies.values()]
    folders = ",".join(about["folder"] for about in abouts)
    lines = [*(about["command"] for about in abouts), f"python -m experiments.why_vae --runs={folders} --page={page}"]
    return "\n".join(f"    {line}" for line in lines)


def _times(studies: Studies) -> str:
    """How long training and measuring took, of the studies of which that is known."""
    times = [
        f"{name} {minutes['training']} minutes to train and {minutes['measuring']} to measure"
        for name, study in studies.items()
        if (minutes := study["about"]["minutes"])
    ]
    return _fill(f"On 2 CPU cores that other programs were using too: {'; '.join(times)}.") if times else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
