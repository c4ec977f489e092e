"""The study that README shows: six objectives on MNIST, four seeds each, in four compiled programs.

Command    vae-jax sweep --config=docs/live/mnist.py --config.data.path=FOLDER --workdir=runs/mnist_live
           (FOLDER holds MNIST's four IDX files)
"""

from vae_jax.config import defaults
from vae_jax.sweeps.algebra import chain, grid, product, seeds


def get_config():
    """A short run on MNIST with ten latents."""
    config = defaults.get_config()
    config.data = defaults.section("data", "mnist")
    config.latent_dim = 10
    config.net = defaults.section("net", "mlp", hidden=(200,))
    config.train.steps = 1500
    config.evaluation.every = config.checkpoint.every = 250
    config.evaluation.metrics = "active_units,samples"
    return config


def sweep():
    """beta = 0.25, 1 and 4, the autoencoder, the IWAE and beta-TCVAE, of four seeds each."""
    others = grid(**{"variant.name": ["autoencoder", "iwae", "tcvae"]})
    return product(chain(grid(**{"variant.beta": [0.25, 1.0, 4.0]}), others), seeds(4))
