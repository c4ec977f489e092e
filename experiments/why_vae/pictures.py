"""A figure for each founding claim, of the runs of one seed or of the numbers of all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from experiments.why_vae.claims import CLAIMS, Claim
from experiments.why_vae.markdown import Study, data_name, picture_name
from experiments.why_vae.measures import (
    CODES,
    PERTURBATION,
    PRIOR,
    Cloud,
    Instruments,
    encode_clouds,
    gaussian_draws,
    normal,
    sigmas_and_errors,
)
from experiments.why_vae.rules import (
    AUTOENCODER,
    DECAY,
    LEARNED,
    MEASURES,
    NO_KL,
    NOISE,
    VAE,
    best_noise,
    format_number,
    matched_decay,
    scores_by_seed,
    steadiest_decay,
)
from vae_jax import randomness
from vae_jax.comparison import intervals
from vae_jax.inference import TrainedModel
from vae_jax.metrics.samples import clip_images
from vae_jax.plots import latent_plots, panel_plots, style
from vae_jax.plots.captions import CUT
from vae_jax.plots.image_grid import image_grid
from vae_jax.plots.style import Heading

PicturedRuns = dict[str, tuple[Instruments, TrainedModel]]
"""group -> the run of it that pictures are of."""
TILES, STEPS, SHOWN_VISITS, MAX_CLOUDS, MAX_POINTS = 10, 9, 4, 150, 1000
VISIT, PERTURB = 1, 2
"""Purposes of randomness, beside PRIOR and CODES."""
BETAS, SHADES = "VAE, by beta", 256
STRIPS = {
    "noise": ("frechet", "recall", "prior_covered", "smoothness"),
    "table": ("relative", "prior_covered", "frechet", "distortion"),
}
"""The measures of a figure of strips."""
COLOURS = {NOISE: 4, AUTOENCODER: 0, NO_KL: 1, VAE: 2, BETAS: 2, LEARNED: 3, DECAY: 6}
"""The number of a group's colour, the first that its name begins with: the same in all figures."""


def draw_pictures(study: Study, runs: PicturedRuns, folder: Path) -> None:
    """Writes the figure of every claim into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim in CLAIMS:
        file = folder / picture_name(study, claim)
        PICTURES[claim.figure.stem](file, claim, study, runs)
        shrink(file)


def shrink(file: Path) -> None:
    """Writes a picture again with at most SHADES colours, which takes a third of the bytes."""
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(SHADES, dither=Image.Dither.NONE)
    few.save(file, optimize=True, dpi=(style.DPI, style.DPI))


def _heading(claim: Claim, study: Study, *details: str) -> Heading:
    """The title of a claim's figure, and the line of the data and runs that it is of."""
    about = study["about"]
    return Heading(claim.figure.title, CUT.join([data_name(study), *details, f"{about['steps']:,} steps"]))


def _of_run(claim: Claim, study: Study, runs: PicturedRuns) -> Heading:
    return _heading(claim, study, f"seed {runs[VAE][1].config['seed']}")


def _of_all(claim: Claim, study: Study) -> Heading:
    return _heading(claim, study, f"{len(study['values'][VAE])} seeds")


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """The colours of groups."""
    return {
        group: style.colour(next(COLOURS[start] for start in COLOURS if group.startswith(start))) for group in groups
    }


def _chosen(runs: PicturedRuns, groups: Sequence[str]) -> PicturedRuns:
    """The runs of these groups, of those that are there."""
    return {group: runs[group] for group in groups if group in runs}


def draw_samples(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Held-out images, draws from N(0, I), and draws from the Gaussian that is fitted to the autoencoder's codes."""
    instruments, autoencoder = runs[AUTOENCODER]
    vae = runs[VAE][1]
    noise = normal(_key(PRIOR), TILES, vae.latent_dim)
    codes = encode_clouds(instruments, autoencoder, instruments.train.inputs).sample(_key(CODES))
    rows = {
        "held-out images": instruments.test.pictures[:TILES],
        "autoencoder, N(0, I)": autoencoder.decode(noise),
        "autoencoder, fitted Gaussian": autoencoder.decode(gaussian_draws(codes, noise)),
        "VAE, N(0, I)": vae.decode(noise),
    }
    tiles = np.stack([clip_images(images) for images in rows.values()])
    _write_grid(file, tiles, _of_run(claim, study, runs), list(rows))


def draw_lines(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """A line between the codes of two held-out images of two labels, a row a model."""
    tiles = []
    chosen = _chosen(runs, [AUTOENCODER, VAE, matched_decay(study["values"])])
    for instruments, run in chosen.values():
        pictures = instruments.test.pictures[_two_labels(instruments.test.labels)]
        weight = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
        codes = run.encode(pictures)
        line = run.decode((1 - weight) * codes[:1] + weight * codes[1:])
        tiles.append(np.concatenate([pictures[:1], clip_images(line), pictures[1:]]))
    columns = ["image a", "t = 0", *[""] * 3, "t = 0.5", *[""] * 3, "t = 1", "image b"]
    _write_grid(file, np.stack(tiles), _of_run(claim, study, runs), list(chosen), columns)


def _two_labels(labels: np.ndarray) -> list[int]:
    """The indices of the first image of the highest label and of the lowest."""
    return [int(np.flatnonzero(labels == labels.max())[0]), int(np.flatnonzero(labels == labels.min())[0])]


def draw_visits(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """An image, its reconstruction, its visits, and codes moved alike; a row a model."""
    tiles = []
    chosen = _chosen(runs, [AUTOENCODER, VAE, steadiest_decay(study["values"])])
    for instruments, run in chosen.values():
        index, _ = _two_labels(instruments.test.labels)
        held_out = encode_clouds(instruments, run, instruments.test.inputs)
        mean = np.repeat(held_out.mean[[index]], SHOWN_VISITS, axis=0)
        visits = Cloud(mean, np.repeat(held_out.sigma[[index]], SHOWN_VISITS, axis=0)).sample(_key(VISIT))
        step = PERTURBATION * held_out.deviation()
        moves = Cloud(mean, np.broadcast_to(step[None], mean.shape)).sample(_key(PERTURB))
        decoded = clip_images(run.decode(np.concatenate([mean[:1], visits, moves])))
        tiles.append(np.concatenate([instruments.test.pictures[[index]], decoded]))
    columns = ["image", "mean", *(f"{name} {i + 1}" for name in ("visit", "moved") for i in range(SHOWN_VISITS))]
    _write_grid(file, np.stack(tiles), _of_run(claim, study, runs), list(chosen), columns)


def draw_training(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Spreads over training, with and without the KL."""
    names = {"sigma": "sigma", "spread": "spread", "relative": "relative", "aggregate": "aggregate_posterior"}
    panels = {
        MEASURES[measure].name: [_course(group, records, name) for group, records in study["training"].items()]
        for name, measure in names.items()
    }
    panel_plots.over_steps(file, panels, _of_all(claim, study), group_colours(list(study["training"])))


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
    chosen = _chosen(runs, [AUTOENCODER, best_noise(study["values"]), NO_KL, VAE])
    panels, labels = {}, runs[VAE][0].test.labels[:MAX_CLOUDS]
    for group, (instruments, run) in chosen.items():
        held_out = encode_clouds(instruments, run, instruments.test.inputs[:MAX_CLOUDS])
        latents = np.argsort(-held_out.mean.var(axis=0))[:2]
        panels[group] = held_out.mean[:, latents], held_out.sigma[:, latents]
    latent_plots.posterior_ellipses(file, panels, labels, _of_run(claim, study, runs))


def draw_nearest(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Draws from the VAE and the training image nearest to each."""
    instruments, run = runs[VAE]
    fake = clip_images(run.decode(normal(_key(PRIOR), 2 * TILES, run.latent_dim)))
    flat, training = (images.reshape(len(images), -1) for images in (fake, instruments.train.pictures))
    indices = [int(np.square(training - image[None]).sum(axis=1).argmin()) for image in flat]
    nearest = instruments.train.pictures[indices]
    tiles = np.stack([part for i in (0, TILES) for part in (fake[i : i + TILES], nearest[i : i + TILES])])
    _write_grid(file, tiles, _of_run(claim, study, runs), ["draw", "nearest"] * 2)


def _write_grid(
    file: Path, tiles: np.ndarray, heading: Heading, rows: Sequence[str], columns: Sequence[str] = ()
) -> None:
    image_grid(file, tiles, heading.title, rows, columns, heading.caption)


def draw_strips(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Some measures of a claim by group and seed."""
    values = study["values"]
    groups = [AUTOENCODER, VAE] if claim.figure.stem == "table" else [AUTOENCODER, best_noise(values), VAE]
    panels = [
        _strip(study, [group for group in groups if group in values], measure) for measure in STRIPS[claim.figure.stem]
    ]
    panel_plots.strips(file, panels, _of_all(claim, study), group_colours(groups))


def _strip(study: Study, groups: Sequence[str], measure: str) -> panel_plots.Strip:
    name, higher_is_better = MEASURES[measure]
    note = "" if measure == "relative" else f"{'higher' if higher_is_better else 'lower'} is better"
    return panel_plots.Strip(name, note, {group: _with_interval(study, group, measure) for group in groups})


def _with_interval(study: Study, group: str, measure: str) -> tuple[np.ndarray, tuple]:
    numbers = np.array(list(scores_by_seed(study["values"], group, measure).values()))
    interval = intervals.interval(numbers) if len(numbers) else None
    return numbers, interval or (None, None)


def draw_regularisers(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Frechet distance against distortion, a dot a run, the strengths of a regulariser joined."""
    values = study["values"]
    families: dict[str, dict[str, np.ndarray]] = {}
    for group in (group for group in values if group != LEARNED):  # whose distortion is of grey levels
        family, name = _family(group)
        families.setdefault(family, {})[name] = _points(values[group], "distortion", "frechet")
    names = "distortion of held-out images, nats", "Frechet distance of draws from N(0, I)"
    level = study["reference"].get("frechet")
    line = None if level is None else (f"training images, {format_number(level)}", level)
    panel_plots.paths(file, families, names, _of_all(claim, study), group_colours(list(families)), line)


def _family(group: str) -> tuple[str, str]:
    """(what a group is a strength of, that strength) as the figure has them."""
    if group.startswith(DECAY):
        return DECAY, group.removeprefix(DECAY).strip()
    if group in (NO_KL, VAE) or group.startswith("beta"):
        return BETAS, "beta = 1, the VAE" if group == VAE else group
    return (NOISE, "") if group.startswith(NOISE) else (group, "")


def _points(runs: dict[str, dict[str, float]], x: str, y: str) -> np.ndarray:
    return np.array([[measures[x], measures[y]] for measures in runs.values()])


def draw_uncertainty(file: Path, claim: Claim, study: Study, runs: PicturedRuns) -> None:
    """Each image's error against the encoder's sigma, and against the decoder's where it has one."""
    panels = []
    for group, (instruments, run) in _chosen(runs, [VAE, LEARNED]).items():
        held_out = encode_clouds(instruments, run, instruments.test.inputs)
        encoder, error, decoder = sigmas_and_errors(instruments, run, held_out)
        sigmas = {"encoder's": encoder} | ({} if decoder is None else {"decoder's": np.log(decoder).mean(axis=1)})
        panels += [_scatter(group, name, sigma, error.mean(axis=1)) for name, sigma in sigmas.items()]
    heading = _of_run(claim, study, runs)
    panel_plots.clouds(file, panels, "mean squared error of pixels", heading, group_colours([VAE, LEARNED]))


def _scatter(group: str, name: str, sigma: np.ndarray, error: np.ndarray) -> panel_plots.Cloud:
    correlation = intervals.rank_correlation(sigma, error)
    points = np.stack([sigma, error], axis=1)[:MAX_POINTS]
    title = f"{group}\n{name} sigma, rank correlation {format_number(correlation)}"
    return panel_plots.Cloud(group, title, f"{name} mean log sigma", points)


def _key(purpose: int) -> jax.Array:
    return jax.random.fold_in(randomness.stream(randomness.root_key(0), "pictures"), purpose)


PICTURES: dict[str, Callable[[Path, Claim, Study, PicturedRuns], Any]] = {
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
