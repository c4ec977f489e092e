"""Any image dataset of TensorFlow Datasets by name, without TensorFlow where its files allow it.

Files in array_record format are read without TensorFlow, and preparing asks for that format. Files
already prepared as TFRECORD, and the preparing of most of TFDS's own datasets, need TensorFlow.
TFDS reuses unpacked downloads by file name, unchecked: give mnist, fashion_mnist and kmnist a folder each.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vae_jax.data import Dataset, from_arrays
from vae_jax.data._factors import MAX_RESOLUTION
from vae_jax.data._paths import data_path
from vae_jax.data._resize import resize_image
from vae_jax.data._stored_grids import Chunk, StoredGrid
from vae_jax.errors import UserError, errors_of, unknown_name

CHUNK = 1024
"""Examples that are read at once."""


def load(
    *,
    dataset: str = "mnist",
    path: str = "",
    train: str = "train",
    test: str = "test",
    validation_split: str = "none",
    size: int = 0,
) -> Dataset:
    """An image dataset of TFDS.

    Args:
        dataset: its name there.
        path: the folder where it is kept, TFDS's own when empty.
        train: a TFDS split, slices allowed ("train[:90%]").
        test: likewise, of the images that are never trained on.
        validation_split: likewise, of the images that decide; "none", which is what runs did before there was a
            choice; or "auto", which a new config says: its own "validation" where it has one and nothing else reads it.
        size: cuts the middle square of each image and scales it to size x size; 0 leaves images as they are.

    Raises:
        UserError: where the dataset is unknown, cannot be prepared or read, or has images of several shapes and `size`
            is 0.
    """
    if not 0 <= size <= MAX_RESOLUTION:
        raise UserError(f"size: {size} is not allowed; give 1 to {MAX_RESOLUTION}, or 0 to leave images as they are")
    builder = _prepared_builder(dataset, path)
    if "image" not in builder.info.features:
        raise UserError(f"dataset: {dataset!r} has no 'image'; its features: {', '.join(builder.info.features)}")
    train_arrays = _read_split(builder, train, "train", size)
    test_arrays = _read_split(builder, test, "test", size)
    own = _own_validation(builder, train, test) if validation_split == "auto" else validation_split
    validation_arrays = (None, None) if own == "none" else _read_split(builder, own, "validation_split", size)
    with errors_of("dataset: "):
        return from_arrays(*train_arrays, *test_arrays, *validation_arrays)


def _own_validation(builder: Any, train: str, test: str) -> str:
    """The TFDS split that validates: its own, "none" where it has none or images of it are trained on or report."""
    is_free = "validation" in builder.info.splits and "validation" not in train + test
    return "validation" if is_free else "none"


def _read_split(builder: Any, split: str, argument: str, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The images and labels of a TFDS split, which was given as `argument`."""
    images, labels = _stack_examples(_read_examples(builder, split, argument), size)
    if not len(images):
        raise UserError(f"{argument}: {split!r} has no images; give a split that has some")
    return images, labels


def read_grid(dataset: str, path: str, features: Mapping[str, str], splits: tuple[str, ...] = ("train",)) -> StoredGrid:
    """The images of a complete grid in a TFDS dataset.

    Args:
        dataset: its name there.
        path: the folder where it is kept, TFDS's own when empty.
        features: the TFDS feature of each factor, by the factor's name, in the grid's order.
        splits: the TFDS splits that make up the grid together.

    Raises:
        UserError: as `load` does.
    """
    builder = _prepared_builder(dataset, path)
    info = builder.info
    sizes = tuple(info.features[feature].num_classes for feature in features.values())

    def chunks() -> Iterator[Chunk]:
        examples = itertools.chain.from_iterable(_read_examples(builder, split, "name") for split in splits)
        while chunk := list(itertools.islice(examples, CHUNK)):
            classes = [[int(example[feature]) for example in chunk] for feature in features.values()]
            yield np.stack([example["image"] for example in chunk]), np.ravel_multi_index(classes, sizes)

    source = f"path: {str(builder.data_dir)!r}"
    count = sum(info.splits[split].num_examples for split in splits)
    return StoredGrid(source, tuple(features), sizes, info.features["image"].shape, count, chunks())


def _prepared_builder(dataset: str, path: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UserError(
            "name: reading from TFDS needs the extra 'tfds' (pip install -e .[tfds]); "
            "with config.data.path, MNIST-like data and grids of factors in an npz need none"
        ) from None
    # TFDS takes addresses too, as gs://bucket.
    folder = path if not path or "://" in path else str(data_path(path))
    try:
        builder = tfds.builder(dataset, data_dir=folder or None, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        names = tfds.list_builders(with_community_datasets=False)  # others: by network
        raise unknown_name("dataset", dataset, names) from None
    except Exception as error:  # a version that does not exist, a name that is none: TFDS raises what comes
        raise UserError(f"dataset: {dataset!r} cannot be opened ({_first_line(error)})") from None
    if not builder.is_prepared():
        _prepare(builder, dataset)
    return builder


def _prepare(builder: Any, dataset: str) -> None:
    try:
        builder.download_and_prepare()
    except (Exception, SystemExit) as error:
        raise UserError(
            f"path: TFDS could not prepare {dataset!r} ({_first_line(error)}); give a folder where it is prepared"
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _read_examples(builder: Any, split: str, argument: str) -> Iterable[dict]:
    """The examples of a TFDS split, which was given as `argument`."""
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError:
        return _read_with_tensorflow(builder, split)
    except ValueError as error:
        raise UserError(f"{argument}: {split!r} is not a split ({_first_line(error)})") from None
    starts = range(0, len(source), CHUNK)
    return (
        example for start in starts for example in source.__getitems__(range(start, min(start + CHUNK, len(source))))
    )


def _read_with_tensorflow(builder: Any, split: str) -> Iterable[dict]:
    import tensorflow_datasets as tfds

    try:
        return tfds.as_numpy(builder.as_dataset(split=split))
    except ImportError:
        raise UserError(
            f"path: {builder.name!r} is prepared there as {builder.info.file_format.value}, which only "
            "TensorFlow reads; prepare it as array_record, or install tensorflow"
        ) from None


def _stack_examples(examples: Iterable[dict], size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(images, labels), labels None unless each example has one whole number."""
    images: list[np.ndarray] = []
    labels: list[Any] = []
    for example in examples:
        image = example["image"]
        if image.dtype != np.uint8:
            raise UserError(f"dataset: its images of {image.dtype} are not allowed; give a set of uint8 images")
        image = resize_image(image, size) if size else image
        if images and image.shape != images[0].shape:
            raise UserError(
                f"size: 0 keeps images as they are, and they differ ({images[0].shape}, {image.shape}); give one size"
            )
        images.append(image)
        labels.append(example.get("label"))
    labelled = all(np.ndim(label) == 0 and np.asarray(label).dtype.kind in "biu" for label in labels)
    return np.stack(images) if images else np.empty(0, np.uint8), np.asarray(labels) if labelled else None
