"""The VAE of the textbooks on MNIST: 784-400-20, Bernoulli pixels, dynamic binarisation, ten epochs.

Command    python -m experiments.train --config=configs/mnist.py --config.data.path=FOLDER --workdir=runs/mnist
           (FOLDER holds MNIST's four IDX files; without a path MNIST comes through TFDS)
Time       4,690 steps (10.0 epochs) in 19 s on 2 CPU cores (jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, test split of 10,000, nats per image, one draw of epsilon an image:

    variant            elbo      distortion   rate    active units
    beta, beta = 1   -103.03     75.82       27.21    20 of 20
    autoencoder         -        62.93         -      20 of 20

The ELBO of one draw is unbiased; its standard error over the 10,000 images is about 0.25 nats here.
docs/samples_vae.png and docs/samples_autoencoder.png are the samples.png of these two runs.
"""

from vae_jax.config import defaults


def get_config(variant: str = "beta"):
    """A run on MNIST; the argument is a variant's name (configs/mnist.py:autoencoder)."""
    config = defaults.get_config()
    config.latent_dim = 20
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "mlp", hidden=(400,))
    config.variant = defaults.section("variant", variant)
    config.train.steps = 4690
    return config
