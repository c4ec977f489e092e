"""Steps lifted over devices: the only file that names them.

Data-parallel, pmap(scan over steps(step)): the state is replicated and carries no device axis (in_axes and out_axes
None); only a batch's indices are split. Member-parallel, pmap(over members(scan over steps(step))): a population is
split, nothing is exchanged. On CPU, GPU and TPU alike, one device is the same program with an axis of size one.
Devices of several processes are one axis too: each process makes the same calls and gives and gets what is on its own.
"""

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.errors import UserError
from vae_jax.training.prefetch import BatchReader, send_whole
from vae_jax.training.scan import IN_TURN, MakeStep, MemberMap, scan_programs, while_alive, with_singleton_axis
from vae_jax.typing import AXIS, Metrics

MEMBERS = "members"
"""The named axis that a population is split over."""

Devices = Sequence[jax.Device]


def local_devices(count: int = 0) -> tuple[jax.Device, ...]:
    """The first `count` devices of this process, all of them for 0. Raises UserError where there are fewer."""
    devices = jax.local_devices()
    if not 0 <= count <= len(devices):
        raise UserError(
            f"config.parallel.devices: {count} is not allowed; this machine has {len(devices)} (0 takes all)"
        )
    return tuple(devices[: count or len(devices)])


def all_devices(count: int = 0) -> tuple[jax.Device, ...]:
    """The first `count` devices of every process, all of them for 0. Raises UserError where one has fewer."""
    by_process = [jax.local_devices(process_index=index) for index in range(jax.process_count())]
    fewest, most = min(map(len, by_process)), max(map(len, by_process))
    if fewest < most and not 1 <= count <= fewest:
        raise UserError(
            f"config.parallel.devices: {count} is not allowed; the processes have {fewest} to {most} devices each, "
            f"give at most {fewest}"
        )
    taken = len(local_devices(count))
    return tuple(device for devices in by_process for device in devices[:taken])


def device_kinds() -> str:
    """What there is to train on, as "2 x cpu"."""
    return f"{jax.device_count()} x {jax.local_devices()[0].device_kind}"


def process_devices(devices: Devices) -> list[jax.Device]:
    """Those of the devices that are of this process."""
    index = jax.process_index()
    return [device for device in devices if device.process_index == index]


def free_bytes(devices: Devices) -> int:
    """The memory that is free on each of the devices, at least; host devices share that of the machine."""
    known = [stats for device in devices if (stats := device.memory_stats())]
    if known:
        return min(stats["bytes_limit"] - stats["bytes_in_use"] for stats in known)
    file = Path("/proc/meminfo")
    words = file.read_text().split() if file.exists() else []
    if "MemAvailable:" in words:
        return 1024 * int(words[words.index("MemAvailable:") + 1]) // len(devices)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // len(devices)


def agreed_free_bytes(devices: Devices) -> int:
    """What `free_bytes` says of the devices of this process, or the least that one of several processes says."""
    own = process_devices(devices)
    mebibytes = free_bytes(own) >> 20
    if len(own) < len(devices):  # all must compile one program
        mebibytes = int(multihost_utils.process_allgather(np.int32(mebibytes)).min())
    return mebibytes << 20


def check_divides(field: str, batch_size: int, devices: Devices) -> None:
    """Raises UserError unless a batch splits evenly over the devices."""
    if batch_size % len(devices):
        nearest = max(len(devices), batch_size // len(devices) * len(devices))
        raise UserError(
            f"{field}: {batch_size} does not divide over {len(devices)} devices; the nearest that does is {nearest}"
        )


def replicate(tree: Any, devices: Devices) -> Any:
    """A copy of `tree` on every device of this process, as the lifted steps take it."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(process_devices(devices)), (AXIS,)), PartitionSpec()))


def spread(tree: Any, devices: Devices) -> Any:
    """Each of the devices of this process with its part of `tree`, by the leading axis."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(process_devices(devices)), (AXIS,)), PartitionSpec(AXIS)))


def shards(indices: np.ndarray, devices: Devices) -> np.ndarray:
    """(steps, batch) -> (devices of this process, steps, shard), device d with the d-th shard of every batch."""
    steps, batch = indices.shape
    by_device = indices.reshape(steps, len(devices), batch // len(devices)).swapaxes(0, 1)
    index = jax.process_index()
    return by_device[[device.process_index == index for device in devices]]


Keep = Callable[[Hashable, Callable[[], Any]], Any]
"""(key, make) -> what `make` gives, or has given for the key before."""


def make_anew(key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gives."""
    return make()


@runtime_checkable
class Executor(Protocol):
    """How the members of a population lie on devices; a run of its own is a population of one."""

    @property
    def devices(self) -> Devices:
        """The devices, of this process and of others."""

    def to_devices(self, trees: Sequence[Any]) -> Any:
        """One tree for each member, as one tree that lies where each member is computed."""

    def to_host(self, tree: Any) -> list[Any]:
        """The tree of each member on the host, and of each copy that fills up the last device."""

    def train_steps(self, make_step: MakeStep, steps_per_call: int, blocks: bool = False) -> "StepProgram":
        """The compiled train steps, at most `steps_per_call` in one call; of `blocks`, a split for each device."""

    def block_indices(self, streams: np.ndarray, members: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """What each device reads, (device, stream, steps, example), of `streams` (stream, steps, batch).

        `members` says by which stream each member goes; with it comes which of its device's streams that is.
        """

    def step_arguments(self, indices: np.ndarray, key: Any, hyper: Any, alive: np.ndarray) -> tuple:
        """What a compiled call takes beside the split and the state."""

    def evaluation(
        self, make_step: MakeStep, batch_size: int, split: Any, keep: Keep = make_anew
    ) -> Callable[..., list[Metrics]]:
        """(params, key, step, hyper) -> each member's metrics of all of `split`; `keep` has what is compiled."""


@dataclass(frozen=True)
class StepProgram:
    """Many train steps in one call: (split, state, indices, key, hyper, alive) -> (state, metrics).

    `indices` is (member, steps, batch) with at most `steps_per_call` steps, `alive` says which members go on, metrics
    gain an axis of steps, and the old state's buffers are donated. `full_call` is of as many steps as a call has,
    `partial_call` of fewer, which takes their number last; `step_axis` is where metrics have their steps.
    """

    executor: Executor
    full_call: Any
    partial_call: Any
    steps_per_call: int
    step_axis: int

    def __call__(
        self, split: Any, state: Any, indices: np.ndarray, key: Any, hyper: Any, alive: np.ndarray
    ) -> tuple[Any, Metrics]:
        """Takes as many steps as `indices` has."""
        steps = indices.shape[1]
        padded = np.pad(indices, ((0, 0), (0, self.steps_per_call - steps), (0, 0)))
        arguments = self.executor.step_arguments(padded, key, hyper, alive)
        if steps == self.steps_per_call:
            state, metrics = self.full_call(split, state, *arguments)
        else:
            state, metrics = self.partial_call(split, state, *arguments, np.int32(steps))
        taken = (slice(None),) * self.step_axis + (slice(steps),)
        return state, jax.tree.map(lambda rows: rows[taken], metrics)

    def lower(
        self, split: Any, state: Any, indices: Any, key: Any, hyper: Any, alive: Any, platforms: Sequence[str] = ()
    ) -> jax.stages.Lowered:
        """The full call, lowered for these arguments or their shapes; for its devices, or for other platforms."""
        arguments = split, state, *self.executor.step_arguments(indices, key, hyper, alive)
        if not platforms:
            return self.full_call.lower(*arguments)
        donating = jax.jit(self.full_call, donate_argnums=(1,))
        return donating.trace(*arguments).lower(lowering_platforms=tuple(platforms))


@dataclass(frozen=True)
class DataParallel:
    """One member, whose batches are split over the devices and whose state is on each of them."""

    devices: Devices

    def to_devices(self, trees: Sequence[Any]) -> Any:
        """The only tree, on every device."""
        return replicate(trees[0], self.devices)

    def to_host(self, tree: Any) -> list[Any]:
        """The tree on the host."""
        return [jax.device_get(tree)]

    def train_steps(self, make_step: MakeStep, steps_per_call: int, blocks: bool = False) -> StepProgram:
        """The compiled train steps, replicated state unmapped."""
        scan, loop = scan_programs(make_step, steps_per_call)
        axes = (0 if blocks else None, None, 0, None, None)
        full, partial_call = self._pmap(scan, axes), self._pmap(loop, (*axes, None))
        return StepProgram(self, full, partial_call, steps_per_call, step_axis=0)

    def _pmap(self, function: Callable, axes: tuple) -> Any:
        return jax.pmap(
            function, axis_name=AXIS, in_axes=axes, out_axes=None, devices=self.devices, donate_argnums=(1,)
        )

    def block_indices(self, streams: np.ndarray, members: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Each device's shard of every batch of the only stream."""
        return shards(streams[0], self.devices)[:, None], np.zeros(1, np.int32)

    def step_arguments(self, indices: np.ndarray, key: Any, hyper: Any, alive: np.ndarray) -> tuple:
        """Each device's shard of every batch; the only member is alive."""
        return shards(indices[0], self.devices), key, hyper

    def evaluation(
        self, make_step: MakeStep, batch_size: int, split: Any, keep: Keep = make_anew
    ) -> Callable[..., list[Metrics]]:
        """The whole of `split`, exactly: (params, key, step, hyper) -> [metrics as float64 NumPy arrays].

        Full batches (of `batch_size`, cut to a multiple of the devices) go over all devices; the remainder goes as one
        smaller batch through the first of each process. Means are weighed by how many examples they stand for.
        """
        batch_size = max(1, batch_size // len(self.devices)) * len(self.devices)
        full = split.size // batch_size * batch_size
        indices = np.arange(split.size, dtype=np.int32)
        parts = [
            _EvaluationPart(make_step, self.devices, split, indices[:full].reshape(-1, batch_size)),
            _EvaluationPart(make_step, process_devices(self.devices)[:1], split, indices[None, full:], remainder=True),
        ]
        return partial(_evaluate_parts, [part for part in parts if part.indices.size])


class _EvaluationPart:
    """Batches of one size of a split, over devices that hold a copy of it; the `remainder` is on fewer."""

    def __init__(self, make_step: MakeStep, devices: Devices, split: Any, indices: np.ndarray, remainder: bool = False):
        def map_batches(split, params, indices, key, step, hyper):
            step_fn = make_step(split)
            return jax.lax.map(lambda shard: step_fn(params, shard, key, step, hyper), indices)

        axes: Any = (None, None, 0, None, None, None)
        self.call = jax.pmap(map_batches, AXIS, in_axes=axes, out_axes=None, devices=devices)
        self.devices, self.indices, self.remainder = devices, indices, remainder
        send = partial(replicate, devices=devices)
        self.reader = BatchReader(send_whole(split, send) if indices.size else split, indices, send)

    def __call__(self, *constants: Any) -> list[Any]:
        """Metrics of each batch, by calls; `constants` are params, key, step and hyper, perhaps on more devices."""
        params, key, step, hyper = replicate(constants, self.devices) if self.remainder else constants
        return self.reader.map(
            lambda split, batches: self.call(split, params, shards(batches, self.devices), key, step, hyper)
        )


def _evaluate_parts(parts: Sequence[_EvaluationPart], *constants: Any) -> list[Metrics]:
    results = [result for part in parts for result in part(*constants)]
    counts = np.concatenate([np.full(len(part.indices), part.indices.shape[1]) for part in parts])
    return [_union(jax.device_get(results), counts)]


def _union(results: Sequence[Metrics], counts: np.ndarray) -> Metrics:
    """Metrics of the batches of several parts, as those of all their examples."""
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves).astype(np.float64), *results)
    return combine_metrics(stacked, counts)


@dataclass(frozen=True)
class MemberParallel:
    """Members of a population over devices: each lies whole on one of them and nothing is exchanged.

    The last device is filled up with copies of the first member, which stay as they are; so are all where the program
    has `room` for more members than there are. `map` is how a device goes through its members.
    """

    devices: Devices
    room: int = 0
    map: MemberMap = IN_TURN

    def to_devices(self, trees: Sequence[Any]) -> Any:
        """The trees, stacked, with axes of devices and of members on each."""
        spread = NamedSharding(Mesh(np.array(self.devices), (MEMBERS,)), PartitionSpec(MEMBERS))
        return jax.device_put(jax.tree.map(self._stack, *trees), spread)

    def to_host(self, tree: Any) -> list[Any]:
        """The tree of each member, and of each copy that fills up the last device."""
        host = jax.device_get(tree)
        devices, members = jax.tree.leaves(host)[0].shape[:2]
        return [jax.tree.map(lambda leaf, d=d, i=i: leaf[d, i], host) for d in range(devices) for i in range(members)]

    def train_steps(self, make_step: MakeStep, steps_per_call: int, blocks: bool = False) -> StepProgram:
        """The compiled train steps, every member with its own."""
        scan, loop = scan_programs(lambda split: with_singleton_axis(make_step(split)), steps_per_call)
        axes = (0 if blocks else None, 0, 0, 0, 0, 0)
        full = self._pmap(self._over_members(scan), axes, donate_argnums=(1,))
        partial_call = self._pmap(self._over_members(loop), (*axes, None), donate_argnums=(1,))
        return StepProgram(self, full, partial_call, steps_per_call, step_axis=2)

    def block_indices(self, streams: np.ndarray, members: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The streams of a device's members, each of them once."""
        by_device = [np.unique(own, return_inverse=True) for own in self._stack(*map(np.int32, members))]
        most = max(len(own) for own, _ in by_device)
        slots = np.concatenate([slots for _, slots in by_device])[: len(members)]
        return np.stack([streams[np.resize(own, most)] for own, _ in by_device]), slots

    def step_arguments(self, indices: np.ndarray, key: Any, hyper: Any, alive: np.ndarray) -> tuple:
        """Every member's indices on its device, and which members go on."""
        return self._stack(*indices), key, hyper, self._pad_alive(alive)

    def evaluation(
        self, make_step: MakeStep, batch_size: int, split: Any, keep: Keep = make_anew
    ) -> Callable[..., list[Metrics]]:
        """The whole of `split`, exactly: (params, key, step, hyper) -> each member's metrics, float64 NumPy arrays."""

        def map_batches(split, indices, params, key, step, hyper):
            step_fn = with_singleton_axis(make_step(split))

            def member(params, key, step, hyper):
                return jax.lax.map(lambda batch: step_fn(params, batch, key, step, hyper), indices)

            return self.map.lift(member)(params, key, step, hyper)

        call = keep(("evaluation", self), lambda: self._pmap(map_batches, (None, None, 0, 0, 0, 0)))
        full = split.size // batch_size * batch_size
        indices = np.arange(split.size, dtype=np.int32)
        parts = [part for part in (indices[:full].reshape(-1, batch_size), indices[None, full:]) if part.size]
        send = partial(replicate, devices=self.devices)
        placed = send_whole(split, send)
        return partial(self._evaluate, call, [BatchReader(placed, part, send) for part in parts])

    def _evaluate(self, call: Callable, readers: Sequence[BatchReader], *constants: Any) -> list[Metrics]:
        counts = np.concatenate([np.full(len(reader.batches), reader.batches.shape[1]) for reader in readers])
        results = [
            result
            for reader in readers
            for result in reader.map(lambda split, batches: self.to_host(call(split, batches, *constants)))
        ]
        return [_union(member, counts) for member in zip(*results, strict=True)]

    def _over_members(self, program: Callable) -> Callable:
        """`program` of every member on a device; the split and a call's number of steps are the same for all."""
        program = while_alive(program, self.map.cond)

        def call(split, state, indices, key, hyper, alive, *steps):
            def member(*arguments):
                return program(split, *arguments, *steps)

            return self.map.lift(member)(state, indices, key, hyper, alive)

        return call

    def _pmap(self, function: Callable, axes: tuple, **options: Any) -> Any:
        return jax.pmap(function, MEMBERS, in_axes=axes, devices=self.devices, **options)

    def _members_on_a_device(self, count: int) -> int:
        return -(-max(count, self.room) // len(self.devices))

    def _stack(self, *leaves: Any) -> Any:
        """(device, member, ...) of the leaves of all members, filled up with the first."""
        filling = self._members_on_a_device(len(leaves)) * len(self.devices) - len(leaves)
        dtype: Any = getattr(leaves[0], "dtype", None)
        stacked = (jnp if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np).stack([*leaves, *[leaves[0]] * filling])
        return stacked.reshape(len(self.devices), -1, *stacked.shape[1:])

    def _pad_alive(self, alive: np.ndarray) -> np.ndarray:
        """(device, member): a copy that fills up a device does nothing."""
        padded = np.zeros(self._members_on_a_device(len(alive)) * len(self.devices), bool)
        padded[: len(alive)] = alive
        return padded.reshape(len(self.devices), -1)


MEAN_OF = {"code_variance": "code_mean", "elbo_variance": "elbo", "bound_variance": "bound"}
"""Variances over the examples of a batch, and the name of the mean of each."""


def combine_metrics(metrics: Metrics, counts: np.ndarray) -> Metrics:
    """Metrics of many batches (leading axis) as those of their union; `counts` is examples a batch.

    Means are averaged; the variance of a union is the mean of variances plus the variance of means.
    """
    means = {name: np.average(value, axis=0, weights=counts) for name, value in metrics.items()}

    def variance(name: str, mean: str) -> Any:
        return means[name] + np.average((metrics[mean] - means[mean]) ** 2, axis=0, weights=counts)

    return means | {name: variance(name, mean) for name, mean in MEAN_OF.items() if name in metrics}
