"""What a sweep would take on a machine that one does not have: members at once, rounds, and bounds on the time.

A compiler counts the operations and the bytes of a step; the chip's published rates say how long those take. The time
of the operations is a bound. That of the bytes is one where they come from the chip's memory: what stays in its caches
is counted too. Counts of a program are kept in the user's cache folder, as compiling takes a minute.
"""

import functools
import hashlib
import math
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax

from vae_jax.config.parse import static_fields
from vae_jax.errors import UserError
from vae_jax.files import cache_folder, read_json, write_json
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import format_bytes, format_duration, plural, printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.chips import Chip, Machine, compile_devices
from vae_jax.sweeps.groups import RunGroup
from vae_jax.sweeps.plan import INDENT, align
from vae_jax.training.executors import local_devices
from vae_jax.training.memory import FILLED
from vae_jax.training.scan import AT_ONCE
from vae_jax.training.setup import prepare
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


NUMBERS = "runs", "members a device", "rounds", "models an hour", "by bytes", "time", "by bytes"
"""What is said of each program; the second of a pair is by bytes, the first by operations."""


@pinned_flags()
def describe(groups: Sequence[RunGroup], machine: Machine) -> str:
    """The plan as a person reads it: a line a program, and the totals. Raises UserError where no member fits."""
    forecasts = [forecast(group, counts(group, machine.chip), machine) for group in groups]
    pairs = list(zip(groups, forecasts, strict=True))
    least, by_bytes = (sum(times) for times in zip(*[program_seconds(*pair, machine) for pair in pairs], strict=True))
    runs = sum(len(group.runs) for group in groups)
    totals = (
        f"{plural(runs, 'run')} in {plural(len(groups), 'program')}; at least {format_duration(least)}, by bytes "
        f"{format_duration(by_bytes)}"
    )
    rows = [_row(group, found, machine) for group, found in pairs]
    table = align([("program", *NUMBERS, "what is swept"), *rows])
    return wrap_text("\n".join([*table, "", totals, *_remarks(groups[0], machine)]), INDENT)


def _row(group: RunGroup, found: Forecast, machine: Machine) -> tuple[str, ...]:
    swept = ", ".join(f"{field} ({len(values)})" for field, values in group.swept.items()) or "nothing"
    hours = machine.chips * 3600 / group.config.train.steps
    models = f"< {hours / found.operation_seconds:,.0f}", f"~ {hours / found.byte_seconds:,.0f}"
    least, by_bytes = map(format_duration, program_seconds(group, found, machine))
    numbers = f"{len(group.runs):,}", f"{found.members:,}", f"{found.rounds:,}"
    return printable(group.id), *numbers, *models, f"> {least}", f"~ {by_bytes}", printable(swept)


def _remarks(group: RunGroup, machine: Machine) -> list[str]:
    chip, dtype = machine.chip, group.config.net.get("dtype", "float32")
    rate = f"{chip.rates.get(dtype, chip.rates['float32']) / 1e12:,.0f} Tflop/s in {dtype}"
    return [
        f"{machine}, each {chip.memory / 1e9:,.0f} GB at {chip.bandwidth / 1e9:,.0f} GB/s and {rate} ({chip.source})",
        "bounds, no forecast: the operations of the steps at that rate; or their bytes, if all come from the chip's "
        "memory and none from its caches. Launches, evaluations, checkpoints, pictures and compiling come on top",
        f"counted by {_compiler(chip)}",
    ]


def _compiler(chip: Chip) -> str:
    if compile_devices(chip):
        return f"libtpu {metadata.version('libtpu')}, which compiles for this chip"
    missing = "; libtpu, which compiles for TPUs, is not installed" if chip.topology else ""
    return f"XLA's compiler for CPUs, of what an accelerator gets; its own program may move fewer bytes{missing}"


def forecast(group: RunGroup, found: Counts, machine: Machine) -> Forecast:
    """How a program would train on `machine`.

    Raises UserError where not one member fits on a device, and where members are no population.
    """
    if group.config.parallel.mode == "data":
        raise UserError("--on: plans populations, and config.parallel.mode='data' splits each run over all devices")
    chip, dtype = machine.chip, group.config.net.get("dtype", "float32")
    free = FILLED * chip.memory - found.shared_bytes
    if free < found.member_bytes:
        raise UserError(
            f"--on: {machine.name} has {format_bytes(chip.memory)}, and one member of {group.id} takes "
            f"{format_bytes(found.member_bytes)} beside {format_bytes(found.shared_bytes)} of data and programs"
        )
    share = math.ceil(len(group.runs) / machine.chips)
    members = min(share, int(free // found.member_bytes), group.config.sweep.members_per_device or share)
    rate = chip.rates.get(dtype, chip.rates["float32"])
    return Forecast(members, math.ceil(share / members), found.operations / rate, found.bytes / chip.bandwidth)


def program_seconds(group: RunGroup, found: Forecast, machine: Machine) -> tuple[float, float]:
    """What the steps of a program's runs take by operations and by bytes: the devices train side by side."""
    share = math.ceil(len(group.runs) / machine.chips)
    steps = share * sum(study.remaining_steps(entry, 0) for entry in group.entries()) / len(group.runs)
    return steps * found.operation_seconds, steps * found.byte_seconds


def counts(group: RunGroup, chip: Chip) -> Counts:
    """What a compiler counts of a group's program for `chip`: from the cache, or compiled now."""
    key = {"program": static_fields(group.config), "chip": chip, "several": SEVERAL, "code": code_digest()}
    packages = ["jax", *(["libtpu"] if find_spec("libtpu") else [])]
    file = cache_folder("forecasts") / f"{study.digest(key | {p: metadata.version(p) for p in packages})}.json"
    known = read_json(file)
    if known.keys() == set(Counts._fields):
        return Counts(**known)
    print(f"compiling {group.id} for {chip.topology or 'an accelerator'} ...", file=sys.stderr, flush=True)
    found = measure_counts(group, chip)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found._asdict())
    return found


def measure_counts(group: RunGroup, chip: Chip) -> Counts:
    """Compiles the program of a group with one member and with SEVERAL, for `chip`, or on the CPU as it would be there.

    A program of several members at once is another than that of one, and counts for its own steps.
    """
    setup, there = prepare(group.config), compile_devices(chip)[:1]
    executor = setup.member_executor(there or local_devices(1), "tpu")
    platforms = () if there else ("tpu",)  # which, unlike cuda's, the CPU's compiler reads whole
    one, several = (step_cost(lower_steps(setup, executor, count, platforms)) for count in (1, SEVERAL))
    member_bytes = (several.memory - one.memory) / (SEVERAL - 1)
    if executor.over is AT_ONCE:
        step = several.bytes / SEVERAL, several.operations / SEVERAL
    else:
        step = one.bytes, one.operations
    return Counts(*step, member_bytes, max(0.0, one.memory - member_bytes))


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
