"""A run's checkpoint to its held-out numbers and pictures.

    python -m experiments.evaluate --workdir=runs/digits [--checkpoint=best] [--metrics=mig,likelihood:k=5000]

The last step's checkpoint gives evaluation.json and pictures/, the best evaluation_best.json and pictures_best/,
the latest of a run that has not finished evaluation_<step>.json and pictures_<step>/. With --metrics (docs/metrics.md)
only those are computed, and join what is in the file; "all" stands for every one that the run can have. What is found
of a finished run goes to its W&B run too, if it has one.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vae_jax
from experiments import measure, settings
from vae_jax import data, model, parallel, train, writers
from vae_jax.divergences import active_units
from vae_jax.model import Model
from vae_jax.registry import UserError
from vae_jax.trained import Run
from vae_jax.typing import Config, Params
from vae_jax.variants import leave_as_trained


def hyper(config: Config, built: Model) -> train.Hyper:
    """The traced numbers of a run."""
    as_array = partial(jnp.asarray, dtype=jnp.float32)
    floats = {name: as_array(config["variant"][name]) for name in built.floats}
    return train.Hyper(as_array(config["train"]["learning_rate"]), floats)


def constants(configs: Sequence[Config], built: Model, placement: parallel.Placement) -> tuple[Any, Any]:
    """The root key and the traced numbers of each member, where it is computed."""
    return placement.place([(train.root_key(config["seed"]), hyper(config, built)) for config in configs])


def fetcher(config: Config) -> Callable[[data.Split], train.Fetch]:
    """split -> how its batches are made."""
    binarize = data.binarizer(config["data"]["binarize"])
    return lambda split: partial(data.make_batch, split, binarize)


def evaluator(
    configs: Sequence[Config], built: Model, split: data.Split, placement: parallel.Placement
) -> Callable[[Params, Any], list[dict]]:
    """(params, step) -> each member's numbers of the whole held-out split: loss, elbo, distortion, rate, ..."""
    config, (key, floats) = configs[0], constants(configs, built, placement)
    fetch = fetcher(config)
    whole = placement.evaluation(
        lambda part: train.make_eval_step(built.nets, built.variant, fetch(part)),
        config["evaluation"]["batch_size"],
        split,
    )
    discrete = built.likelihood.levels == (256 if config["data"]["binarize"] == "none" else 2)
    pixels = math.prod(split.fetch(jnp.zeros(1, jnp.int32)).shape)

    def completed(terms: dict) -> dict:
        found = summary(terms)
        if discrete and "elbo" in found:
            found["bits_per_dim"] = -found["elbo"] / (pixels * math.log(2))
        return found

    return lambda params, step: [completed(terms) for terms in whole(params, key, step, floats)]


MOST_CODES = 10_000
"""Codes of training images that a variant may fit something to."""


def training_codes(run: Run, split: data.Split) -> np.ndarray:
    """Codes of training images as the model saw them: binarised, where the config says so, by a draw of their own."""
    some = data.some(split, MOST_CODES)
    key = jax.random.fold_in(train.root_key(run.config["seed"]), train.SETTLING)
    seen = jax.jit(data.binarizer(run.config["data"]["binarize"]))(jnp.asarray(split.fetch(some)), key, some)
    return run.encode(np.asarray(seen), None if split.labels is None else np.asarray(split.labels)[some])


def settler(configs: Sequence[Config], dataset: data.Dataset, built: Model, placement: parallel.Placement) -> Callable:
    """state -> the state with what the variant fits to each member's training codes after the last step."""

    def one(blank: Run, config: Config, state: train.TrainState) -> train.TrainState:
        params = train.evaluated(state)
        run = blank.at(config, params, config["train"]["steps"])
        own = built.variant.settle(params, lambda: training_codes(run, dataset.train))["own"]
        # Only what was fitted: the rest of the live weights is not that of their average.
        fitted = lambda live: jax.tree.map(lambda new, old, x: x if new is old else new, own, params["own"], live)  # noqa: E731
        both = [tree and {**tree, "own": fitted(tree["own"])} for tree in (state.params, state.average)]
        return state._replace(params=both[0], average=both[1])

    def settle(state: train.TrainState) -> train.TrainState:
        if built.variant.settle is leave_as_trained:
            return state
        states = placement.members(state)[: len(configs)]
        blank = Run(configs[0], dataset.image_shape, built, None, 0)
        return placement.place([one(blank, config, state) for config, state in zip(configs, states, strict=True)])

    return settle


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
    own, overrides = settings.Arguments(("workdir", "checkpoint", "metrics")).parse(argv)
    if overrides or "workdir" not in own:
        raise UserError("--workdir: give the folder of a run, and no other config than its own")
    workdir, checkpoint, words = Path(own["workdir"]), own.get("checkpoint", "latest"), own.get("metrics", "")
    run = vae_jax.open_run(workdir, checkpoint)
    dataset = model.load_data(run.config["data"])
    words = measure.expand(words, run.model, dataset)
    finished = run.step == run.config["train"]["steps"]
    if not finished:  # what is fitted after the last step is fitted here
        run.params = run.model.variant.settle(run.params, lambda: training_codes(run, dataset.train))
    unfinished = "" if finished else f"_{run.step}"
    suffix = unfinished if checkpoint == "latest" else f"_{checkpoint}"
    file = workdir / f"evaluation{suffix}.json"
    print(f"{workdir} at step {run.step} ({checkpoint} checkpoint), into {file}", flush=True)
    if words:
        found, failed = measure.measure(words, run, dataset, file, partial(print, flush=True))
    else:
        found, failed = whole(run, dataset, file, workdir / f"pictures{suffix}"), []
    if (workdir / "evaluation.json").exists():  # or the run still writes there itself
        mirror(workdir, run.config, found, "final" if checkpoint == "latest" else checkpoint)
    if failed:
        print(f"error: could not be computed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def whole(run: Run, dataset: data.Dataset, file: Path, folder: Path) -> dict[str, Any]:
    """The held-out numbers of a run into `file`, beside what is there, and its pictures into `folder`."""
    from experiments import pictures

    placement = parallel.data_parallel(parallel.local_devices()[:1])
    evaluate = evaluator([run.config], run.model, dataset.test, placement)
    (found,) = evaluate(*placement.place([(run.params, jnp.int32(run.step))]))
    writers.write_json(file, measure.read(file, run.step) | found | {"step": run.step})
    pictures.draw(run, dataset, found, folder)
    print(f"{table(found)}\npictures in {folder}")
    return measure.read(file, run.step)


def mirror(workdir: Path, config: Config, found: dict[str, Any], of: str) -> None:
    """Sends what was found to the W&B run that mirrors this one, where the config asks for it."""
    to = writers.WandbMirror(workdir, config["wandb"], config)
    to.summary(found, of)
    to.close()


if __name__ == "__main__":
    settings.start(main, __doc__)
