"""The regularised autoencoder on MNIST, near the setting of Ghosh et al. 2020: 16 latents, squared error, RAE-L2.

Command    python -m experiments.train --config=configs/mnist_rae.py --config.data.path=FOLDER
Time       2,000 steps in 150 s on 2 shared CPU cores (jax 0.10.2); the full run is 30 times that
Measured   with --config.train.steps=2000 --config.evaluation.every=1000 --config.checkpoint.every=1000:
           seed 0, test split: distortion 457.8 nats per image (448.7 of them are the normaliser of sigma^2 = 1/2: a
           squared error of 9.03 over the 784 pixels), 16 of 16 latents active
Paper      FID of 10,000 draws, a mixture of ten Gaussians fitted to the codes, of its own network:

    RAE-L2   8.69     RAE    9.81     AE    10.66
    RAE-GP  11.54     RAE-SN 11.74    VAE   17.66 (from N(0, I) 19.21)

There: batch 100, 100 epochs, Adam at 5e-4, images padded to 32 pixels, four convolutions of 128 to 1024 channels, three
transposed ones back, batch normalisation, and the weights 1e-4 on z^2 and 1e-7 on squared kernels beside a mean
squared error. By vae_jax/variants/rae.py these are beta_z = 0.0128 and lambda_reg = 1.02e-4 beside its sum, a
gaussian of sigma^2 = 1/2.
Different here: the images are 28 pixels, the network is far smaller and has no batch normalisation, and the decoder's
dense kernels are regularised too, not only the transposed convolutions'. No FID is computed here.
"""

import math

from vae_jax.config import defaults


def get_config(variant: str = "rae"):
    """A run on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 16
    config.data = defaults.section("data", "mnist")
    config.data.binarize = "none"
    config.likelihood = defaults.section("likelihood", "gaussian", sigma=math.sqrt(0.5), mean="linear")
    config.net = defaults.section("net", "conv")
    config.variant = defaults.section("variant", variant)
    if variant == "rae":
        config.variant.beta_z, config.variant.lambda_reg = 0.0128, 1.02e-4
    config.train.steps = 100 * 600
    config.train.batch_size = 100
    config.train.learning_rate = 5e-4
    config.evaluation.every = 600 * 10
    config.checkpoint.every = 600 * 10
    config.train.dispatch = 20
    return config
