"""TO WRITE"""

from configs import default


def get_config(variant: str = "vq"):
    """A run on the digits; the argument is a variant's name."""
    config = default.get_config()
    config.train.steps = 6000
    config.variant = default.section("variant", variant)
    return config
