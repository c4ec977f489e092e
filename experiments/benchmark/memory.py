"""The most memory that training takes in a process of its own: ours, and PyTorch's loop.

    python -m experiments.benchmark.memory --workload=train --config=configs/dsprites.py --config.data.path=FILE

prints bytes, beyond what the process held when the libraries and the data were loaded: the data are counted in no
workload. compile_and_train is ours from the start; train is ours once it has compiled, and what the compiler has left
behind is given back; torch is PyTorch's loop. `--torch` of experiments.benchmark runs it once for each. Linux alone.
"""

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from experiments.benchmark import pytorch
from experiments.benchmark.timing import run_benchmark
from experiments.benchmark.workloads import train_steps
from vae_jax.config.command_line import Parser, text
from vae_jax.config.parse import checked_config
from vae_jax.errors import UserError, unknown_name
from vae_jax.training import executors
from vae_jax.training.setup import prepare

STEPS = 20
WORKLOADS = ("compile_and_train", "train", "torch")


def main(argv: list[str]) -> int:
    """Trains for some steps and prints by how much the process grew at most; the exit status."""
    parser = Parser("experiments.benchmark.memory", __doc__, config=True, launcher="python -m")
    parser.flag("workload", text, None, "|".join(WORKLOADS), "what trains")
    flags, overrides = parser.parse(argv)
    if flags.workload not in WORKLOADS:
        raise unknown_name("--workload", flags.workload or "", WORKLOADS)
    config = checked_config(flags.config, overrides)
    config.train.dispatch = STEPS
    growth = torch_growth(config) if flags.workload == "torch" else jax_growth(config, flags.workload == "train")
    print(growth)
    return 0


def jax_growth(config: ConfigDict, after_compiling: bool) -> int:
    """Bytes that our compiled steps take at most, compiling included unless `after_compiling`."""
    setup = prepare(config)
    _reset_peak()  # that of loading is not that of training
    before = _status_bytes("VmRSS")
    executor = executors.DataParallel(executors.local_devices(config.parallel.devices))
    workload, _ = train_steps(setup, [config], executor)
    if after_compiling:
        ctypes.CDLL(None).malloc_trim(0)
        _reset_peak()
    workload.run()
    return _status_bytes("VmHWM") - before


def torch_growth(config: ConfigDict) -> int:
    """Bytes that PyTorch's loop takes at most. Raises UserError where there is no such loop."""
    pytorch.require_torch()
    dataset = prepare(config).dataset
    pytorch.check_config(config, dataset.image_shape)
    importlib.import_module("torch")  # the library is not part of what training takes

    images = pytorch.unpack_images(dataset)
    _reset_peak()
    before = _status_bytes("VmRSS")
    pytorch.training_round(config, dataset.image_shape, images).run()
    return _status_bytes("VmHWM") - before


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(field: str) -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    words = Path("/proc/self/status").read_text().split()
    return 1024 * int(words[words.index(f"{field}:") + 1])


def peak_bytes(workload: str, words: Sequence[str]) -> int:
    """Bytes that training the config of `words` takes at most in a process of its own; one of WORKLOADS."""
    command = [sys.executable, "-m", "experiments.benchmark.memory", f"--workload={workload}", *words]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        problem = process.stderr[-300:]
        raise UserError(f"--torch: the process that measures memory ended with {process.returncode}: {problem}")
    return int(process.stdout.split()[-1])


if __name__ == "__main__":
    run_benchmark(main)
