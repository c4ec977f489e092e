"""A beta-VAE on rooms that are rendered inside the step: the factors of Shapes3D, no files (vae_jax/data/scenes.py).

Command    python -m experiments.train --config=configs/scenes.py --workdir=runs/scenes
Time       a step of 64 images takes about 0.25 s of one CPU core: 40 minutes for 10,000
Measured   with --config.data.validation=0 (training uses all but the test images):
           600 steps at --config.data.resolution=32 --config.train.learning_rate=2e-3, seed 0, nats per image:
           ELBO 1,805, rate 31.5, 10 of 10 latents active; hues of walls and floor are learned, shapes not yet

The gaussian's sigma is one learned number, so that at beta = 1 distortion and rate are in the same units (the
distortion is a negative number once sigma is small). The full grid has 480,000 images and takes no memory;
--config.data.sizes and --config.data.resolution make smaller ones, --config.data.split holds combinations out or
correlates factors. The argument of the config is the variant: configs/scenes.py:ada learns from pairs that share
factors.
"""

from vae_jax.config import defaults


def get_config(variant: str = "beta"):
    """A run on scenes of 64 pixels; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "scenes", binarize="none")
    config.net = defaults.section("net", "conv")
    config.likelihood = defaults.section("likelihood", "gaussian", scale="shared", mean="linear")
    config.variant = defaults.section("variant", variant)
    config.train.steps = 10_000
    config.train.batch_size = 64
    config.train.learning_rate = 5e-4
    config.evaluation.every = 5_000  # the held-out tenth is 48,000 images
    return config
