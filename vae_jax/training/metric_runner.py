"""Metrics of a run, one by one, into its evaluation.json: what is there stays, what is asked for is done anew."""

import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vae_jax import metrics, randomness
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.model import Model
from vae_jax.randomness import stream
from vae_jax.training import writers


def expand_metrics(words: str, model: Model, dataset: Dataset, say: Callable[[str], Any] = print) -> str:
    """`words` checked, with "all" in the place of every metric that this model and its data can have.

    Raises UserError for an unknown metric or parameter, and for one that this model or its data cannot have.
    """
    named = ",".join(word for word in words.split(",") if word != "all")
    for word in metrics.parse(named):
        metrics.check(word, model, dataset)
    if named == words:
        return words
    found = [word for word in named.split(",") if word]
    for name in metrics.names():
        if need := metrics.lacks(name, model, dataset):
            say(f"{name} is left out: it needs {need}")
        elif costly := getattr(metrics.get(name), "BY_NAME", ""):
            if not any(word.partition(":")[0] == name for word in found):
                say(f"{name} is left out unless it is named: it takes {costly}")
        else:
            found.append(name)
    return ",".join(dict.fromkeys(found))


def run_metrics(
    words: str, run: TrainedModel, dataset: Dataset, file: Path, say: Callable[[str], Any] = print
) -> tuple[dict[str, Any], list[str]]:
    """Computes the metrics of `words` and merges each, once it is known, into the JSON `file`.

    Returns all that is in the file, and the words that could not be computed of this run: why is said, and the
    others go on. "mig:bins=30" stands there under that name, its details as "mig:bins=30.x", and the values of all its
    parameters as "mig:bins=30.protocol".
    """
    subject, asked, failed = metrics.Subject(run, dataset, writers.watched), metrics.parse(words), []
    key = stream(randomness.root_key(run.config["seed"]), "metrics")
    for number, (word, compute) in enumerate(asked.items(), start=1):
        say(f"[{number}/{len(asked)}] {word} ...")
        began = time.perf_counter()
        try:
            # A metric's draws are its own, whatever else is asked for.
            found, protocol = compute(subject, jax.random.fold_in(key, zlib.crc32(word.encode())))
        except UserError as error:
            failed.append(word)
            say(f"[{number}/{len(asked)}] {word}: error: {error}")
            continue
        name = word.partition(":")[0]
        found = {word + detail.removeprefix(name): value for detail, value in found.items()}
        found[f"{word}.protocol"] = " ".join(f"{field}={value}" for field, value in protocol.items())
        merge_evaluation(file, word, found, run.step)
        say(f"[{number}/{len(asked)}] {word} = {found[word]:.4f}   ({time.perf_counter() - began:.1f} s)")
    return read_evaluation(file, run.step), failed


def read_evaluation(file: Path, step: int) -> dict[str, Any]:
    """What the JSON file holds of the checkpoint of `step`; nothing where it is missing, damaged or of another."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("step") == step else {}


def merge_evaluation(file: Path, word: str, found: dict[str, Any], step: int) -> None:
    """Puts one metric's results in the place of its earlier ones."""
    kept = {
        name: value
        for name, value in read_evaluation(file, step).items()
        if name != word and not name.startswith(f"{word}.")
    }
    writers.write_json(file, kept | found | {"step": step})
