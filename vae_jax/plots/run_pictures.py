"""The pictures of a run: reconstructions, draws from the prior, latents moved one at a time, codes in the plane."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vae_jax import data
from vae_jax.data import Dataset, Split
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.phrases import plural
from vae_jax.plots import latent_plots, spread, style, table_plots
from vae_jax.plots.captions import format_fixed, run_caption, step_caption
from vae_jax.plots.display import Display, choose_display
from vae_jax.plots.image_grid import image_grid
from vae_jax.randomness import root_key, stream
from vae_jax.typing import Key

MAX_CODES = 5000
"""Test images that are encoded."""

STEP_CODES = 500
"""Validation images that are encoded while a run trains."""

SHOWN, PAIRS = 16, 6
"""Images that are shown with their reconstructions, and pairs of them with a line between."""

ROWS, COLUMNS, GRID = 8, 20, 20
"""Of the grid of draws from the prior; and along a side of that of the latent plane."""


GREY = Display()
"""Of grey levels and colours."""

ROWS_SHOWN = 4
"""Rows of a table that are shown one by one."""


def draw(run: TrainedModel, dataset: Dataset, evaluation: dict, folder: Path) -> list[Path]:
    """Writes the pictures of `run` on test images into `folder`; their files, in order."""
    folder.mkdir(exist_ok=True)
    images, labels, shown = _chosen_images(dataset.test, MAX_CODES)
    codes = run.encode(images, labels)
    if dataset.columns is None:
        show = choose_display(run.config, images)
        reconstructions(run, images[shown], codes[shown], folder / "reconstructions.png", show)
        samples(run, dataset.train.labels, folder / "samples.png", show)
        interpolations(run, codes[shown], folder / "interpolations.png", show)
        traversals(run, codes, evaluation, folder / "traversals.png", show)
    else:
        draw_rows(run, dataset.columns.names, images, codes, shown, evaluation, folder)
    latent_map(run, codes[:, : run.latent_dim], labels, folder / "latents.png")
    names = ["reconstructions", "samples", "interpolations", "traversals", "latents"]
    if run.latent_dim == 2 and dataset.columns is None:
        manifold(run, typical_code(codes), folder / "manifold.png", show)
        names.append("manifold")
    return [folder / f"{name}.png" for name in names]


def draw_step(run: TrainedModel, dataset: Dataset, folder: Path) -> list[Path]:
    """Writes the pictures of a run that still trains: validation images, reconstructed, and draws; their files."""
    assert dataset.validation is not None
    folder.mkdir(parents=True, exist_ok=True)
    images, labels, shown = _chosen_images(dataset.validation, STEP_CODES)
    codes, files = run.encode(images, labels), [folder / "reconstructions.png", folder / "samples.png"]
    if dataset.columns is None:
        show = choose_display(run.config, images)
        reconstructions(run, images[shown], codes[shown], files[0], show, "Validation")
        samples(run, dataset.train.labels, files[1], show)
    else:
        _row_reconstructions(run, dataset.columns.names, images, codes, shown, files[0], "Validation")
        _row_samples(run, dataset.columns.names, images, files[1])
    return files


def _chosen_images(split: Split, most: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """(images, labels, positions of those that are shown one by one) of at most about `most` images of a split."""
    indices = spread.add_labels(split, data.sample_indices(split, most))
    labels = None if split.labels is None else np.asarray(split.labels)[indices]
    return np.asarray(split.fetch(indices)), labels, spread.spread_positions(split, indices, SHOWN)


def draw_rows(
    run: TrainedModel,
    names: Sequence[str],
    images: np.ndarray,
    codes: np.ndarray,
    shown: np.ndarray,
    evaluation: dict,
    folder: Path,
) -> None:
    """Writes the pictures of a run on a table: rows as lines over its columns.

    Args:
        run: the model.
        names: of the columns.
        images: test rows, (n, 1, columns, 1).
        codes: theirs.
        shown: positions of those that are shown one by one.
        evaluation: what evaluation.json holds.
        folder: where the pictures go.
    """
    _row_reconstructions(run, names, images, codes, shown, folder / "reconstructions.png", "Test")
    _row_samples(run, names, images, folder / "samples.png")
    lines = _between_codes(run, codes[shown])[:ROWS_SHOWN, :, 0, :, 0]
    pairs, ends = {f"pair {i}": line for i, line in enumerate(lines, 1)}, ("first", "last")
    figure, title = Figure(), _titled(run, "Between the codes of two test rows")
    table_plots.moving_lines(figure, pairs, ends, names, title)
    style.save(figure, [folder / "interpolations.png"])
    moves = _moved_latents(run, codes, evaluation)
    figure, title = Figure(), _titled(run, moves.title)
    panels = dict(zip(moves.rows, moves.images[:, :, 0, :, 0], strict=True))
    table_plots.moving_lines(figure, panels, (moves.columns[0], moves.columns[-1]), names, title)
    style.save(figure, [folder / "traversals.png"])


def _row_reconstructions(
    run: TrainedModel,
    names: Sequence[str],
    images: np.ndarray,
    codes: np.ndarray,
    shown: np.ndarray,
    file: Path,
    split: str,
) -> None:
    rows, made, some = images[:, 0, :, 0], run.decode(codes)[:, 0, :, 0], shown[:ROWS_SHOWN]
    figure, title = Figure(), _titled(run, f"{split} rows and their reconstructions")
    table_plots.reconstruction_lines(figure, rows[some], made[some], made - rows, names, title)
    style.save(figure, [file])


def _row_samples(run: TrainedModel, names: Sequence[str], images: np.ndarray, file: Path) -> None:
    draws, _ = _draw_samples(run, stream(root_key(run.config["seed"]), "pictures"), None)
    figure, title = Figure(), _titled(run, "Decoded draws from the prior")
    table_plots.sample_lines(figure, draws[:, 0, :, 0], images[:, 0, :, 0], names, title)
    style.save(figure, [file])


def _titled(run: TrainedModel, text: str) -> str:
    """The title of a picture; in its second line the run that it is of, and the step of its checkpoint."""
    return f"{text}\n{run_caption(run.config)}, {step_caption(run.config, run.step, run.checkpoint)}"


def reconstructions(
    run: TrainedModel, images: np.ndarray, codes: np.ndarray, file: Path, show: Display = GREY, split: str = "Test"
) -> None:
    """Images of a split above what the model makes of them."""
    pairs = np.stack([show(images), show(run.decode(codes))])
    title = _titled(run, f"{split} images and their reconstructions")
    image_grid(file, pairs, title, rows=("image", "reconstruction"))


def samples(run: TrainedModel, labels: np.ndarray | None, file: Path, show: Display = GREY) -> None:
    """An 8 x 20 grid of draws from the prior; of one that is asked for a class, columns of those among `labels`."""
    key, title = stream(root_key(run.config["seed"]), "pictures"), _titled(run, "Decoded draws from the prior")
    images, classes = _draw_samples(run, key, labels)
    names = [] if classes is None else [str(label) for label in classes]
    image_grid(file, show(images.reshape(ROWS, COLUMNS, *run.image_shape)), title, columns=names)


def _draw_samples(run: TrainedModel, key: Key, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(images row by row, the class of each column); None where the prior is the same for every class."""
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


def interpolations(run: TrainedModel, codes: np.ndarray, file: Path, show: Display = GREY) -> None:
    """Straight lines between the codes of pairs of test images."""
    image_grid(file, show(_between_codes(run, codes)), _titled(run, "Between the codes of two test images"))


def _between_codes(run: TrainedModel, codes: np.ndarray) -> np.ndarray:
    """Images at 11 points on the line between the codes of each pair, (pair, point, height, width, channels)."""
    pairs = min(PAIRS, (len(codes) + 1) // 2)
    weight = np.linspace(0, 1, 11, dtype=np.float32)[:, None]
    ends = [(codes[2 * i], codes[(2 * i + 1) % len(codes)]) for i in range(pairs)]
    return np.stack([run.decode((1 - weight) * start + weight * end) for start, end in ends])


def traversals(run: TrainedModel, codes: np.ndarray, evaluation: dict, file: Path, show: Display = GREY) -> None:
    """One latent of a typical image moved at a time, the most informative first."""
    moves = _moved_latents(run, codes, evaluation)
    image_grid(file, show(moves.images), _titled(run, moves.title), moves.rows, moves.columns)


class Moves(NamedTuple):
    """Images (latent, step, height, width, channels), what each latent and each step is called, and a title."""

    images: np.ndarray
    rows: list[str]
    columns: list[str]
    title: str


def _moved_latents(run: TrainedModel, codes: np.ndarray, evaluation: dict) -> Moves:
    """One latent of a typical image moved at a time, the most informative first.

    By KL from -3 to 3, the prior's own range; without a KL by variance, three standard deviations
    about the mean code.
    """
    kl, steps = evaluation.get("kl"), np.linspace(-3, 3, 11)
    if kl is None:
        order = np.argsort(-codes[:, : run.latent_dim].var(0))[:10].tolist()
        ranges = {i: codes[:, i].mean() + codes[:, i].std() * steps for i in order}
        rows = [f"latent {i}: sd {format_fixed(codes[:, i].std(), 2)}" for i in order]
        title = "One latent moved at a time, in standard deviations"
    else:
        order = np.argsort(-np.asarray(kl))[:10].tolist()
        ranges = dict.fromkeys(order, steps)
        rows = [f"latent {i}: {format_fixed(kl[i], 2)} nats" for i in order]
        title = "One latent moved at a time"
    code = typical_code(codes)
    images = np.stack([run.decode(_with_latent(code, i, ranges[i])) for i in order])
    return Moves(images, rows, [format_fixed(step, 1, sign=True) for step in steps], title)


def typical_code(codes: np.ndarray) -> np.ndarray:
    """The code nearest to the mean of all."""
    return codes[np.square(codes - codes.mean(0)).sum(1).argmin()]


def _with_latent(code: np.ndarray, latent: int, values: np.ndarray) -> np.ndarray:
    """The code once for each of `values`, which one of its latents takes."""
    codes = np.repeat(code[None], len(values), axis=0)
    codes[:, latent] = values
    return codes


def latent_map(run: TrainedModel, codes: np.ndarray, labels: np.ndarray | None, file: Path) -> None:
    """Codes of test images in the plane: the two latents themselves, or the two main axes of more."""
    if codes.shape[1] == 2:
        title = _titled(run, "Codes of test images")
        latent_plots.scatter_codes(file, codes, labels, title, ("latent 0", "latent 1"))
        return
    centred = codes - codes.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    plane = centred @ axes.T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    origin = np.pad(-codes.mean(0) @ axes.T, (0, 2 - len(axes)))
    names = ("first principal axis", "second principal axis")
    title = _titled(run, f"Codes of test images ({plural(codes.shape[1], 'latent')})")
    latent_plots.scatter_codes(file, plane, labels, title, names, origin.tolist())


def manifold(run: TrainedModel, code: np.ndarray, file: Path, show: Display = GREY) -> None:
    """A two-dimensional latent space decoded on a grid, evenly spaced in the prior's probability.

    What a code holds beside the latents (a label, say) is that of `code`.
    """
    # Not SciPy, which takes a tenth of a second to import.
    quantiles = np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.02, 0.98, GRID)], np.float32)
    x, y = np.meshgrid(quantiles, quantiles[::-1])
    codes = np.repeat(code[None], GRID * GRID, axis=0)
    codes[:, :2] = np.stack([x.ravel(), y.ravel()], axis=1)
    images = run.decode(codes).reshape(GRID, GRID, *run.image_shape)
    image_grid(file, show(images), _titled(run, "The latent plane, decoded at the prior's quantiles"))
