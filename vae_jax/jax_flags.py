"""JAX's flags that would change a run's numbers: pinned while it trains or is used, or recorded with it."""

import contextlib
import os
from collections.abc import Iterator

import jax

PINNED = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_threefry_partitionable": True,
    "jax_high_dynamic_range_gumbel": False,
    "jax_random_seed_offset": 0,
    "jax_legacy_prng_key": "allow",
}
"""Flags that decide what is drawn and in which dtype, or whether our code may run: what they are where it runs."""

RECORDED = ("jax_default_matmul_precision", "jax_disable_jit", "jax_disable_most_optimizations")
"""Flags that change last digits, for speed or for debugging: a person's choice, and then that of the whole run."""

HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_gpu_cuda_data_dir", "--xla_hlo_profile")
"""How the options in XLA_FLAGS begin that change no number."""


@contextlib.contextmanager
def pinned_flags() -> Iterator[None]:
    """Sets the flags of PINNED, and afterwards what they were before. Works as a decorator too."""
    before = {name: getattr(jax.config, name) for name in PINNED if hasattr(jax.config, name)}
    changed = {name: value for name, value in before.items() if value != PINNED[name]}
    for name in changed:
        jax.config.update(name, PINNED[name])
    try:
        yield
    finally:
        for name, value in changed.items():
            jax.config.update(name, value)


def recorded_flags() -> dict[str, str]:
    """What of this process changes last digits of a run and is set: flags of JAX, options of XLA, TF32."""
    options = sorted(word for word in os.environ.get("XLA_FLAGS", "").split() if not word.startswith(HARMLESS))
    flags = {name: jax.config.values.get(name) for name in RECORDED} | {
        "XLA_FLAGS": " ".join(options),
        "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    }
    return {name: str(value) for name, value in flags.items() if value}
