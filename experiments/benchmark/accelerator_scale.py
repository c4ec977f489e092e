"""How much is measured of an accelerator, and of what: sizes, networks, the device.

The images are random grey levels made in memory, 28x28 and 64x64.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.population import with_seed
from vae_jax import data
from vae_jax.config.parse import load_config
from vae_jax.training import executors
from vae_jax.training.executors import DataParallel, Executor, MemberParallel
from vae_jax.training.setup import Setup, make_setup


@dataclass(frozen=True, eq=False)
class Scale:
    """How much is measured.

    Attributes:
        matmul: rows and columns of the matrices.
        products: of one timed call.
        images: in the training set.
        members: sizes of the populations, those of a part of its own beside them.
        unroll: steps of a scan's body, the first of which the others are held against.
        rounds: times that everything is timed.
        resumed: steps of the run that is resumed at half of them.
        pixels: the height and width of a network's images, by its name in CONFIGS.
        fields: of a network's config, likewise, and of the digits that are resumed.
    """

    matmul: int
    products: int
    images: int
    members: tuple[tuple[int, ...], tuple[int, ...]]
    unroll: tuple[int, ...]
    rounds: int
    resumed: int
    pixels: Mapping[str, int]
    fields: Mapping[str, Mapping[str, Any]]


LAYERS = {"net.hidden": (200, 200), "latent_dim": 50}
FULL = Scale(
    matmul=8192,
    products=10,
    images=10_000,
    members=((1, 8, 32), (128, 512)),
    unroll=(1, 4, 16),
    rounds=5,
    resumed=400,
    pixels={"mlp": 28, "conv": 64, "iwae": 28},
    fields={
        "mlp": LAYERS | {"train.dispatch": 96},
        "conv": {"train.dispatch": 16},
        "iwae": LAYERS | {"train.dispatch": 32, "variant.samples": 50},
        "digits": {},
    },
)
SMALL = {"net.hidden": (8,), "latent_dim": 2, "train.batch_size": 8, "train.dispatch": 2}
TINY = Scale(
    matmul=64,
    products=2,
    images=300,
    members=((1, 2), (3,)),
    unroll=(1, 2),
    rounds=1,
    resumed=4,
    pixels={"mlp": 28, "conv": 16, "iwae": 28},
    fields={
        "mlp": SMALL,
        "conv": SMALL | {"net.hidden": 8, "train.batch_size": 2},
        "iwae": SMALL | {"variant.samples": 50},
        "digits": SMALL,
    },
)

CONFIGS = {"mlp": "mnist", "conv": "mnist_conv", "iwae": "mnist:iwae"}
"""The config of each network."""


@cache
def make_network(name: str, scale: Scale) -> Setup:
    """The setup of a network on random images."""
    size, fields = scale.pixels[name], scale.fields[name]
    images = np.random.default_rng(0).integers(0, 256, (scale.images, size, size, 1), np.uint8)
    dataset = data.from_arrays(images, None, images[:100], None)
    return make_setup(load_config(CONFIGS[name], **fields), dataset)


def device() -> jax.Device:
    """The device that is measured: the first."""
    return executors.local_devices(1)[0]


def one_run() -> Executor:
    """One run on the device."""
    return DataParallel([device()])


def population(setup: Setup) -> MemberParallel:
    """A population on the device, whose members go in turn or at once as there they do."""
    return setup.member_executor([device()])


def members(setup: Setup, size: int) -> list[ConfigDict]:
    """The configs of a population that differ in their seeds."""
    return [with_seed(setup.config, seed) for seed in range(size)]


def steps_per_second(name: str, scale: Scale, images_per_second: np.ndarray) -> float:
    """The median rate in steps of one run."""
    return float(np.median(images_per_second)) / make_network(name, scale).config.train.batch_size
