"""Any image dataset of TensorFlow Datasets by name, without TensorFlow where its files allow it.

Files in array_record format are read without TensorFlow, and preparing asks for that format. Files
already prepared as TFRECORD, and the preparing of most of TFDS's own datasets, need TensorFlow.
TFDS reuses unpacked downloads by file name, unchecked: give mnist, fashion_mnist and kmnist a folder each.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vae_jax.data import Dataset, from_arrays
from vae_jax.data._stored_grids import Stored
from vae_jax.errors import UserError, unknown_name

CHUNK = 1024


def load(*, dataset: str = "mnist", path: str = "", train: str = "train", test: str = "test", size: int = 0) -> Dataset:
    """The TFDS dataset `dataset`, kept in the folder `path` (TFDS's own when empty).

    `train` and `test` are TFDS splits, slices allowed ("train[:90%]"). `size` > 0 cuts the middle
    square of each image and scales it to size x size. Raises UserError where the dataset is unknown,
    cannot be prepared or read, or has images of several shapes and no `size`.
    """
    builder = _builder(dataset, path)
    if "image" not in builder.info.features:
        raise UserError(
            f"config.data.dataset: {dataset!r} has no 'image'; its features: {', '.join(builder.info.features)}"
        )
    parts = [_arrays(_examples(builder, split, field), size) for split, field in ((train, "train"), (test, "test"))]
    return from_arrays(*parts[0], *parts[1])


def grid(dataset: str, path: str, features: Mapping[str, str], splits: tuple[str, ...] = ("train",)) -> Stored:
    """The images of a complete grid in `splits` of the TFDS dataset `dataset`, kept in the folder `path`.

    `features` are the TFDS features of each factor, by its name, in the grid's order. Raises UserError as `load` does.
    """
    builder = _builder(dataset, path)
    info = builder.info
    sizes = tuple(info.features[feature].num_classes for feature in features.values())

    def chunks() -> Iterator:
        examples = itertools.chain.from_iterable(_examples(builder, split, "name") for split in splits)
        while some := list(itertools.islice(examples, CHUNK)):
            classes = [[int(example[feature]) for example in some] for feature in features.values()]
            yield np.stack([example["image"] for example in some]), np.ravel_multi_index(classes, sizes)

    where = f"config.data.path: {str(builder.data_dir)!r}"
    count = sum(info.splits[split].num_examples for split in splits)
    return Stored(where, tuple(features), sizes, info.features["image"].shape, count, chunks())


def resized(stored: Stored, size: int) -> Stored:
    """The same grid of images scaled to size x size (Lanczos), as they are for 0. Raises UserError for other sizes."""
    if size and size < 8:
        raise UserError(f"config.data.size: {size} is not allowed; give at least 8, or 0 to leave images as they are")
    if not size:
        return stored
    chunks = ((np.stack([resize(image, size) for image in images]), ids) for images, ids in stored.chunks)
    return stored._replace(shape=(size, size, *stored.shape[2:]), chunks=chunks)


def _builder(dataset: str, path: str):
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UserError(
            "config.data.name: reading from TFDS needs the extra 'tfds' (pip install -e .[tfds]); "
            "with config.data.path, MNIST-like data and grids of factors in an npz need none"
        ) from None
    try:
        builder = tfds.builder(dataset, data_dir=path or None, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        names = tfds.list_builders(with_community_datasets=False)  # others: by network
        raise unknown_name("config.data.dataset", dataset, names) from None
    except Exception as error:  # a version that does not exist, a name that is none: TFDS raises what comes
        raise UserError(f"config.data.dataset: {dataset!r} cannot be opened ({_first_line(error)})") from None
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"config.data.path: TFDS could not prepare {dataset!r} ({_first_line(error)}); "
                "give a folder where it is prepared"
            ) from None
    return builder


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _examples(builder, split: str, field: str) -> Iterable[dict]:
    try:
        source = builder.as_data_source(split=split)
    except NotImplementedError:
        return _with_tensorflow(builder, split)
    except ValueError as error:
        raise UserError(f"config.data.{field}: {split!r} is not a split ({_first_line(error)})") from None
    starts = range(0, len(source), CHUNK)
    return (
        example for start in starts for example in source.__getitems__(range(start, min(start + CHUNK, len(source))))
    )


def _with_tensorflow(builder, split: str) -> Iterable[dict]:
    import tensorflow_datasets as tfds

    try:
        return tfds.as_numpy(builder.as_dataset(split=split))
    except ImportError:
        raise UserError(
            f"config.data.path: {builder.name!r} is prepared there as {builder.info.file_format.value}, which only "
            "TensorFlow reads; prepare it as array_record, or install tensorflow"
        ) from None


def _arrays(examples: Iterable[dict], size: int) -> tuple[np.ndarray, np.ndarray | None]:
    images, labels = [], []
    for example in examples:
        image = resize(example["image"], size) if size else example["image"]
        if images and image.shape != images[0].shape:
            raise UserError(
                f"config.data.size: 0 keeps images as they are, and they differ "
                f"({images[0].shape}, {image.shape}); give one size"
            )
        images.append(image)
        labels.append(example.get("label"))
    scalar = all(label is not None and np.ndim(label) == 0 for label in labels)
    return np.stack(images), np.asarray(labels) if scalar else None


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """The middle square of the image (height, width, channels), scaled to size x size."""
    from PIL import Image

    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    pixels = Image.fromarray(square[..., 0] if channels == 1 else square).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(pixels).reshape(size, size, channels)
