"""What this machine has to run programs on, shared out between those at once. Jax is not asked: it would take it."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from vae_jax.errors import UserError


class Place(NamedTuple):
    """Where one process runs: what it is called, what its environment gains, and its cores (none: all)."""

    name: str
    environment: dict[str, str]
    cores: tuple[int, ...]


def gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that jax would find here, as CUDA_VISIBLE_DEVICES names them."""
    if environment.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return []
    if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return []
    here = [str(i) for i, _ in enumerate(sorted(devices.glob("nvidia[0-9]*")))]
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    return here if chosen is None or not here else [name for name in chosen.split(",") if name]


def has_tpu(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> bool:
    """Whether jax would find a TPU here, all of whose cores belong to one process."""
    forbidden = environment.get("JAX_PLATFORMS", "").split(",")[0] == "cpu" or not find_spec("libtpu")
    return not forbidden and any(any(devices.glob(pattern)) for pattern in ("accel[0-9]*", "vfio/[0-9]*"))


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def places(programs: int, processes: int, environment: Mapping[str, str] = os.environ) -> list[Place]:
    """Where programs run at once, at most `processes` (0: one on each GPU; on the CPU one) and no more than there are.

    A lone program has everything. Raises UserError for more processes than GPUs or cores.
    """
    found = gpus(environment)
    if has_tpu(environment):
        _at_most(processes, 1, "TPU, which one process has whole")
        return [Place("tpu", {}, ())]
    if found:
        _at_most(processes, len(found), "GPUs here")
        names = _shared(found, min(programs, processes or len(found)))
        return [Place(f"gpu {','.join(some)}", {"CUDA_VISIBLE_DEVICES": ",".join(some)}, ()) for some in names]
    _at_most(processes, len(cores()), "cores here")
    shares = _shared(cores(), min(programs, processes or 1))
    flags = environment.get("XLA_FLAGS", "")
    return [
        Place(
            f"{len(some)} core{'s' * (len(some) > 1)}",
            # A population is split over devices: a device a core.
            {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={len(some)}".strip()},
            tuple(some) if len(shares) > 1 else (),
        )
        for some in shares
    ]


def _at_most(processes: int, most: int, what: str) -> None:
    if processes > most:
        raise UserError(f"--processes: {processes} is not allowed; give at most {most}, the {what}")


def _shared(items: list, parts: int) -> list[list]:
    """The items in so many runs of nearly equal length; one at least."""
    parts = max(1, min(parts, len(items)))
    return [items[i * len(items) // parts : (i + 1) * len(items) // parts] for i in range(parts)]
