"""The pictures of a run: reconstructions, draws from the prior, latents moved one at a time, codes in the plane."""

from pathlib import Path

import numpy as np
from scipy.stats import norm

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.inference import TrainedModel
from vae_jax.plots import latent_plots
from vae_jax.plots.image_grid import image_grid
from vae_jax.randomness import root_key, stream

MAX_CODES = 5000
"""Held-out images that are encoded."""


def draw(run: TrainedModel, dataset: Dataset, evaluation: dict, folder: Path) -> list[Path]:
    """Writes the pictures of `run` on held-out images into `folder`; their files, in order."""
    folder.mkdir(exist_ok=True)
    indices = data.sample_indices(dataset.test, MAX_CODES)
    images = np.asarray(dataset.test.fetch(indices))
    labels = None if dataset.test.labels is None else np.asarray(dataset.test.labels)[indices]
    codes = run.encode(images, labels)
    reconstructions(images, run.decode(codes[:16]), folder / "reconstructions.png")
    samples(run, folder / "samples.png")
    interpolations(run, codes, folder / "interpolations.png")
    traversals(run, codes, evaluation, folder / "traversals.png")
    latent_map(codes[:, : run.latent_dim], labels, folder / "latents.png")
    names = ["reconstructions", "samples", "interpolations", "traversals", "latents"]
    if run.latent_dim == 2:
        manifold(run, folder / "manifold.png")
        names.append("manifold")
    return [folder / f"{name}.png" for name in names]


def reconstructions(images: np.ndarray, decoded: np.ndarray, file: Path) -> None:
    """Held-out images above what the model makes of them."""
    pairs = np.stack([images[: len(decoded)] / 255, decoded])
    image_grid(file, pairs, "Held-out images and their reconstructions", rows=("image", "reconstruction"))


def samples(run: TrainedModel, file: Path) -> None:
    """An 8 x 20 grid of draws from the prior; where draws take ten classes in turn, each has two columns."""
    key = stream(root_key(run.config["seed"]), "pictures")
    images = run.sample(key, 160).reshape(8, 20, *run.image_shape)
    image_grid(file, images, "Decoded draws from the prior")


def interpolations(run: TrainedModel, codes: np.ndarray, file: Path) -> None:
    """Straight lines between the codes of pairs of held-out images."""
    pairs = min(6, (len(codes) + 1) // 2)
    weight = np.linspace(0, 1, 11, dtype=np.float32)[:, None]
    ends = [(codes[2 * i], codes[(2 * i + 1) % len(codes)]) for i in range(pairs)]
    images = np.stack([run.decode((1 - weight) * start + weight * end) for start, end in ends])
    image_grid(file, images, "Between the codes of two held-out images")


def traversals(run: TrainedModel, codes: np.ndarray, evaluation: dict, file: Path) -> None:
    """One latent moved at a time, the most informative first.

    By KL from -3 to 3, the prior's own range; without a KL by variance, three standard deviations
    about the mean code.
    """
    kl, steps = evaluation.get("kl"), np.linspace(-3, 3, 11)
    if kl is None:
        order = np.argsort(-codes[:, : run.latent_dim].var(0))[:10].tolist()
        ranges = {i: codes[:, i].mean() + codes[:, i].std() * steps for i in order}
        rows = [f"latent {i}: sd {codes[:, i].std():.2f}" for i in order]
        title = "One latent moved at a time, in standard deviations"
    else:
        order = np.argsort(-np.asarray(kl))[:10].tolist()
        ranges = dict.fromkeys(order, steps)
        rows = [f"latent {i}: {kl[i]:.2f} nats" for i in order]
        title = "One latent moved at a time"
    images = np.stack([run.decode(_with_latent(codes[0], i, ranges[i])) for i in order])
    image_grid(file, images, title, rows, [f"{step:+.1f}" for step in steps])


def _with_latent(code: np.ndarray, latent: int, values: np.ndarray) -> np.ndarray:
    """The code once for each of `values`, which one of its latents takes."""
    codes = np.repeat(code[None], len(values), axis=0)
    codes[:, latent] = values
    return codes


def latent_map(codes: np.ndarray, labels: np.ndarray | None, file: Path) -> None:
    """Held-out codes in the plane: the two latents themselves, or the two main axes of more."""
    if codes.shape[1] == 2:
        latent_plots.scatter_codes(file, codes, labels, "Codes of held-out images", ("latent 0", "latent 1"))
        return
    centred = codes - codes.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    plane = centred @ axes.T
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    names = ("first principal axis", "second principal axis")
    latent_plots.scatter_codes(file, plane, labels, f"Codes of held-out images ({codes.shape[1]} latents)", names)


def manifold(run: TrainedModel, file: Path) -> None:
    """A two-dimensional latent space decoded on a grid, evenly spaced in the prior's probability."""
    quantiles = norm.ppf(np.linspace(0.02, 0.98, 20)).astype(np.float32)
    x, y = np.meshgrid(quantiles, quantiles[::-1])
    images = run.decode(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(20, 20, *run.image_shape)
    image_grid(file, images, "The latent plane, decoded at the prior's quantiles")
