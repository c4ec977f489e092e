"""What the model of each group makes of one input: the same held-out images, the same draws, the same line.

A row a group, of its best run by the validation split, one below the other: the eye compares columns.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from vae_jax import data, model
from vae_jax.comparison.ranking import best_runs, ranked_groups
from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.phrases import plural, printable
from vae_jax.plots import spread
from vae_jax.plots.display import Display, choose_display
from vae_jax.randomness import root_key, stream
from vae_jax.report.markup import Html, join, tag
from vae_jax.report.png import encode_png, png_address
from vae_jax.report.rendered_images import shrink
from vae_jax.sweeps.study import digest
from vae_jax.training.open_run import open_run

SHOWN = 16
"""Images in a row."""

MAX_BYTES = 3_000_000
"""Of all rows, before their encoding adds a third."""

MOST_ROWS = 24
"""Groups with a row, the best first."""

PROGRAM_FIELDS = ("variant.", "likelihood.", "net.", "latent_dim", "data.binarize")
"""Fields that decide what is compiled to open a run, where they are not traced."""

MOST_SIDE = 64
"""Pixels of an image's longer side; a larger one is shrunk by a whole number."""

PANELS = {
    "Reconstructions": "Above are held-out images; below, what each group decodes from their codes.",
    "Draws from the prior": "A column is one draw of the noise. Groups with the prior N(0, I) and the same number of "
    "latents get the same code.",
    "A line between two images": "The first and the last image of a row are the reconstructions of two held-out "
    "images; between them is the straight line of codes.",
}
"""The kinds of rows by their headings, each with its caption."""

Images = Num[np.ndarray, "image height width channels"]


class Row(NamedTuple):
    """What the model of one group makes of the input: of each of PANELS a PNG of SHOWN images side by side."""

    group: str
    run: str
    pictures: tuple[bytes, ...]


class GroupPictures(NamedTuple):
    """The rows of all groups and the held-out images that they are made of; `omitted` says what is missing and why.

    `checkpoint` is "latest" or "best".
    """

    originals: bytes
    checkpoint: str
    rows: list[Row]
    omitted: list[str]


class Input(NamedTuple):
    """The held-out images that all rows are made of, of the data of one run, and how images of these data are shown."""

    data_digest: str
    images: np.ndarray
    labels: np.ndarray | None
    display: Display

    @classmethod
    def choose(cls, run: TrainedModel, data_digest: str) -> "Input | None":
        """Test images that differ in label or factors where they have any; None where the data are rows of a table."""
        dataset = model.load_data(run.config["data"])
        if dataset.columns is not None:
            return None
        indices = data.sample_indices(dataset.test, 50 * SHOWN)
        indices = indices[spread.spread_positions(dataset.test, indices, SHOWN)]
        labels = None if dataset.test.labels is None else np.asarray(dataset.test.labels)[indices]
        images = np.asarray(dataset.test.fetch(indices))
        return cls(data_digest, images, labels, choose_display(run.config, images))

    def picture(self, images: Images) -> bytes:
        """Images side by side, as a PNG."""
        shown = self.display(images)
        side = max(shown.shape[1:3])
        return encode_png(np.concatenate(shrink(shown, math.ceil(side / MOST_SIDE)), axis=1))


def group_pictures(comparison: Comparison) -> GroupPictures | None:
    """The pictures of all groups, the best first; None where there is no finished run, or the data are no images."""
    best = {group.name: (group, run) for group, run in best_runs(comparison)}
    names = list(dict.fromkeys([group.name for group in ranked_groups(comparison) if group.name in best] + [*best]))
    omitted = [f"{plural(len(names) - MOST_ROWS, 'group')} of lower rank"] if len(names) > MOST_ROWS else []
    programs: dict[str, TrainedModel] = {}
    reference: Input | None = None
    rows = []
    for group, run in (best[name] for name in names[:MOST_ROWS]):
        try:
            opened = _open_shared(programs, run, comparison.checkpoint)
            reference = reference or Input.choose(opened, run.data)
            rows += [Row(group.name, run.name, _pictures(opened, run, reference))] if reference else []
        except Exception as problem:  # whatever a damaged file makes of a run: the report does without
            kind = "" if isinstance(problem, UserError) else f"{type(problem).__name__}: "
            omitted.append(printable(f"{group.name} ({kind}{problem})"))
    originals = reference.picture(reference.images) if reference else b""
    fitting = rows[: _fitting_count(rows)]
    omitted += [f"{row.group} (no room in the page)" for row in rows[len(fitting) :]]
    return GroupPictures(originals, comparison.checkpoint, fitting, omitted) if rows or omitted else None


def _fitting_count(rows: Sequence[Row]) -> int:
    """How many rows, from the first, have MAX_BYTES together at most."""
    sizes = np.cumsum([sum(map(len, row.pictures)) for row in rows])
    return int(np.sum(sizes <= MAX_BYTES))


def _open_shared(programs: dict[str, TrainedModel], run: ComparedRun, checkpoint: str) -> TrainedModel:
    """The run, sharing what is compiled with those before it whose configs differ in traced fields alone."""
    opened = open_run(run.folder, checkpoint)
    traced = model.traced_fields(opened.config)
    fields = {field: value for field, value in run.config.items() if field.startswith(PROGRAM_FIELDS)}
    static = {field: value for field, value in fields.items() if field not in traced}
    program = digest([static, opened.image_shape])
    shared = programs.setdefault(program, opened)
    return shared.with_params(opened.config, opened.params, opened.step)


def _pictures(opened: TrainedModel, run: ComparedRun, reference: Input) -> tuple[bytes, ...]:
    """What a model makes of the input, in the order of PANELS. Raises UserError where it is of other data."""
    if run.data != reference.data_digest or opened.image_shape != reference.images.shape[1:]:
        raise UserError("of other data")
    count, labels = len(reference.images), reference.labels
    ends = np.array([0, min(1, count - 1)])
    first, last = reference.images[ends]
    end_labels = None if labels is None else labels[ends]
    images = (
        opened.reconstruct(reference.images, labels),
        opened.sample(stream(root_key(0), "report"), count),
        opened.interpolate(first, last, count, end_labels),
    )
    return tuple(map(reference.picture, images))


def section(pictures: GroupPictures | None) -> Html | None:
    """The rows of all groups one below the other, panel by panel."""
    if pictures is None:
        return None
    omitted = f"Not shown: {'; '.join(pictures.omitted)}." if pictures.omitted else ""
    if not pictures.rows:
        return tag("p", omitted, class_="quiet")
    parts = []
    for panel, (name, caption) in enumerate(PANELS.items()):
        rows = [strip(row.group, row.pictures[panel], f"{name} of {row.run}") for row in pictures.rows]
        originals = [strip("held-out images", pictures.originals, "held-out images")] if panel == 0 else []
        parts += [tag("h3", name), tag("p", caption, class_="quiet"), tag("div", *originals, *rows, class_="strips")]
    step = "step of best validation" if pictures.checkpoint == "best" else "last step"
    note = f"A row is a group: its best run by the validation split, at its {step}. The best group is on top."
    return join(tag("p", f"{note} {omitted}", class_="quiet"), *parts)


def strip(name: str, picture: bytes, alternative: str) -> Html:
    """Images side by side, after a name."""
    return tag("figure", tag("figcaption", name), tag("img", src=png_address(picture), alt=alternative), class_="strip")
