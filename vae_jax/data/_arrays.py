"""Arrays of images and labels: what they may be, and the grey levels that their numbers stand for."""

import functools
import itertools
import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from vae_jax.data._host_images import HostImages, check_memory, is_mapped, release_pages
from vae_jax.errors import UserError
from vae_jax.phrases import plural

INT32 = np.iinfo(np.int32)
DARK = 127
"""The largest value up to which images are said to be dark."""
CHUNK = 2**22
"""Numbers that are looked at once."""


def as_array(field: str, values: Any) -> np.ndarray:
    """`values` as an array, one of a mapped file as it is.

    Raises UserError naming `field` where they are rows of several lengths, or none.
    """
    try:
        array = values if is_mapped(values) else np.asarray(values)
    except (ValueError, TypeError):
        array = np.asarray(None)
    if array.dtype == object:
        raise UserError(f"{field}: {type(values).__name__} is not allowed; give an array of numbers")
    return array


def is_whole(value: Any) -> bool:
    """Whether `value` is one whole number, of Python or of NumPy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_images(images: Any) -> np.ndarray:
    """The images as an array of uint8, bool or float32, (n, height, width, channels).

    Raises UserError for another dtype or shape, with how to convert it, and for infinities.
    """
    array = check_form(images)
    return as_numbers("images", array) if array.dtype.kind == "f" else array


def check_form(images: Any) -> np.ndarray:
    """The images as an array, of which no number is looked at. Raises UserError for another dtype or shape."""
    array = as_array("images", images)
    wrong = f"images: {array.dtype} of shape {array.shape} is not allowed; give uint8 of (n, height, width, channels)"
    if array.dtype not in (np.uint8, np.bool_) and array.dtype.kind != "f":
        raise UserError(f"{wrong}, from 0 to 255, or float32")
    if array.ndim == 3:
        raise UserError(f"{wrong}: images[..., None], where they are grey")
    if array.ndim != 4 or not array.size:
        raise UserError(f"{wrong}, at least one image of at least one pixel")
    if array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        warn_once(
            f"images: {plural(array.shape[-1], 'channel')} of shape {array.shape}; where channels come first, give "
            "np.moveaxis(images, 1, -1)"
        )
    warn_of_transparency(array.shape[-1])
    return array


def warn_of_transparency(channels: int) -> None:
    """Says in a line that a fourth channel is taken as one to learn."""
    if channels == 4:
        warn_once("images: 4 channels; where the fourth is transparency, give images[..., :3]")


def as_numbers(field: str, array: np.ndarray) -> np.ndarray:
    """Numbers of any size as float32, NaN where one is missing; a mapped float32 file stays where it is.

    Raises UserError naming `field` for infinities, and for more than memory holds.
    """
    if array.dtype != np.float32:
        check_memory(f"{field} as float32", 4 * array.size)
        with np.errstate(over="ignore"):
            array = np.asarray(array, np.float32)
    for start, chunk in image_chunks(array):
        infinite = np.isinf(chunk).reshape(len(chunk), -1).any(axis=1)
        if infinite.any():
            raise UserError(f"{field}: infinite, first in row {start + int(np.argmax(infinite))}; give finite numbers")
    return array


def check_labels(labels: Any, count: int, field: str = "labels", noun: str = "image") -> np.ndarray:
    """The labels as int32 (count,).

    Args:
        labels: one whole number for each: integers, bools, or floats that are whole.
        count: how many there must be.
        field: what they were given as.
        noun: what each is of.

    Raises:
        UserError: for another shape, for what is no whole number, and for numbers beyond int32.
    """
    array = as_array(field, labels)
    allowed = f"give one whole number for each {noun}, shape ({count},)"
    if array.ndim == 2:
        way = f"{field}[:, 0]" if array.shape[1] == 1 else f"np.argmax({field}, axis=1), where they are one-hot"
        raise UserError(f"{field}: shape {array.shape} is not allowed; {allowed}: {way}")
    if array.ndim != 1:
        raise UserError(f"{field}: shape {array.shape} is not allowed; {allowed}")
    if len(array) != count:
        raise UserError(f"{field}: {len(array)} of them for {count} {noun}s; give one for each {noun}")
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{field}: {array.dtype} is not allowed; {allowed}: np.unique({field}, return_inverse=True)[1] "
            "numbers classes that have names"
        )
    odd = array[~(np.isfinite(array) & (array == np.round(array)))] if array.dtype.kind == "f" else array[:0]
    if len(odd):
        raise UserError(f"{field}: {odd[0]:g} is not allowed; {allowed}")
    ends = (int(array.min()), int(array.max())) if len(array) else ()
    beyond = [end for end in ends if not INT32.min <= end <= INT32.max]
    if beyond:
        raise UserError(f"{field}: {beyond[0]} is not allowed; give numbers from {INT32.min} to {INT32.max}")
    return np.asarray(array, np.int32)


@functools.cache
def warn_once(line: str) -> None:
    """Says `line` in the log, the first time in a process."""
    logging.getLogger(__name__).warning("%s", line)


def level_factor(low: int, high: int) -> int:
    """What the values of images are multiplied by to be grey levels from 0 to 255; says in a line what is odd in them.

    Values of 0 and 1 alone are black and white, so that the factor is 255; it is 1 for all others.

    Args:
        low: the smallest value of all images.
        high: the largest.
    """
    factor = 255 if high == 1 else 1
    if factor > 1:
        warn_once("images: all values are 0 or 1, taken as black and white (0 and 255)")
    if low == high:
        warn_once(f"images: every pixel has the value {high * factor}, so that there is nothing to learn in them")
    elif 1 < high <= DARK:
        warn_once(
            f"images: the largest value is {high} of 255, so that all are dark; where {high} means white, "
            f"give np.uint8(np.round(images * (255 / {high})))"
        )
    return factor


def spread_levels(images: np.ndarray, factor: int) -> np.ndarray:
    """The images as uint8, multiplied by `factor`; bool is black and white whatever it is, float32 stays as it is."""
    if images.dtype == np.float32:
        return images
    if images.dtype == np.bool_:
        factor = 255
    images = images.astype(np.uint8, copy=False)
    return images if factor == 1 else images * np.uint8(factor)


def grey_levels(*parts: np.ndarray | HostImages) -> list[np.ndarray | HostImages]:
    """The parts of a set, uint8 or bool, as uint8 from 0 to 255 by one factor; those of a mapped file stay there.

    float32 parts are no grey levels and stay as they are. Raises UserError where some are, and others not.
    """
    arrays = [part.images if isinstance(part, HostImages) else part for part in parts]
    if any(array.dtype == np.float32 for array in arrays):
        if any(array.dtype != np.float32 for array in arrays):
            raise UserError("images: uint8 and float32 in one set are not allowed; give one dtype")
        return [_as_levels(part, 1) for part in parts]
    factor = level_factor(*_ends({id(array): array for array in arrays}.values()))
    return [_as_levels(part, factor) for part in parts]


def _as_levels(part: np.ndarray | HostImages, factor: int) -> np.ndarray | HostImages:
    if isinstance(part, np.ndarray) and not is_mapped(part):
        return spread_levels(part, factor)
    host = part if isinstance(part, HostImages) else HostImages(part)
    return HostImages(host.images, host.positions, 255 if host.images.dtype == np.bool_ else factor)


def _ends(arrays: Iterable[np.ndarray]) -> tuple[int, int]:
    """The smallest and the largest value, or two between them that `level_factor` says as much of."""
    low, high = 255, 0
    for _, chunk in itertools.chain.from_iterable(map(image_chunks, arrays)):
        low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
        if low < high and high > DARK:
            break
    return low, high


def image_chunks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(start, images) of all images, a few at a time; what has been read of a mapped file is let go of."""
    rows = max(1, CHUNK // math.prod(images.shape[1:]))
    for start in range(0, len(images), rows):
        yield start, images[start : start + rows]
        release_pages(images)
