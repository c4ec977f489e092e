"""Every variant on one tiny set of images."""

import dataclasses
from pathlib import Path

import jax

from helpers import tiny_vae
from vae_jax import registry
from vae_jax.config.parse import load_config

DIGITS = Path(__file__).parents[2] / "configs/digits.py"
NAMES = registry.file_names("vae_jax.variants")
SHAPE = (4, 4, 1)

WEIGHTED = {
    "ada": {"beta": 2.0, "free_bits": 0.25},
    "autoencoder": {"noise": 0.5},
    "beta": {"beta": 2.0, "free_bits": 0.25},
    "capacity": {"gamma": 3.0, "capacity": 8.0, "ramp_steps": 2.0, "free_bits": 0.25},
    "conditional": {"beta": 2.0, "free_bits": 0.12},
    "dip": {"lambda_od": 2.0, "lambda_d": 3.0, "beta": 2.0, "free_bits": 0.25},
    "factor": {"gamma": 10.0, "beta": 2.0, "free_bits": 0.25},
    "flow": {"beta": 2.0},
    "info": {"beta": 0.5, "lambda_mmd": 100.0, "free_bits": 0.25},
    "iwae": {"objective": "ciwae", "elbo_share": 0.3},
    "joint": {"gamma": 3.0, "capacity": 8.0, "discrete_capacity": 4.0, "ramp_steps": 2.0, "temperature": 0.5},
    "ladder": {"beta": 2.0, "free_bits": 0.15},
    "realnvp": {"beta": 2.0},
    "rae": {"beta_z": 0.1, "lambda_reg": 0.1},
    "tcvae": {"alpha": 2.0, "beta": 6.0, "gamma": 0.5},
    "vamp": {"beta": 2.0},
    "vq": {"commitment": 0.5},
}
"""Fields under which every float of a variant changes its loss, free bits between the rates of the latents."""


def config_of(name, **fields):
    """A small config of the variant, with what it needs to be built, and `fields` of its section."""
    config = load_config(f"{DIGITS}:{name}")
    config.latent_dim = 12
    config.net.hidden = (16,)
    config.variant.update(fields)
    return config


def next_image(images, indices, index, key):
    return images[(indices + 1) % tiny_vae.SIZE]


def label_as_factor(labels, indices):
    return labels[indices][:, None]


def split_with_factors():
    """The tiny split with a factor, its label, and as each image's partner the next one."""
    split = tiny_vae.split()
    factors = jax.tree_util.Partial(label_as_factor, split.labels)
    partner = jax.tree_util.Partial(next_image, split.fetch.images)
    return dataclasses.replace(split, factors=factors, partner=partner)
