"""The pictures of a run: reconstructions, draws from the prior, latents moved one at a time, codes in the plane."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vae_jax import data
from vae_jax.data import Dataset, Split
from vae_jax.errors import UserError
from vae_jax.files import read_records
from vae_jax.inference import TrainedModel
from vae_jax.phrases import plural
from vae_jax.plots import (
    animations,
    curve_plots,
    factor_pictures,
    latent_plots,
    row_pictures,
    spread,
    style,
    traversals,
)
from vae_jax.plots.captions import format_fixed
from vae_jax.plots.factor_pictures import compiled_call
from vae_jax.plots.image_grid import image_grid
from vae_jax.plots.row_pictures import HeldOutRows
from vae_jax.plots.subject import Subject
from vae_jax.randomness import root_key, stream

MAX_CODES = 5000
"""Test images that are encoded."""

STEP_CODES = 500
"""Validation images that are encoded while a run trains."""

SHOWN, PAIRS, ANCHORS = 16, 6, 3
"""Images that are shown with their reconstructions, pairs with a line between, and images whose latents are moved."""

ROWS, COLUMNS, GRID = 8, 20, 20
"""Of the grid of draws from the prior; and along a side of that of the latent plane."""


class Excerpt(NamedTuple):
    """Images of a split.

    Attributes:
        indices: their numbers in the split.
        images: (n, height, width, channels).
        labels: (n,), None where there are none.
        shown: positions of those that are shown one by one.
    """

    indices: np.ndarray
    images: np.ndarray
    labels: np.ndarray | None
    shown: np.ndarray

    @property
    def shown_labels(self) -> np.ndarray | None:
        """The labels of those that are shown."""
        return None if self.labels is None else self.labels[self.shown]

    @classmethod
    def choose(cls, split: Split, most: int) -> "Excerpt":
        """At most about `most` images of a split."""
        indices = spread.add_labels(split, data.sample_indices(split, most))
        labels = None if split.labels is None else np.asarray(split.labels)[indices]
        images = split.fetch(indices) if split.factors is None else compiled_call(split.fetch, indices)
        return cls(indices, np.asarray(images), labels, spread.spread_positions(split, indices, SHOWN))


def draw(run: TrainedModel, dataset: Dataset, evaluation: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes the pictures of a run on test images; its PNG files, in order.

    Args:
        run: the model.
        dataset: its data.
        evaluation: what evaluation.json holds, nats per image.
        folder: where the pictures go, in the run's own folder, whose metrics.jsonl has the curves.
    """
    folder.mkdir(exist_ok=True)
    excerpt = Excerpt.choose(dataset.test, MAX_CODES)
    codes = run.encode(excerpt.images, excerpt.labels)
    noun = "images" if dataset.columns is None else "rows"
    subject, latents = Subject.describe(run, evaluation, excerpt.images, noun=noun), codes[:, : run.latent_dim]
    names = ["reconstructions", "samples", "interpolations", "traversals", "latents"]
    files = {name: folder / f"{name}.png" for name in names}
    if dataset.columns is None:
        images, shown = excerpt.images[excerpt.shown], codes[excerpt.shown]
        reconstructions(subject, images, shown, files["reconstructions"], excerpt.shown_labels)
        samples(subject, dataset.train.labels, files["samples"])
        interpolations(subject, images, shown, files["interpolations"], excerpt.shown_labels)
        _draw_moves(subject, dataset, excerpt, codes, evaluation, files["traversals"])
    else:
        rows = HeldOutRows(dataset.columns.names, excerpt.images, codes, excerpt.shown)
        _draw_rows(subject, rows, evaluation, files)
    latent_map(subject, latents, excerpt.labels, files["latents"])
    if run.latent_dim == 2 and dataset.columns is None:
        files["manifold"] = folder / "manifold.png"
        manifold(subject, typical_code(codes), files["manifold"])
    if curves(subject, read_records(folder.parent / "metrics.jsonl"), folder / "curves.png"):
        files["curves"] = folder / "curves.png"
    return [*files.values(), *_draw_factors(subject, dataset, excerpt, codes, evaluation, folder)]


def curves(subject: Subject, records: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """The numbers of a run over its steps; whether there are records of any."""
    figure = Figure()
    drawn = curve_plots.training(figure, records, subject.run.config, subject.heading("Training"))
    if drawn:
        style.write_png(figure, file)
    return drawn


def draw_step(run: TrainedModel, dataset: Dataset, numbers: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes the pictures of a run that still trains: validation images, reconstructed, and draws; their files.

    Args:
        run: the model.
        dataset: its data.
        numbers: of the validation split at this step, nats per image.
        folder: where the pictures go.
    """
    assert dataset.validation is not None
    folder.mkdir(parents=True, exist_ok=True)
    excerpt = Excerpt.choose(dataset.validation, STEP_CODES)
    codes, shown = run.encode(excerpt.images, excerpt.labels), excerpt.shown
    subject, files = (
        Subject.describe(run, numbers, excerpt.images, "validation"),
        [folder / "reconstructions.png", folder / "samples.png"],
    )
    if dataset.columns is None:
        reconstructions(subject, excerpt.images[shown], codes[shown], files[0], excerpt.shown_labels)
        samples(subject, dataset.train.labels, files[1])
    else:
        rows = HeldOutRows(dataset.columns.names, excerpt.images, codes, shown)
        row_pictures.reconstructions(subject, rows, files[0])
        row_pictures.samples(subject, rows, files[1])
    return files


def _draw_rows(subject: Subject, rows: HeldOutRows, evaluation: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Writes the pictures of a run on a table."""
    row_pictures.reconstructions(subject, rows, files["reconstructions"])
    row_pictures.samples(subject, rows, files["samples"])
    lines = _between_codes(subject.run, rows.codes[rows.shown])
    row_pictures.interpolations(subject, rows, lines, files["interpolations"])
    anchor = typical_code(rows.codes)[None]
    moves = traversals.moved_latents(subject, rows.codes, anchor, evaluation, traversals.ROW_STEPS)
    row_pictures.traversals(subject, rows, moves, files["traversals"])


def reconstructions(
    subject: Subject, images: np.ndarray, codes: np.ndarray, file: Path, labels: np.ndarray | None = None
) -> None:
    """Images above what the model makes of them, with their labels where there are some."""
    pairs = np.stack([subject.show(images), subject.show(subject.run.decode(codes))])
    what = f"{subject.split.capitalize()} images and their reconstructions"
    title, names = (what, []) if labels is None else (f"{what}, by label", _names(labels))
    image_grid(file, pairs, title, ("image", "reconstruction"), names, subject.caption)


def _names(labels: np.ndarray) -> list[str]:
    return [str(label) for label in labels]


def samples(subject: Subject, labels: np.ndarray | None, file: Path) -> None:
    """An 8 x 20 grid of draws from the prior; of one that is asked for a class, columns of those among `labels`."""
    images, classes = _draw_samples(subject.run, labels)
    title = "Decoded draws from the prior" + ("" if classes is None else "; below each column the label asked for")
    grid = subject.show(images.reshape(ROWS, COLUMNS, *subject.run.image_shape))
    image_grid(file, grid, title, (), [] if classes is None else _names(classes), subject.caption)


def _draw_samples(run: TrainedModel, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(images row by row, the class of each column); None where the prior is the same for every class."""
    key = stream(root_key(run.config["seed"]), "pictures")
    if labels is not None:
        classes = column_classes(np.asarray(labels))
        with contextlib.suppress(UserError):  # which says that this prior has no use for labels
            return run.sample(key, ROWS * COLUMNS, np.tile(classes, ROWS)), classes
    return run.sample(key, ROWS * COLUMNS), None


def column_classes(labels: np.ndarray) -> np.ndarray:
    """The class of each column: those that occur, as evenly as they go, in order."""
    classes = np.unique(labels)
    if len(classes) > COLUMNS:
        return classes[np.linspace(0, len(classes) - 1, COLUMNS).round().astype(int)]
    return np.sort(classes[np.arange(COLUMNS) % len(classes)])


def interpolations(
    subject: Subject, images: np.ndarray, codes: np.ndarray, file: Path, labels: np.ndarray | None = None
) -> None:
    """Straight lines between the codes of pairs of images, the two originals at their ends."""
    lines = subject.show(_between_codes(subject.run, codes))
    first, second = np.array(_pairs(len(images))).T
    ends = [subject.show(images[index])[:, None] for index in (first, second)]
    grid = np.concatenate([ends[0], lines, ends[1]], axis=1)
    steps = [format_fixed(t, 1) for t in np.linspace(0, 1, lines.shape[1])]
    rows = [] if labels is None else [f"{labels[i]} to {labels[j]}" for i, j in zip(first, second, strict=True)]
    title = f"Between two {subject.split} images: codes (1 - t) a + t b, decoded"
    image_grid(file, grid, title, rows, ["image a", f"t = {steps[0]}", *steps[1:], "image b"], subject.caption)


def _pairs(count: int) -> list[tuple[int, int]]:
    """Which of so many images are at the two ends of a line."""
    return [(2 * i, (2 * i + 1) % count) for i in range(min(PAIRS, (count + 1) // 2))]


def _between_codes(run: TrainedModel, codes: np.ndarray) -> np.ndarray:
    """Images at 11 points on the line between the codes of each pair, (pair, point, height, width, channels)."""
    weight, pairs = np.linspace(0, 1, 11, dtype=np.float32)[:, None], _pairs(len(codes))
    points = [(1 - weight) * codes[i][None] + weight * codes[j][None] for i, j in pairs]
    return run.decode(np.concatenate(points)).reshape(len(pairs), len(weight), *run.image_shape)


def _draw_moves(
    subject: Subject,
    dataset: Dataset,
    excerpt: Excerpt,
    codes: np.ndarray,
    evaluation: Mapping[str, Any],
    file: Path,
) -> None:
    """The latents of a typical image and of some that differ much, moved one at a time; with factors as a GIF too."""
    typical = typical_position(codes)
    anchors = [typical, *(position for position in excerpt.shown.tolist() if position != typical)][:ANCHORS]
    moves = traversals.moved_latents(subject, codes, codes[anchors], evaluation)
    kinds = ["typical", *["other"] * (len(anchors) - 1)]
    own = [""] * len(anchors)
    if excerpt.labels is not None:
        own = [f", label {excerpt.labels[position]}" for position in anchors]
    classes = factor_pictures.factor_classes(dataset, excerpt.indices[anchors])
    if dataset.factors is not None and classes is not None:
        own = [f": {factor_pictures.name_classes(dataset.factors, row)}" for row in classes]
    names = [kind + words for kind, words in zip(kinds, own, strict=True)]
    traversals.traversals(subject, moves, excerpt.images[anchors], names, file)
    if classes is not None:
        animations.moving_latents(subject, codes, codes[anchors], kinds, evaluation, file.with_suffix(".gif"))


def _draw_factors(
    subject: Subject,
    dataset: Dataset,
    excerpt: Excerpt,
    codes: np.ndarray,
    evaluation: Mapping[str, Any],
    folder: Path,
) -> list[Path]:
    """Writes the pictures of data whose factors are known; none of others."""
    classes, latents = factor_pictures.factor_classes(dataset, excerpt.indices), codes[:, : subject.run.latent_dim]
    if dataset.factors is None or classes is None:
        return []
    knowledge = factor_pictures.FactorInformation.measure(dataset.factors, latents, classes)
    if knowledge is None:
        return []
    names = ("factor_latents", "factor_information", "factor_reconstructions")
    planes, matrix, images = (folder / f"{name}.png" for name in names)
    factor_pictures.factor_planes(subject, knowledge, planes)
    order = traversals.Ranges.choose(latents, evaluation, subject.run.latent_dim).order
    factor_pictures.information_matrix(subject, knowledge, order, matrix)
    if excerpt.labels is not None:  # what the grid draws anew has none, and the encoder may need it
        return [planes, matrix]
    factor_pictures.along_factors(subject, dataset.factors, classes[typical_position(codes)], images)
    return [planes, matrix, images]


def typical_position(codes: np.ndarray) -> int:
    """The position of the code nearest to the mean of all."""
    return int(np.square(codes - codes.mean(0)).sum(1).argmin())


def typical_code(codes: np.ndarray) -> np.ndarray:
    """The code nearest to the mean of all."""
    return codes[typical_position(codes)]


def latent_map(subject: Subject, codes: np.ndarray, labels: np.ndarray | None, file: Path) -> None:
    """Codes of images in the plane: the two latents themselves, or the two main axes of more."""
    plane = latent_plots.main_plane(codes)
    what = f"Codes of {subject.split} {subject.noun}"
    title = what if codes.shape[1] == 2 else f"{what} ({plural(codes.shape[1], 'latent')})"
    latent_plots.scatter_codes(file, plane, labels, subject.heading(title))


def manifold(subject: Subject, code: np.ndarray, file: Path) -> None:
    """A two-dimensional latent space decoded on a grid, evenly spaced in the prior's probability.

    What a code holds beside the latents (a label, say) is that of `code`.
    """
    run = subject.run
    # Not SciPy, which takes a tenth of a second to import.
    quantiles = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.02, 0.98, GRID)], np.float32)
    x, y = np.meshgrid(quantiles, quantiles[::-1])
    codes = np.repeat(code[None], GRID * GRID, axis=0)
    codes[:, :2] = np.stack([x.ravel(), y.ravel()], axis=1)
    images = subject.show(run.decode(codes).reshape(GRID, GRID, *run.image_shape))
    across, down = ([format_fixed(value, 1) for value in values] for values in (quantiles, quantiles[::-1]))
    title = "The latent plane, decoded at the prior's quantiles (latent 0 across, latent 1 upwards)"
    image_grid(file, images, title, down, across, subject.caption)
