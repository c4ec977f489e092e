"""Measures the founding claims, why a VAE is not an autoencoder, on the finished runs of a study.

    python -m experiments.why_vae --runs=runs/why_vae [--page=docs/why_vae.md]

Writes the page, its pictures into a folder of its name, and the numbers of every run beside it as JSON. The study is
that of configs/why_vae.py, or another whose runs have its groups: autoencoder with and without noise, beta = 0 and 1
and others, rae, and beta = 1 with a gaussian that learns the sigma of each pixel. Other runs are left out, and counted.
"""

from pathlib import Path
from typing import Any

import numpy as np

import vae_jax
from experiments.why_vae import pictures
from experiments.why_vae.markdown import render
from experiments.why_vae.measures import Lab, lab, measured, over_training, reference
from experiments.why_vae.rules import AUTOENCODER, DECAY, LEARNED, NO_KL, NOISE, REQUIRED, VAE
from vae_jax import model
from vae_jax.comparison import load_runs
from vae_jax.comparison.results import ComparedRun
from vae_jax.config.command_line import Arguments, run_program
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.sweeps import study
from vae_jax.training import writers
from vae_jax.training.metric_runner import run_metrics

OF_POINTS = ("samples", "smoothness")
"""Metrics of docs/metrics.md that the claims read, of every run; `aggregate_posterior` where there is a posterior."""
READ = (
    "distortion", "rate", "elbo", "samples", "samples.near_copies", "smoothness", "smoothness.path",
    "smoothness.plausible", "aggregate_posterior",
)  # fmt: skip
"""What is taken from a run's evaluation.json."""
MAY_DIFFER = ("seed", "wandb.", "checkpoint.", "log.", "evaluation.", "parallel.", "sweep.", "train.dispatch")
OF_GROUP = ("variant.", "likelihood.", "data.binarize")


def main(argv: list[str]) -> int:
    """Measures the study in --runs and writes --page; the exit status."""
    own, overrides = Arguments(("runs", "page")).parse(argv)
    if overrides or "runs" not in own:
        raise UserError("--runs: give the folder of a study, and no config other than its runs' own")
    page = Path(own.get("page", "docs/why_vae.md"))
    groups, left_out = grouped(Path(own["runs"]))
    found, shown = measure_study(groups)
    found["about"] |= {"commands": commands(found["about"]["data"], own["runs"], page), "notes": left_out}
    page.parent.mkdir(parents=True, exist_ok=True)
    writers.write_json(page.with_suffix(".json"), rounded(found))
    pictures.draw(found, shown, page.with_suffix(""))
    page.write_text(render(rounded(found), page.stem))
    print(f"{page}, its pictures in {page.with_suffix('')}")
    return 0


def commands(data: str, runs: str, page: Path) -> list[str]:
    """What makes the study and the page."""
    config = "configs/why_vae.py" if data == "digits" else f"configs/why_vae.py:{data} --config.data.path=FOLDER"
    return [
        f"python -m launch.local --config={config} --workdir={runs}",
        f"python -m experiments.why_vae --runs={runs} --page={page}",
    ]


def rounded(found: Any) -> Any:
    """Every float to six digits: what the page shows is what the JSON holds."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [rounded(value) for value in found]
    return float(f"{found:.6g}") if isinstance(found, (float, np.floating)) else found


def group_of(config: dict[str, Any]) -> str:
    """The group of a run's flat config; empty where the claims have no use for it."""
    name, beta = config["variant.name"], config.get("variant.beta")
    plain = not config.get("variant.free_bits") and config.get("schedule.name", "constant") == "constant"
    bernoulli = config["likelihood.name"] == "bernoulli"
    if name == "autoencoder" and bernoulli:
        return AUTOENCODER if not config["variant.noise"] else f"{NOISE} {config['variant.noise']:g}"
    if name == "rae" and bernoulli and config["variant.regularizer"] == "l2":
        return f"{DECAY} {config['variant.lambda_reg']:g}"
    if name == "beta" and bernoulli and plain:
        return VAE if beta == 1 else NO_KL if beta == 0 else f"beta = {beta:g}"
    learned = config["likelihood.name"] == "gaussian" and config["likelihood.scale"] == "pixel"
    return LEARNED if name == "beta" and plain and beta == 1 and learned else ""


def order(group: str) -> tuple[int, float]:
    """Autoencoders, betas, other regularisers, by strength."""
    exact = {AUTOENCODER: (0, 0.0), NO_KL: (2, 0.0), VAE: (2, 1.0), LEARNED: (4, 0.0)}
    if group in exact:
        return exact[group]
    start, _, strength = group.rpartition(" ")
    return {NOISE: 1, "beta =": 2, DECAY: 3}[start], float(strength)


def grouped(folder: Path) -> tuple[dict[str, list[ComparedRun]], list[str]]:
    """The finished runs by group, and what is to be said of the others.

    Raises UserError where a group that the claims need is not there, and where runs differ in more than they may.
    """
    runs, skipped = load_runs.gather([folder])
    groups: dict[str, list[ComparedRun]] = {}
    unfinished = [run for run in runs if run.status != study.DONE]
    for run in runs:
        if run.status == study.DONE and (group := group_of(run.config)):
            groups.setdefault(group, []).append(run)
    if missing := [group for group in REQUIRED if group not in groups]:
        raise UserError(f"--runs: {str(folder)!r} has no finished run of: {', '.join(missing)}; see configs/why_vae.py")
    check_alike(groups)
    used = sum(map(len, groups.values()))
    others = len(runs) - len(unfinished) - used
    counts = {"not finished": len(unfinished), "of other groups": others, "no runs": len(skipped)}
    notes = [f"{count} {name}" for name, count in counts.items() if count]
    ordered = {group: groups[group] for group in sorted(groups, key=order)}
    return ordered, [f"Left out of the folder: {', '.join(notes)}."] if notes else []


def check_alike(groups: dict[str, list[ComparedRun]]) -> None:
    """Raises UserError unless runs differ only by group and seed, each pair of these once."""
    first = next(iter(groups.values()))[0]
    for group, runs in groups.items():
        if len({run.seed for run in runs}) < len(runs):
            raise UserError(f"--runs: {group!r} has several runs of one seed; give a study with one of each")
        for run in runs:
            for field in sorted(run.config.keys() | first.config.keys()):
                inside = run.config.get(field) == runs[0].config.get(field)
                alike = run.config.get(field) == first.config.get(field)
                if not field.startswith(MAY_DIFFER) and not (inside if field.startswith(OF_GROUP) else alike):
                    raise UserError(f"--runs: config.{field} is not the same in all runs ({run.name}); it has to be")


def measure_study(groups: dict[str, list[ComparedRun]]) -> tuple[dict[str, Any], pictures.Shown]:
    """What the claims need of every run, as the JSON holds it, and the run of each group that pictures are of."""
    labs: dict[str, Lab] = {}
    values: dict[str, Any] = {}
    training: dict[str, Any] = {}
    shown: pictures.Shown = {}
    pictured = min(run.seed for run in groups[VAE])
    total = sum(map(len, groups.values()))
    for number, (group, run) in enumerate(((g, run) for g, runs in groups.items() for run in runs), start=1):
        print(f"[{number}/{total}] {group}, seed {run.seed}", flush=True)
        space, opened = open_in(labs, run)
        seed = str(run.seed)
        found = measured(space, opened) | evaluated(space, opened, run)
        if group in (NO_KL, VAE):
            records = over_training(space, opened, Path(run.folder))
            training.setdefault(group, {})[seed] = records
            found |= {"sigma_start": records[0]["sigma"], "spread_start": records[0]["spread"]}
        values.setdefault(group, {})[seed] = found
        if run.seed == pictured or group not in shown:
            shown[group] = space, opened
    space, opened = shown[VAE]
    about = {
        "data": opened.config["data"]["name"],
        "training": space.dataset.train.size,
        "held_out": space.dataset.test.size,
        "steps": opened.step,
        "latents": opened.latent_dim,
        "runs": total,
    }
    return {"about": about, "reference": reference(space), "values": values, "training": training}, shown


def open_in(labs: dict[str, Lab], run: ComparedRun) -> tuple[Lab, TrainedModel]:
    """The run at its last step, sharing what is compiled with those of its program in `labs`."""
    opened = vae_jax.open_run(run.folder)
    traced = model.traced(opened.config)
    fields = ("variant.", "likelihood.", "data.", "net.", "latent_dim")
    program = study.digest({f: v for f, v in run.config.items() if f.startswith(fields) and f not in traced})
    if program not in labs:
        labs[program] = lab(opened, model.load_data(opened.config["data"]))
    return labs[program], labs[program].at(opened)


def evaluated(space: Lab, opened: TrainedModel, run: ComparedRun) -> dict[str, float]:
    """What evaluation.json holds for the claims; metrics that are not there are computed, and join it."""
    words = (*OF_POINTS, *(("aggregate_posterior",) if space.posterior is not None else ()))
    missing = [word for word in words if word not in run.metrics]
    found: dict[str, Any] = dict(run.metrics)
    if missing:
        found, _ = run_metrics(",".join(missing), opened, space.dataset, Path(run.folder) / "evaluation.json")
    return {name: found[name] for name in READ if name in found}


if __name__ == "__main__":
    run_program(main, __doc__)
