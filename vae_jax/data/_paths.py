"""Paths to data as a person gives them."""

from pathlib import Path

from vae_jax.errors import UserError, errors_of
from vae_jax.files import reason, user_path


def data_path(path: str, field: str = "path") -> Path:
    """The file or folder that `path` names, which may not be there; ~ is the person's home. It was given as `field`.

    Raises UserError for what names no file, and for what this machine does not let anyone look up.
    """
    with errors_of(f"{field}: "):
        location = user_path(path)
    try:
        location.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        shown = path if len(path) <= 200 else f"{path[:100]}...{path[-50:]}"
        raise UserError(f"{field}: {shown!r} cannot be looked up ({reason(error)})") from None
    return location
