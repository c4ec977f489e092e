"""Steps lifted over devices: the only file that names them.

Data-parallel, pmap(scan over steps(step)): the state is replicated and carries no device axis (in_axes and out_axes
None); only a batch's indices are split. Member-parallel, pmap(over members(scan over steps(step))): a population is
split, nothing is exchanged. On CPU, GPU and TPU alike, one device is the same program with an axis of size one.
Devices of several processes are one axis too: each process makes the same calls and gives and gets what is on its own.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.errors import UserError
from vae_jax.typing import AXIS, Metrics

MEMBERS = "members"
"""The named axis that a population is split over."""


def local_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of this process, all of them for 0. Raises UserError where there are fewer."""
    devices = jax.local_devices()
    if not 0 <= count <= len(devices):
        raise UserError(
            f"config.parallel.devices: {count} is not allowed; this machine has {len(devices)} (0 takes all)"
        )
    return devices[: count or len(devices)]


def all_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of every process, all of them for 0. Raises UserError where one has fewer."""
    of_process = [jax.local_devices(process_index=index) for index in range(jax.process_count())]
    fewest, most = min(map(len, of_process)), max(map(len, of_process))
    if fewest < most and not 1 <= count <= fewest:
        raise UserError(
            f"config.parallel.devices: {count} is not allowed; the processes have {fewest} to {most} devices each, "
            f"give at most {fewest}"
        )
    each = len(local_devices(count))
    return [device for devices in of_process for device in devices[:each]]


def process_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of the devices that are of this process."""
    index = jax.process_index()
    return [device for device in devices if device.process_index == index]


def free_bytes(devices: Sequence[jax.Device]) -> int:
    """The memory that is free on each of the devices, at least; host devices share that of the machine."""
    known = [stats for device in devices if (stats := device.memory_stats())]
    if known:
        return min(stats["bytes_limit"] - stats["bytes_in_use"] for stats in known)
    file = Path("/proc/meminfo")
    words = file.read_text().split() if file.exists() else []
    if "MemAvailable:" in words:
        return 1024 * int(words[words.index("MemAvailable:") + 1]) // len(devices)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // len(devices)


def check_divides(field: str, batch_size: int, devices: list[jax.Device]) -> None:
    """Raises UserError unless a batch splits evenly over the devices."""
    if batch_size % len(devices):
        nearest = max(len(devices), batch_size // len(devices) * len(devices))
        raise UserError(
            f"{field}: {batch_size} does not divide over {len(devices)} devices; the nearest that does is {nearest}"
        )


def replicate(tree: Any, devices: list[jax.Device]) -> Any:
    """A copy of `tree` on every device of this process, as the lifted steps take it."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(process_devices(devices)), (AXIS,)), PartitionSpec()))


def _shares(indices: np.ndarray, devices: list[jax.Device]) -> np.ndarray:
    """(steps, batch) -> (own devices, steps, share), device d holding the d-th share of every batch."""
    steps, batch = indices.shape
    shares = indices.reshape(steps, len(devices), batch // len(devices)).swapaxes(0, 1)
    index = jax.process_index()
    return shares[[device.process_index == index for device in devices]]


class Placement(NamedTuple):
    """How the members of a population lie on devices; a run of its own is a population of one.

    `place(trees)` puts what belongs to each member where it is computed, `members(tree)` brings it back to the host,
    one tree for each member (and each place that was filled up). `train_steps(make_step, dispatch)` is
    (split, state, indices, key, hyper, alive) -> (state, metrics): many steps in one call, with `make_step(split)` the
    step of train.py; `indices` is (member, steps, batch) with at most `dispatch` steps, `alive` says which members go
    on, metrics gain a leading axis of steps, and the old state's buffers are donated.
    `evaluation(make_step, batch_size, split)` is (params, key, step, hyper) -> each member's metrics of all of `split`.
    """

    devices: list[jax.Device]
    place: Callable[[Sequence[Any]], Any]
    members: Callable[[Any], list[Any]]
    train_steps: Callable[[Callable, int], Callable]
    evaluation: Callable[[Callable, int, Any], Callable]


def _programs(make_step: Callable, dispatch: int) -> tuple[Callable, Callable]:
    """Many steps of one member: a scan of all rows of indices, and a loop of the first so many of them.

    Only these two are ever compiled; the loop costs a GPU a synchronisation a step, so it is for the rest.
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

    return scan, loop


def _in_dispatches(whole: Callable, rest: Callable, shares: Callable, dispatch: int) -> Callable:
    """Calls `whole` for as many steps as a dispatch has, `rest` for fewer."""

    def call(split, state, indices, *more):
        steps = indices.shape[1]
        if steps == dispatch:
            return whole(split, state, shares(indices), *more)
        padded = np.pad(indices, ((0, 0), (0, dispatch - steps), (0, 0)))
        return rest(split, state, shares(padded), *more, np.int32(steps))

    call.lower = lambda split, state, indices, *more: whole.lower(split, state, shares(indices), *more)
    return call


def data_parallel(devices: list[jax.Device]) -> Placement:
    """One member, whose batches are split over the devices and whose state is on each of them."""

    def train_steps(make_step, dispatch):
        scan, loop = _programs(make_step, dispatch)
        common = {"axis_name": AXIS, "out_axes": None, "devices": devices, "donate_argnums": (1,)}
        whole = jax.pmap(scan, in_axes=(None, None, 0, None, None), **common)
        rest = jax.pmap(loop, in_axes=(None, None, 0, None, None, None), **common)
        shares = lambda indices: _shares(indices[0], devices)  # noqa: E731
        take = _in_dispatches(whole, rest, shares, dispatch)

        def call(split, state, indices, key, hyper, alive):
            state, metrics = take(split, state, indices, key, hyper)
            return state, jax.tree.map(lambda rows: rows[: indices.shape[1]], metrics)

        call.lower = lambda *arguments: take.lower(*arguments[:-1])
        return call

    def whole_split(make_step, batch_size, split):
        evaluate = evaluation(make_step, devices, batch_size, split)
        return lambda *arguments: [evaluate(*arguments)]

    return Placement(
        devices,
        place=lambda trees: replicate(trees[0], devices),
        members=lambda tree: [jax.device_get(tree)],
        train_steps=train_steps,
        evaluation=whole_split,
    )


def _one_by_one(function: Callable) -> Callable:
    return lambda *arguments: jax.lax.map(lambda of_member: function(*of_member), arguments)


def _all_at_once(function: Callable) -> Callable:
    return jax.vmap(function)


OVER_MEMBERS = {"cpu": _one_by_one}
"""How a device goes through its members; all at once where nothing else is said.

An accelerator needs the work of many small networks at once. A CPU's core is full with one, whose weights stay in its
cache through a dispatch: one by one on each of two cores is 1.3 times as fast as vmap there (docs/benchmarks.md).
"""


def _alone(step: Callable) -> Callable:
    """The step of a member that has its whole batch: the axis it averages over has size one.

    Nothing is mapped over it, or all arrays would gain an axis and XLA's CPU compiler take other, slower layouts. So a
    step asks `divergences.places` where its examples lie, never `axis_index`.
    """
    return jax.vmap(step, in_axes=None, out_axes=None, axis_name=AXIS, axis_size=1)


def member_parallel(devices: list[jax.Device]) -> Placement:
    """Members spread over the devices, each whole on one of them; none waits for another within a call.

    The last device's places are filled up with copies of the first member, which stay as they are.
    """
    over = OVER_MEMBERS.get(devices[0].platform, _all_at_once)
    spread = NamedSharding(Mesh(np.array(devices), (MEMBERS,)), PartitionSpec(MEMBERS))
    lift = lambda function, axes, **more: jax.pmap(  # noqa: E731
        function, MEMBERS, in_axes=axes, devices=devices, **more
    )

    def by_device(leaves):
        each = -(-len(leaves) // len(devices))
        return [leaves[i] if i < len(leaves) else leaves[0] for i in range(each * len(devices))]

    def stack(*leaves):
        keys = jnp.issubdtype(getattr(leaves[0], "dtype", None), jax.dtypes.prng_key)
        stacked = (jnp if keys else np).stack(by_device(leaves))
        return stacked.reshape(len(devices), -1, *stacked.shape[1:])

    def place(trees):
        return jax.device_put(jax.tree.map(stack, *trees), spread)

    def members(tree):
        host = jax.device_get(tree)
        devices_, each = jax.tree.leaves(host)[0].shape[:2]
        return [jax.tree.map(lambda leaf, d=d, i=i: leaf[d, i], host) for d in range(devices_) for i in range(each)]

    def train_steps(make_step, dispatch):
        scan, loop = _programs(lambda split: _alone(make_step(split)), dispatch)

        def population(program):
            def one(split, state, indices, key, hyper, alive, *steps):
                run = lambda state: program(split, state, indices, key, hyper, *steps)  # noqa: E731
                nothing = jax.tree.map(lambda row: jnp.zeros(row.shape, row.dtype), jax.eval_shape(run, state)[1])
                return jax.lax.cond(alive, run, lambda state: (state, nothing), state)

            def call(split, state, indices, key, hyper, alive, *steps):
                return over(lambda *of_member: one(split, *of_member, *steps))(state, indices, key, hyper, alive)

            return call

        axes = (None, 0, 0, 0, 0, 0)
        whole = lift(population(scan), axes, donate_argnums=(1,))
        rest = lift(population(loop), (*axes, None), donate_argnums=(1,))
        take = _in_dispatches(whole, rest, lambda indices: stack(*indices), dispatch)

        def filled(alive):
            # A place that is filled up does nothing.
            every = np.zeros(-(-len(alive) // len(devices)) * len(devices), bool)
            every[: len(alive)] = alive
            return every.reshape(len(devices), -1)

        def call(split, state, indices, key, hyper, alive):
            state, metrics = take(split, state, indices, key, hyper, filled(alive))
            return state, jax.tree.map(lambda rows: rows[:, :, : indices.shape[1]], metrics)

        call.lower = lambda split, state, indices, key, hyper, alive: take.lower(
            split, state, indices, key, hyper, filled(alive)
        )
        return call

    def whole_split(make_step, batch_size, split):
        def many(split, indices, params, key, step, hyper):
            one = _alone(make_step(split))
            each = lambda params, key, step, hyper: jax.lax.map(  # noqa: E731
                lambda share: one(params, share, key, step, hyper), indices
            )
            return over(each)(params, key, step, hyper)

        lifted = lift(many, (None, None, 0, 0, 0, 0))
        everywhere, size = replicate(split, devices), split.size
        full = size // batch_size * batch_size
        indices = np.arange(size, dtype=np.int32)
        parts = [part for part in (indices[:full].reshape(-1, batch_size), indices[None, full:]) if part.size]
        counts = np.concatenate([np.full(len(part), part.shape[1]) for part in parts])

        def call(params, key, step, hyper):
            found = [members(lifted(everywhere, part, params, key, step, hyper)) for part in parts]
            whole = lambda *leaves: np.concatenate(leaves).astype(np.float64)  # noqa: E731
            return [combine_metrics(jax.tree.map(whole, *of_member), counts) for of_member in zip(*found, strict=True)]

        return call

    return Placement(devices, place, members, train_steps, whole_split)


def evaluation(make_step: Callable, devices: list[jax.Device], batch_size: int, split: Any) -> Callable:
    """The whole of `split`, exactly: (params, key, step, hyper) -> metrics as float64 NumPy arrays.

    Whole batches (of `batch_size`, cut to a multiple of the devices) go over all devices; what is left
    goes as one smaller batch through the first of each process. Means are weighed by how many examples they stand for;
    "code_variance" is of all of them.
    """
    batch_size = max(1, batch_size // len(devices)) * len(devices)
    first = process_devices(devices)[:1]

    def many(split, params, indices, key, step, hyper):
        one = make_step(split)
        return jax.lax.map(lambda share: one(params, share, key, step, hyper), indices)

    axes = {"in_axes": (None, None, 0, None, None, None), "out_axes": None}
    whole = jax.pmap(many, AXIS, devices=devices, **axes)
    ragged = jax.pmap(many, AXIS, devices=first, **axes)

    full = split.size // batch_size * batch_size
    everywhere = replicate(split, devices) if full else None
    on_first = replicate(split, first) if full < split.size else None

    def call(params, key, step, hyper) -> Metrics:
        indices = np.arange(split.size, dtype=np.int32)
        results = []
        if full:
            shares = _shares(indices[:full].reshape(-1, batch_size), devices)
            results.append(whole(everywhere, params, shares, key, step, hyper))
        if full < split.size:
            params, key, step, hyper = replicate((params, key, step, hyper), first)
            shares = _shares(indices[None, full:], first)
            results.append(ragged(on_first, params, shares, key, step, hyper))
        counts = [batch_size] * (full // batch_size) + [split.size - full] * (full < split.size)
        stacked = [
            np.concatenate(leaf).astype(np.float64)
            for leaf in zip(*map(jax.tree.leaves, jax.device_get(results)), strict=True)
        ]
        return combine_metrics(jax.tree.unflatten(jax.tree.structure(results[0]), stacked), np.asarray(counts))

    return call


def combine_metrics(metrics: Metrics, counts: np.ndarray) -> Metrics:
    """Metrics of many batches (leading axis) as those of their union; `counts` is examples a batch.

    Means are averaged; the variance of a union is the mean of variances plus the variance of means.
    """
    means = {name: np.average(value, axis=0, weights=counts) for name, value in metrics.items()}
    spread = np.average((metrics["code_mean"] - means["code_mean"]) ** 2, axis=0, weights=counts)
    return means | {"code_variance": means["code_variance"] + spread}
