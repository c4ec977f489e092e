"""What sets of picture files share, wherever the files lie: their form, their decoding, once, and their splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, _decoded_cache
from vae_jax.data._arrays import warn_once
from vae_jax.data._decoded_cache import Pictures, Room
from vae_jax.data._decoding import Form, broken_files, decode_images
from vae_jax.data._host_images import HostImages
from vae_jax.data._image_files import ImageFile
from vae_jax.data._random_split import hold_out
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.phrases import plural

MANY = 5000
"""Files above which it is said that they are being decoded: it takes a while."""


def check_form(size: int, crop: bool, channels: int, broken: str) -> Form:
    """The form that images are brought into. Raises UserError for a field that cannot be."""
    if size < 0:
        raise UserError(f"size: {size} is not allowed; give at least 1, or 0 to leave images as they are")
    if channels not in (0, 1, 3):
        raise UserError(f"channels: {channels} is not allowed; give 1, 3, or 0 for what the first image has")
    if broken not in ("refuse", "skip"):
        raise unknown_name("broken", broken, ("refuse", "skip"))
    return Form(size, crop, channels)


def read_pictures(place: Path, files: Sequence[ImageFile], form: Form, broken: str) -> Pictures:
    """The images of the files at `place`, decoded, or as they were kept. What is odd about them is said."""
    file = _decoded_cache.cache_file(place, form, _decoded_cache.content_digest(files))
    pictures = _decoded_cache.read_pictures(file)
    if pictures is None or (broken == "refuse" and not pictures.kept.all()):
        with _decoded_cache.room_beside(file) as room:
            pictures = room.keep(_decode(files, form, broken, room))
    for remark in pictures.remarks:
        warn_once(remark)
    return pictures


def _decode(files: Sequence[ImageFile], form: Form, broken: str, room: Room) -> Pictures:
    """The images of the files, in `room`. Raises UserError where some are broken and that is refused."""
    if len(files) > MANY:
        warn_once(f"data: {len(files):,} images are decoded, which is done once")
    decoded = decode_images(files, form, room.allocate)
    remarks = []
    if decoded.broken:
        problem = f"{len(decoded.broken):,} of {plural(len(files), 'image')} cannot be read"
        named = broken_files(files, decoded.broken)
        if broken == "refuse":
            raise UserError(f"path: {problem}: {named}; remove them, or give broken skip to leave them out")
        remarks.append(f"data: {problem} and are left out: {named}")
    if not form.channels and decoded.images.shape[-1] == 1 and decoded.coloured:
        remarks.append(
            f"data: the first image is grey, and {plural(decoded.coloured, 'image')} of colour made grey; "
            "data.channels=3 keeps colour"
        )
    return Pictures(decoded.images, decoded.kept, tuple(remarks))


def make_dataset(
    pictures: Pictures, files: Sequence[ImageFile], labels: np.ndarray | None, test: float | int
) -> Dataset:
    """The dataset of the pictures that are kept, each from the file and with the label of its number."""
    numbers, rows = split_numbers(files, test), np.flatnonzero(pictures.kept)
    host = HostImages(pictures.images)
    images = {split: host.take(rows[part]) for split, part in numbers.items()}
    parts = {split: (images[split], None if labels is None else labels[part]) for split, part in numbers.items()}
    if not numbers["validation"].size:
        del parts["validation"]
    with errors_of("path: "):
        return data.from_arrays(*parts["train"], *parts["test"], *parts.get("validation", (None, None)))


def split_numbers(files: Sequence[ImageFile], test: float | int) -> dict[str, np.ndarray]:
    """The numbers of the files of each split: those of its folder; without a folder test, those of a permutation."""
    splits = np.array([file.split or "train" for file in files])
    numbers = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    if not numbers["test"].size:
        kept, held_out = hold_out(numbers["train"].size, test)
        numbers |= {"train": numbers["train"][kept], "test": numbers["train"][held_out]}
    return numbers
