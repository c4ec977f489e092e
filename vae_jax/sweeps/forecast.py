"""What a sweep would take on a machine that one does not have: members at once, rounds, and bounds on the time.

A compiler counts the operations and the bytes of a step; the chip's published rates say how long those take. The time
of the operations is a bound. That of the bytes is one where they come from the chip's memory: what stays in its caches
is counted too. Counts of a program are kept in the user's cache folder, as compiling takes a minute.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax

from vae_jax.config.parse import static_fields
from vae_jax.data import Split
from vae_jax.data._host_images import HostImages
from vae_jax.data._splits import hold_images, host_split
from vae_jax.errors import UserError
from vae_jax.files import cache_folder, read_json, user_path, write_json
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import format_bytes, format_duration, plural, printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.chips import Chip, Machine, compile_devices
from vae_jax.sweeps.groups import RunGroup
from vae_jax.sweeps.plan import INDENT, align
from vae_jax.training.executors import local_devices
from vae_jax.training.memory import FILLED
from vae_jax.training.placement import LARGEST_SHARE
from vae_jax.training.prefetch import BLOCK_BYTES
from vae_jax.training.scan import AT_ONCE
from vae_jax.training.setup import prepare, tree_bytes
from vae_jax.training.step_cost import lower_steps, step_cost

SEVERAL = 8
"""Members of the program by which it is seen what each of many takes."""


class Counts(NamedTuple):
    """What a compiler counts of a program: of one member's step, and of the memory of a device.

    Attributes:
        bytes: what a step of one member reads and writes.
        operations: floating-point operations of the same.
        member_bytes: memory that each member takes.
        shared_bytes: memory that is taken once, most of it data.
    """

    bytes: float
    operations: float
    member_bytes: float
    shared_bytes: float


class Forecast(NamedTuple):
    """A program on a machine.

    Attributes:
        members: at once on each device.
        rounds: in which its runs train.
        operation_seconds: what the operations of one member's step take at least.
        byte_seconds: what its bytes would take from the chip's memory.
    """

    members: int
    rounds: int
    operation_seconds: float
    byte_seconds: float


NUMBERS = "runs", "members a device", "rounds", "models an hour", "(by bytes)", "time", "(by bytes)"
"""What is said of each program; what is not by bytes is by operations."""


@pinned_flags()
def describe(groups: Sequence[RunGroup], machine: Machine) -> str:
    """The plan as a person reads it: a line a program, and the totals.

    Raises UserError where no member fits, and where data or members cannot be planned with.
    """
    for group in groups:
        check_plannable(group)
    forecasts = [forecast(group, count(group, machine.chip), machine) for group in groups]
    times = [program_seconds(group, own, machine) for group, own in zip(groups, forecasts, strict=True)]
    rows = [_row(*each) for each in zip(groups, forecasts, times, strict=True)]
    least, by_bytes = (format_duration(sum(column)) for column in zip(*times, strict=True))
    runs = plural(sum(len(group.runs) for group in groups), "run")
    totals = f"{runs} in {plural(len(groups), 'program')}; at least {least}, by bytes {by_bytes}"
    table = align([("program", *NUMBERS, "what is swept"), *rows])
    return wrap_text("\n".join([*table, "", totals, *_remarks(groups, machine)]), INDENT)


def check_plannable(group: RunGroup) -> None:
    """Raises UserError where the members of a program are no population, or its data are not here."""
    config = group.config
    if config.parallel.mode == "data":
        raise UserError("--on: plans populations, and config.parallel.mode='data' splits each run over all devices")
    path = config.data.get("path", None)
    if path == "":
        raise UserError("config.data.path: is empty, and a plan downloads no data; give the path of the data")
    if path and not user_path(path).exists():
        raise UserError(f"config.data.path: {str(path)!r} is not there, and a plan downloads no data")


def _row(group: RunGroup, own: Forecast, seconds: tuple[float, float]) -> tuple[str, ...]:
    swept = ", ".join(f"{field} ({len(values)})" for field, values in group.swept.items()) or "nothing"
    models = [f"{sign} {len(group.runs) * 3600 / each:,.0f}" for sign, each in zip("<~", seconds, strict=True)]
    times = [f"{sign} {format_duration(each)}" for sign, each in zip(">~", seconds, strict=True)]
    numbers = f"{len(group.runs):,}", f"{own.members:,}", f"{own.rounds:,}"
    return printable(group.id), *numbers, *models, *times, printable(swept)


def _remarks(groups: Sequence[RunGroup], machine: Machine) -> list[str]:
    chip = machine.chip
    rates = [f"{_rate(chip, dtype) / 1e12:,.0f} Tflop/s in {dtype}" for dtype in dict.fromkeys(map(_dtype, groups))]
    what = f"{chip.memory / 1e9:,.0f} GB at {chip.bandwidth / 1e9:,.0f} GB/s and {', '.join(rates)}"
    return [
        f"{machine}, each {what} ({chip.source})",
        "bounds, no forecast: the operations of the steps at that rate; or their bytes, if all come from the chip's "
        "memory and none from its caches. Launches, evaluations, checkpoints, pictures and compiling come on top",
        f"counted by {_compiler(chip)}",
    ]


def _dtype(group: RunGroup) -> str:
    return group.config.net.get("dtype", "float32")


def _rate(chip: Chip, dtype: str) -> float:
    return chip.rates.get(dtype, chip.rates["float32"])


def _compiler(chip: Chip) -> str:
    if compile_devices(chip):
        return f"libtpu {metadata.version('libtpu')}, which compiles for this chip"
    missing = "; libtpu, which compiles for TPUs, is not installed" if chip.topology else ""
    return f"XLA's compiler for CPUs, of what an accelerator gets; its own program may move fewer bytes{missing}"


def forecast(group: RunGroup, counts: Counts, machine: Machine) -> Forecast:
    """How a program would train on `machine`. Raises UserError where not one member fits on a device."""
    chip = machine.chip
    free = FILLED * chip.memory - counts.shared_bytes
    if free < counts.member_bytes:
        raise UserError(
            f"--on: {machine.name} has {format_bytes(chip.memory)}, and one member of {group.id} takes "
            f"{format_bytes(counts.member_bytes)} beside {format_bytes(counts.shared_bytes)} of data and programs"
        )
    share = math.ceil(len(group.runs) / machine.chips)
    members = min(share, int(free // counts.member_bytes), group.config.sweep.members_per_device or share)
    seconds = counts.operations / _rate(chip, _dtype(group)), counts.bytes / chip.bandwidth
    return Forecast(members, math.ceil(share / members), *seconds)


def program_seconds(group: RunGroup, own: Forecast, machine: Machine) -> tuple[float, float]:
    """What the steps of a program's runs take by operations and by bytes: the devices train side by side."""
    share = math.ceil(len(group.runs) / machine.chips)
    steps = share * sum(study.remaining_steps(entry, 0) for entry in group.entries()) / len(group.runs)
    return steps * own.operation_seconds, steps * own.byte_seconds


def count(group: RunGroup, chip: Chip) -> Counts:
    """What a compiler counts of a group's program for `chip`: from the cache, or compiled now."""
    devices = compile_devices(chip)
    packages = ["jax", *(["libtpu"] if devices else [])]
    key = {"program": static_fields(group.config), "chip": chip, "members": SEVERAL, "code": code_digest()}
    file = cache_folder("forecasts") / f"{study.digest(key | {p: metadata.version(p) for p in packages})}.json"
    cached = read_json(file)
    if cached.keys() == set(Counts._fields) and all(isinstance(value, float) for value in cached.values()):
        return Counts(**cached)
    print(f"compiling {group.id} for {chip.topology or 'an accelerator'} ...", file=sys.stderr, flush=True)
    counts = compile_counts(group, devices[:1], chip.memory)
    with contextlib.suppress(OSError):  # it is compiled again where it cannot be kept
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, counts._asdict())
    return counts


def compile_counts(group: RunGroup, devices: Sequence[jax.Device], memory: float) -> Counts:
    """Compiles the program of a group with one member and with SEVERAL, for the device; for none, on the CPU.

    What the CPU then compiles is the program that a TPU would get, which unlike a GPU's it reads whole. A program of
    several members at once is another than that of one, and counts for its own steps. A device has `memory` bytes.
    """
    setup = prepare(group.config)
    train = shapes_on_device(setup.dataset.train, memory)
    setup = dataclasses.replace(setup, dataset=setup.dataset._replace(train=train))
    executor = setup.member_executor(devices or local_devices(1), "tpu")
    platforms = () if devices else ("tpu",)
    one, several = (step_cost(lower_steps(setup, executor, members, platforms)) for members in (1, SEVERAL))
    member_bytes = max((several.memory - one.memory) / (SEVERAL - 1), float(tree_bytes(setup.state_shape)))
    if executor.map is AT_ONCE:
        step = several.bytes / SEVERAL, several.operations / SEVERAL
    else:
        step = one.bytes, one.operations
    return Counts(*step, member_bytes, max(0.0, one.memory - member_bytes))


def shapes_on_device(split: Split, memory: float) -> Split:
    """The split with the shapes of the images that a device of so much memory holds: all, or blocks of them."""
    host = host_split(split)
    if not isinstance(host.fetch, HostImages):
        return split
    images = host.fetch
    held = len(images)
    if images.nbytes > LARGEST_SHARE * memory:
        held = min(held, 3 * BLOCK_BYTES * held // images.nbytes)
    return dataclasses.replace(split, fetch=hold_images(jax.ShapeDtypeStruct((held, *images.shape[1:]), images.dtype)))


@functools.cache
def code_digest() -> str:
    """Stands for the package's source, so that no count outlives the code that it is of."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]


def use_cpu() -> None:
    """Keeps JAX from looking for the machine that is not here, which works before JAX has started.

    Nor does it look for its programs in the cache of compiled ones, which cannot read them back here.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
