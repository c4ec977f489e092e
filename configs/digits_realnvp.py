"""The RealNVP prior on the digits."""

from vae_jax.config import defaults


def get_config(variant: str = "realnvp"):
    """A run on the digits; the argument is a variant's name."""
    config = defaults.get_config()
    config.variant = defaults.section("variant", variant)
    return config
