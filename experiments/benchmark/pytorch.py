"""The same network, batch and data in a plain PyTorch loop, in a process of its own: what ours is held against.

    python -m experiments.benchmark_torch --config=configs/dsprites.py --config.data.path=FILE

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
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from vae_jax.config.command_line import run_program
from vae_jax.config.parse import parse_config
from vae_jax.data import Dataset
from vae_jax.errors import UserError

SECONDS = 1.0
"""About how long one round lasts."""

CHUNK = 1024
"""Images that are fetched at once."""

# Of the GNU C library; 32 MiB is the most that it allows, and what is larger is given back all the same.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

LOOPS = {"PyTorch loop": {}, "PyTorch, keeping memory": KEEPING}
"""The environment of each process."""


def main(argv: list[str]) -> int:
    """Makes rounds of steps on demand; the exit status."""
    from vae_jax.training import train_run

    config, _ = parse_config(argv, ("config",))
    dataset, _ = train_run.prepare(config)
    check(config, dataset.image_shape)
    call, amount = steps(config, dataset.image_shape, unpacked(dataset))
    print(amount, flush=True)
    for _ in sys.stdin:
        call()
        print("done", flush=True)
    return 0


@contextlib.contextmanager
def started(command: Sequence[str], environment: dict[str, str]) -> Iterator[tuple[Callable[[], None], int]]:
    """A call that has a process of its own make a round of steps, and how many images that takes.

    Raises UserError, with the last that the process said, where it ends.
    """
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,  # here JAX only unpacks the data
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):

        def answer() -> str:
            line = process.stdout.readline()
            if not line:
                status = process.wait()
                said.seek(0)
                last = said.read().strip().rpartition("\n")[2]
                raise UserError(f"--torch: the process of PyTorch's loop ended with {status}: {last}")
            return line

        def call():
            with contextlib.suppress(BrokenPipeError):
                os.write(process.stdin.fileno(), b"go\n")
            answer()

        yield call, int(answer())


def command(words: Sequence[str]) -> list[str]:
    """What starts the process for the config of `words`."""
    return [sys.executable, "-m", "experiments.benchmark_torch", *words]


def require() -> None:
    """Raises UserError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("--torch: PyTorch is not installed here; pip install it, or leave --torch out")


def check(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Raises UserError where there is no such loop."""
    require()
    if config.variant.name != "beta" or config.likelihood.name != "bernoulli":
        raise UserError("--torch: the PyTorch loop knows the variant 'beta' with the likelihood 'bernoulli' alone")
    if (config.net.activation, config.net.dtype) != ("relu", "float32"):
        raise UserError(
            "--torch: the PyTorch loop knows config.net.activation 'relu' and config.net.dtype 'float32' alone"
        )
    height, width, _ = image_shape
    if config.net.name == "conv" and (height % 16 or width % 16):
        raise UserError(f"--torch: the PyTorch loop knows 'conv' at multiples of 16 pixels, not {height}x{width}")


def unpacked(dataset: Dataset) -> np.ndarray:
    """The training images in one array (size, height, width, channels), a byte a number."""
    size = dataset.train.size
    images = np.empty((size, *dataset.image_shape), np.uint8)
    for start in range(0, size, CHUNK):
        ids = np.arange(start, start + CHUNK) % size  # all of one length: the last begins anew, and is cut
        images[start : start + CHUNK] = np.asarray(dataset.train.fetch(ids))[: size - start]
    return images


def steps(config: ConfigDict, image_shape: tuple[int, int, int], images: np.ndarray) -> tuple[Callable[[], None], int]:
    """A call that makes Adam steps of the VAE of `config` on `images`, and how many images it takes."""
    import torch

    encoder, decoder = NETWORKS[config.net.name](torch.nn, config, image_shape)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=config.train.learning_rate)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    functional, batch, beta = torch.nn.functional, config.train.batch_size, config.variant.beta
    prepare = {
        "none": lambda x: x,
        "static": lambda x: (x > 0.5).float(),
        "dynamic": torch.bernoulli,
    }[config.data.binarize]

    def step():
        x = prepare(images[torch.randint(len(images), (batch,))].float() / 255)
        mean, logvar = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        distortion = functional.binary_cross_entropy_with_logits(decoder(z).view_as(x), x, reduction="sum")
        rate = 0.5 * torch.sum(mean**2 + logvar.exp() - 1 - logvar)
        optimizer.zero_grad()
        ((distortion + beta * rate) / batch).backward()
        optimizer.step()

    for _ in range(3):
        step()
    began = time.perf_counter()
    for _ in range(5):
        step()
    count = max(1, round(SECONDS / ((time.perf_counter() - began) / 5)))

    def call():
        for _ in range(count):
            step()

    return call, count * batch


def _mlp(nn, config: ConfigDict, image_shape: tuple[int, int, int]):
    pixels, hidden = int(np.prod(image_shape)), config.net.hidden

    def dense(widths):
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *layers[:-1])

    return dense([pixels, *hidden, 2 * config.latent_dim]), dense([config.latent_dim, *reversed(hidden), pixels])


def _conv(nn, config: ConfigDict, image_shape: tuple[int, int, int]):
    height, width, channels = image_shape
    height, width, hidden = height // 16, width // 16, config.net.hidden
    encoder = [
        nn.Conv2d(channels, 32, 4, 2, 1),
        nn.Conv2d(32, 32, 4, 2, 1),
        nn.Conv2d(32, 64, 2, 2),
        nn.Conv2d(64, 64, 2, 2),
    ]
    decoder = [nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((64, 64), (64, 32), (32, 32), (32, channels))]
    active = lambda layers: [part for layer in layers for part in (layer, nn.ReLU())]  # noqa: E731
    return (
        nn.Sequential(
            *active(encoder),
            nn.Flatten(),
            nn.Linear(64 * height * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * config.latent_dim),
        ),
        nn.Sequential(
            *active([nn.Linear(config.latent_dim, hidden), nn.Linear(hidden, 64 * height * width)]),
            nn.Unflatten(1, (64, height, width)),
            *active(decoder)[:-1],
        ),
    )


NETWORKS = {"mlp": _mlp, "conv": _conv}


if __name__ == "__main__":
    run_program(main, __doc__)
