"""Steps lifted over devices: pmap(scan over steps(step)); the only file that names devices.

The state is replicated and carries no device axis (in_axes and out_axes None); only a batch's
indices are split. On CPU, GPU and TPU alike, one device is the same program with an axis of size one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.registry import UserError
from vae_jax.typing import AXIS, Metrics


def local_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of this process, all of them for 0. Raises UserError where there are fewer."""
    devices = jax.local_devices()
    if not 0 <= count <= len(devices):
        raise UserError(
            f"config.parallel.devices: {count} is not allowed; this machine has {len(devices)} (0 takes all)"
        )
    return devices[: count or len(devices)]


def check_divides(field: str, batch_size: int, devices: list[jax.Device]) -> None:
    """Raises UserError unless a batch splits evenly over the devices."""
    if batch_size % len(devices):
        nearest = max(len(devices), batch_size // len(devices) * len(devices))
        raise UserError(
            f"{field}: {batch_size} does not divide over {len(devices)} devices; the nearest that does is {nearest}"
        )


def replicate(tree: Any, devices: list[jax.Device]) -> Any:
    """A copy of `tree` on every device, as the lifted steps take it."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def _shares(indices: np.ndarray, devices: list[jax.Device]) -> np.ndarray:
    """(steps, batch) -> (devices, steps, share), device d holding the d-th share of every batch."""
    steps, batch = indices.shape
    return indices.reshape(steps, len(devices), batch // len(devices)).swapaxes(0, 1)


def train_steps(make_step: Callable, devices: list[jax.Device], dispatch: int) -> Callable:
    """Many train steps in one call: (split, state, indices, key, hyper) -> (state, metrics).

    `make_step(split)` is the step of train.py; `indices` is (steps, batch) with at most `dispatch`
    steps, each batch cut evenly over the devices; metrics gain a leading axis of steps. The old
    state's buffers are donated. Only two programs are ever compiled: a scan of `dispatch` steps and
    a loop of any smaller number (which costs a GPU a synchronisation a step, so it is for the rest).
    """

    def scan(split, state, indices, key, hyper):
        step = make_step(split)
        return jax.lax.scan(lambda state, share: step(state, share, key, hyper), state, indices)

    def loop(split, state, indices, key, hyper, steps):
        step = make_step(split)

        def body(i, carry):
            state, written = carry
            state, metrics = step(state, indices[i], key, hyper)
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), written, metrics)

        shapes = jax.eval_shape(step, state, indices[0], key, hyper)[1]
        empty = jax.tree.map(lambda row: jnp.zeros((dispatch, *row.shape), row.dtype), shapes)
        return jax.lax.fori_loop(0, steps, body, (state, empty))

    common = {"axis_name": AXIS, "out_axes": None, "devices": devices, "donate_argnums": (1,)}
    whole = jax.pmap(scan, in_axes=(None, None, 0, None, None), **common)
    rest = jax.pmap(loop, in_axes=(None, None, 0, None, None, None), **common)

    def call(split, state, indices, key, hyper):
        steps = len(indices)
        if steps == dispatch:
            return whole(split, state, _shares(indices, devices), key, hyper)
        padded = np.concatenate([indices, np.zeros((dispatch - steps, indices.shape[1]), indices.dtype)])
        state, metrics = rest(split, state, _shares(padded, devices), key, hyper, np.int32(steps))
        return state, jax.tree.map(lambda rows: rows[:steps], metrics)

    call.lower = lambda split, state, indices, key, hyper: whole.lower(
        split, state, _shares(indices, devices), key, hyper
    )
    return call


def evaluation(make_step: Callable, devices: list[jax.Device], batch_size: int, split: Any) -> Callable:
    """The whole of `split`, exactly: (params, key, step, hyper) -> metrics as float64 NumPy arrays.

    Whole batches (of `batch_size`, cut to a multiple of the devices) go over all devices; what is left
    goes as one smaller batch through the first. Means are weighed by how many examples they stand for;
    "code_variance" is of all of them.
    """
    batch_size = max(1, batch_size // len(devices)) * len(devices)

    def many(split, params, indices, key, step, hyper):
        one = make_step(split)
        return jax.lax.map(lambda share: one(params, share, key, step, hyper), indices)

    axes = {"in_axes": (None, None, 0, None, None, None), "out_axes": None}
    whole = jax.pmap(many, AXIS, devices=devices, **axes)
    ragged = jax.pmap(many, AXIS, devices=devices[:1], **axes)

    full = split.size // batch_size * batch_size
    everywhere = replicate(split, devices) if full else None
    on_first = replicate(split, devices[:1]) if full < split.size else None

    def call(params, key, step, hyper) -> Metrics:
        indices = np.arange(split.size, dtype=np.int32)
        results = []
        if full:
            shares = _shares(indices[:full].reshape(-1, batch_size), devices)
            results.append(whole(everywhere, params, shares, key, step, hyper))
        if full < split.size:
            params, key, step, hyper = replicate((params, key, step, hyper), devices[:1])
            shares = _shares(indices[None, full:], devices[:1])
            results.append(ragged(on_first, params, shares, key, step, hyper))
        counts = [batch_size] * (full // batch_size) + [split.size - full] * (full < split.size)
        stacked = [
            np.concatenate(leaf).astype(np.float64)
            for leaf in zip(*map(jax.tree.leaves, jax.device_get(results)), strict=True)
        ]
        return combine(jax.tree.unflatten(jax.tree.structure(results[0]), stacked), np.asarray(counts))

    return call


def combine(metrics: Metrics, counts: np.ndarray) -> Metrics:
    """Metrics of many batches (leading axis) as those of their union; `counts` is examples a batch.

    Means are averaged; the variance of a union is the mean of variances plus the variance of means.
    """
    means = {name: np.average(value, axis=0, weights=counts) for name, value in metrics.items()}
    spread = np.average((metrics["code_mean"] - means["code_mean"]) ** 2, axis=0, weights=counts)
    return means | {"code_variance": means["code_variance"] + spread}
