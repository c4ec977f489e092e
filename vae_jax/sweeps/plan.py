"""What a sweep would take: programs, members, time, disk.

Times are, in this order, from what the study has recorded of the same program; from the operations of its step by
XLA's cost analysis before compiling, at the rate of a matrix product here, which no step reaches ("at least"); or,
for programs that the calibration's few seconds did not reach, from the mean of the others ("like the others").
"""

import dataclasses
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import format_bytes, format_duration, plural, printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.groups import RunGroup
from vae_jax.training.step import Hyper, initial_state, make_train_step, optimizer_for
from vae_jax.typing import AXIS

CALIBRATION_SECONDS = 2.0
"""What calibration may take, half for states and half for steps: what would take it beyond is not begun, but for the
first of each."""

SHAPE_SECONDS = 15.0
"""How long to wait for the data, of which only the image shape is wanted: the first import of what reads them may
take most of it, on a cold disk or a busy machine."""

PICTURE_BYTES, RECORD_BYTES = 260_000, 620
"""Of a run's pictures and of one record, as measured on runs of digits with 16 latents."""

RECORDED, LOWER_BOUND, MEAN, UNKNOWN = "recorded in this study", "at least", "like the others", "unknown"
"""Where the seconds of an estimate come from."""

SIGNS = {RECORDED: "", LOWER_BOUND: "> ", MEAN: "~ "}

INDENT = "    "
"""Of what a line of a terminal has no room for, on the next."""

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ShapeRequest:
    """A process that loads a data section, and where it sends the image shape, or in words why there is none."""

    process: BaseProcess
    answer: Connection

    def receive(self, deadline: float) -> Shape | str:
        """The image shape, or in words why there is none before `deadline` (time.monotonic)."""
        if not self.answer.poll(max(0.0, deadline - time.monotonic())):
            return f"the data were not loaded within {SHAPE_SECONDS:g} s"
        try:
            return self.answer.recv()
        except EOFError:
            return "the data cannot be loaded here"

    def cancel(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()


ShapeRequests = dict[str, ShapeRequest]
"""By the digest of a data section."""


class Estimate(NamedTuple):
    """What one program takes: member-steps that remain, seconds for one, bytes of a run, where the seconds come from.

    What is not known is None.
    """

    member_steps: float
    step_seconds: float | None
    run_bytes: int | None
    source: str

    @property
    def seconds(self) -> float | None:
        """Seconds that remain, with the whole machine to itself."""
        return None if self.step_seconds is None else self.member_steps * self.step_seconds


class Calibration(NamedTuple):
    """Bytes of a run's state and operations of a step, by program, and how many operations a second there are here."""

    state_bytes: dict[str, int]
    step_flops: dict[str, float]
    flops_per_second: float


@pinned_flags()
def describe(
    groups: Sequence[RunGroup], folder: Path, processes: int, devices: int | None, shapes: ShapeRequests
) -> str:
    """The plan as a person reads it: a line a program, and the totals.

    Args:
        groups: the runs of each program.
        folder: the study's; what has ended there is not counted.
        processes: how many programs run at once.
        devices: how many devices each of them has; None where that is not known.
        shapes: image shapes that were asked for earlier, by `request_image_shape`.
    """
    estimates, remarks = estimate_groups(groups, folder, shapes)
    ended = [_count_ended(group, folder) for group in groups]
    rows = [_row(*row) for row in zip(groups, estimates, ended, strict=True)]
    remarks = [*remarks, *(_rounds(group, devices) for group in groups)]
    table = align([("program", "runs", "ended", "time", "disk", "what is swept"), *rows])
    totals = _totals(groups, estimates, sum(ended), processes)
    return wrap_text("\n".join([*table, "", totals, *dict.fromkeys(map(printable, remarks))]), INDENT)


def _row(group: RunGroup, estimate: Estimate, ended: int) -> tuple[str, ...]:
    swept = ", ".join(f"{field} ({len(values)})" for field, values in group.swept.items()) or "nothing"
    duration, disk = "?", "?"
    if estimate.seconds is not None:
        duration = SIGNS[estimate.source] + format_duration(estimate.seconds)
    if estimate.run_bytes is not None:
        disk = format_bytes(estimate.run_bytes * len(group.runs))
    return printable(group.id), f"{len(group.runs):,}", f"{ended:,}", duration, disk, printable(swept)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column to the left, the last as it is, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells, last in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:-1], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded, last]))
    return lines


def _rounds(group: RunGroup, devices: int | None) -> str:
    """In how many rounds its members train, if the config says; the compiled program's memory decides otherwise."""
    members = group.config.sweep.members_per_device
    if not members:
        return "rounds: set by the memory that one compiled member takes, when a program starts; its log says how many"
    if devices is None:
        return f"{group.id}: rounds of at most {members} members on each of its devices"
    rounds = math.ceil(len(group.runs) / (members * devices))
    return f"{group.id}: {plural(rounds, 'round')} of at most {members} members on each of {devices} devices"


def _totals(groups: Sequence[RunGroup], estimates: Sequence[Estimate], ended: int, processes: int) -> str:
    sizes = [len(group.runs) for group in groups]
    parts = [
        f"{plural(sum(sizes), 'run')} in {plural(len(groups), 'program')}, at most {max(sizes):,} in one; "
        f"{ended:,} ended before; {plural(processes, 'program')} at once"
    ]
    # Seconds are of the whole machine: programs side by side share it.
    seconds = [estimate.seconds for estimate in estimates if estimate.seconds is not None]
    if len(seconds) == len(groups):
        recorded = all(estimate.source == RECORDED for estimate in estimates)
        parts.append(f"time {'about' if recorded else 'at least'} {format_duration(sum(seconds))}")
    disk = [e.run_bytes * size for e, size in zip(estimates, sizes, strict=True) if e.run_bytes is not None]
    if len(disk) == len(groups):
        parts.append(f"disk about {format_bytes(sum(disk))}")
    return "; ".join(parts)


def _count_ended(group: RunGroup, folder: Path) -> int:
    return sum(study.end_state(folder / run.id, run.config.train.steps) is not None for run in group.runs)


def estimate_groups(
    groups: Sequence[RunGroup], folder: Path, shapes: ShapeRequests
) -> tuple[list[Estimate], list[str]]:
    """What each program takes, and remarks on what is not known. Takes a few seconds at most."""
    known_shapes, shape_remarks = image_shapes(groups, folder, shapes)
    speeds = {group.id: study.read_speed(folder, group.id) for group in groups}
    recorded = [name for name, (steps, _) in speeds.items() if steps]
    calibration, remarks = calibrate(groups, known_shapes, recorded)
    if calibration.step_flops:
        rate = calibration.flops_per_second / 1e9
        remarks = [*remarks, f"at least: if its steps ran at {rate:,.0f} GFLOP/s, a matrix product's rate here"]
    estimates = [_estimate(group, folder, speeds[group.id], calibration) for group in groups]
    if unreached := sum(estimate.source == MEAN for estimate in estimates):
        remarks = [
            *remarks,
            f"like the others: {unreached} programs that {CALIBRATION_SECONDS:g} s of calibration did not reach",
        ]
    return estimates, [*shape_remarks, *remarks]


def _estimate(group: RunGroup, folder: Path, speed: tuple[float, float], calibration: Calibration) -> Estimate:
    remaining = 0.0
    for run in group.entries():
        if study.end_state(folder / run.id, run.steps) is None:
            remaining += study.remaining_steps(run, study.last_step(folder / run.id))
    size, flops = calibration.state_bytes.get(group.id), calibration.step_flops
    disk = size and run_bytes(group.config, size)
    steps, seconds = speed
    if steps:
        return Estimate(remaining, seconds / steps, disk, RECORDED)
    if not flops:
        return Estimate(remaining, None, disk, UNKNOWN)
    if group.id in flops:
        return Estimate(remaining, flops[group.id] / calibration.flops_per_second, disk, LOWER_BOUND)
    mean = sum(flops.values()) / len(flops)
    return Estimate(remaining, mean / calibration.flops_per_second, disk, MEAN)


def calibrate(
    groups: Sequence[RunGroup], shapes: Mapping[str, Shape], recorded: Sequence[str]
) -> tuple[Calibration, list[str]]:
    """What can be measured of the programs in a few seconds, and remarks on what cannot.

    Args:
        groups: the runs of each program.
        shapes: the image shape of each data section, by its digest.
        recorded: ids of programs whose speed is known.
    """
    groups = [group for group in groups if _section_digest(group) in shapes]
    sizes, size_remarks = _measure(state_bytes, groups, shapes)
    groups = [group for group in groups if group.id not in recorded]
    rate = matmul_rate() if groups else math.nan
    flops, flops_remarks = _measure(step_flops, groups, shapes)
    return Calibration(sizes, flops, rate), [*size_remarks, *flops_remarks]


def _measure(
    measure: Callable[[ConfigDict, Shape], Any], groups: Sequence[RunGroup], shapes: Mapping[str, Shape]
) -> tuple[dict[str, Any], list[str]]:
    """What `measure` gives for each program, as far as time allows, and why it does not for others.

    The time is its own, so that the first is measured always: what came before may have been cold.
    """
    values, remarks, longest = {}, [], 0.0
    deadline = time.perf_counter() + CALIBRATION_SECONDS / 2
    for group in groups:
        start = time.perf_counter()
        if start + longest > deadline:
            continue
        try:
            values[group.id] = measure(group.config, shapes[_section_digest(group)])
        except Exception as error:  # whatever this variant makes of data without content
            remarks.append(f"{group.id}: not told ({type(error).__name__}: {error})")
        longest = max(longest, time.perf_counter() - start)
    return values, remarks


def _section_digest(group: RunGroup) -> str:
    return study.digest(group.config.data.to_dict())


def image_shapes(
    groups: Sequence[RunGroup], folder: Path, requests: ShapeRequests
) -> tuple[dict[str, Shape], list[str]]:
    """The image shape of each data section, by its digest, that is known in time, and remarks on those that are not.

    Ends every request.
    """
    shapes = _recorded_shapes(groups, folder)
    remarks = []
    sections = {_section_digest(group): group.config.data for group in groups}
    requests = dict(requests)
    for digest, section in sections.items():
        if digest not in shapes and digest not in requests:
            requests |= request_image_shape(section)
        if digest not in shapes and digest not in requests:
            remarks.append("no times: config.data.path is empty, and a plan downloads no data")
    deadline = time.monotonic() + SHAPE_SECONDS
    wanted = sections.keys() - shapes.keys()
    answers = {digest: requests[digest].receive(deadline) for digest in requests if digest in wanted}
    for request in requests.values():
        request.cancel()
    remarks += [f"no times: {answer}" for answer in answers.values() if isinstance(answer, str)]
    return shapes | {digest: answer for digest, answer in answers.items() if isinstance(answer, tuple)}, remarks


def _recorded_shapes(groups: Sequence[RunGroup], folder: Path) -> dict[str, Shape]:
    """The image shapes that runs of the study have recorded, by the digest of their data section."""
    shapes: dict[str, Shape] = {}
    for group in groups:
        digest = _section_digest(group)
        if digest in shapes:
            continue
        recorded = (read_json(folder / run.id / "config.json").get("image_shape") for run in group.runs)
        if shape := next(filter(_is_shape, recorded), None):
            shapes[digest] = tuple(shape)
    return shapes


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(size) is int and size > 0 for size in value)


def request_image_shape(section: ConfigDict) -> ShapeRequests:
    """Starts to load a data section for its image shape; nothing where that would mean to fetch the data.

    In a process of its own, which can be ended: reading a large set takes longer than a plan may. It is forked before
    jax has started anything: importing all of it once more would take as long as some data.
    """
    if section.get("path", None) == "":
        return {}
    answer, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send_shape, args=(section, sender), daemon=True)
    process.start()
    sender.close()
    return {study.digest(section.to_dict()): ShapeRequest(process, answer)}


@pinned_flags()
def _send_shape(section: ConfigDict, sender: Connection) -> None:
    """Sends the image shape of a data section, or in words why there is none."""
    try:
        sender.send(model.load_data(section).image_shape)
    except Exception as error:  # whatever a damaged file makes of its reader
        sender.send(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")


@pinned_flags()
def state_bytes(config: ConfigDict, image_shape: Shape) -> int:
    """Bytes of what a checkpoint holds."""
    import jax

    built = model.build(config, image_shape)
    state = jax.eval_shape(lambda: initial_state(built, config, image_shape))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def run_bytes(config: ConfigDict, state: int) -> int:
    """Bytes of a finished run's folder: the newest checkpoints and the best, records and pictures."""
    steps = config.train.steps
    records = steps // config.log.every + steps // config.evaluation.every
    saved = math.ceil(steps / config.checkpoint.every)
    return min(config.checkpoint.keep + 1, saved) * state + records * RECORD_BYTES + PICTURE_BYTES


@pinned_flags()
def step_flops(config: ConfigDict, image_shape: Shape) -> float:
    """Floating-point operations of one step of one member, of the lowered program: compiling would take minutes."""
    import jax
    import jax.numpy as jnp

    built = model.build(config, image_shape)
    fetch = partial(data.make_batch, stand_in(image_shape, config.data.binarize), data.binarizer(config.data.binarize))
    optimizer = optimizer_for(config, built.variant)
    step = make_train_step(built.nets, built.variant, optimizer, fetch, config.train.ema)
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None), axis_name=AXIS))
    state = jax.eval_shape(lambda: initial_state(built, config, image_shape))
    indices = jax.ShapeDtypeStruct((1, config.train.batch_size), jnp.int32)
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    hyper = Hyper(scalar, dict.fromkeys(built.floats, scalar))
    cost: Any = lifted.lower(state, indices, randomness.root_key(0), hyper).cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def stand_in(image_shape: Shape, binarize: str) -> data.Split:
    """Data of this shape with all that a variant may ask for: what a step costs does not depend on what it shows."""
    import jax.numpy as jnp

    def black_images(indices, *_):
        return jnp.zeros((len(indices), *image_shape), jnp.float32 if binarize == "real" else jnp.uint8)

    def factors(indices):
        return jnp.zeros((len(indices), 1), jnp.int32)

    return data.Split(black_images, jnp.zeros(1, jnp.int32), 1, factors, black_images)


@pinned_flags()
def matmul_rate() -> float:
    """FLOP/s of a product of two 1024 x 1024 matrices on all of this machine's devices."""
    import jax
    import jax.numpy as jnp

    size = 1024
    multiply, a = jax.jit(jnp.matmul), jnp.full((size, size), 1 / size)
    jax.block_until_ready(multiply(a, a))
    times = [_seconds(lambda: jax.block_until_ready(multiply(a, a))) for _ in range(5)]
    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()  # a CPU's product uses all cores
    return devices * 2 * size**3 / min(times)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
