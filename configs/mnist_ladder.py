"""The ladder VAE of five layers on MNIST (Sonderby et al. 2016): 64, 32, 16, 8 and 4 latents, warm-up of 200 epochs.

Command    python -m experiments.train --config=configs/mnist_ladder.py --config.data.path=FOLDER
Time       6,000 steps in 9 minutes on 2 shared CPU cores (jax 0.10.2); the full run takes 15 hours
Measured   24 of the 2,000 epochs, with --config.train.steps=6000 --config.schedule.steps=600 (beta 1 after two epochs):
           seed 0, test split, nats per image, one draw:

    variant            elbo              distortion   rate    active units
    ladder            -95.80 +- 0.26     71.29       24.52    63
    beta, beta = 1    -98.31 +- 0.25     71.01       27.30    26 of 64

Paper      -81.74 nats is its best test log p(x), of five layers by importance sampling, finetuned

The paper's: the latents, dense layers of 512, 256, 128, 64 and 32 between them, two at each level, leaky ReLU, Adam,
beta from 0 to 1 over the first 200 of 2,000 epochs, dynamic binarisation. Not the paper's: no batch normalisation,
which it found important for deep ladders, batches of 200, one learning rate throughout, and no finetuning with
more samples. For a first look set config.train.steps and config.schedule.steps to a tenth.
"""

from vae_jax.config import defaults


def get_config(variant: str = "ladder"):
    """Dense networks of 512 and 64 latents on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 64
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "mlp", hidden=(512, 512), activation="leaky_relu")
    config.variant = defaults.section("variant", variant)
    if variant == "ladder":
        config.variant.update(widths=(32, 16, 8, 4), hidden=(256, 128, 64, 32))
    config.schedule = defaults.section("schedule", "linear", steps=60_000)
    config.train.steps = 600_000
    config.train.batch_size = 200
    return config
