"""What a claim is: its statement, the numbers and the figure that show it, and the rules that decide about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from experiments.why_vae.rules import AUTOENCODER, DECAY, NOISE, VAE, Choice, Rule, as_good

SAMPLED_CODES = (AUTOENCODER, NOISE, "beta", VAE)
ALL_MODELS = (*SAMPLED_CODES, DECAY)


class Row(NamedTuple):
    """A number of the table that the page shows first: its name, the measure, and the group or how it is chosen."""

    name: str
    measure: str
    group: str | Choice


class Figure(NamedTuple):
    """The figure of a claim: the stem of its file, the title in it, and what to look for, which stands below it."""

    stem: str
    title: str
    caption: str


@dataclass(frozen=True)
class Claim:
    """A claim, and how the numbers of a study decide about it.

    Attributes:
        title: its heading on the page; in quotation marks if people often say it.
        statement: the claim in full.
        meanings: by verdict, what it means in words.
        rows: the numbers that the page shows first.
        figure: what shows the claim.
        rules: the checks.
        premises: checks without which the others mean nothing.
        method: how it was measured.
        groups: of the table of all numbers; "beta" and the like stand for all that begin so.
        measures: its columns.
    """

    title: str
    statement: str
    rows: tuple[Row, ...]
    figure: Figure
    rules: tuple[Rule, ...]
    method: str
    groups: tuple[str, ...]
    measures: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    premises: tuple[Rule, ...] = ()


GAUSSIAN, MIXTURE = ("frechet", "frechet_fitted"), ("samples", "frechet_fitted")
"""A fitted density is held against the VAE's draws from N(0, I), in the gain over the autoencoder's fitted Gaussian."""


def draws_as_good(choose: Choice, whose: str) -> tuple[Rule, ...]:
    """The checks of whether draws of a group are as good as the VAE's; `whose` is the group in a sentence."""
    return (
        as_good("frechet", choose, f"{whose} draws from N(0, I) are as near to the data (Frechet distance)"),
        as_good("recall", choose, f"as much of the data lies among {whose} draws (recall)"),
        as_good("sure", choose, f"as many of {whose} draws are as sure as data"),
        as_good("prior_covered", choose, f"as much of the prior's mass has one of {whose} codes near it"),
        as_good("frechet_fitted", choose, f"draws from a Gaussian fitted to {whose} codes are as near", *GAUSSIAN),
    )
