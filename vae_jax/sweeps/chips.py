"""Machines that one may not have: what is published of their chips, and those that a compiler here compiles for."""

import math
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax

from vae_jax.errors import UserError, unknown_name
from vae_jax.phrases import shorten


class Chip(NamedTuple):
    """What is published of a chip.

    Attributes:
        memory: bytes.
        bandwidth: bytes a second between the chip and its memory.
        rates: operations a second of matrix products that JAX takes unless it is told otherwise, by their dtype: of
            float32 as one pass of bfloat16 on a TPU, as TF32 (dense) on a GPU.
        topology: the smallest that libtpu compiles for; empty where no compiler is here without a card, and for a v4,
            of which it compiles for half a chip.
        source: where the figures stand.
    """

    memory: float
    bandwidth: float
    rates: dict[str, float]
    topology: str
    source: str


def _tpu(memory: float, bandwidth: float, rate: float, topology: str, source: str) -> Chip:
    return Chip(memory, bandwidth, {"float32": rate, "bfloat16": rate}, topology, source)


def _gpu(memory: float, bandwidth: float, tf32: float, bfloat16: float, source: str) -> Chip:
    return Chip(memory, bandwidth, {"float32": tf32, "bfloat16": bfloat16}, "", source)


TPU_PAGES = "https://docs.cloud.google.com/tpu/docs"
GPU_PAGE = "https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md"

CHIPS = {
    "tpu:v4": _tpu(32e9, 1200e9, 275e12, "", f"{TPU_PAGES}/v4"),
    "tpu:v5e": _tpu(16e9, 819e9, 197e12, "v5e:2x2", f"{TPU_PAGES}/v5e"),
    "tpu:v5p": _tpu(95e9, 2765e9, 459e12, "v5p:2x2x1", f"{TPU_PAGES}/v5p"),
    "tpu:v6e": _tpu(32e9, 1638e9, 918e12, "v6e:2x2", f"{TPU_PAGES}/v6e"),
    "gpu:a100": _gpu(80e9, 2039e9, 156e12, 312e12, GPU_PAGE),
    "gpu:h100": _gpu(80e9, 3350e9, 494.5e12, 989e12, GPU_PAGE),
    "gpu:h200": _gpu(141e9, 4800e9, 494.5e12, 989e12, GPU_PAGE),
}
"""By what --on calls them. Of GPUs the SXM ones, of the A100 that of 80 GB; their rates without sparsity."""


class Machine(NamedTuple):
    """So many chips of one kind."""

    name: str
    chips: int

    @property
    def chip(self) -> Chip:
        """What is published of each."""
        return CHIPS[self.name]

    def __str__(self) -> str:
        return f"{self.chips} x {self.name}"


def parse_machine(text: str) -> Machine:
    """The machine of --on: "tpu:v5e:2x4" has eight chips, "gpu:h100:4" four, "gpu:h100" one.

    Raises UserError for a chip that is not in CHIPS, and for a topology or a number that is none.
    """
    kind, model, size = [*text.lower().split(":", 2), "", ""][:3]
    name = f"{kind}:{model}"
    if name not in CHIPS:
        raise unknown_name("--on", name if model else text, CHIPS)
    size = size or "1"
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){0,2}", size):
        raise UserError(f"--on: {size!r} in {text!r} is not allowed; give a topology as 2x4, or a number of chips")
    return Machine(name, math.prod(map(int, size.split("x"))))


ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Or libtpu asks a metadata server, which is not there, what it runs on, and lets no other process compile."""


LIBTPU = Path(sys.prefix) / "libtpu"
"""Where `make .venv/libtpu` puts it."""


def compile_devices(chip: Chip) -> list[jax.Device]:
    """Devices that are not here and can be compiled for; none where no compiler for the chip is installed.

    libtpu compiles without a TPU. Raises UserError where it is another than JAX asks for, or damaged.
    """
    if LIBTPU.is_dir() and str(LIBTPU) not in sys.path:
        sys.path.append(str(LIBTPU))
    if not chip.topology or find_spec("libtpu") is None:
        return []
    from jax.experimental import topologies

    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return topologies.get_topology_desc(chip.topology, "tpu").devices
    except (AttributeError, ImportError, RuntimeError, ValueError) as error:
        reason = shorten(str(error).partition("\n")[0])
        raise UserError(f"libtpu: cannot compile for {chip.topology} ({reason}); install the one of jax[tpu]") from None
