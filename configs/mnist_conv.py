"""A convolutional VAE on MNIST: the network of Locatello et al. 2019 (table 1), ten latents.

Command    python -m experiments.train --config=configs/mnist_conv.py --config.data.path=FOLDER
Time       9,380 steps (10.0 epochs) at 85 steps/s on 2 CPU cores (docs/benchmarks.md): two minutes
Measured   2 of the 10 epochs, with --config.train.steps=2000: seed 0, test split, nats per image, one draw: elbo
           -110.53 +- 0.33, distortion 92.76, rate 17.77, 10 of 10 latents active (46 s). This is the network at 28
           pixels for speed and for larger images, not a tuned run
"""

from vae_jax.config import defaults


def get_config(variant: str = "beta"):
    """The convolutional network of Locatello et al. 2019 on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "conv")
    config.variant = defaults.section("variant", variant)
    config.train.steps = 9_380
    config.train.batch_size = 64
    config.train.learning_rate = 5e-4
    config.train.dispatch = 20
    return config
