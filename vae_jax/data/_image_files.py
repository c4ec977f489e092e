"""The image files of a folder, each with the split and the class that its subfolders say."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vae_jax.errors import UserError
from vae_jax.files import reason
from vae_jax.phrases import join_names, printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""The split of a subfolder by its name in lower case."""


class ImageFile(NamedTuple):
    """A file with an image.

    Attributes:
        name: its path from the folder on, with /.
        path: where it is.
        split: "train", "validation" or "test"; empty where no subfolder says.
        label: the subfolder that stands for its class; empty where there is none.
        size: bytes; -1 where it is no file that can be read.
        modified: nanoseconds.
        content: gives its bytes, where it is kept inside the file at `path`.
    """

    name: str
    path: Path
    split: str
    label: str
    size: int
    modified: int
    content: Callable[[], bytes] | None = None


def find_images(folder: Path) -> list[ImageFile]:
    """The image files below `folder`, in the order of their names.

    A lone subfolder, with nothing beside it, is entered. Then subfolders may be splits, classes, or classes in splits;
    what lies deeper belongs to its class. Names that begin with a dot or __ are passed over.

    Raises:
        UserError: where there are none, or some have a class or a split and others none.
    """
    root = _enter(folder)
    files = sorted(_walk(root), key=lambda file: file.name)
    if not files:
        raise UserError(f"path: {str(root)!r} has no images ({', '.join(SUFFIXES)}) in it or its subfolders")
    _check_splits(root, files)
    for split in sorted({file.split for file in files}):
        _check_classes(root, [file for file in files if file.split == split])
    labelled = {file.split: bool(file.label) for file in files}
    if len(set(labelled.values())) > 1:
        part = next(split for split, has_classes in sorted(labelled.items()) if not has_classes)
        raise UserError(f"path: {str(root)!r} has subfolders of classes in one split, and none in {part}; sort all")
    return files


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the subfolders and of the files in a folder."""
    try:
        with os.scandir(folder) as scan:
            entries = [(entry.name, entry.is_dir()) for entry in scan if not entry.name.startswith((".", "__"))]
    except OSError as error:
        raise UserError(f"path: {printable(str(folder))!r} cannot be read ({reason(error)})") from None
    return sorted(n for n, is_folder in entries if is_folder), sorted(n for n, is_folder in entries if not is_folder)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _enter(folder: Path) -> Path:
    """The folder, or the innermost of those that each have one subfolder alone and no images."""
    for _ in range(32):  # a link may lead back
        folders, files = _entries(folder)
        if len(folders) != 1 or folders[0].lower() in SPLITS or any(map(_is_image, files)):
            break
        folder = folder / folders[0]
    return folder


def _walk(root: Path) -> Iterator[ImageFile]:
    """Every image file below `root`; of folders that links lead to several times, the first."""
    visited: set[tuple[int, int]] = set()
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        folder = root.joinpath(*parts)
        folders, files = _entries(folder)
        identity = folder.stat().st_dev, folder.stat().st_ino
        if identity in visited:
            continue
        visited.add(identity)
        pending += [(*parts, name) for name in reversed(folders)]
        yield from (_image_file(root, parts, name) for name in files if _is_image(name))


def _image_file(root: Path, parts: tuple[str, ...], name: str) -> ImageFile:
    split = SPLITS.get(parts[0].lower(), "") if parts else ""
    classes = parts[1:] if split else parts
    path = root.joinpath(*parts, name)
    try:
        status = path.stat()
        size, modified = (status.st_size if stat.S_ISREG(status.st_mode) else -1), status.st_mtime_ns
    except OSError:  # a link to nowhere
        size, modified = -1, 0
    return ImageFile("/".join((*parts, name)), path, split, classes[0] if classes else "", size, modified)


def _check_splits(root: Path, files: list[ImageFile]) -> None:
    """Raises UserError where images lie beside the splits, a split is empty, or none is to train on."""
    folders = {SPLITS[name.lower()]: name for name in _entries(root)[0] if name.lower() in SPLITS}
    if not folders:
        return
    loose = [printable(file.name) for file in files if not file.split]
    if loose:
        raise UserError(
            f"path: {str(root)!r} has images beside its folder {min(folders.values())!r} ({join_names(loose, 3)}); "
            "move them into a split"
        )
    for split, name in folders.items():
        if split not in {file.split for file in files}:
            raise UserError(f"path: {str(root / name)!r} has no images; fill it, or remove it")
    if "train" not in folders:
        raise UserError(f"path: {str(root)!r} has {', '.join(sorted(folders.values()))} and no train; add it")


def _check_classes(root: Path, files: list[ImageFile]) -> None:
    """Raises UserError where some images of a split lie in subfolders, and others beside those."""
    loose = [printable(file.name) for file in files if not file.label]
    if loose and len(loose) < len(files):
        folder = root / files[0].name.partition("/")[0] if files[0].split else root
        raise UserError(
            f"path: {printable(str(folder))!r} has images beside its subfolders ({join_names(loose, 3)}); move "
            "them into a subfolder, which stands for their class, or all into none"
        )
