"""placeholder"""

from configs import default


def get_config(variant: str = "beta"):
    """A run on the digits; the argument is a variant's name (configs/digits.py:autoencoder)."""
    config = default.get_config()
    config.variant = default.section("variant", variant)
    return config
