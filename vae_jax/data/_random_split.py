"""Test images of a set that has none of its own: a fixed permutation holds them out."""

import numpy as np

from vae_jax.errors import UserError
from vae_jax.phrases import plural


def hold_out(count: int, test: float | int) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the images that are trained on and of those that are held out, each in their order.

    Args:
        count: how many images there are.
        test: how many are held out: a fraction of them where it is below 1, else a number of images.

    Raises:
        UserError: for another `test`, and where no image would be left to train on.
    """
    if not (0 < test < 1 or (test >= 1 and float(test).is_integer())):
        raise UserError(f"test: {test:g} is not allowed; give a fraction below 1, or a whole number of images")
    held_out = max(1, round(test * count)) if test < 1 else int(test)
    if held_out >= count:
        raise UserError(
            f"test: {test:g} of {plural(count, 'image')} leaves none to train on; give less, or a set of more images"
        )
    order = np.random.Generator(np.random.Philox(key=4)).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
