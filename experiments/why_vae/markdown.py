"""The page that says what a study's numbers make of the founding claims.

It is a function of the study's numbers, which stand beside it as JSON.
"""

import re
import textwrap
from typing import Any

from experiments.why_vae.claims import CLAIMS, Claim
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
    Values,
    format_number,
    format_scores,
    scores_by_seed,
    verdict,
)

DATA = "data"

MEANINGS = {
    HOLDS: "Every check that says anything agrees.",
    HOLDS_SO_FAR: "Every check that is decided agrees; some these seeds cannot decide, or were not measured.",
    HOLDS_IN_PART: "Some checks agree and some do not.",
    FAILS: "No check agrees.",
    OPEN: "Nothing is decided: too few seeds, groups that are not there, or a premise that is not met.",
}
"""What a verdict means, where a claim has no words of its own."""

CONVENTIONS = (
    "Numbers are means over seeds with a 95% interval of the mean (vae_jax/comparison/intervals.py). The numbers of "
    "every run are in the JSON beside this page.",
    "Intervals are over training seeds only: the held-out images and the classifier that judges are the same for all "
    "runs. They follow from the spread of the seeds, so an end may be a value that the quantity cannot take, below 0 "
    "or above 1.",
    "A check says yes or no if the whole 95% interval of a mean, or of a difference over the seeds that two groups "
    "share, says so; else it cannot tell. An interval is for one check: among as many as here some are wrong by "
    "chance.",
    "A claim is shown if all of its checks say yes. It is shown as far as these seeds can tell if some checks cannot "
    "be decided or were not measured and none says no; shown in part if some say yes and some no; refuted if some "
    "say no and none yes.",
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


def groups_of_claim(groups: list[str], claim: Claim) -> list[str]:
    """The groups of a study that a claim's table has, in the study's order."""
    starts = tuple(start for start in claim.groups if start in (NOISE, DECAY, "beta"))
    return [group for group in groups if group in claim.groups or (starts and group.startswith(starts))]


def render(study: dict[str, Any], pictures: str) -> str:
    """The page, in Markdown; `pictures` is the folder of its pictures as the page names it."""
    values, about = study["values"], study["about"]
    head = [
        "# Why a VAE is not an autoencoder",
        _fill(
            f"Ten claims, each measured on {about['data']} ({about['training']:,} training and {about['held_out']:,} "
            f"held-out images): {about['runs']} runs of {about['steps']:,} steps in {len(values)} groups, which share "
            f"network and data, {about['latents']} latents. Claims in quotation marks are things that are often said."
        ),
        _summary(values),
        "Made by",
        "\n".join(f"    {command}" for command in about["commands"]),
    ]
    sections = [_section(number, claim, study, pictures) for number, claim in enumerate(CLAIMS, 1)]
    notes = "\n".join(f"- {note}" for note in (*CONVENTIONS, *about["notes"]))
    return "\n\n".join([*head, *sections, "## How to read the numbers", notes]) + "\n"


def _fill(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def claim_verdict(claim: Claim, values: Values) -> str:
    """The verdict on a claim."""
    return verdict([rule(values) for rule in claim.rules], [rule(values) for rule in claim.premises])


def _summary(values: Values) -> str:
    rows = [
        [f"[{number}](#{_anchor(_heading(number, claim))})", claim.title, claim.statement, claim_verdict(claim, values)]
        for number, claim in enumerate(CLAIMS, 1)
    ]
    return _markdown(["", "claim", "in full", "verdict"], rows)


def _heading(number: int, claim: Claim) -> str:
    return f"{number}. {claim.title}"


def _anchor(heading: str) -> str:
    """The id that Markdown gives a heading."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def _section(number: int, claim: Claim, study: dict[str, Any], pictures: str) -> str:
    checks, premises = ([rule(study["values"]) for rule in rules] for rules in (claim.rules, claim.premises))
    decision = verdict(checks, premises)
    parts = [
        f"## {_heading(number, claim)}",
        f"> {claim.statement}",
        _fill(f"**{decision}.** {claim.meanings.get(decision, MEANINGS[decision])}"),
        f"![{claim.title}]({pictures}/{claim.picture}.png)",
        _fill(claim.caption),
        "\n".join(
            [f"- premise, {check.outcome}: {check.sentence} ({check.number})" for check in premises]
            + [f"- {check.outcome}: {check.sentence} ({check.number})" for check in checks]
        ),
        '<details markdown="1">\n<summary>How it was measured, and all numbers</summary>',
        _fill(claim.method),
        _table(claim, study) if claim.measures else _transposed_table(study["values"]),
        "</details>",
    ]
    return "\n\n".join(parts)


def _table(claim: Claim, study: dict[str, Any]) -> str:
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


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
