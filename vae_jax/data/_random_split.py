"""Images that a set holds out where it has no split of its own for them: a fixed permutation says which."""

import numpy as np

from vae_jax.errors import UserError
from vae_jax.phrases import plural

PURPOSES = {"test": 4, "validation": 5}
"""The key of each one's permutation."""


def held_out_count(count: int, amount: float | int, purpose: str) -> int:
    """How many of `count` images are held out, as `hold_out` reads `amount`."""
    if not (0 < amount < 1 or (amount >= 1 and float(amount).is_integer())):
        raise UserError(f"{purpose}: {amount:g} is not allowed; give a fraction below 1, or a whole number of images")
    held_out = max(1, round(amount * count)) if amount < 1 else int(amount)
    if held_out >= count:
        raise UserError(
            f"{purpose}: {amount:g} of {plural(count, 'image')} leaves none to train on; give less, or a set of more "
            "images"
        )
    return held_out


def hold_out(count: int, amount: float | int, purpose: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """The positions of the images that are trained on and of those that are held out, each in their order.

    Args:
        count: how many images there are.
        amount: how many are held out: a fraction of them where it is below 1, else a number of images.
        purpose: what they are held out for, "test" or "validation", which is the field that `amount` was given as.

    Raises:
        UserError: for another `amount`, and where no image would be left to train on.
    """
    held_out = held_out_count(count, amount, purpose)
    order = np.random.Generator(np.random.Philox(key=PURPOSES[purpose])).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
