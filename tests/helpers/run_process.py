"""A training run in a process of its own."""

import json
import time

from vae_jax.training.writers import TIMINGS, read_metrics


def wait_for(condition, process, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before the moment to stop it:\n{process.communicate()[0]}"
        assert time.monotonic() < limit
        time.sleep(0.001)


def reached(workdir, step):
    return lambda: any(record["step"] >= step for record in read_metrics(workdir / "metrics.jsonl"))


def result(workdir):
    """Everything a run is judged by: the digest of its whole state, its metrics but for timings, its evaluation."""
    newest = max((int(folder.name) for folder in (workdir / "checkpoints").iterdir()), default=None)
    check = json.loads((workdir / "checkpoints" / str(newest) / "check" / "metadata").read_text())
    records = [
        {k: v for k, v in record.items() if k not in TIMINGS} for record in read_metrics(workdir / "metrics.jsonl")
    ]
    return newest, check["digest"], records, json.loads((workdir / "evaluation.json").read_text())
