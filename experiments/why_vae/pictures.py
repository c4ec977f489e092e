"""A picture for each founding claim, of the runs of one seed or of the numbers of all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.why_vae.claims import CLAIMS, Claim
from experiments.why_vae.markdown import groups_of_claim
from experiments.why_vae.measures import (
    PERTURBATION,
    PRIOR,
    Cloud,
    Instruments,
    encode_clouds,
    normal,
    sigmas_and_errors,
)
from experiments.why_vae.rules import LEARNED, MEASURES, VAE, scores_by_seed
from vae_jax import randomness
from vae_jax.comparison import intervals
from vae_jax.inference import TrainedModel
from vae_jax.metrics.samples import clip_images
from vae_jax.plots import latent_plots, panel_plots
from vae_jax.plots.image_grid import image_grid

PicturedRuns = dict[str, tuple[Instruments, TrainedModel]]
"""group -> the run of it that pictures are of."""
Study = dict[str, Any]
"""What the JSON of a study holds."""
TILES, MAX_CLOUDS = 14, 150
VISIT, PERTURB = 1, 2
"""Purposes of randomness, beside PRIOR."""


def draw_pictures(study: Study, runs: PicturedRuns, folder: Path) -> None:
    """Writes the picture of every claim whose groups are there into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim in CLAIMS:
        groups = groups_of_claim(list(study["values"]), claim)
        file = folder / f"{claim.picture}.png"
        PICTURES[claim.picture](file, claim, study, {group: runs[group] for group in groups})


def draw_samples(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Decoded draws from N(0, I), a row a group."""
    tiles = [clip_images(run.decode(normal(_key(PRIOR), TILES, run.latent_dim))) for _, run in runs.values()]
    image_grid(file, np.stack(tiles), claim.title, rows=list(runs))


def draw_lines(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """A line between the codes of two held-out images of two labels, a row a group."""
    tiles = []
    for instruments, run in runs.values():
        pictures = instruments.test.pictures[_two_labels(instruments.test.labels)]
        weight = np.linspace(0, 1, 11, dtype=np.float32)[:, None]
        codes = run.encode(pictures)
        line = run.decode((1 - weight) * codes[:1] + weight * codes[1:])
        tiles.append(np.concatenate([pictures[:1], clip_images(line), pictures[1:]]))
    columns = ["image", *[""] * 11, "image"]
    image_grid(file, np.stack(tiles), claim.title, rows=list(runs), columns=columns)


def _two_labels(labels: np.ndarray) -> list[int]:
    """The indices of the first image of the highest label and of the lowest."""
    return [int(np.flatnonzero(labels == labels.max())[0]), int(np.flatnonzero(labels == labels.min())[0])]


def draw_visits(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """An image, its reconstruction, its visits, and codes moved alike; a row a group."""
    tiles = []
    for instruments, run in runs.values():
        index, _ = _two_labels(instruments.test.labels)
        held_out = encode_clouds(instruments, run, instruments.test.inputs)
        mean = np.repeat(held_out.mean[[index]], 6, axis=0)
        visits = Cloud(mean, np.repeat(held_out.sigma[[index]], 6, axis=0)).sample(_key(VISIT))
        step = PERTURBATION * held_out.deviation()
        moves = Cloud(mean, np.broadcast_to(step[None], mean.shape)).sample(_key(PERTURB))
        decoded = clip_images(run.decode(np.concatenate([mean[:1], visits, moves])))
        tiles.append(np.concatenate([instruments.test.pictures[[index]], decoded]))
    columns = ["image", "mean", *[""] * 2, "visits", *[""] * 5, "moved", *[""] * 3]
    image_grid(file, np.stack(tiles), claim.title, rows=list(runs), columns=columns)


def draw_training(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Spreads over training, with and without the KL."""
    names = {"sigma": "sigma", "spread": "spread", "relative": "relative", "aggregate": "aggregate_posterior"}
    panels = {
        MEASURES[measure].name: [_course(group, records, name) for group, records in study["training"].items()]
        for name, measure in names.items()
    }
    panel_plots.over_steps(file, panels, claim.title)


def _course(group: str, runs: dict[str, list[dict]], name: str) -> panel_plots.Course:
    """Over the steps that all runs of a group have."""
    by_step = [{record["step"]: record[name] for record in records} for records in runs.values()]
    steps = sorted(set.intersection(*map(set, by_step)))
    bands = []
    for step in steps:
        numbers = np.array([records[step] for records in by_step])
        bands.append([numbers.mean(), *(intervals.interval(numbers) or [numbers.mean()] * 2)])
    return panel_plots.Course(group, np.array(steps), np.array(bands))


def draw_clouds(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Clouds of held-out images in the two latents whose means vary most."""
    panels, labels = {}, runs[VAE][0].test.labels[:MAX_CLOUDS]
    for group, (instruments, run) in runs.items():
        held_out = encode_clouds(instruments, run, instruments.test.inputs[:MAX_CLOUDS])
        latents = np.argsort(-held_out.mean.var(axis=0))[:2]
        panels[group] = held_out.mean[:, latents], held_out.sigma[:, latents]
    latent_plots.posterior_ellipses(file, panels, labels, claim.title)


def draw_nearest(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Draws from the VAE and the training image nearest to each."""
    instruments, run = runs[VAE]
    fake = clip_images(run.decode(normal(_key(PRIOR), 2 * TILES, run.latent_dim)))
    flat, training = (images.reshape(len(images), -1) for images in (fake, instruments.train.pictures))
    indices = [int(np.square(training - image[None]).sum(axis=1).argmin()) for image in flat]
    nearest = instruments.train.pictures[indices]
    tiles = np.stack([part for i in (0, TILES) for part in (fake[i : i + TILES], nearest[i : i + TILES])])
    image_grid(file, tiles, claim.title, rows=["draw", "nearest"] * 2)


def draw_strips(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """The measures of a claim by group and seed."""
    measures = claim.measures or ("relative", "overlap", "prior_covered", "neighbours", "frechet", "sure", "distortion")
    panels = {
        MEASURES[measure].name: {group: _with_interval(study, group, measure) for group in runs} for measure in measures
    }
    panel_plots.strips(file, panels, claim.title)


def _with_interval(study: Study, group: str, measure: str) -> tuple[np.ndarray, tuple]:
    numbers = np.array(list(scores_by_seed(study["values"], group, measure).values()))
    interval = intervals.interval(numbers) if len(numbers) else None
    return numbers, interval or (None, None)


def draw_regularisers(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Frechet distance against distortion, a dot a run."""
    values = study["values"]
    groups = [group for group in values if group != LEARNED]  # whose distortion is of grey levels
    points = {group: _points(values[group], "distortion", "frechet") for group in groups}
    name = MEASURES["frechet"].name + " of draws from N(0, I)"
    panel_plots.scatters(file, {MEASURES["distortion"].name + " per image": points}, name, claim.title)


def _points(runs: dict[str, dict[str, float]], x: str, y: str) -> np.ndarray:
    return np.array([[measures[x], measures[y]] for measures in runs.values()])


def draw_uncertainty(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Each image's error against the encoder's sigma, and against the decoder's where it has one."""
    panels = {}
    for group in (group for group in (VAE, LEARNED) if group in runs):
        instruments, run = runs[group]
        held_out = encode_clouds(instruments, run, instruments.test.inputs)
        encoder, error, decoder = sigmas_and_errors(instruments, run, held_out)
        panels[f"{group}: encoder's mean log sigma"] = {group: np.stack([encoder, error.mean(axis=1)], axis=1)}
        if decoder is not None:
            pixels = np.log(decoder).mean(axis=1)
            panels[f"{group}: decoder's"] = {group: np.stack([pixels, error.mean(axis=1)], axis=1)}
    panel_plots.scatters(file, panels, "mean squared error of pixels", claim.title)


def _key(purpose: int) -> jax.Array:
    return jax.random.fold_in(randomness.stream(randomness.root_key(0), "pictures"), purpose)


PICTURES: dict[str, Callable[[Path, Claim, Study, PicturedRuns], None]] = {
    "draws": draw_samples,
    "lines": draw_lines,
    "visits": draw_visits,
    "training": draw_training,
    "clouds": draw_clouds,
    "nearest": draw_nearest,
    "noise": draw_strips,
    "regulariser": draw_regularisers,
    "uncertainty": draw_uncertainty,
    "table": draw_strips,
}
