"""Sonderby et al. 2016's ladder, as deep as in a public repository: twelve layers, fixed bits of MNIST.

Command    python -m experiments.reproduce --only=ladder --binarized_mnist=FOLDER
           (one run: python -m experiments.train --config=configs/papers/sonderby_2016.py:ladder_12)
Protocol   addtt/ladder-vae-pytorch on GitHub: twelve layers of 32 channels on grids of pixels, gated residual blocks
           and ELU between them, each layer conditioned on all above, a learned prior on top, free bits, Adamax; ELBO of
           test images, one draw.
Deviates   Dense layers: 784-512-256 and its mirror, ReLU, 32 latents in the lowest layer and 16 in each of the others,
           joined by layers of 128; a layer is conditioned on the one above, N(0, I) on top, no free bits. Beta rises
           over 20 epochs, Adam, the rate from 1e-3 to 0 as a half cosine over 200; validation chooses the checkpoint,
           two seeds.
Paper      -ELBO, nats per image: 80.50.
"""

from vae_jax.config import defaults

EPOCH, LAYERS = 500, 12


def get_config(row: str = "ladder_12"):
    """The only row of this file."""
    config = defaults.get_config()
    config.latent_dim = 32
    config.data = defaults.section("data", "binarized_mnist")
    config.net = defaults.section("net", "mlp", hidden=(512, 256))
    config.variant = defaults.section("variant", "ladder", widths=(16,) * (LAYERS - 1), hidden=(128,))
    config.schedule = defaults.section("schedule", "linear", steps=20 * EPOCH)
    config.train.steps = 200 * EPOCH
    config.train.batch_size = 100
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.log.every = EPOCH
    config.evaluation.every = config.checkpoint.every = 5 * EPOCH
    return config
