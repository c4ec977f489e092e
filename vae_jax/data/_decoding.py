"""Image files to arrays: what a file of any kind looks like as uint8 of 1 or 3 channels."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vae_jax.data._image_files import ImageFile
from vae_jax.data._resize import resize_image
from vae_jax.errors import UserError
from vae_jax.files import reason
from vae_jax.phrases import join_names, plural, printable

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 89_478_485
"""In one image, as many as Pillow takes without a warning: a small file may claim any number."""
WORKERS = 8


class Form(NamedTuple):
    """What images are made into.

    Attributes:
        size: they are scaled to size x size; 0 leaves them as they are.
        crop: the middle square is cut before they are scaled; else they are stretched to one.
        channels: 1 or 3; 0 for as many as an image has.
    """

    size: int
    crop: bool
    channels: int


class Image(NamedTuple):
    """An image as an array (height, width, channels), and whether it is of colour."""

    pixels: np.ndarray
    is_coloured: bool


def decode_image(file: ImageFile, form: Form) -> Image:
    """The image in a file.

    It is turned as its EXIF says. What is transparent is laid on black; 16 bits are rounded to 8; palettes and CMYK
    become RGB, and a palette of greys grey. Of several pictures in a file the first is taken. Colour profiles are not
    applied.

    Raises what Pillow raises for a damaged file.
    """
    from PIL import Image as pillow

    if file.size < 0:
        raise ValueError("not a file")
    with _open(file) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than {MAX_PIXELS:,}")
        opened.load()
        picture = _opaque(_as_8_bits(_turned(opened)))
    is_coloured = picture.mode != "L"
    channels = form.channels or (3 if is_coloured else 1)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if form.size and not form.crop:
        picture = picture.resize((form.size, form.size), pillow.Resampling.LANCZOS)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    return Image(resize_image(pixels, form.size) if form.size and form.crop else pixels, is_coloured)


def _open(file: ImageFile) -> Any:
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        return pillow.open(file.path if file.content is None else io.BytesIO(file.content()), formats=FORMATS)
    except UnidentifiedImageError:  # its message is the whole path
        raise ValueError("no PNG, JPEG or WebP") from None


def _turned(image: Any) -> Any:
    """The image as its EXIF says; as it is stored where that is damaged."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # its parser raises what comes, and the pixels are whole
        return image.copy()


def _as_8_bits(image: Any) -> Any:
    """A grey image of 16 bits as one of 8: Pillow itself would cut off what is above 255."""
    from PIL import Image

    if image.mode.startswith("I"):
        levels = np.rint(np.clip(np.asarray(image, np.float64), 0, 65535) / 257)
        return Image.fromarray(levels.astype(np.uint8))
    return image


def _opaque(image: Any) -> Any:
    """The image as L or RGB, on black where it is transparent."""
    from PIL import Image

    is_grey, has_palette = image.mode in ("1", "L", "LA", "La"), image.mode in ("P", "PA")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    if not is_grey:
        image = image.convert("RGB")
    if has_palette:
        pixels = np.asarray(image)
        is_grey = bool((pixels == pixels[..., :1]).all())
    return image.convert("L") if is_grey else image


class Decoded(NamedTuple):
    """The images of several files.

    Attributes:
        images: uint8 (n, height, width, channels), one of each file; of one that cannot be read, anything.
        kept: which of all can be read.
        broken: the number of each file that cannot, and why.
        coloured: how many are of colour.
    """

    images: np.ndarray
    kept: np.ndarray
    broken: dict[int, str]
    coloured: int


Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""shape -> an array of uint8, of memory or of a file."""


def decode_images(files: Sequence[ImageFile], form: Form, allocate: Allocate) -> Decoded:
    """All images, of as many channels as the first has where `form` does not say, in what `allocate` gives.

    Raises UserError where two have different shapes, and where none can be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what it reads nevertheless
        return _decode_images(files, form, allocate)


def _decode_images(files: Sequence[ImageFile], form: Form, allocate: Allocate) -> Decoded:
    first, image, broken = _first_image(files, form)
    shape = image.pixels.shape
    form = form._replace(channels=shape[-1])
    images, kept = allocate((len(files), *shape)), np.zeros(len(files), bool)

    def fill(number: int) -> bool:
        """Whether the image is of colour; writes it to its place."""
        decoded = decode_image(files[number], form)
        if decoded.pixels.shape != shape:
            raise UserError(
                f"size: {form.size} keeps images as they are, and they differ: {_extent(shape)} in "
                f"{printable(files[first].name)}, {_extent(decoded.pixels.shape)} in {printable(files[number].name)}; "
                "give one size"
            )
        images[number], kept[number] = decoded.pixels, True
        return decoded.is_coloured

    numbers = range(first, len(files))
    with _thread_pool() as pool:
        outcomes = dict(zip(numbers, pool.map(partial(_attempt, fill), numbers), strict=True))
    broken |= {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, str)}
    coloured = sum(outcome is True for outcome in outcomes.values())
    return Decoded(images, kept, broken, coloured)


@contextlib.contextmanager
def _thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Threads, which Pillow lets run at once while it decodes; an error drops what has not begun."""
    pool = ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _attempt(decode: Callable[[int], Any], number: int) -> Any:
    """What `decode` gives, or in words why the file cannot be read."""
    try:
        return decode(number)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises what comes
        return reason(error)


def _first_image(files: Sequence[ImageFile], form: Form) -> tuple[int, Image, dict[int, str]]:
    """The number of the first file that can be read, its image, and why those before it cannot."""
    broken: dict[int, str] = {}
    for number in range(len(files)):
        outcome = _attempt(lambda number: decode_image(files[number], form), number)
        if isinstance(outcome, Image):
            return number, outcome, broken
        broken[number] = outcome
    raise UserError(f"path: none of {plural(len(files), 'image')} can be read: {broken_files(files, broken)}")


def broken_files(files: Sequence[ImageFile], broken: Mapping[int, str]) -> str:
    """The first five of the broken files, and why they cannot be read."""
    return join_names([f"{printable(files[number].name)} ({why})" for number, why in sorted(broken.items())])
