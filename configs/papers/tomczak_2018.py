"""Tomczak & Welling 2018 and Xu et al. 2019: what a learned prior is worth to the VAE of one stochastic layer on MNIST.

Command    python -m experiments.reproduce --only=priors --mnist=FOLDER
           (one run: python -m experiments.train --config=configs/papers/tomczak_2018.py:realnvp)
Protocol   784-300-300-40 and its mirror, gated layers, Bernoulli pixels drawn anew at each visit, Adam at 5e-4, batches
           of 100, beta from 0 to 1 over 100 epochs, 50,000 + 10,000 images, stopped 50 epochs after the best validation
           ELBO, -log p(x) of test images by 5,000 draws. Xu et al. put a prior of 20 or 50 RealNVP blocks on a
           convolutional net and on a ResNet of one stochastic layer of 40 latents; no number of theirs is of an MLP.
Deviates   The rate falls as a half cosine from 1e-3 to 0 over 200 epochs, beta rises over 20, validation chooses the
           checkpoint; log variances are free, where the released code clips them to [-6, 2] and scales gradients. The
           RealNVP prior has 8 blocks with networks of (128, 128). -log p(x) is by 1,000 draws.
Paper      -log p(x), nats per image: N(0, I) 84.45 +- 0.12, VampPrior of 500 pseudo-inputs 82.43 +- 0.06; with a
           RealNVP prior a convolutional net 78.61, a ResNet 78.49.
Measured   realnvp: 81.54 nats (2 seeds, 81.38 to 81.70): better by 0.89 nats than the VampPrior's 82.43
           The VampPrior's number is the paper's, under its own schedule. All 40 latents are active.
"""

from vae_jax.config import defaults

VARIANTS = {"normal": "beta", "vamp": "vamp", "realnvp": "realnvp"}
EPOCH = 500


def get_config(prior: str = "realnvp"):
    """The prior: normal, vamp or realnvp."""
    config = defaults.get_config()
    config.latent_dim = 40
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "mlp", hidden=(300, 300), gated=True)
    config.variant = defaults.section("variant", VARIANTS[prior])
    config.schedule = defaults.section("schedule", "linear", steps=20 * EPOCH)
    config.train.steps = 200 * EPOCH
    config.train.batch_size = 100
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.log.every = EPOCH
    config.evaluation.every = config.checkpoint.every = 5 * EPOCH
    return config
