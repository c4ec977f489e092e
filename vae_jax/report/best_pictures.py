"""The pictures that the best run of each group has in its folder, as far as a page has room for them."""

import itertools
from pathlib import Path

from vae_jax.comparison.ranking import best_runs, sign
from vae_jax.comparison.results import ComparedRun, Comparison, Group
from vae_jax.errors import UserError
from vae_jax.phrases import plural
from vae_jax.report.markup import Html, join, tag
from vae_jax.report.png import png_address, read_png

PICTURES = ("reconstructions", "samples", "traversals", "latents")

MAX_PICTURE_BYTES = 3_000_000
"""Of all pictures, before their encoding adds a third."""


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
    image = tag("img", src=png_address(content), alt=f"{kind} of {run.name}")
    return tag(
        "figure",
        tag("button", image, type="button", aria_label="wider or narrower"),
        tag("figcaption", f"{group.name}, seed {run.seed}: ", tag("code", run.name)),
        class_="picture",
        data_run=run.name,
    )
