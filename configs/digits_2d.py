"""placeholder"""

from configs import default


def get_config(variant: str = "beta"):
    """A run on the digits with two latents; the argument is a variant's name."""
    config = default.get_config()
    config.latent_dim = 2
    config.net = default.section("net", "mlp", hidden=(256, 128))
    config.variant = default.section("variant", variant)
    return config
