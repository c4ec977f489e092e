"""Burda, Grosse & Salakhutdinov 2016, tables 1 and 2: the VAE and the IWAE of one stochastic layer on MNIST.

Command    python -m experiments.reproduce --only=iwae_table1,fixed_mnist --mnist=FOLDER --binarized_mnist=FOLDER
           (one run: python -m experiments.train --config=configs/papers/burda_2016.py:vae_k1)
Protocol   784-200-200-50 and its mirror, tanh, Bernoulli pixels, Glorot's uniform, Adam(0.9, 0.999), batches of 20,
           3^i passes over the training images at a rate of 0.001 * 10^(-i/7) for i = 0 to 7: 3,280 epochs. Pixels are
           drawn anew at each visit (table 1) or once and for all (table 2). -log p(x) by 5,000 draws, test images.
Deviates   Batches of 100, and the rate falls as a half cosine from 1e-3 to 0 over 400 epochs (200 at k = 5 and 50): at
           k = 1 an eighth of the passes and a fortieth of the steps. All 60,000 images are trained on and the last step
           is measured, as there. With fixed pixels it trains on 50,000 images for 100 epochs, and validation chooses
           the checkpoint: longer runs memorise the training bits. -log p(x) is by 1,000 draws; the page says what 5,000
           would change.
Paper      -log p(x), nats per image: VAE 86.76, IWAE k = 5 85.54, k = 50 84.78; fixed pixels, VAE 88.71.
           DReG's gradient on the same network, by those who re-ran it: k = 5 84.90.
Measured   vae_k1: 88.67 nats (4 seeds, 88.46 to 88.89): worse by 1.91 nats
           vae_k1_fixed: 92.61 nats (4 seeds, 92.47 to 92.76): worse by 3.90 nats
           Both have 15 active units (seed 0) where the paper has 19 at k = 1, from step 25,000 on. ELBOs of training
           and test images end 0.7 nats apart (vae_k1: -91.4 and -92.1): steps are lacking, not images.
"""

from vae_jax.config import defaults

ROWS = {
    "vae_k1": ("mnist", "beta", {}, 400),
    "iwae_k5": ("mnist", "iwae", {"samples": 5}, 200),
    "iwae_k50": ("mnist", "iwae", {"samples": 50}, 200),
    "dreg_k5": ("mnist", "iwae", {"samples": 5, "estimator": "dreg"}, 200),
    "vae_k1_fixed": ("binarized_mnist", "beta", {}, 100),
}
"""Data, variant, its fields, and epochs."""


def get_config(row: str = "vae_k1"):
    """A row of the tables."""
    data, variant, fields, epochs = ROWS[row]
    config = defaults.get_config()
    config.latent_dim = 50
    config.data = defaults.section("data", data)
    config.net = defaults.section("net", "mlp", hidden=(200, 200), activation="tanh", init="glorot")
    config.variant = defaults.section("variant", variant, **fields)
    epoch = 500
    if data == "mnist":
        config.data.validation = 0  # nothing is chosen
        epoch = 600
    config.train.steps = epochs * epoch
    config.train.batch_size = 100
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.log.every = epoch
    config.evaluation.every = config.checkpoint.every = epochs // 20 * epoch
    return config
