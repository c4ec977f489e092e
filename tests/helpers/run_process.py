"""A training run in a process of its own."""

import time

from vae_jax.files import read_records


def wait_for(condition, process, seconds=120):
    """Waits until `condition()` holds of a process that goes on."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before the moment to stop it:\n{process.communicate()[0]}"
        assert time.monotonic() < limit
        time.sleep(0.001)


def reached(workdir, step):
    """Whether a record of this step or a later one is written, as a condition to wait for."""
    return lambda: any(record["step"] >= step for record in read_records(workdir / "metrics.jsonl"))
