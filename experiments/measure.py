"""Metrics of a run, one by one, into its evaluation.json: what is there stays, what is asked for is done anew."""

import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vae_jax import metrics, train, writers
from vae_jax.data import Dataset
from vae_jax.model import Model
from vae_jax.trained import Run


def check(words: str, model: Model, dataset: Dataset) -> None:
    """Raises UserError for an unknown metric or parameter, and for one that this model or its data cannot have."""
    for word in metrics.parse(words):
        metrics.check(word, model, dataset)


def measure(words: str, run: Run, dataset: Dataset, file: Path, say: Callable[[str], Any] = print) -> dict[str, Any]:
    """Computes the metrics of `words` and merges each, once it is known, into the JSON `file`; all that is in it.

    "mig:bins=30" stands there under that name, its details as "mig:bins=30.x", and the values of all its parameters
    as "mig:bins=30.protocol".
    """
    subject, asked = metrics.Subject(run, dataset), metrics.parse(words)
    key = jax.random.fold_in(train.root_key(run.config["seed"]), train.MEASURING)
    for number, (word, compute) in enumerate(asked.items(), start=1):
        say(f"[{number}/{len(asked)}] {word} ...")
        began = time.perf_counter()
        # A metric's draws are its own, whatever else is asked for.
        found, protocol = compute(subject, jax.random.fold_in(key, zlib.crc32(word.encode())))
        name = word.partition(":")[0]
        found = {word + detail.removeprefix(name): value for detail, value in found.items()}
        found[f"{word}.protocol"] = " ".join(f"{field}={value}" for field, value in protocol.items())
        merge(file, word, found, run.step)
        say(f"[{number}/{len(asked)}] {word} = {found[word]:.4f}   ({time.perf_counter() - began:.1f} s)")
    return read(file, run.step)


def read(file: Path, step: int) -> dict[str, Any]:
    """What the JSON file holds of the checkpoint of `step`; nothing where there is none, or it is of another."""
    found = json.loads(file.read_text()) if file.exists() else {}
    return found if found.get("step") == step else {}


def merge(file: Path, word: str, found: dict[str, Any], step: int) -> None:
    """Puts one metric's results in the place of its earlier ones."""
    kept = {name: value for name, value in read(file, step).items() if name != word and not name.startswith(f"{word}.")}
    writers.write_json(file, kept | found | {"step": step})
