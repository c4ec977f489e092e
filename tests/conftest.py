"""Strict tests: eight devices, no silent rank promotion, no key used twice, warnings are errors."""

import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the tests do: the last two spend less of it on speed.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)
# Many tests compile what others have compiled, in this process, in a worker beside it or in one that they start.
# A folder that the environment names is kept: for whoever runs them again and again, and for the workers, whose
# environment is that of the process that started them.
KEPT = "JAX_COMPILATION_CACHE_DIR" in os.environ
if not KEPT:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vae_jax_tests_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["WANDB_MODE"] = "disabled"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")
    # Of a program that was killed while it wrote, or is writing.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache:UserWarning")


def pytest_unconfigure(config):
    if not KEPT:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture
def key():
    """A root key, as a run makes it."""
    from vae_jax import randomness

    return randomness.root_key(0)
