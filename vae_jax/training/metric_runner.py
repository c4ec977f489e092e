"""Metrics of a run, one by one, into its evaluation.json: what is there stays, what is asked for is done anew."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vae_jax import metrics, randomness
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.files import read_json, write_json
from vae_jax.inference import TrainedModel
from vae_jax.metrics import EvaluationContext
from vae_jax.metrics._requests import parse_requests
from vae_jax.model import Model
from vae_jax.plots.captions import format_fixed
from vae_jax.randomness import stream
from vae_jax.training.bars import progress_bar
from vae_jax.training.run_results import VALIDATION


def expand_metrics(words: str, model: Model, dataset: Dataset, say: Callable[[str], Any] = print) -> str:
    """`words` checked, with "all" in the place of every metric that this model and its data can have.

    Raises UserError for an unknown metric or parameter, and for one that this model or its data cannot have.
    """
    given = ",".join(word for word in words.split(",") if word != "all")
    requests = parse_requests(given)
    for request in requests:
        request.check(model, dataset)
    if given == words:
        return words
    expanded, given_metrics = [request.word for request in requests], [request.metric for request in requests]
    for name in metrics.names():
        metric = metrics.get(name)
        if missing := metrics.missing_requirement(metric.requires, model, dataset):
            say(f"{name} is left out: it needs {missing}")
        elif not metric.expensive:
            expanded.append(name)
        elif metric not in given_metrics:
            say(f"{name} is left out unless it is named: it takes {metric.expensive}")
    return ",".join(dict.fromkeys(expanded))


def run_metrics(
    words: str,
    run: TrainedModel,
    dataset: Dataset,
    file: Path,
    say: Callable[[str], Any] = print,
    split: str = "test",
) -> tuple[dict[str, Any], list[str]]:
    """Computes the metrics of `words` and merges each, once it is known, into the JSON `file`.

    Returns all that is in the file, and the words that could not be computed of this run: why is said, and the
    others go on. "mig:bins=30" stands there under that name, its details as "mig:bins=30.x", and the values of all its
    parameters as "mig:bins=30.protocol"; a metric of the user's own, "my_lab.mine", as "my_lab/mine". Those of the
    `split` "validation", in place of "test", stand there as "validation.mig".
    """
    prefix = VALIDATION if split == "validation" else ""
    if split == "validation" and dataset.validation is not None:
        dataset = dataset._replace(test=dataset.validation)
    context, requests, failed = EvaluationContext(run, dataset, progress_bar), parse_requests(words), []
    key = stream(randomness.evaluation_key(), "metrics")
    for number, request in enumerate(requests, start=1):
        label, position = request.label, f"[{number}/{len(requests)}]"
        say(f"{position} {label} ...")
        began = time.perf_counter()
        try:
            # A metric's draws are its own, whatever else is asked for, and the same for other parameters of it.
            scores = request.compute(context, jax.random.fold_in(key, zlib.crc32(request.name.encode())))
        except UserError as error:
            failed.append(label)
            say(f"{position} {label}: error: {error}")
            continue
        results = {**scores, f"{label}.protocol": request.protocol}
        named = {f"{prefix}{name}": value for name, value in results.items()}
        merge_evaluation(file, f"{prefix}{label}", named, run.step)
        score = ", ".join(filter(None, [format_fixed(scores[label], 4), metrics.reading(label)]))
        say(f"{position} {label} = {score}   ({time.perf_counter() - began:.1f} s)")
    return read_evaluation(file, run.step), failed


def read_evaluation(file: Path, step: int) -> dict[str, Any]:
    """What the JSON file holds of the checkpoint of `step`; nothing where it is missing, damaged or of another."""
    found = read_json(file)
    return found if found.get("step") == step else {}


def merge_evaluation(file: Path, word: str, found: dict[str, Any], step: int) -> None:
    """Puts one metric's results in the place of its earlier ones."""
    kept = {
        name: value
        for name, value in read_evaluation(file, step).items()
        if name != word and not name.startswith(f"{word}.")
    }
    write_json(file, kept | found | {"step": step})
