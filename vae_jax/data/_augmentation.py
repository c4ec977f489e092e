"""Training images flipped and shifted inside the step, each example by noise of its own, new at every visit."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.randomness import example_keys, stream
from vae_jax.typing import Indices, Key, Keys, StoredImages


def flip_images(images: StoredImages, keys: Keys) -> StoredImages:
    """The images, each mirrored from left to right with probability 1/2.

    Args:
        images: (batch, height, width, channels).
        keys: one for each image.
    """
    is_flipped = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)


def shift_images(images: StoredImages, keys: Keys, largest: int) -> StoredImages:
    """The images, each moved by whole pixels, its edge repeated where nothing is left: y[i, j] = x[i - u, j - v].

    Args:
        images: (batch, height, width, channels).
        keys: one for each image, from which u and v are drawn, uniform on -largest, ..., largest.
        largest: pixels.
    """
    shape = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (largest, largest), (largest, largest), (0, 0)), mode="edge")

    def shift(image: jax.Array, key: Key) -> jax.Array:
        down, right = jax.random.randint(key, (2,), -largest, largest + 1, jnp.int32)
        return jax.lax.dynamic_slice(image, (largest - down, largest - right, jnp.int32(0)), shape)

    return jax.vmap(shift)(padded, keys)


def augmentation(flip: bool, shift: int) -> Callable[[StoredImages, Key, Indices], StoredImages]:
    """The function (images, key, index) -> images that mirrors and moves each image; a function of (key, index) alone.

    Args:
        flip: whether half of the images are mirrored from left to right.
        shift: the most pixels by which an image is moved up, down, left or right; 0 for none.

    Raises:
        UserError: for a negative shift.
    """
    if shift < 0:
        raise UserError(f"shift: {shift} is not allowed; give a number of pixels, or 0 for none")

    def augment(images: StoredImages, key: Key, index: Indices) -> StoredImages:
        if flip:
            images = flip_images(images, example_keys(stream(key, "augmentation/flip"), index))
        if shift:
            images = shift_images(images, example_keys(stream(key, "augmentation/shift"), index), shift)
        return images

    return augment


def check_augmentation(flip: bool, shift: int, image_shape: tuple[int, int, int], has_factors: bool) -> None:
    """Raises UserError for a shift that leaves nothing of an image, and where images follow from factors.

    A factor that says where a shape lies, or which way it looks, would no longer be true of its image.
    """
    side = min(image_shape[:2])
    if shift >= side:
        raise UserError(f"shift: {shift} is not allowed for images of {side} pixels; give 0 to {side - 1}")
    if has_factors and (flip or shift):
        field, value = ("flip", flip) if flip else ("shift", shift)
        raise UserError(f"{field}: {value} is not allowed for images whose factors are known; leave flip and shift out")
