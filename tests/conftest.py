"""Strict tests: eight devices, no silent rank promotion, no key used twice, warnings are errors."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the tests do: the last two spend less of it on speed.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)
os.environ["WANDB_MODE"] = "disabled"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")


@pytest.fixture
def key():
    """A root key, as a run makes it."""
    from vae_jax import train

    return train.root_key(0)
