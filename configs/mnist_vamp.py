"""The VampPrior on MNIST in the setting of Tomczak & Welling 2018, one stochastic layer.

Command    python -m experiments.train --config=configs/mnist_vamp.py --config.data.path=FOLDER
           (configs/mnist_vamp.py:beta has the N(0, I) prior on the same net and schedule)
Time       not run here
Paper      test NLL in nats, 5,000 importance samples, dynamic binarisation, not run here:

    N(0, I)              84.45 +- 0.12
    VampPrior, K = 500   82.43 +- 0.06

The paper's: 784-300-300-40, K = 500, Adam 5e-4, batch 100, beta from 0 to 1 over 100 epochs, training stopped 50
epochs after the best validation ELBO.
Not as there: plain ReLU layers where the paper's are gated (two dense layers, one through a sigmoid, multiplied),
which lowers what both priors reach; log variances are free, where the released code cuts them to [-6, 2] and
normalises gradients before Adam; all 60,000 images are trained on, where the paper keeps 10,000 to know when to
stop, so an epoch is 600 steps; a fixed 400 epochs. The best checkpoint is by test ELBO: quote the last.
"""

from vae_jax.config import defaults


def get_config(variant: str = "vamp"):
    """A run on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 40
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "mlp", hidden=(300, 300))
    config.variant = defaults.section("variant", variant)
    config.schedule = defaults.section("schedule", "linear", steps=100 * 600)
    config.train.batch_size = 100
    config.train.learning_rate = 5e-4
    config.train.steps = 400 * 600
    config.evaluation.every = 600 * 10
    config.checkpoint.every = 600 * 10
    return config
