"""What a sweep would take: programs, members, time, disk.

Times are, in this order, from what the study has recorded of the same program; from the operations of its step by
XLA's cost analysis before compiling, at the rate of a matrix product here, which no step reaches ("at least"); or,
for programs that the calibration's few seconds did not reach, from the mean of the others ("like the others").
"""

import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.errors import UserError
from vae_jax.sweeps import machine, study
from vae_jax.sweeps.algebra import Program
from vae_jax.sweeps.study import Planned
from vae_jax.training.step import Hyper, initial_state, make_train_step
from vae_jax.typing import AXIS

SECONDS = 2.0
"""What calibration may take: a program that would take it beyond is not begun, but for the first."""

SHAPE_SECONDS = 3.0
"""How long to wait for the data, of which only the image shape is wanted."""

PICTURES, RECORD = 260_000, 620
"""Bytes of a run's pictures and of one record, as measured on runs of digits with 16 latents."""


Asked = dict[str, tuple[BaseProcess, Connection]]
"""By the digest of a data section: the process that loads it, and where it tells the image shape."""


class Estimate(NamedTuple):
    """Of one program: member-steps that remain, seconds for one, bytes of a run, and where the seconds come from."""

    steps: float
    seconds: float | None
    bytes: int | None
    source: str


def of_program(program: Program) -> list[Planned]:
    """Its runs as plan.json has them."""
    return [
        Planned(run.id, program.id, run.config.train.steps, tuple(run.config.sweep.halving), run.words)
        for run in program.runs
    ]


def estimates(programs: Sequence[Program], folder: Path, asked: Asked) -> tuple[list[Estimate], list[str]]:
    """Of each program, and remarks on what could not be told. Takes a few seconds at most."""
    sections = {study.digest(program.runs[0].config.data.to_dict()): program.runs[0].config for program in programs}
    shapes, remarks = image_shapes(sections, programs, folder, asked)
    speeds = {program.id: study.read(folder / "programs" / f"{program.id}.speed.json") for program in programs}
    began, rate, sizes, flops = time.perf_counter(), None, {}, {}
    for measure, into in ((state_bytes, sizes), (step_flops, flops)):
        longest = 0.0
        for program in programs:
            config = program.runs[0].config
            shape = shapes.get(study.digest(config.data.to_dict()))
            recorded = into is flops and speeds[program.id].get("member_steps")
            if shape is None or recorded or time.perf_counter() - began + longest > SECONDS:
                continue
            if into is flops and rate is None:
                rate = matmul_rate()
            started = time.perf_counter()
            try:
                into[program.id] = measure(config, shape)
            except Exception as error:  # whatever this variant makes of data without content
                remarks.append(f"{program.id}: not told ({type(error).__name__}: {error})")
            longest = max(longest, time.perf_counter() - started)
    if rate:
        remarks.append(f"at least: if its steps ran at {rate / 1e9:,.0f} GFLOP/s, a matrix product's rate here")
    found = [_estimate(program, folder, speeds[program.id], flops, rate, sizes.get(program.id)) for program in programs]
    unreached = sum(estimate.source == "like the others" for estimate in found)
    if unreached:
        remarks.append(f"like the others: {unreached} programs that {SECONDS:g} s of calibration did not reach")
    return found, remarks


def _estimate(
    program: Program,
    folder: Path,
    speed: Mapping[str, float],
    flops: Mapping[str, float],
    rate: float | None,
    size: int | None,
) -> Estimate:
    remaining = 0.0
    for run in of_program(program):
        if study.ended(folder / run.id, run.steps) is None:
            remaining += study.steps_left(run, study.last_step(folder / run.id))
    on_disk = size and run_bytes(program.runs[0].config, size)
    if speed.get("member_steps"):
        return Estimate(remaining, speed["seconds"] / speed["member_steps"], on_disk, "recorded in this study")
    if program.id in flops:
        return Estimate(remaining, flops[program.id] / rate, on_disk, "at least")
    if flops:
        return Estimate(remaining, sum(flops.values()) / len(flops) / rate, on_disk, "like the others")
    return Estimate(remaining, None, on_disk, "unknown")


def image_shapes(
    sections: Mapping[str, ConfigDict], programs: Sequence[Program], folder: Path, asked: Asked
) -> tuple[dict[str, tuple], list[str]]:
    """The image shape of each of the data sections that can be told in time, and why others cannot."""
    shapes, remarks = {}, []
    for program in programs:
        config = program.runs[0].config
        key = study.digest(config.data.to_dict())
        for run in program.runs if key not in shapes else ():
            if shape := study.read(folder / run.id / "config.json").get("image_shape"):
                shapes[key] = tuple(shape)
                break
    for key, config in sections.items():
        if key in shapes:
            continue
        if key not in asked:
            asked = asked | ask_shape(config.data)
        if key not in asked:
            remarks.append("no times: config.data.path is empty, and fetching the data is no part of a plan")
    limit = time.monotonic() + SHAPE_SECONDS
    for key, (process, answer) in asked.items():
        found: Any = f"the data were not loaded within {SHAPE_SECONDS:g} s"
        if key in sections and key not in shapes and answer.poll(max(0.0, limit - time.monotonic())):
            try:
                found = answer.recv()
            except EOFError:
                found = "the data cannot be loaded here"
        process.kill()
        process.join()
        if key not in sections or key in shapes:
            continue
        if isinstance(found, str):
            remarks.append(f"no times: {found}")
        else:
            shapes[key] = found
    return shapes, remarks


def ask_shape(section: ConfigDict) -> Asked:
    """Starts to load a data section for its image shape; nothing where that would mean to fetch the data.

    In a process of its own, which can be ended: reading a large set takes longer than a plan may. It is forked before
    jax has started anything: importing all of it once more would take as long as some data.
    """
    if section.get("path", None) == "":
        return {}
    answer, told = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=tell_shape, args=(section, told), daemon=True)
    process.start()
    told.close()
    return {study.digest(section.to_dict()): (process, answer)}


def tell_shape(section: ConfigDict, answer: Connection) -> None:
    """Sends the image shape of a data section, or in words why there is none."""
    try:
        answer.send(model.load_data(section).image_shape)
    except UserError as error:
        answer.send(str(error))


def state_bytes(config: ConfigDict, image_shape: tuple[int, int, int]) -> int:
    """Bytes of what a checkpoint holds."""
    import jax

    built = model.build(config, image_shape)
    state = jax.eval_shape(lambda: initial_state(built, config, image_shape))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def run_bytes(config: ConfigDict, state: int) -> int:
    """Bytes of a finished run's folder: the newest checkpoints and the best, records and pictures."""
    steps = config.train.steps
    records = steps // config.log.every + steps // config.evaluation.every
    saved = -(-steps // config.checkpoint.every)
    return min(config.checkpoint.keep + 1, saved) * state + records * RECORD + PICTURES


def step_flops(config: ConfigDict, image_shape: tuple[int, int, int]) -> float:
    """Floating-point operations of one step of one member, of the lowered program: compiling would take minutes."""
    import jax
    import jax.numpy as jnp

    built = model.build(config, image_shape)
    fetch = partial(data.make_batch, stand_in(image_shape), data.binarizer(config.data.binarize))
    step = make_train_step(built.nets, built.variant, built.optimizer, fetch, config.train.ema)
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None), axis_name=AXIS))
    state = jax.eval_shape(lambda: initial_state(built, config, image_shape))
    indices = jax.ShapeDtypeStruct((1, config.train.batch_size), jnp.int32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    hyper = Hyper(scalar, dict.fromkeys(built.floats, scalar))
    cost = lifted.lower(state, indices, randomness.root_key(0), hyper).cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def stand_in(image_shape: tuple[int, int, int]) -> data.Split:
    """Data of this shape with all that a variant may ask for: what a step costs does not depend on what it shows."""
    import jax.numpy as jnp

    black = lambda indices, *rest: jnp.zeros((len(indices), *image_shape), jnp.uint8)  # noqa: E731
    return data.Split(black, jnp.zeros(1, jnp.int32), 1, lambda indices: jnp.zeros((len(indices), 1), jnp.int32), black)


def matmul_rate() -> float:
    """FLOP/s of a product of two 1024 x 1024 matrices on all of this machine's devices."""
    import jax
    import jax.numpy as jnp

    multiply, a = jax.jit(jnp.matmul), jnp.full((1024, 1024), 1 / 1024)
    jax.block_until_ready(multiply(a, a))
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(multiply(a, a))
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    accelerators = jax.local_device_count() if jax.default_backend() != "cpu" else 1  # a CPU's use all cores
    return best * accelerators


def describe(programs: Sequence[Program], folder: Path, at_once: int, asked: Asked) -> str:
    """The plan as a table with its totals and remarks; `asked` are the image shapes that were asked for earlier."""
    found, remarks = estimates(programs, folder, asked)
    ended = {program.id: _count(program, folder) for program in programs}
    rows = [("program", "runs", "ended", "time", "disk", "what is swept")]
    for program, estimate in zip(programs, found, strict=True):
        swept = ", ".join(f"{field} ({len(values)})" for field, values in program.swept.items()) or "nothing"
        source = {"at least": "> ", "like the others": "~ ", "recorded in this study": ""}.get(estimate.source, "")
        time_ = "?" if estimate.seconds is None else source + duration(estimate.steps * estimate.seconds)
        disk = "?" if estimate.bytes is None else size(estimate.bytes * len(program.runs))
        rows.append((program.id, f"{len(program.runs):,}", f"{ended[program.id]:,}", time_, disk, swept))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    left = [
        row[0].ljust(widths[0]) + "".join(f"  {row[i]:>{widths[i]}}" for i in range(1, len(widths))) for row in rows
    ]
    lines = [f"{text}  {row[-1]}" for text, row in zip(left, rows, strict=True)]
    remarks += [_rounds(program, at_once) for program in programs]
    return "\n".join([*lines, "", _totals(programs, found, sum(ended.values()), at_once), *dict.fromkeys(remarks)])


def _rounds(program: Program, at_once: int) -> str:
    """In how many rounds its members train, if the config says; the compiled program's memory decides otherwise."""
    each = program.runs[0].config.sweep.members_per_device
    if not each:
        return "rounds: set by the memory that one compiled member takes, when a program starts; its log says how many"
    devices = max(1, len(machine.gpus() or machine.cores()) // at_once)
    rounds = math.ceil(len(program.runs) / (each * devices))
    return f"{program.id}: {rounds} round{'s' * (rounds != 1)} of at most {each} members on each of {devices} devices"


def _totals(programs: Sequence[Program], found: Sequence[Estimate], ended: int, at_once: int) -> str:
    count, members = sum(len(program.runs) for program in programs), max(len(program.runs) for program in programs)
    parts = [
        f"{count:,} run{'s' * (count != 1)} in {len(programs):,} program{'s' * (len(programs) != 1)}, at most "
        f"{members:,} in one; {ended:,} ended before; {at_once} program{'s' * (at_once != 1)} at once"
    ]
    if all(estimate.seconds is not None for estimate in found):
        # Seconds are of the whole machine: programs side by side share it.
        total = duration(sum(e.steps * e.seconds for e in found))
        lowest = any(estimate.source != "recorded in this study" for estimate in found)
        parts.append(f"time {'at least ' if lowest else 'about '}{total}")
    if all(estimate.bytes is not None for estimate in found):
        parts.append(f"disk about {size(sum(e.bytes * len(p.runs) for e, p in zip(found, programs, strict=True)))}")
    return "; ".join(parts)


def _count(program: Program, folder: Path) -> int:
    return sum(study.ended(folder / run.id, run.config.train.steps) is not None for run in program.runs)


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 36)):
        if seconds < limit * length:
            return f"{seconds / length:.0f} {unit}" if unit == "s" else f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:,.1f} days"


def size(count: float) -> str:
    """A number of bytes in its largest fitting unit."""
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} TB"
