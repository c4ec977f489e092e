"""A run's checkpoint to its held-out numbers and pictures.

    python -m experiments.evaluate --workdir=runs/digits [--checkpoint=best] [--metrics=mig,likelihood:k=5000]

The last step's checkpoint gives evaluation.json and pictures/, the best evaluation_best.json and pictures_best/,
the latest of a run that has not finished evaluation_<step>.json and pictures_<step>/. With --metrics (docs/metrics.md)
only those are computed, and join what is in the file.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vae_jax
from experiments import measure, settings
from vae_jax import data, metrics, model, parallel, train, writers
from vae_jax.divergences import active_units
from vae_jax.model import Model
from vae_jax.registry import UserError
from vae_jax.typing import Config, Params


def hyper(config: Config, built: Model) -> train.Hyper:
    """The traced numbers of a run."""
    as_array = partial(jnp.asarray, dtype=jnp.float32)
    floats = {name: as_array(value) for name, value in built.floats.items()}
    return train.Hyper(as_array(config["train"]["learning_rate"]), floats)


def fetcher(config: Config) -> Callable[[data.Split], train.Fetch]:
    """split -> how its batches are made."""
    binarize = data.binarizer(config["data"]["binarize"])
    return lambda split: partial(data.make_batch, split, binarize)


def evaluator(config: Config, built: Model, split: data.Split, devices: list) -> Callable[[Params, Any], dict]:
    """(params, step) -> the numbers of the whole held-out split: loss, elbo, distortion, rate, ..."""
    fetch = fetcher(config)
    key, floats = parallel.replicate((train.root_key(config["seed"]), hyper(config, built)), devices)
    whole = parallel.evaluation(
        lambda part: train.make_eval_step(built.nets, built.variant, fetch(part)),
        devices,
        config["evaluation"]["batch_size"],
        split,
    )
    discrete = built.likelihood.levels == (256 if config["data"]["binarize"] == "none" else 2)

    def evaluate(params: Params, step: Any) -> dict:
        found = summary(whole(params, key, step, floats))
        if discrete and "elbo" in found:
            pixels = math.prod(split.fetch(jnp.zeros(1, jnp.int32)).shape)
            found["bits_per_dim"] = -found["elbo"] / (pixels * math.log(2))
        return found

    return evaluate


MOST_CODES = 10_000
"""Codes of training images that a variant may fit something to."""


def training_codes(run: Any, split: data.Split) -> np.ndarray:
    """Codes of training images as the model saw them: binarised, where the config says so, by a draw of their own."""
    some = data.some(split, MOST_CODES)
    key = jax.random.fold_in(train.root_key(run.config["seed"]), train.SETTLING)
    seen = jax.jit(data.binarizer(run.config["data"]["binarize"]))(jnp.asarray(split.fetch(some)), key, some)
    return run.encode(np.asarray(seen), None if split.labels is None else np.asarray(split.labels)[some])


def summary(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they are logged: the codes' variances become the number of active units."""
    shown = {name: value for name, value in terms.items() if name not in ("code_mean", "code_variance")}
    return shown | {"active_units": active_units(terms["code_variance"])}


def table(found: Mapping[str, Any]) -> str:
    """The held-out numbers as a few aligned lines."""
    units = {"active_units": "latents", "bits_per_dim": "bits/dim"}
    rows = [name for name in ("elbo", "distortion", "rate", "loss", "active_units", "bits_per_dim") if name in found]
    lines = [f"  {name:<13}{_number(found[name]):>10}  {units.get(name, 'nats per image')}" for name in rows]
    return "\n".join(["held-out split", *lines])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def main(argv: list[str]) -> int:
    """Evaluates the run in --workdir; the exit status."""
    from experiments import pictures

    own, overrides = settings.Arguments(("workdir", "checkpoint", "metrics")).parse(argv)
    if overrides or "workdir" not in own:
        raise UserError("--workdir: give the folder of a run, and no other config than its own")
    workdir, checkpoint, words = Path(own["workdir"]), own.get("checkpoint", "latest"), own.get("metrics", "")
    metrics.parse(words)
    run = vae_jax.open_run(workdir, checkpoint)
    unfinished = "" if run.step == run.config["train"]["steps"] else f"_{run.step}"
    suffix = unfinished if checkpoint == "latest" else f"_{checkpoint}"
    dataset = model.load_data(run.config["data"])
    if run.step < run.config["train"]["steps"]:  # what is fitted after the last step is fitted here
        run.params = run.model.variant.settle(run.params, lambda: training_codes(run, dataset.train))
    file = workdir / f"evaluation{suffix}.json"
    if words:
        measure.check(words, run.model, dataset)
        print(f"{workdir} at step {run.step} ({checkpoint} checkpoint), into {file}", flush=True)
        measure.measure(words, run, dataset, file, partial(print, flush=True))
        return 0
    devices = parallel.local_devices()[:1]
    evaluate = evaluator(run.config, run.model, dataset.test, devices)
    found = evaluate(*parallel.replicate((run.params, jnp.int32(run.step)), devices))
    writers.write_json(file, measure.read(file, run.step) | found | {"step": run.step})
    pictures.draw(run, dataset, found, workdir / f"pictures{suffix}")
    print(
        f"{workdir} at step {run.step} ({checkpoint} checkpoint)\n{table(found)}\n"
        f"pictures in {workdir / f'pictures{suffix}'}"
    )
    return 0


if __name__ == "__main__":
    settings.start(main, __doc__)
