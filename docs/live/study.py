"""The study of docs/live.md: three betas of four seeds on the digits, one compiled program."""

from vae_jax.config import defaults
from vae_jax.sweeps.algebra import grid, product, seeds


def get_config():
    """A short run on the digits, with few latents so that each is worth moving."""
    config = defaults.get_config()
    config.latent_dim = 6
    config.train.steps = 2000
    config.evaluation.every = 500
    config.train.learning_rate = 2e-3
    return config


def sweep():
    """beta = 0.25, 1 and 4, of four seeds each."""
    return product(grid(**{"variant.beta": [0.25, 1.0, 4.0]}), seeds(4))
