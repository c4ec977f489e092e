"""A laboratory for variational autoencoders: a run is a pure function of a config and a seed."""

from typing import TYPE_CHECKING, Any

from vae_jax.errors import UserError

if TYPE_CHECKING:
    from vae_jax.api import compare, evaluate, fit, load_config, open_run, sweep, train

__version__ = "0.1.0"
__all__ = ["UserError", "compare", "evaluate", "fit", "load_config", "open_run", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """The public functions, which bring JAX, Orbax and more, are imported when the first of them is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'vae_jax' has no attribute {name!r}")
    from vae_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
