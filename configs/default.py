"""The whole tree with every default: vae_jax/config/defaults.py has each field with its meaning.

Command    python -m experiments.train --config=configs/default.py
"""

from vae_jax.config.defaults import get_config, section

__all__ = ["get_config", "section"]
