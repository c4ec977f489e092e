"""The same network, batch and data in a plain PyTorch loop, in a process of its own: what ours is held against.

    python -m experiments.benchmark.pytorch --config=configs/dsprites.py --config.data.path=FILE

prints how many images a round has, and makes a round of Adam steps for each line that it is given. `--torch` of
experiments.benchmark has two such processes, each with the training images unpacked to a byte a number. One is as
PyTorch starts; the other does not give freed memory back to the system, which would else find pages anew for the layers
of every step.
"""

import contextlib
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.timing import Workload, seconds
from vae_jax.config.command_line import Parser, run_program
from vae_jax.config.parse import checked_config
from vae_jax.data import Dataset
from vae_jax.errors import UserError

ROUND_SECONDS = 1.0
"""About how long one round lasts."""

CHUNK = 1024
"""Images that are fetched at once."""

# Of the GNU C library; 32 MiB is the most that it allows, and what is larger is given back all the same.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

ENVIRONMENTS = {"PyTorch loop": {}, "PyTorch, keeping memory": KEEP_MEMORY}
"""The environment of each process."""


def main(argv: list[str]) -> int:
    """Makes rounds of steps on demand; the exit status."""
    from vae_jax.training.setup import prepare

    parser = Parser("experiments.benchmark.pytorch", __doc__, config=True, launcher="python -m")
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    require_torch()
    dataset = prepare(config).dataset
    check_config(config, dataset.image_shape)
    workload = training_round(config, dataset.image_shape, unpack_images(dataset))
    print(workload.amount, flush=True)
    for _ in sys.stdin:
        workload.run()
        print("done", flush=True)
    return 0


@dataclass(frozen=True)
class TorchProcess:
    """A process that makes a round for each line that it is given; `errors` is a file of what it says beside."""

    process: subprocess.Popen
    errors: IO[str]

    def answer(self) -> str:
        """Its next line. Raises UserError, with the last line of its errors, where it has ended."""
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().rpartition("\n")[2]
            raise UserError(f"--torch: the process of PyTorch's loop ended with {status}: {last}")
        return line

    def round(self) -> None:
        """Has it make a round of steps. Raises UserError as `answer` does."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), b"go\n")
        self.answer()


@contextlib.contextmanager
def torch_workload(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Workload]:
    """Rounds of steps of a process that `command` starts, in images. Raises UserError where it ends."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},  # there JAX only unpacks the data
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        loop = TorchProcess(process, errors)
        yield Workload(loop.round, int(loop.answer()))


@contextlib.contextmanager
def torch_workloads(words: Sequence[str]) -> Iterator[dict[str, Workload]]:
    """The loop of the config of `words` in each of ENVIRONMENTS, by name."""
    command = [sys.executable, "-m", "experiments.benchmark.pytorch", *words]
    with contextlib.ExitStack() as processes:
        yield {
            name: processes.enter_context(torch_workload(command, environment))
            for name, environment in ENVIRONMENTS.items()
        }


def require_torch() -> None:
    """Raises UserError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("--torch: PyTorch is not installed here; pip install torch, or leave --torch out")


def check_config(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Raises UserError where there is no such loop."""
    require_torch()
    if config.variant.name != "beta" or config.likelihood.name != "bernoulli":
        raise UserError("--torch: the PyTorch loop knows the variant 'beta' with the likelihood 'bernoulli' alone")
    if (config.net.activation, config.net.dtype) != ("relu", "float32"):
        raise UserError(
            "--torch: the PyTorch loop knows config.net.activation 'relu' and config.net.dtype 'float32' alone"
        )
    height, width, _ = image_shape
    if config.net.name == "conv" and (height % 16 or width % 16):
        raise UserError(f"--torch: the PyTorch loop knows 'conv' at multiples of 16 pixels, not {height}x{width}")


def unpack_images(dataset: Dataset) -> np.ndarray:
    """The training images in one array (size, height, width, channels), a byte a number."""
    size = dataset.train.size
    images = np.empty((size, *dataset.image_shape), np.uint8)
    for start in range(0, size, CHUNK):
        ids = np.arange(start, start + CHUNK) % size  # all of one length: the last begins anew, and is cut
        images[start : start + CHUNK] = np.asarray(dataset.train.fetch(ids))[: size - start]
    return images


def training_round(config: ConfigDict, image_shape: tuple[int, int, int], images: np.ndarray) -> Workload:
    """About a second of Adam steps of the VAE of `config` on `images`, in images."""
    step = _training_step(config, image_shape, images)
    for _ in range(3):
        step()
    steps = max(1, round(ROUND_SECONDS / (seconds(lambda: _repeat(step, 5)) / 5)))
    return Workload(lambda: _repeat(step, steps), steps * config.train.batch_size)


def _repeat(step: Callable[[], None], times: int) -> None:
    for _ in range(times):
        step()


def _training_step(config: ConfigDict, image_shape: tuple[int, int, int], images: np.ndarray) -> Callable[[], None]:
    import torch

    encoder, decoder = NETWORKS[config.net.name](torch.nn, config, image_shape)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=config.train.learning_rate)
    data = torch.from_numpy(images).permute(0, 3, 1, 2)
    binarize = {"none": lambda x: x, "static": lambda x: (x > 0.5).float(), "dynamic": torch.bernoulli}
    functional, batch, beta = torch.nn.functional, config.train.batch_size, config.variant.beta

    def step() -> None:
        x = binarize[config.data.binarize](data[torch.randint(len(data), (batch,))].float() / 255)
        mean, logvar = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        distortion = functional.binary_cross_entropy_with_logits(decoder(z).view_as(x), x, reduction="sum")
        rate = 0.5 * torch.sum(mean**2 + logvar.exp() - 1 - logvar)
        optimizer.zero_grad()
        ((distortion + beta * rate) / batch).backward()
        optimizer.step()

    return step


def _with_relu(nn: Any, layers: Sequence[Any]) -> list[Any]:
    return [part for layer in layers for part in (layer, nn.ReLU())]


def _mlp(nn: Any, config: ConfigDict, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    pixels, hidden = int(np.prod(image_shape)), config.net.hidden

    def dense(widths: Sequence[int]) -> Any:
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]
        return nn.Sequential(nn.Flatten(), *_with_relu(nn, layers)[:-1])

    return dense([pixels, *hidden, 2 * config.latent_dim]), dense([config.latent_dim, *reversed(hidden), pixels])


def _conv(nn: Any, config: ConfigDict, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    height, width, channels = image_shape
    height, width, hidden = height // 16, width // 16, config.net.hidden
    encoder = [
        nn.Conv2d(channels, 32, 4, 2, 1),
        nn.Conv2d(32, 32, 4, 2, 1),
        nn.Conv2d(32, 64, 2, 2),
        nn.Conv2d(64, 64, 2, 2),
    ]
    pairs = ((64, 64), (64, 32), (32, 32), (32, channels))
    decoder = [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1) for inputs, outputs in pairs]
    return (
        nn.Sequential(
            *_with_relu(nn, encoder),
            nn.Flatten(),
            nn.Linear(64 * height * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * config.latent_dim),
        ),
        nn.Sequential(
            *_with_relu(nn, [nn.Linear(config.latent_dim, hidden), nn.Linear(hidden, 64 * height * width)]),
            nn.Unflatten(1, (64, height, width)),
            *_with_relu(nn, decoder)[:-1],
        ),
    )


NETWORKS = {"mlp": _mlp, "conv": _conv}


if __name__ == "__main__":
    run_program(main)
