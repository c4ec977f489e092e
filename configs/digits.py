"""A VAE on scikit-learn's 8x8 digits: the default, and what `make train` runs.

Command    python -m experiments.train --config=configs/digits.py --workdir=runs/digits
Sweep      python -m launch.local --config=configs/digits.py --workdir=runs/study
           (8 seeds x 4 betas, one program; docs/sweeps.md)
Search     python -m launch.search --config=configs/digits.py --workdir=runs/search
           (beta, free bits, learning rate, width of the code; docs/search.md)
Time       10,000 steps in 9 to 11 s on 2 CPU cores (jax 0.10.2), the process about 15 s
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images, nats per image, dynamically binarised:

    variant            elbo      distortion   rate    active units
    beta, beta = 1    -22.49     16.34        6.15    16 of 16
    autoencoder         -         2.89         -      16 of 16

The autoencoder's distortion is of codes without noise; it has no rate, and its draws from the prior are not digits. The
argument of the config is the variant: configs/digits.py:autoencoder.
"""

from vae_jax.config import defaults
from vae_jax.sweeps.algebra import choice, grid, log_uniform, product, seeds, uniform


def get_config(variant: str = "beta"):
    """A run on the digits; the argument is a variant's name (configs/digits.py:autoencoder)."""
    config = defaults.get_config()
    config.variant = defaults.section("variant", variant)
    return config


def sweep():
    """How rate buys distortion: beta = 1, 2, 4 and 8, of 8 seeds each."""
    return product(grid(**{"variant.beta": [1.0, 2.0, 4.0, 8.0]}), seeds(8))


def search():
    """What a search of the digits' best ELBO chooses: three traced floats, and the width of the code."""
    return {
        "variant.beta": log_uniform(0.25, 4.0),
        "variant.free_bits": uniform(0.0, 0.5),
        "train.learning_rate": log_uniform(1e-4, 1e-2),
        "latent_dim": choice(4, 8, 16, 32),
    }
