"""Setups of tiny configs: every variant on one set of images, every network on images that it takes."""

import numpy as np

from helpers.variant_configs import SHAPE, config_of, split_with_factors
from vae_jax.config import defaults
from vae_jax.config.parse import load_config
from vae_jax.data import Dataset, make_split
from vae_jax.training.setup import make_setup

NETWORKS = {
    "mlp": {"hidden": (8,)},
    "conv": {"hidden": 8},
    "resnet": {"widths": (8, 8), "depth": 1},
    "grid": {"width": 8, "depth": 1},
}
"""Fields of each network, small."""


def setup_of(config, image_shape=SHAPE):
    """The setup of a config, with calls of two steps, on a few images."""
    config.train.dispatch, config.train.batch_size = 2, 4
    if image_shape == SHAPE:
        split = split_with_factors()
    else:
        images = np.random.default_rng(0).integers(0, 256, (20, *image_shape), np.uint8)
        split = make_split(images, np.arange(20) % 4)
    return make_setup(config, Dataset(image_shape, split, split))


def variant_setup(name):
    """The setup of a variant."""
    config = config_of(name)
    config.net.hidden = ()  # fewer operations to trace
    return setup_of(config)


def network_setup(name):
    """The setup of a network of NETWORKS, or of one by its dotted name."""
    config = load_config("digits:vq" if name == "grid" else "digits", latent_dim=32)
    config.net = defaults.section("net", name, **NETWORKS.get(name, {}))
    return setup_of(config, (16, 16, 1))
