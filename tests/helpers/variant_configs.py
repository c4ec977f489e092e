"""Every variant on one tiny set of images."""

import dataclasses
from pathlib import Path

import jax

from helpers import tiny_vae
from vae_jax import registry
from vae_jax.config.parse import load_config

ROOT = Path(__file__).parents[2]
NAMES = registry.file_names("vae_jax.variants")


SHAPE = (4, 4, 1)


def config_of(name):
    """A small config of the variant, with what it needs to be built."""
    config = load_config(f"{ROOT / 'configs/digits.py'}:{name}")
    config.latent_dim = 12
    config.net.hidden = (16,)
    return config


def split_with_factors():
    """The tiny split with a factor, its label, and as each image's partner the next one."""
    split = tiny_vae.split()
    following = lambda images, indices, index, key: images[(indices + 1) % tiny_vae.SIZE]  # noqa: E731
    classes = lambda labels, indices: labels[indices][:, None]  # noqa: E731
    partner = jax.tree_util.Partial(following, split.fetch.args[0])
    return dataclasses.replace(split, factors=jax.tree_util.Partial(classes, split.labels), partner=partner)
