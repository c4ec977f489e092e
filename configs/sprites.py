"""A beta-VAE on sprites that are drawn inside the step: known factors, no files (vae_jax/data/sprites.py).

Command    python -m experiments.train --config=configs/sprites.py --workdir=runs/sprites
Time       10,000 steps in 487 s on 2 CPU cores that four other jobs were using
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, a tenth of the grid as the test split, beta = 1, nats per image of 32x32 pixels:

    elbo      distortion   rate    active units
    -31.73    17.89        13.85   8 of 10

The full grid has 737,280 images and takes no memory; --config.data.sizes and --config.data.resolution make smaller
ones, --config.data.split holds combinations out or correlates factors. The argument of the config is the variant:
configs/sprites.py:ada learns from pairs that share factors.
"""

from vae_jax.config import defaults


def get_config(variant: str = "beta"):
    """A run on sprites of 32 pixels; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "sprites", binarize="static", resolution=32)
    config.net = defaults.section("net", "mlp", hidden=(512, 256))
    config.variant = defaults.section("variant", variant)
    config.train.steps = 10_000
    config.train.learning_rate = 5e-4
    return config
