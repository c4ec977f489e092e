"""A laboratory for variational autoencoders: a run is a pure function of a config and a seed."""

from vae_jax.registry import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "open_run"]


def open_run(folder, checkpoint="latest"):
    """Opens a trained run; see vae_jax.trained.open_run, which is imported at the first call."""
    from vae_jax import trained

    return trained.open_run(folder, checkpoint)
