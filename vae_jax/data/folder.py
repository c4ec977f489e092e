"""A folder of pictures: PNG, JPEG and WebP, read by Pillow.

    FOLDER/*.jpg                 images without labels
    FOLDER/CLASS/*.jpg           a class each; names sorted are the labels 0, 1, ...
    FOLDER/train/*.jpg, test/    splits; val too (or valid, validation)
    FOLDER/train/CLASS/*.jpg     both

Where there is no folder test, a fixed permutation holds images out. Images are turned as their EXIF says; what is
transparent is laid on black; grey of 16 bits is rounded to 8; palettes and CMYK become RGB. They are decoded once and
kept in the user's cache folder (XDG_CACHE_HOME, or ~/.cache), until a file's name, size or time changes.
"""

from collections.abc import Sequence

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, _decoded_cache
from vae_jax.data._arrays import warn_once
from vae_jax.data._decoded_cache import Pictures
from vae_jax.data._decoding import Form, broken_files, decode_images
from vae_jax.data._image_files import ImageFile, find_images
from vae_jax.data._paths import data_path
from vae_jax.data._random_split import hold_out
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.phrases import plural

MANY = 5000
"""Files above which it is said that they are being decoded: it takes a while."""


def load(
    *,
    path: str = "",
    size: int = 0,
    crop: bool = True,
    channels: int = 0,
    broken: str = "refuse",
    test: float | int = 0.1,
) -> Dataset:
    """The pictures in a folder.

    Args:
        path: the folder.
        size: images are scaled to size x size; 0 leaves them as they are, and all must then be alike.
        crop: cuts the middle square before images are scaled; else they are stretched to a square.
        channels: 1 (grey) or 3 (RGB); 0 is what the first image has.
        broken: what to do where files cannot be read: refuse, or skip, which leaves them out and says so.
        test: how many images are held out where there is no folder test: a fraction, or a number of them.

    Raises:
        UserError: naming the files or the field that is wrong.
    """
    if size < 0:
        raise UserError(f"size: {size} is not allowed; give at least 1, or 0 to leave images as they are")
    if channels not in (0, 1, 3):
        raise UserError(f"channels: {channels} is not allowed; give 1, 3, or 0 for what the first image has")
    if broken not in ("refuse", "skip"):
        raise unknown_name("broken", broken, ("refuse", "skip"))
    folder = data_path(path)
    if not folder.is_dir():
        hint = "a file; data.name=arrays reads files of arrays" if folder.exists() else "not there"
        raise UserError(f"path: {str(folder)!r} is {hint}; give a folder of pictures")
    files = find_images(folder)
    _split_numbers(files, test)  # what is wrong with it is said before minutes of decoding
    file, content = _decoded_cache.cache_file(folder, Form(size, crop, channels)), _decoded_cache.content_digest(files)
    pictures = _decoded_cache.read_pictures(file, content)
    if pictures is None or (broken == "refuse" and not pictures.kept.all()):
        pictures = _decode(files, Form(size, crop, channels), broken)
        _decoded_cache.write_pictures(file, content, pictures)
    for remark in pictures.remarks:
        warn_once(remark)
    kept = [file for file, is_kept in zip(files, pictures.kept, strict=True) if is_kept]
    return _make_dataset(pictures.images, kept, test)


def _decode(files: Sequence[ImageFile], form: Form, broken: str) -> Pictures:
    """The images of the files. Raises UserError where some are broken and that is refused."""
    if len(files) > MANY:
        warn_once(f"data: {len(files):,} images are decoded, which is done once")
    decoded = decode_images(files, form)
    remarks = []
    if decoded.broken:
        problem = f"{len(decoded.broken):,} of {plural(len(files), 'image')} cannot be read"
        named = broken_files(files, decoded.broken)
        if broken == "refuse":
            raise UserError(f"path: {problem}: {named}; remove them, or give broken skip to leave them out")
        remarks.append(f"data: {problem} and are left out: {named}")
    if not form.channels and decoded.images.shape[-1] == 1 and decoded.coloured:
        remarks.append(
            f"data: the first image is grey, and {plural(decoded.coloured, 'image')} of colour made so; "
            "data.channels=3 keeps colour"
        )
    return Pictures(decoded.images, decoded.kept, tuple(remarks))


def _make_dataset(images: np.ndarray, files: Sequence[ImageFile], test: float | int) -> Dataset:
    """The dataset of the images, each from the file of its number."""
    labels, numbers = _class_numbers(files), _split_numbers(files, test)
    parts = {split: (images[part], None if labels is None else labels[part]) for split, part in numbers.items()}
    if not numbers["validation"].size:
        del parts["validation"]
    with errors_of("path: "):
        return data.from_arrays(*parts["train"], *parts["test"], *parts.get("validation", (None, None)))


def _split_numbers(files: Sequence[ImageFile], test: float | int) -> dict[str, np.ndarray]:
    """The numbers of the files of each split: those of its folder; without a folder test, those of a permutation."""
    splits = np.array([file.split or "train" for file in files])
    numbers = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    if not numbers["test"].size:
        kept, held_out = hold_out(numbers["train"].size, test)
        numbers |= {"train": numbers["train"][kept], "test": numbers["train"][held_out]}
    return numbers


def _class_numbers(files: Sequence[ImageFile]) -> np.ndarray | None:
    """The number of each image's class among their sorted names; None where there is one class, or none."""
    classes, numbers = np.unique(np.array([file.label for file in files]), return_inverse=True)
    return np.asarray(numbers, np.int32) if len(classes) > 1 else None
