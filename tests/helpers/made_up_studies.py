"""Made-up studies, as training leaves them."""

import json

import numpy as np

from vae_jax.comparison.analyse import compare_runs
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.files import write_json
from vae_jax.sweeps import study

STEPS = 500
RECORDS = [{"step": i, "split": "train", "kl": [0.1] * 20, "steps_per_second": 100.0 + i} for i in range(1, 101)]
LOG = "".join(json.dumps(record) + "\n" for record in RECORDS)
"""The metrics.jsonl of every run: its last 100 records take from 101 to 200 steps a second."""


def config(seed, **variant):
    return {
        "seed": seed,
        "latent_dim": 4,
        "data": {"name": "digits", "binarize": "dynamic"},
        "net": {"name": "mlp", "hidden": [400, 200]},
        "likelihood": {"name": "bernoulli"},
        "variant": {"name": "beta", **variant},
        "train": {"steps": STEPS, "learning_rate": 1e-3},
        "wandb": {"mode": "disabled", "project": "lab", "entity": "", "group": "", "name": f"run {seed}"},
    }


def write_run(root, tree, evaluation=None, name=None, data="", **files):
    """A run's folder as training leaves it; `data` is their digest, `files` are others in it, by name without .json."""
    folder = root / (name or study.run_id(tree))
    folder.mkdir(parents=True)
    digest = {"data": {"digest": data}} if data else {}
    write_json(folder / "config.json", {"config": tree, "image_shape": [8, 8, 1]} | digest)
    environment = {"vae_jax": "0.1.0", "git": "abc", "python": "3.11", "jax": "0.10.2", "devices": "1 x cpu"}
    write_json(folder / "environment.json", environment)
    (folder / "metrics.jsonl").write_text(LOG)
    if evaluation is not None:
        write_json(folder / "evaluation.json", {"loss": 1.0, "step": STEPS} | evaluation)
    for stem, value in files.items():
        write_json(folder / f"{stem}.json", value)
    return folder


def elbo_parts(rate, distortion, **others):
    return {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion), "kl": [0.1, 0.2]} | others


BETAS = (0.5, 1, 2, 4)
TRUTH = {0.5: -1.0, 1: 0.0, 2: 0.0, 4: -5.0}
"""By how much a beta's ELBO is off that of beta = 1."""


def write_study(root, seeds=8):
    """4 betas and an autoencoder: seeds move all alike by far more than the noise of each."""
    rng, seed_effects = np.random.default_rng(0), np.random.default_rng(1).normal(0, 3, seeds)
    for seed in range(seeds):
        for beta in BETAS:
            rate = 8 / beta + 0.1 * rng.normal()
            elbo = -30 + TRUTH[beta] + seed_effects[seed] + 0.2 * rng.normal()
            mig = 0.1 * beta + 0.05 * rng.normal()
            scores = {"mig": mig, "mig.shape": 0.3, "mig.protocol": "points=10 bins=20"}
            write_run(root, config(seed, beta=float(beta)), elbo_parts(rate, -elbo - rate, **scores))
        tree = config(seed, noise=0.0)
        tree["variant"]["name"] = "autoencoder"
        write_run(root, tree, {"distortion": 3 + 0.1 * rng.normal()})
    return root


def compare_study(root, **options):
    runs, skipped = load_runs([root])
    return compare_runs(str(root), "compare", runs, skipped, **options)


def printed(comparison, width=100):
    """What a terminal of that width shows of a comparison."""
    return "\n".join(comparison_lines(comparison, colour=False, width=width))
