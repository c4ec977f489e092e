"""Strict tests: eight devices, no silent rank promotion, no key used twice, warnings are errors."""

import functools
import gc
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the tests do: all but the first spend less of it on the speed of what is compiled.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
if version("jaxlib").startswith("0.10."):  # later ones refuse it
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
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
    share_compiled_programs(config)
    # Tracing makes many objects, most of them for good.
    gc.set_threshold(20_000, 10, 10)
    gc.freeze()


def share_compiled_programs(config):
    """Many tests compile what others have compiled: in this process, in a worker beside it, in one that they start.

    A folder that the environment names is kept, for whoever runs them again and again.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="vae_jax_tests_", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    jax.config.update("jax_compilation_cache_dir", folder.name)


STARTS_PROGRAMS = ("subprocess", "run_process", "slurm_lab", "wandb_server", "nbclient")


@functools.cache
def order(path):
    """Files that start programs, which take longest, come before others, and large ones before small ones."""
    text = path.read_text()
    return not any(word in text for word in STARTS_PROGRAMS), -len(text)


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker is left with one when the others have ended; a file's tests stay together."""
    items.sort(key=lambda item: order(item.path))


def resident_bytes():
    """The memory that this process has; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


@pytest.fixture(scope="module", autouse=True)
def freeze_survivors():
    """What outlives a file is code and compiled programs, which stay: the garbage collector walks past them.

    But for a worker that has grown large by them, which slows down: it forgets them all and begins anew.
    """
    yield
    if resident_bytes() > 3 * 2**30:
        jax.clear_caches()
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def undrawn():
    """Runs that end draw no pictures, which takes longer than they train: for files that are not of pictures."""
    from vae_jax.plots import run_pictures

    def make_folder(run, dataset, evaluation, folder):
        folder.mkdir(exist_ok=True)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_pictures, "draw", make_folder)
        yield


@pytest.fixture(scope="module")
def share_programs():
    """Runs of one config share what they compile: for files that change neither data nor code that is traced."""
    from helpers.shared_programs import shared_programs

    with shared_programs():
        yield


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """A folder for modules of the user's own, called own_... or my_lab, forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("own_", "my_lab")):
            del sys.modules[name]


@pytest.fixture
def key():
    """A root key, as a run makes it."""
    from vae_jax import randomness

    return randomness.root_key(0)
