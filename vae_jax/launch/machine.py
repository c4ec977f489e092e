"""What this machine has to run programs on, shared out between those at once. Jax is not asked: it would take it."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

from vae_jax.errors import UserError
from vae_jax.phrases import plural

Item = TypeVar("Item")


class DeviceShare(NamedTuple):
    """What one process has of the machine.

    `environment` is what its variables gain, `cores` those that it is bound to (none: all), `devices` how many jax
    will find (None: only jax knows).
    """

    name: str
    environment: dict[str, str]
    cores: tuple[int, ...]
    devices: int | None


def visible_gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that jax would find here, as CUDA_VISIBLE_DEVICES names them."""
    if environment.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return []
    if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return []
    installed = [str(i) for i, _ in enumerate(sorted(devices.glob("nvidia[0-9]*")))]
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not installed:
        return installed
    return [name for name in chosen.split(",") if name]


def has_tpu(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> bool:
    """Whether jax would find a TPU here, all of whose cores belong to one process."""
    forbidden = environment.get("JAX_PLATFORMS", "").split(",")[0] == "cpu" or not find_spec("libtpu")
    return not forbidden and any(any(devices.glob(pattern)) for pattern in ("accel[0-9]*", "vfio/[0-9]*"))


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def device_flags(environment: Mapping[str, str], devices: int) -> str:
    """XLA_FLAGS by which jax finds so many devices on the CPU, over which a population is split."""
    return f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()


def share_devices(groups: int, processes: int, environment: Mapping[str, str] = os.environ) -> list[DeviceShare]:
    """A share for each of the processes that run at once.

    Args:
        groups: how many programs there are to run; no more than one share for each.
        processes: how many run at once at most; 0 for one on each GPU, and on the CPU one.

    Raises:
        UserError: for more processes than GPUs or cores.
    """
    gpus = visible_gpus(environment)
    if has_tpu(environment):
        _check_limit(processes, 1, "TPU, which one process has whole")
        return [DeviceShare("tpu", {}, (), None)]
    if gpus:
        _check_limit(processes, len(gpus), "GPUs here")
        return [_gpu_share(names) for names in split_evenly(gpus, min(groups, processes or len(gpus)))]
    cores = usable_cores()
    _check_limit(processes, len(cores), "cores here")
    parts = split_evenly(cores, min(groups, processes or 1))
    return [_core_share(numbers, environment, bound=len(parts) > 1) for numbers in parts]


def _gpu_share(names: Sequence[str]) -> DeviceShare:
    listed = ",".join(names)
    return DeviceShare(f"gpu {listed}", {"CUDA_VISIBLE_DEVICES": listed}, (), len(names))


def _core_share(numbers: Sequence[int], environment: Mapping[str, str], bound: bool) -> DeviceShare:
    flags = device_flags(environment, len(numbers))
    return DeviceShare(
        plural(len(numbers), "core"), {"XLA_FLAGS": flags}, tuple(numbers) if bound else (), len(numbers)
    )


def _check_limit(processes: int, limit: int, what: str) -> None:
    if processes > limit:
        raise UserError(f"--processes: {processes} is not allowed; give at most {limit}, the {what}")


def split_evenly(items: Sequence[Item], parts: int) -> list[Sequence[Item]]:
    """The items in so many runs of nearly equal length, one at least and no more than there are items."""
    parts = max(1, min(parts, len(items)))
    return [items[i * len(items) // parts : (i + 1) * len(items) // parts] for i in range(parts)]
