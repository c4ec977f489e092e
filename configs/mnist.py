"""placeholder"""

from configs import default


def get_config(variant: str = "beta"):
    """A run on MNIST; the argument is a variant's name (configs/mnist.py:autoencoder)."""
    config = default.get_config()
    config.latent_dim = 20
    config.data = default.section("data", "mnist")
    config.net = default.section("net", "mlp", hidden=(400,))
    config.variant = default.section("variant", variant)
    config.train.steps = 4690
    config.evaluation.every = 1000
    config.checkpoint.every = 1000
    return config
