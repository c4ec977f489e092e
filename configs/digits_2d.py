"""A VAE with two latents on the digits: its latent plane can be looked at whole (pictures/manifold.png).

Command    python -m experiments.train --config=configs/digits_2d.py --workdir=runs/digits_2d
Time       10,000 steps in 13 s on 2 CPU cores (jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images: elbo -22.94, distortion 19.55, rate 3.38 nats per image
"""

from vae_jax.config import defaults


def get_config(variant: str = "beta"):
    """A run on the digits with two latents; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 2
    config.net = defaults.section("net", "mlp", hidden=(256, 128))
    config.variant = defaults.section("variant", variant)
    return config
