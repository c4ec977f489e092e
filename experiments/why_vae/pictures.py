"""A picture for each founding claim, of the runs of one seed or of the numbers of all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.why_vae.claims import CLAIMS, Claim
from experiments.why_vae.markdown import in_claim
from experiments.why_vae.measures import MOVED, PRIOR, Cloud, Lab, cloud, normal, uncertainties
from experiments.why_vae.rules import LEARNED, MEASURES, VAE, column
from vae_jax import randomness
from vae_jax.comparison import intervals
from vae_jax.inference import TrainedModel
from vae_jax.metrics.samples import shown
from vae_jax.plots import drawing

Shown = dict[str, tuple[Lab, TrainedModel]]
"""group -> the run of it that pictures are of."""
TILES, MOST_CLOUDS = 14, 150


def draw(found: dict[str, Any], runs: Shown, folder: Path) -> None:
    """Writes the picture of every claim whose groups are there into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim in CLAIMS:
        groups = in_claim(list(found["values"]), claim)
        PICTURES[claim.picture](folder / f"{claim.picture}.png", claim, found, {group: runs[group] for group in groups})


def of_draws(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Decoded draws from N(0, I), a row a group."""
    tiles = []
    for _, run in runs.values():
        tiles.append(shown(run.decode(normal(_key(PRIOR), TILES, run.latent_dim))))
    drawing.mosaic(file, np.stack(tiles), claim.title, rows=list(runs))


def of_lines(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """A line between the codes of two held-out images of two labels, a row a group."""
    tiles = []
    for lab, run in runs.values():
        one, other = _two(lab.test.labels)
        weight = np.linspace(0, 1, 11, dtype=np.float32)[:, None]
        ends = run.encode(lab.test.shown[[one, other]])
        line = run.decode((1 - weight) * ends[:1] + weight * ends[1:])
        tiles.append(np.concatenate([lab.test.shown[[one]], shown(line), lab.test.shown[[other]]]))
    columns = ["image", *[""] * 11, "image"]
    drawing.mosaic(file, np.stack(tiles), claim.title, rows=list(runs), columns=columns)


def _two(labels: np.ndarray) -> tuple[int, int]:
    return int(np.flatnonzero(labels == labels.max())[0]), int(np.flatnonzero(labels == labels.min())[0])


def of_visits(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """An image, its reconstruction, its visits, and codes moved alike; a row a group."""
    tiles = []
    for lab, run in runs.values():
        place, _ = _two(lab.test.labels)
        held_out = cloud(lab, run, lab.test.seen)
        sd = np.sqrt(held_out.mean.var(axis=0) + np.square(held_out.sigma).mean(axis=0))
        one = np.repeat(held_out.mean[[place]], 6, axis=0)
        own = Cloud(one, np.repeat(held_out.sigma[[place]], 6, axis=0)).draw(_key(1))
        moved = Cloud(one, np.broadcast_to(MOVED * sd[None], one.shape)).draw(_key(2))
        decoded = shown(run.decode(np.concatenate([one[:1], own, moved])))
        tiles.append(np.concatenate([lab.test.shown[[place]], decoded]))
    columns = ["image", "mean", *[""] * 2, "visits", *[""] * 5, "moved", *[""] * 3]
    drawing.mosaic(file, np.stack(tiles), claim.title, rows=list(runs), columns=columns)


def of_training(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Spreads over training, with and without the KL."""
    names = {"sigma": "sigma", "spread": "spread", "relative": "relative", "aggregate": "aggregate_posterior"}
    panels = {
        MEASURES[measure].name: [_course(group, of_runs, name) for group, of_runs in found["training"].items()]
        for name, measure in names.items()
    }
    drawing.over_steps(file, panels, claim.title)


def _course(group: str, runs: dict[str, list[dict]], name: str) -> drawing.Course:
    """Over the steps that all runs of a group have."""
    by_step = [{record["step"]: record[name] for record in records} for records in runs.values()]
    steps = sorted(set.intersection(*map(set, by_step)))
    bands = []
    for step in steps:
        numbers = np.array([records[step] for records in by_step])
        bands.append([numbers.mean(), *(intervals.interval(numbers) or [numbers.mean()] * 2)])
    return drawing.Course(group, np.array(steps), np.array(bands))


def of_clouds(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Clouds of held-out images in the two latents whose means vary most."""
    panels, labels = {}, None
    for group, (lab, run) in runs.items():
        held_out = cloud(lab, run, lab.test.seen[:MOST_CLOUDS])
        both = np.argsort(-held_out.mean.var(axis=0))[:2]
        panels[group], labels = tuple(rows[:, both] for rows in held_out), lab.test.labels[:MOST_CLOUDS]
    drawing.clouds(file, panels, labels, claim.title)


def of_nearest(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Draws from the VAE and the training image nearest to each."""
    lab, run = runs[VAE]
    fake = shown(run.decode(normal(_key(PRIOR), 2 * TILES, run.latent_dim)))
    flat, training = (images.reshape(len(images), -1) for images in (fake, lab.train.shown))
    nearest = lab.train.shown[[int(np.square(training - image[None]).sum(axis=1).argmin()) for image in flat]]
    tiles = np.stack([part for i in (0, TILES) for part in (fake[i : i + TILES], nearest[i : i + TILES])])
    drawing.mosaic(file, tiles, claim.title, rows=["draw", "nearest"] * 2)


def of_strips(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """The measures of a claim by group and seed."""
    measures = claim.measures or ("relative", "overlap", "prior_covered", "neighbours", "frechet", "sure", "distortion")
    panels = {}
    for measure in measures:
        of_groups = {group: np.array(list(column(found["values"], group, measure).values())) for group in runs}
        panels[MEASURES[measure].name] = {
            group: (numbers, (len(numbers) and intervals.interval(numbers)) or (None, None))
            for group, numbers in of_groups.items()
        }
    drawing.strips(file, panels, claim.title)


def of_regulariser(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Frechet distance against distortion, a dot a run."""
    values = found["values"]
    groups = [group for group in values if group != LEARNED]  # whose distortion is of grey levels
    sets = {group: _points(values[group], "distortion", "frechet") for group in groups}
    name = MEASURES["frechet"].name + " of draws from N(0, I)"
    drawing.scatters(file, {MEASURES["distortion"].name + " per image": sets}, name, claim.title)


def _points(runs: dict[str, dict[str, float]], x: str, y: str) -> np.ndarray:
    return np.array([[of_run[x], of_run[y]] for of_run in runs.values()])


def of_uncertainty(file: Path, claim: Claim, found: dict[str, Any], runs: Shown) -> None:
    """Each image's error against the encoder's sigma, and against the decoder's where it has one."""
    panels = {}
    for group in (VAE, LEARNED):
        if group not in runs:
            continue
        lab, run = runs[group]
        code, error, of_decoder = uncertainties(lab, run, cloud(lab, run, lab.test.seen))
        panels[f"{group}: encoder's mean log sigma"] = {group: np.stack([code, error.mean(axis=1)], axis=1)}
        if of_decoder is not None:
            pixels = np.log(of_decoder).mean(axis=1)
            panels[f"{group}: decoder's"] = {group: np.stack([pixels, error.mean(axis=1)], axis=1)}
    drawing.scatters(file, panels, "mean squared error of pixels", claim.title)


def _key(purpose: int) -> jax.Array:
    return jax.random.fold_in(randomness.stream(randomness.root_key(0), "pictures"), purpose)


PICTURES: dict[str, Callable[[Path, Claim, dict[str, Any], Shown], None]] = {
    "draws": of_draws,
    "lines": of_lines,
    "visits": of_visits,
    "training": of_training,
    "clouds": of_clouds,
    "nearest": of_nearest,
    "noise": of_strips,
    "regulariser": of_regulariser,
    "uncertainty": of_uncertainty,
    "table": of_strips,
}
