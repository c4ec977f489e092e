"""Images of any numbers and layout as (n, height, width, channels), uint8 or, where they are to stay, float32."""

import math

import numpy as np

from vae_jax.data._arrays import as_numbers, image_chunks, warn_of_transparency, warn_once
from vae_jax.data._host_images import check_memory, is_mapped
from vae_jax.errors import UserError, unknown_name

LAYOUTS = {"nhwc": (0, 1, 2, 3), "nchw": (0, 2, 3, 1), "hwcn": (3, 0, 1, 2)}
"""The axes of a layout that make it (n, height, width, channels)."""
Interval = tuple[float, float]


def parse_range(text: str) -> Interval | None:
    """The two numbers of a range, "0 1"; None for no text. Raises UserError for anything else."""
    if not text:
        return None
    try:
        low, high = map(float, text.replace(",", " ").split())
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"range: {text!r} is not allowed; give the values of black and of white, as in '0 1'")
    return low, high


def check_layout(source: str, shape: tuple[int, ...], layout: str) -> None:
    """Raises UserError unless images of this shape and layout have channels and at least one pixel.

    Any number of channels is allowed, except where no layout is given and another than nhwc has the usual 1 or 3.

    Args:
        source: where they are, field first, as an error says it.
        shape: as they are stored.
        layout: one of LAYOUTS, or empty for nhwc where nothing speaks against it; of three axes, those without the
            channels.
    """
    if layout and layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    wrong = f"{source} of shape {shape} is not allowed"
    if len(shape) not in (3, 4):
        raise UserError(f"{wrong}; give (n, height, width) or (n, height, width, channels)")
    if not math.prod(shape):
        raise UserError(f"{wrong}; give at least one image of at least one pixel")
    if len(shape) == 3:
        if layout != "hwcn" and shape[-1] in (3, 4):
            raise UserError(f"{wrong}: it is one image; give several, (n, height, width, {shape[-1]})")
        return
    channels = shape[LAYOUTS[layout or "nhwc"][-1]]
    if layout or channels in (1, 3):
        warn_of_transparency(channels)
        return
    fitting = [name for name, axes in LAYOUTS.items() if shape[axes[-1]] in (1, 3)]
    if fitting:
        raise UserError(
            f"layout: shape {shape} has {channels} channels where they are last; give {' or '.join(fitting)}, or nhwc "
            "where that is meant"
        )
    warn_of_transparency(channels)


def arrange_axes(images: np.ndarray, layout: str) -> np.ndarray:
    """The images as (n, height, width, channels), of the same memory."""
    if images.ndim == 4:
        return images.transpose(LAYOUTS[layout or "nhwc"])
    return (images.transpose(2, 0, 1) if layout == "hwcn" else images)[..., None]


def to_levels(source: str, parts: list[np.ndarray], interval: Interval | None) -> list[np.ndarray]:
    """The parts of a set as uint8 from 0 to 255, by one range; what is rounded is said in a line.

    Args:
        source: where they are, field first, as an error says it.
        parts: images (n, height, width, channels) of any numbers.
        interval: the values of black and of white. Where it is None, uint8 and bool stay as they are (in the file, if
            they are mapped from one), uint16 is from 0 to 65535, floats are from 0 to 1, and other integers grey levels
            from 0 to 255.

    Raises:
        UserError: for values outside the range, for NaN, and for parts of different dtypes.
    """
    dtype = parts[0].dtype
    if any(part.dtype != dtype for part in parts):
        raise UserError(
            f"{source}: {', '.join(str(part.dtype) for part in parts)} in one set are not allowed; give one dtype"
        )
    if dtype.kind not in "biuf":
        raise UserError(f"{source}: {dtype} is not allowed; give numbers")
    stay = interval is None and dtype in (np.uint8, np.bool_)
    check_memory(f"{source} as uint8", sum(part.size for part in parts if not (stay and _stays_mapped(part))))
    if stay:
        return [part if _stays_mapped(part) else np.array(part, order="C") for part in parts]
    ends = _ends(source, parts)
    low, high = interval or _usual_interval(dtype)
    slack = 0.499 / 255 * (high - low)  # what rounds to black or white is that
    if ends[0] < low - slack or ends[1] > high + slack:
        hint = _suggested_range(ends) if interval is None else "one that holds all values"
        raise UserError(
            f"range: images of {dtype} are from {ends[0]:g} to {ends[1]:g}, outside {low:g} to {high:g}; give {hint}"
        )
    dark = dtype == np.uint16 and interval is None and ends[1] < 2**15
    warn_once(
        f"images: {dtype} taken as {low:g} (black) to {high:g} (white), in 256 levels"
        + (f"; the largest value is {ends[1]:g}: where that is white, give range '0 {ends[1]:g}'" if dark else "")
    )
    return [_scale(part, low, high) for part in parts]


def to_real(source: str, parts: list[np.ndarray]) -> list[np.ndarray]:
    """The parts of a set as float32 of any size, NaN where a number is missing.

    Raises UserError for infinities, and for what are no numbers.
    """
    for part in parts:
        if part.dtype.kind not in "biuf":
            raise UserError(f"{source}: {part.dtype} is not allowed; give numbers")
    check_memory(f"{source} as float32", 4 * sum(part.size for part in parts if not _stays_mapped(part)))
    return [as_numbers(source, part if _stays_mapped(part) else np.array(part, np.float32)) for part in parts]


def _usual_interval(dtype: np.dtype) -> Interval:
    if dtype.kind == "f":
        return 0.0, 1.0
    return (0.0, 65535.0) if dtype == np.uint16 else (0.0, 255.0)


def _suggested_range(ends: Interval) -> str:
    """The nearest range that people use which holds the values, or what they are from and to."""
    for low, high in ((-1, 1), (0, 255), (0, 65535)):
        if low <= ends[0] and ends[1] <= high:
            return f"the values of black and white, perhaps '{low} {high}'"
    return f"the values of black and white, perhaps '{ends[0]:g} {ends[1]:g}'"


def _stays_mapped(images: np.ndarray) -> bool:
    """Whether the images are of a mapped file in which each is in one piece, so that any can be read alone."""
    return is_mapped(images) and images.strides[0] >= math.prod(images.shape[1:]) * images.itemsize


def _ends(source: str, parts: list[np.ndarray]) -> Interval:
    """The smallest and the largest value. Raises UserError for NaN and infinities."""
    ends = [_chunk_ends(source, start, chunk) for part in parts for start, chunk in image_chunks(part)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _chunk_ends(source: str, start: int, images: np.ndarray) -> Interval:
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        first = start + int(np.argmin(np.isfinite(images).all(axis=(1, 2, 3))))
        raise UserError(f"{source} has NaN or infinities, first in image {first}; give finite numbers")
    return low, high


def _scale(images: np.ndarray, low: float, high: float) -> np.ndarray:
    levels = np.empty(images.shape, np.uint8)
    for start, chunk in image_chunks(images):
        scaled = np.rint((chunk.astype(np.float64) - low) * (255 / (high - low)))
        levels[start : start + len(chunk)] = np.clip(scaled, 0, 255)
    return levels
