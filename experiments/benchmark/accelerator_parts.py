"""The tables of an accelerator: a part a table, with the headings that the page gives its numbers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from experiments.benchmark.accelerator_rows import (
    Row,
    command_row,
    convolution_row,
    matmul_row,
    member_row,
    over_row,
    population_row,
    repeated_row,
    resumed_row,
    solo_row,
    unroll_row,
)
from experiments.benchmark.accelerator_scale import Scale
from vae_jax.training.scan import AT_ONCE, IN_TURN

Rows = Mapping[str, Callable[[], Row]]
"""How each row of a table is measured, by its name."""


class Part(NamedTuple):
    """A table of measurements, made by one process.

    Attributes:
        title: its heading.
        first: the heading of the column of the rows' names.
        columns: the heading of each number of a row, in their order.
        note: what is to be known of them.
        rows: scale -> how each row is measured, by its name.
        options: options of XLA for GPUs that the process begins with.
    """

    title: str
    first: str
    columns: Mapping[str, str]
    note: str
    rows: Callable[[Scale], Rows]
    options: str = ""


def matmul_rows(scale: Scale) -> Rows:
    """The products, by how their numbers are multiplied."""
    rows = {f"float32, {each}": partial(matmul_row, scale, "float32", each) for each in ("highest", "high", "default")}
    return rows | {"bfloat16": partial(matmul_row, scale, "bfloat16", "default")}


def population_rows(name: str, group: int, scale: Scale) -> Rows:
    """One run, and the populations of a group of sizes, which rise: a peak of memory is never forgotten."""
    sizes = {str(size): partial(population_row, name, scale, size) for size in scale.members[group]}
    return {"one run": partial(solo_row, name, scale), **sizes}


def unroll_rows(name: str, scale: Scale) -> Rows:
    """One run with so many steps in the body of its scan."""
    return {str(unroll): partial(unroll_row, name, scale, unroll) for unroll in scale.unroll}


def command_rows(scale: Scale) -> Rows:
    """One run of each network, and a population."""
    size = scale.members[0][-1]
    return {
        "mlp, one run": partial(command_row, partial(solo_row, "mlp", scale)),
        f"mlp, {size} members": partial(command_row, partial(population_row, "mlp", scale, size)),
        "conv, one run": partial(command_row, partial(solo_row, "conv", scale)),
    }


def convolution_rows(scale: Scale) -> Rows:
    """One run, and a population either way."""
    size, ways = scale.members[0][1], {"in turn": IN_TURN, "at once": AT_ONCE}
    rows = {f"{size} members {way}": partial(convolution_row, scale, size, over) for way, over in ways.items()}
    return {"one run": partial(convolution_row, scale, 0, IN_TURN), **rows}


def over_rows(scale: Scale) -> Rows:
    """Populations of each network."""
    sizes = scale.members[0][1:]
    return {
        f"{name}, {size} members": partial(over_row, name, scale, size) for name in ("mlp", "conv") for size in sizes
    }


def iwae_rows(scale: Scale) -> Rows:
    """One run, and a population of eight."""
    size = scale.members[0][1]
    return {
        "one run": partial(solo_row, "iwae", scale),
        f"{size} members": partial(population_row, "iwae", scale, size),
    }


def exactness_rows(name: str, scale: Scale) -> Rows:
    """What is to be the same run of a network, computed another way."""
    size = scale.members[0][1]
    return {
        "one run, twice": partial(repeated_row, name, scale),
        f"a member of {size}, and its own run": partial(member_row, name, scale, size, None),
        "the same in whole float32": partial(member_row, name, scale, size, "highest"),
    }


def resumed_rows(scale: Scale) -> Rows:
    """A run of the bundled digits, stopped on the way."""
    return {"resumed from its checkpoint at half, and never stopped": partial(resumed_row, scale)}


POPULATION = {
    "steps": "steps/s of all together",
    "ratio": "times one run",
    "compile": "compiled in, s",
    "forecast": "forecast, MiB",
    "peak": "peak, MiB",
}
BESIDE = (
    "One run goes through its dispatches one after another, in turn with the population, so the ratio is also that of "
    "as many runs one after another. The forecast is what the plan of a population goes by; the peak is the device's "
    "own count, what the compiler tries out included."
)
EXACTNESS = {"steps": "steps", "equal": "same bits", "difference": "largest difference, of the largest parameter"}
LAST_STEP = "Parameters after the last of these steps."
COMMANDS = {key: POPULATION[key] for key in ("steps", "ratio", "compile")}
AS_THEY_COME = "XLA's default. Each of these three tables is of a process of its own."
OPTION = "--xla_gpu_enable_command_buffer="
MLP, CONV = "MLP 784-200-200-50, batch 128", "Convolutions at 64x64, batch 64"

PARTS = {
    "matmul": Part(
        "Matrix products",
        "numbers",
        {"teraflops": "TFLOP/s", "error": "relative difference from float32"},
        "Square matrices. Of JAX's precisions for float32, highest is whole; default is tf32 on a GPU that has it and "
        "one product of bfloat16 on a TPU.",
        matmul_rows,
    ),
    "mlp": Part(f"{MLP}: populations", "members", POPULATION, BESIDE, partial(population_rows, "mlp", 0)),
    "conv": Part(f"{CONV}: populations", "members", POPULATION, BESIDE, partial(population_rows, "conv", 0)),
    "exactness_mlp": Part(f"{MLP}: exactness", "two ways", EXACTNESS, LAST_STEP, partial(exactness_rows, "mlp")),
    "exactness_conv": Part(f"{CONV}: exactness", "two ways", EXACTNESS, LAST_STEP, partial(exactness_rows, "conv")),
    "resumed": Part("Digits: a checkpoint", "two ways", EXACTNESS, LAST_STEP, resumed_rows),
    "mlp_many": Part(f"{MLP}: large populations", "members", POPULATION, BESIDE, partial(population_rows, "mlp", 1)),
    "convolutions": Part(
        "Convolutions: windows and blocks",
        "64x64, batch 64",
        {"windows": "windows, steps/s", "blocks": "blocks, steps/s", "ratio": "blocks, times windows"},
        "Windows are XLA's own convolution, which accelerators take; blocks are the matrix products that a CPU takes.",
        convolution_rows,
    ),
    "over_members": Part(
        "Members in turn, and at once",
        "population",
        {"in_turn": "in turn, steps/s", "at_once": "at once, steps/s", "ratio": "at once, times in turn"},
        "Steps of all members together. On an accelerator members go in turn where they convolve, else at once.",
        over_rows,
    ),
    "unroll_mlp": Part(
        f"{MLP}: unrolled scan",
        "steps in the body",
        {"steps": "steps/s", "ratio": "times the first"},
        "One run.",
        partial(unroll_rows, "mlp"),
    ),
    "iwae": Part(f"IWAE, K = 50, {MLP}", "runs", POPULATION, BESIDE, iwae_rows),
    "commands": Part(
        "Command buffers as they come",
        "run",
        COMMANDS,
        AS_THEY_COME,
        command_rows,
    ),
    "commands_off": Part("No command buffers", "run", COMMANDS, f"`{OPTION}`", command_rows, OPTION),
    "commands_loops": Part(
        "Command buffers of loops too",
        "run",
        COMMANDS,
        f"`{OPTION}+WHILE,+CONDITIONAL`",
        command_rows,
        f"{OPTION}+WHILE,+CONDITIONAL",
    ),
    "unroll_conv": Part(
        f"{CONV}: unrolled scan",
        "steps in the body",
        {"steps": "steps/s", "ratio": "times the first"},
        "One run.",
        partial(unroll_rows, "conv"),
    ),
    "conv_many": Part(f"{CONV}: large populations", "members", POPULATION, BESIDE, partial(population_rows, "conv", 1)),
}
"""By the name that --part takes, those first that matter most: time on an accelerator ends."""
