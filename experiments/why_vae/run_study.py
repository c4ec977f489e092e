"""Measures the founding claims, why a VAE is not an autoencoder, on the finished runs of one or more studies.

    python -m experiments.why_vae --runs=runs/why_vae[,runs/why_mnist] [--page=docs/why_vae.md]
    python -m experiments.why_vae [--page=docs/why_vae.md]

Writes the pictures of each study and the numbers of its runs, as JSON, into a folder of the page's name, and the page
from all the JSON that is there. Without --runs the page alone is written anew. A study is that of configs/why_vae.py or
configs/why_mnist.py, or another whose runs have their groups: autoencoder with and without noise, beta = 0 and 1 and
others, rae, and beta = 1 with a gaussian that learns the sigma of each pixel. Other runs are left out, and counted.
Each study is of other data.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import vae_jax
from experiments.why_vae import pictures
from experiments.why_vae.groups import Groups, load_groups
from experiments.why_vae.markdown import Study, render, sort_studies
from experiments.why_vae.measures import (
    Instruments,
    make_instruments,
    measure_checkpoints,
    measure_data,
    measure_run,
)
from experiments.why_vae.rules import NO_KL, VAE
from vae_jax import model
from vae_jax.comparison.results import ComparedRun
from vae_jax.config.command_line import Parser, path, paths
from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.inference import TrainedModel
from vae_jax.sweeps import study
from vae_jax.training.metric_runner import run_metrics

METRICS = ("samples", "smoothness")
"""Metrics of docs/metrics.md that the claims read, of every run; `aggregate_posterior` where there is a posterior."""
SCORES = (
    "distortion",
    "rate",
    "elbo",
    "samples",
    "samples.near_copies",
    "smoothness",
    "smoothness.path",
    "smoothness.plausible",
    "aggregate_posterior",
)
"""What is taken from a run's evaluation.json."""
CONFIGS = {
    "digits": "configs/why_vae.py",
    "mnist": "configs/why_mnist.py --config.data.path=FOLDER",
}
"""The study of each data set."""
MINUTES = {
    "digits": {"training": 8, "measuring": 2},
    "mnist": {"training": 55, "measuring": 16},
}
"""What training with its metrics, and measuring took on 2 CPU cores that other programs were using too."""
PROGRAM_FIELDS = ("variant.", "likelihood.", "data.", "net.", "latent_dim")
"""Fields that decide what is compiled to measure a run, where they are not traced."""


def main(argv: list[str]) -> int:
    """Measures the studies in --runs and writes --page; the exit status."""
    parser = Parser("experiments.why_vae", __doc__, launcher="python -m")
    parser.flag("runs", paths, (), "FOLDER,...", "folders of studies, each of other data")
    parser.flag("page", path, Path("docs/why_vae.md"), "FILE.md", "where the page goes")
    flags, _ = parser.parse(argv)
    folder = flags.page.with_suffix("")
    for runs in flags.runs:
        write_study(runs, folder)
    flags.page.write_text(render(sort_studies(read_studies(folder)), flags.page))
    print(f"{flags.page}, its pictures and numbers in {folder}")
    return 0


def write_study(runs: Path, folder: Path) -> None:
    """Writes the numbers of a study as JSON into `folder`, and its pictures."""
    groups, notes = load_groups(runs)
    measured, pictured = measure_study(groups)
    data = measured["about"]["data"]
    measured["about"] |= {"folder": str(runs), "command": command(data, runs), "notes": notes}
    measured["about"]["minutes"] = MINUTES.get(data, {})
    numbers = rounded(measured)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{data}.json", numbers)
    pictures.draw_pictures(numbers, pictured, folder)


def read_studies(folder: Path) -> list[Study]:
    """The studies whose numbers are in `folder`. Raises UserError where there are none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"--runs: give the folder of a study; {str(folder)!r} has no numbers of one")
    return [json.loads(file.read_text()) for file in files]


def command(data: str, runs: Path) -> str:
    """What makes the study."""
    config = CONFIGS.get(data, f"configs/why_vae.py:{data} --config.data.path=FOLDER")
    return f"python -m launch.local --config={config} --workdir={runs}"


def rounded(tree: Any) -> Any:
    """Every float to six digits: what the page shows is what the JSON holds."""
    if isinstance(tree, dict):
        return {name: rounded(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rounded(value) for value in tree]
    return float(f"{tree:.6g}") if isinstance(tree, (float, np.floating)) else tree


def measure_study(groups: Groups) -> tuple[dict[str, Any], pictures.PicturedRuns]:
    """What the claims need of every run, as the JSON holds it, and the run of each group that pictures are of."""
    programs: dict[str, Instruments] = {}
    values: dict[str, Any] = {}
    training: dict[str, Any] = {}
    pictured: pictures.PicturedRuns = {}
    pictured_seed = min(run.seed for run in groups[VAE])
    pairs = [(group, run) for group, runs in groups.items() for run in runs]
    for number, (group, run) in enumerate(pairs, start=1):
        print(f"[{number}/{len(pairs)}] {group}, seed {run.seed}", flush=True)
        instruments, opened = open_run(programs, run)
        seed = str(run.seed)
        scores = measure_run(instruments, opened) | evaluation_scores(instruments, opened, run)
        if group in (NO_KL, VAE):
            records = measure_checkpoints(instruments, opened, Path(run.folder))
            training.setdefault(group, {})[seed] = records
            scores |= {"sigma_start": records[0]["sigma"], "spread_start": records[0]["spread"]}
        values.setdefault(group, {})[seed] = scores
        if run.seed == pictured_seed or group not in pictured:
            pictured[group] = instruments, opened
    instruments, opened = pictured[VAE]
    about = describe(instruments, opened) | {"runs": len(pairs)}
    reference = measure_data(instruments)
    return {"about": about, "reference": reference, "values": values, "training": training}, pictured


def describe(instruments: Instruments, run: TrainedModel) -> dict[str, Any]:
    """What the page says of the study, by one of its runs."""
    return {
        "data": run.config["data"]["name"],
        "training": instruments.dataset.train.size,
        "held_out": instruments.dataset.test.size,
        "steps": run.step,
        "latents": run.latent_dim,
    }


def open_run(programs: dict[str, Instruments], run: ComparedRun) -> tuple[Instruments, TrainedModel]:
    """The run at its last step, sharing what is compiled with those of its program in `programs`."""
    opened = vae_jax.open_run(run.folder)
    traced = model.traced_fields(opened.config)
    static = {field: value for field, value in run.config.items() if field not in traced}
    program = study.digest({field: value for field, value in static.items() if field.startswith(PROGRAM_FIELDS)})
    if program not in programs:
        dataset = model.load_data(opened.config["data"])
        programs[program] = make_instruments(opened, dataset, list(programs.values()))
    return programs[program], programs[program].with_run(opened)


def evaluation_scores(instruments: Instruments, opened: TrainedModel, run: ComparedRun) -> dict[str, float]:
    """What evaluation.json holds for the claims; metrics that are not there are computed, and join it."""
    words = METRICS if instruments.posterior is None else (*METRICS, "aggregate_posterior")
    missing = [word for word in words if word not in run.metrics]
    scores: dict[str, Any] = dict(run.metrics)
    if missing:
        scores, _ = run_metrics(",".join(missing), opened, instruments.dataset, Path(run.folder) / "evaluation.json")
    return {name: scores[name] for name in SCORES if name in scores}
