"""Locatello et al. 2019: does a stronger regulariser disentangle? On sprites, at a budget of minutes.

Command    python -m experiments.reproduce --only=disentanglement
           (one run: python -m experiments.train --config=configs/papers/locatello_2019.py:tcvae)
Protocol   dSprites, 64x64 pixels, a convolutional net, ten latents, batches of 64, Adam at 1e-4, 300,000 steps, 50
           seeds of each of six strengths of six variants; MIG of posterior means, 20 bins, 10,000 images.
Deviates   This project's sprites (vae_jax/data/sprites.py), 32x32 pixels, 1024-512-256 and its mirror, 2,000 steps of
           128 images at 5e-4, five seeds of one strength each: less than a hundredth of the steps.
           Numbers do not compare with the study's; their order may.
Paper      On dSprites MIG rises from beta = 1 to stronger regularisers, beta-TCVAE and FactorVAE are ahead of beta at
           equal strength by less than the spread over seeds, and seeds matter more than variants.
Measured   mig_beta_1: 0.034 (5 seeds, 0.021 to 0.048): no published number
           mig_beta_4: 0.039 (5 seeds, 0.012 to 0.066): no published number
           mig_tcvae: 0.085 (5 seeds, 0.029 to 0.141): no published number
           Medians are 0.034 (beta = 1), 0.027 (beta = 4) and 0.093 (beta-TCVAE, whose seeds go from 0.025 to 0.134).
           Five seeds settle no order: beta-TCVAE against beta = 1 has p = 0.05 (paired).
"""

from vae_jax.config import defaults

ROWS = {
    "beta_1": ("beta", {"beta": 1.0}),
    "beta_4": ("beta", {"beta": 4.0}),
    "tcvae": ("tcvae", {"beta": 4.0}),
}


def get_config(row: str = "beta_4"):
    """A variant of one strength."""
    variant, fields = ROWS[row]
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "sprites", binarize="static", resolution=32)
    config.net = defaults.section("net", "mlp", hidden=(512, 256))
    config.variant = defaults.section("variant", variant, **fields)
    config.train.steps = 2000
    config.train.learning_rate = 5e-4
    config.evaluation.every = config.checkpoint.every = 1000
    return config
