"""A folder of pictures: PNG, JPEG and WebP, read by Pillow.

    FOLDER/*.jpg                 images without labels
    FOLDER/CLASS/*.jpg           a class each; names sorted are the labels 0, 1, ...
    FOLDER/train/*.jpg, test/    splits; val too (or valid, validation)
    FOLDER/train/CLASS/*.jpg     both

Where there is no folder test, a fixed permutation holds images out. Images are turned as their EXIF says; what is
transparent is laid on black; grey of 16 bits is rounded to 8; palettes and CMYK become RGB. They are decoded once and
kept in the user's cache folder (XDG_CACHE_HOME, or ~/.cache), until a file's name, size or time changes.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from vae_jax.data import Dataset
from vae_jax.data._image_files import ImageFile, find_images
from vae_jax.data._paths import data_path
from vae_jax.data._picture_sets import check_form, make_dataset, read_pictures, split_numbers
from vae_jax.errors import UserError


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
    form = check_form(size, crop, channels, broken)
    folder = data_path(path)
    if not folder.is_dir():
        hint = "a file; data.name=arrays reads files of arrays" if folder.exists() else "not there"
        raise UserError(f"path: {str(folder)!r} is {hint}; give a folder of pictures")
    files = find_images(folder)
    split_numbers(files, test)  # what is wrong with it is said before minutes of decoding
    pictures = read_pictures(folder, files, form, broken)
    kept = list(itertools.compress(files, pictures.kept))
    return make_dataset(pictures, kept, _class_numbers(kept), test)


def _class_numbers(files: Sequence[ImageFile]) -> np.ndarray | None:
    """The number of each image's class among their sorted names; None where there is one class, or none."""
    classes, numbers = np.unique(np.array([file.label for file in files]), return_inverse=True)
    return np.asarray(numbers, np.int32) if len(classes) > 1 else None
