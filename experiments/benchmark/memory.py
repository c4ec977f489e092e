"""The most memory that training takes in a process of its own: ours, and PyTorch's loop.

    python -m experiments.benchmark_memory --of=ours --config=configs/dsprites.py --config.data.path=FILE

prints bytes, beyond what the process held when the libraries and the data were loaded: the data are counted in
neither, compiling in ours; --of=steps is ours once it has compiled, and what the compiler has left behind is given
back. `--torch` of experiments.benchmark runs it once for each. Linux alone.
"""

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from vae_jax.config.command_line import run_program
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError

STEPS = 20
OF = ("ours", "steps", "torch")


def main(argv: list[str]) -> int:
    """Trains for some steps and prints by how much the process grew at most; the exit status."""
    from experiments.benchmark import __main__, pytorch
    from vae_jax.training import executors
    from vae_jax.training.setup import prepare

    config, own = parse_config(argv, ("config", "of"))
    if own.get("of") not in OF:
        raise UserError(f"--of: {own.get('of', '')!r} is not allowed; give one of {', '.join(OF)}")
    config.train.dispatch = STEPS
    dataset, built = prepare(config)
    if own["of"] == "torch":
        pytorch.check(config, dataset.image_shape)
        import torch  # noqa: F401

        images = pytorch.unpacked(dataset)
    _forget_peak()  # that of loading is not that of training
    before = _bytes("VmRSS")
    if own["of"] == "torch":
        call, _ = pytorch.steps(config, dataset.image_shape, images)
    else:
        work, _ = __main__.compiled_steps(config, dataset, built, executors.local_devices(config.parallel.devices))
        call = work.call
    if own["of"] == "steps":
        ctypes.CDLL(None).malloc_trim(0)
        _forget_peak()
    call()
    print(_bytes("VmHWM") - before)
    return 0


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _bytes(field: str) -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    words = Path("/proc/self/status").read_text().split()
    return 1024 * int(words[words.index(f"{field}:") + 1])


def peak(of: str, words: Sequence[str]) -> int:
    """Bytes that training the config of `words` takes at most in a process of its own; `of` is one of OF."""
    command = [sys.executable, "-m", "experiments.benchmark_memory", f"--of={of}", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--torch: the process that measures memory ended with {done.returncode}: {done.stderr[-300:]}")
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    run_program(main, __doc__)
