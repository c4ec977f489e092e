"""The pictures of docs/choosing.md: for each purpose a short run of the variant that serves it, and what it does.

    python -m experiments.choosing --mnist=FOLDER [--runs=runs/choosing] [--out=docs/choosing]

FOLDER holds MNIST's four IDX files. Six runs of ten epochs on MNIST and one on sprites are trained into --runs; those
that are there already are opened.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vae_jax
from vae_jax import data
from vae_jax.api.trained_run import TrainedRun
from vae_jax.config.command_line import Parser, path, run_program
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics.likelihood import log_weights
from vae_jax.plots import spread
from vae_jax.plots.captions import run_caption
from vae_jax.plots.comparison_plots import Line, score_by_strength
from vae_jax.plots.image_grid import image_grid
from vae_jax.randomness import root_key, stream

COLUMNS = 14
"""Images in a row."""

DRAWS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""K of the bounds whose rise is drawn, on BOUND_IMAGES test images."""
BOUND_IMAGES = 200

MNIST = "mnist, 20 latents, ten epochs, seed 0"
"""The caption of a picture of several runs."""

Runs = Callable[[str], TrainedRun]
"""The run of a variant by its name, trained where it is not there."""


def main(argv: list[str]) -> int:
    """Trains what is missing and draws the pictures; the exit status."""
    parser = Parser("experiments.choosing", __doc__, launcher="python -m")
    parser.flag("mnist", path, None, "FOLDER", "MNIST's four IDX files")
    parser.flag("runs", path, Path("runs/choosing"), "FOLDER", "where the runs are, or go")
    parser.flag("out", path, Path("docs/choosing"), "FOLDER", "where the pictures go")
    flags, _ = parser.parse(argv)
    if flags.mnist is None:
        raise UserError("--mnist: give the folder of MNIST's four IDX files")

    def run(variant: str) -> TrainedRun:
        config = vae_jax.load_config(f"mnist:{variant}", **{"data.path": str(flags.mnist), "log.pictures": False})
        return vae_jax.train(config, flags.runs / variant)

    flags.out.mkdir(parents=True, exist_ok=True)
    for draw in (samples, reconstructions, bounds, codes, labels):
        draw(flags.out / f"{draw.__name__}.png", run)
    traversals(flags.out / "traversals.png", flags.runs / "sprites_tcvae")
    print(f"pictures in {flags.out}")
    return 0


def held_out(run: TrainedRun, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(test images of labels that differ, their labels)."""
    test = run.dataset.test
    indices = data.sample_indices(test, 50 * count)
    indices = np.sort(indices[spread.spread_positions(test, indices, count)])
    images, names = np.asarray(test.fetch(indices)), np.asarray(test.labels)[indices]
    order = np.argsort(names, kind="stable")
    return images[order], names[order]


def samples(file: Path, run: Runs) -> None:
    """Draws of four priors: N(0, I) of the autoencoder and the VAE, a mixture fitted to codes, the VampPrior."""
    autoencoder, vae, vamp = run("autoencoder"), run("beta"), run("vamp")
    rows = {
        "autoencoder, N(0, I)": autoencoder.sample(0, COLUMNS),
        "autoencoder, fitted mixture": autoencoder.sample(0, COLUMNS, sampler="gmm"),
        "VAE, N(0, I)": vae.sample(0, COLUMNS),
        "VAE, fitted mixture": vae.sample(0, COLUMNS, sampler="gmm"),
        "VampPrior": vamp.sample(0, COLUMNS),
    }
    image_grid(file, np.stack(list(rows.values())), "Draws, decoded", rows=list(rows), caption=MNIST)


def reconstructions(file: Path, run: Runs) -> None:
    """Held-out images, and what the autoencoder and the VAE make of them."""
    images, _ = held_out(run("beta"), COLUMNS)
    rows = {"held out": images / np.float32(255)}
    rows |= {"autoencoder": run("autoencoder").reconstruct(images), "VAE": run("beta").reconstruct(images)}
    image_grid(file, np.stack(list(rows.values())), "Reconstructions", rows=list(rows), caption=MNIST)


def bounds(file: Path, run: Runs) -> None:
    """How the bound on log p(x) rises with the number of draws, of a VAE and of an IWAE trained with five draws."""
    models = {"VAE": run("beta"), "IWAE, trained with five draws": run("iwae")}
    lines = []
    for colour, (name, model) in enumerate(models.items()):
        means = bound_by_draws(model)
        draws = np.array(DRAWS, np.float64)
        points, band = np.stack([draws, means], axis=1), np.stack([means] * 3, axis=1)
        lines.append(Line(name, colour, draws, band, points))
    title = f"Bound on log p(x), mean of {BOUND_IMAGES} test images of MNIST"
    score_by_strength([file], lines, [], "draws in the logarithm", "nats per image", title)


def bound_by_draws(run: TrainedModel) -> np.ndarray:
    """log of the mean of K weights, nats per image, for each K of DRAWS."""
    images = np.asarray(run.dataset.test.fetch(np.arange(BOUND_IMAGES)))
    binary = np.float32(np.random.default_rng(0).random(images.shape) < images / 255)
    batch = {"image": jnp.asarray(binary), "index": jnp.arange(BOUND_IMAGES)}
    key = stream(root_key(0), "bounds")

    @jax.jit
    def weights(params: Any, start: int) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, start + jnp.arange(50))
        return log_weights(run.model, params, batch, keys)

    log_w = np.concatenate([weights(run.params, start) for start in range(0, DRAWS[-1], 50)])
    return np.array([np.mean(jax.nn.logsumexp(log_w[:k], axis=0) - np.log(k)) for k in DRAWS])


def codes(file: Path, run: Runs) -> None:
    """Held-out images through a codebook, and draws from the tree that is fitted to its indices."""
    vq = run("vq")
    images, _ = held_out(vq, COLUMNS)
    rows = {"held out": images / np.float32(255), "decoded": vq.reconstruct(images), "drawn": vq.sample(0, COLUMNS)}
    image_grid(file, np.stack(list(rows.values())), "A code of codebook entries", rows=list(rows), caption=caption(vq))


def labels(file: Path, run: Runs) -> None:
    """Held-out images, decoded with their own code and every label in turn: the hand stays, the digit changes."""
    conditional = run("conditional")
    images, names = held_out(conditional, 40)
    few = np.searchsorted(names, (2, 5, 7, 9))
    codes = conditional.encode(images[few], names[few])
    codes = np.repeat(codes, 10, axis=0)
    codes[:, conditional.latent_dim :] = np.tile(np.eye(10, dtype=np.float32), (len(few), 1))
    decoded = conditional.decode(codes).reshape(len(few), 10, *conditional.image_shape)
    rows = np.concatenate([images[few, None] / np.float32(255), decoded], axis=1)
    columns = ["held out", *map(str, range(10))]
    image_grid(file, rows, "One code, every label", columns=columns, caption=caption(conditional))


def traversals(file: Path, folder: Path) -> None:
    """The latents of most KL of beta-TCVAE on sprites, moved one at a time."""
    config = vae_jax.load_config("sprites:tcvae", **{"variant.beta": 6.0, "log.pictures": False})
    run = vae_jax.train(config, folder)
    image = np.asarray(run.dataset.test.fetch(np.arange(1)))[0]
    kl = np.asarray(vae_jax.evaluate(folder)["kl"])
    order = np.argsort(-kl)[:6]
    rows = [run.traverse(image, int(latent)) for latent in order]
    names = [f"latent {latent}, {kl[latent]:.2f} nats" for latent in order]
    values = [f"{value:g}" for value in np.round(np.linspace(-3, 3, 11), 1)]
    image_grid(file, np.stack(rows), "One latent moved at a time", rows=names, columns=values, caption=caption(run))


def caption(run: TrainedRun) -> str:
    """What the run is."""
    return f"{run_caption(run.config)}, {run.config['data']['name']}, {run.latent_dim} latents, {run.step:,} steps"


if __name__ == "__main__":
    run_program(main)
