import gzip
import importlib.util
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import data, randomness
from vae_jax.data import _arrays, cars3d, digits, dsprites, fashion_mnist, idx, mnist, tfds
from vae_jax.errors import UserError

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data"
RNG = np.random.default_rng(0)
INSTALLED = all(importlib.util.find_spec(name) for name in ("tensorflow_datasets", "array_record"))

needs_tfds = pytest.mark.skipif(not INSTALLED, reason="the extra 'tfds' is not installed")


def refused(match):
    """A UserError of one line that begins with or holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


def test_digits_are_split_once_and_for_all():
    from sklearn.datasets import load_digits

    source, loaded = load_digits(), digits.load()
    assert (loaded.train.size, loaded.test.size, loaded.image_shape) == (1497, 300, (8, 8, 1))
    held_out = np.arange(1797) % 6 == 0
    for split, chosen in ((loaded.train, ~held_out), (loaded.test, held_out)):
        images = split.fetch(np.arange(split.size))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(np.round(images[..., 0] * (16 / 255)), source.images[chosen])
        np.testing.assert_array_equal(split.labels, source.target[chosen])
    assert (images.min(), images.max()) == (0, 255)


@pytest.mark.parametrize(("start", "steps"), [(0, 1), (0, 37), (7, 5), (29, 8)])
def test_index_stream_is_the_same_wherever_it_starts(start, steps):
    stream = data.index_stream(3, 0, 37, 50, 16)
    part = data.index_stream(3, start, steps, 50, 16)
    assert part.dtype == np.int32
    np.testing.assert_array_equal(part, stream[start : start + steps])


@pytest.mark.parametrize("batch_size", [1, 16, 50, 120])
def test_each_epoch_is_a_permutation_of_its_own(batch_size):
    epochs = data.index_stream(0, 0, 600, 50, batch_size).ravel()[:600].reshape(12, 50)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(50), (12, 1)))
    assert len(np.unique(epochs, axis=0)) == 12


def test_no_two_epochs_of_any_two_seeds_are_alike():
    epochs = np.concatenate([data.index_stream(seed, 0, 5, 50, 50) for seed in range(4)])
    assert len(np.unique(epochs, axis=0)) == 4 * 5


def filled(level, *shape):
    return jnp.full(shape, level, jnp.uint8)


@pytest.mark.parametrize("level", [0, 1, 2, 64, 127, 128, 200, 254, 255])
def test_a_draw_is_one_with_the_grey_level_as_probability(key, level):
    draws = np.asarray(jax.jit(data.sample_pixels)(filled(level, 4000, 20, 20, 1), key, jnp.arange(4000)))
    p = level / 255
    assert set(np.unique(draws)) <= {0.0, 1.0}
    # Black and white are exact: 1.6 million draws of which none is off.
    assert abs(draws.mean(dtype=np.float64) - p) <= 4 * np.sqrt(p * (1 - p) / draws.size)


@pytest.mark.parametrize(("pixels", "level"), [(24, 128), (25, 128), (25, 60)])
def test_draws_of_neighbours_and_of_the_halves_of_a_word_are_independent(key, pixels, level):
    n = 20_000
    draws = np.asarray(jax.jit(data.sample_pixels)(filled(level, n, 1, pixels, 1), key, jnp.arange(n))).reshape(
        n, pixels
    )
    noise = 5 / np.sqrt(n)
    assert np.abs(np.corrcoef(draws.T) - np.eye(pixels)).max() < noise
    assert max(abs(np.corrcoef(draws[1:, i], draws[:-1, i])[0, 1]) for i in range(pixels)) < noise


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (4, 4, 1)])
def test_a_draw_is_a_function_of_key_and_index_alone(key, shape):
    images, index = jnp.asarray(RNG.integers(0, 256, (6, *shape)), jnp.uint8), jnp.array([5, 0, 9, 70_000, 2, 1])
    draw = jax.jit(data.sample_pixels)
    whole = np.asarray(draw(images, key, index))
    assert whole.shape == images.shape
    for part in (np.array(part) for part in ([0, 1, 2], [3, 4, 5], [5, 2, 0])):
        some = draw(images[part], key, index[part])
        np.testing.assert_array_equal(some, whole[part])


def test_draws_differ_between_examples_and_between_keys(key):
    grey = filled(128, 50, 8, 8, 1)
    draws = [data.sample_pixels(grey, k, jnp.arange(50)).reshape(50, 64) for k in (key, randomness.root_key(1))]
    assert len(np.unique(np.concatenate(draws), axis=0)) == 100


def test_threshold_and_scale_are_fixed(key):
    levels = jnp.array([0, 51, 127, 128, 255], jnp.uint8).reshape(1, 1, 5, 1)
    static, none = (data.binarizer(name)(levels, key, jnp.arange(1)) for name in ("static", "none"))
    np.testing.assert_array_equal(static.ravel(), [0, 0, 0, 1, 1])
    np.testing.assert_allclose(none.ravel(), np.array([0, 51, 127, 128, 255]) / 255, rtol=1e-6)
    assert static.dtype == none.dtype == jnp.float32


@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_holds_the_images_and_labels_of_its_indices(key, labelled):
    images = RNG.integers(0, 256, (9, 2, 2, 1), dtype=np.uint8)
    split = jax.device_put(data.make_split(images, np.arange(9) % 4 if labelled else None))
    batch = data.make_batch(split, data.scale_levels, jnp.array([7, 0, 7]), jnp.arange(3), key)
    np.testing.assert_allclose(batch["image"], images[[7, 0, 7]] / 255, rtol=1e-6)
    np.testing.assert_array_equal(batch["index"], [0, 1, 2])
    assert ("label" in batch) == labelled
    assert not labelled or batch["label"].tolist() == [3, 0, 3]


def test_images_that_are_no_dataset_are_refused(caplog):
    images = np.zeros((4, 2, 2, 1), np.uint8)
    floats = data.from_arrays(images / 2, None, images / 2, None)
    for binarize in ("none", "static", "dynamic"):
        with refused(rf"binarize: '{binarize}' .*give real, .*np\.uint8\(np\.round\(255 \* images\)\)"):
            data.check_binarize(floats, binarize)
    with refused("images: infinite, first in row 2"):
        data.make_split(np.where(np.arange(4)[:, None, None, None] == 2, np.inf, images))
    with refused("images: uint8 and float32 in one set"):
        data.from_arrays(images, None, images / 2, None)
    with refused("images: int64 .* from 0 to 255"):
        data.make_split(images.astype(np.int64))
    with refused(r"images: .*\(4, 2, 2\) .*images\[\.\.\., None\]"):
        data.make_split(images[..., 0])
    with refused(r"images: .*\(0, 2, 2, 1\) .*at least one image"):
        data.make_split(images[:0])
    _arrays.warn_once.cache_clear()
    data.make_split(images.repeat(4, axis=3))
    assert any("transparency, give images[..., :3]" in record.getMessage() for record in caplog.records)
    data.make_split(np.zeros((4, 3, 2, 2), np.uint8))
    assert any("first, give np.moveaxis(images, 1, -1)" in record.getMessage() for record in caplog.records)
    with refused("images: list is not allowed"):
        data.make_split([[1, 2], [3]])
    with refused("labels: 3 of them for 4"):
        data.make_split(images, np.arange(3))
    with refused(r"images: train has shape \(2, 2, 1\), test has \(2, 1, 1\)"):
        data.from_arrays(images, None, images[:, :, :1], None)


def test_a_misspelt_dataset_or_binarisation_is_answered_with_the_nearest():
    with refused(r"^name: 'digit' .*did you mean 'digits'\?"):
        data.get("digit")
    with refused(r"^binarize: 'dynamc' .*did you mean 'dynamic'\?"):
        data.binarizer("dynamc")


def test_a_dataset_is_one_new_file(monkeypatch, tmp_path):
    (tmp_path / "toy_stripes.py").write_text(
        "import numpy as np\nfrom vae_jax.data import from_arrays\n\n"
        "def load(*, width: int = 4):\n"
        "    images = np.zeros((6, 2, width, 1), np.uint8)\n"
        "    return from_arrays(images, None, images, None)\n"
    )
    monkeypatch.setattr(data, "__path__", [*data.__path__, str(tmp_path)])
    assert data.get("toy_stripes")(width=5).image_shape == (2, 5, 1)
    assert data.defaults("toy_stripes") == {
        "name": "toy_stripes",
        "binarize": "dynamic",
        "validation": 0.1,
        "flip": False,
        "shift": 0,
        "width": 4,
    }
    with refused(r"did you mean 'toy_stripes'\?"):
        data.get("toy_stripe")


IMAGES = RNG.integers(0, 256, (5, 3, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def encoded(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture(params=["", ".gz"])
def folder(request, tmp_path):
    """Four tiny IDX files, plain or gzipped: five training and three test images."""
    for name, array in zip(idx.FILES, (IMAGES, LABELS, IMAGES[:3], LABELS[:3]), strict=True):
        content = encoded(array)
        (tmp_path / (name + request.param)).write_bytes(gzip.compress(content) if request.param else content)
    return tmp_path


@pytest.mark.parametrize("module", [idx, mnist, fashion_mnist])
def test_idx_files_are_read_gzipped_or_not(folder, module):
    loaded = module.load(path=str(folder)) if module is idx else module.load(path=str(folder), validation=0)
    assert loaded.image_shape == (3, 4, 1)
    for split, n in ((loaded.train, 5), (loaded.test, 3)):
        np.testing.assert_array_equal(split.fetch(np.arange(n))[..., 0], IMAGES[:n])
        np.testing.assert_array_equal(split.labels, LABELS[:n])


@pytest.mark.parametrize("name", idx.FILES)
def test_a_missing_idx_file_or_folder_is_named(folder, name):
    next(folder.glob(name + "*")).unlink()
    with refused(rf"^path: .* has no {name} or {name}\.gz"):
        idx.load(path=str(folder))
    with refused(r"^path: .*nowhere' is not a folder"):
        idx.load(path=str(folder / "nowhere"))
    with refused(r"^path: '' is not a folder"):
        idx.load()


IMAGE_FILE = encoded(IMAGES)
DAMAGED = {
    "labels instead of images": (encoded(LABELS), "begins with 00000801, not with 00000803"),
    "floats": (b"\0\0\x0d\3" + IMAGE_FILE[4:], "begins with 00000d03"),
    "empty": (b"", "begins with nothing"),
    "header cut": (IMAGE_FILE[:6], "truncated, 6 bytes where a header has 16"),
    "truncated": (IMAGE_FILE[:-1], "truncated, 75 bytes where its header says 76"),
    "too long": (IMAGE_FILE + b"\0", "too long, more bytes where its header says 76"),
    "beyond int64": (IMAGE_FILE[:4] + b"\xff" * 12, "its header says 4294967295 x 4294967295 x 4294967295, more than"),
    "beyond a device": (
        IMAGE_FILE[:4] + b"\x7f\xff\xff\xff" * 3,
        "its header says 2147483647 x .*, more than the 8 GiB",
    ),
    "no images": (encoded(IMAGES[:0]), "its header says 0 x 3 x 4, which is nothing"),
    "no pixels": (encoded(IMAGES[:, :, :0]), "its header says 5 x 3 x 0, which is nothing"),
    "too few labels": (encoded(IMAGES[:4]), "5 labels for 4 images"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(folder, damage):
    content, message = DAMAGED[damage]
    file = next(folder.glob(idx.FILES[0] + "*"))
    file.write_bytes(gzip.compress(content) if file.suffix else content)
    name = idx.FILES[1] if "labels for" in message else file.name
    with refused(f"{name}: {message}"):
        idx.load(path=str(folder))


ZIPPED = gzip.compress(IMAGE_FILE)
BROKEN = {
    "cut": ZIPPED[: len(ZIPPED) // 2],
    "changed": ZIPPED[:20] + b"\xff" * 20 + ZIPPED[40:],
    "wrong checksum": ZIPPED[:-8] + b"\0" * 8,
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("folder", [".gz"], indirect=True)
def test_a_corrupt_gzip_file_is_named(folder, damage):
    (folder / f"{idx.FILES[0]}.gz").write_bytes(BROKEN[damage])
    with refused(rf"{idx.FILES[0]}\.gz: cannot be read"):
        idx.load(path=str(folder))


@pytest.mark.parametrize("folder", [".gz"], indirect=True)
def test_what_is_gzipped_is_known_by_its_bytes_and_not_by_its_name(folder):
    for name, content in ((idx.FILES[0] + ".gz", IMAGE_FILE), (idx.FILES[1], gzip.compress(encoded(LABELS)))):
        (folder / name).write_bytes(content)
    np.testing.assert_array_equal(idx.load(path=str(folder)).train.fetch(np.arange(5))[..., 0], IMAGES)
    (folder / f"{idx.FILES[0]}.gz").write_bytes(b"hello")
    with refused(rf"{idx.FILES[0]}\.gz: begins with 68656c6c, not with 00000803"):
        idx.load(path=str(folder))


@pytest.mark.parametrize("header", [IMAGE_FILE[:16], IMAGE_FILE[:4] + (2**9).to_bytes(4) * 3], ids=["more", "less"])
@pytest.mark.parametrize("folder", [".gz"], indirect=True)
def test_no_more_of_a_file_is_held_than_its_header_says_or_there_is(folder, header):
    """Sixteen megabytes of zeros behind a header of 60 bytes, and 60 bytes behind one of 128 megabytes."""
    behind = bytes(2**24 if header == IMAGE_FILE[:16] else 60)
    (folder / f"{idx.FILES[0]}.gz").write_bytes(gzip.compress(header + behind))
    tracemalloc.start()
    try:
        with refused("too long" if len(behind) > 60 else "truncated, 76 bytes"):
            idx.load(path=str(folder))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**23


def test_idx_files_with_a_dot_in_their_names_are_found(folder):
    for name in idx.FILES:
        file = next(folder.glob(name + "*"))
        file.rename(folder / file.name.replace("-idx", ".idx"))
    loaded = idx.load(path=str(folder))
    assert (loaded.train.size, loaded.test.size) == (5, 3)
    np.testing.assert_array_equal(loaded.train.labels, LABELS)


def test_idx_files_in_folders_of_their_names_and_called_test_are_found(folder):
    for name in idx.FILES:
        file = next(folder.glob(name + "*"))
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        file.unlink()
        unpacked = folder / name.replace("t10k", "test").replace("-idx", ".idx")
        unpacked.mkdir()
        (unpacked / unpacked.name).write_bytes(content)
    loaded = idx.load(path=str(folder))
    np.testing.assert_array_equal(loaded.test.labels, LABELS[:3])
    np.testing.assert_array_equal(loaded.test.fetch(np.arange(3))[..., 0], IMAGES[:3])


@pytest.mark.parametrize("dimensions", ["idx3", "idx4"])
def test_idx_images_may_have_colours(tmp_path, dimensions):
    colours = RNG.integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    for name, count in ((idx.FILES[0], 5), (idx.FILES[2], 2)):
        (tmp_path / name.replace("idx3", dimensions)).write_bytes(encoded(colours[:count]))
    loaded = idx.load(path=str(tmp_path))
    assert loaded.image_shape == (3, 4, 3)
    np.testing.assert_array_equal(loaded.train.fetch(np.arange(5)), colours)


def test_idx_images_without_labels_are_read(folder):
    for name in (idx.FILES[1], idx.FILES[3]):
        next(folder.glob(name + "*")).unlink()
    loaded = idx.load(path=str(folder))
    assert loaded.train.labels is None
    assert loaded.test.labels is None
    assert loaded.train.size == 5


def test_an_idx_file_that_is_a_folder_or_may_not_be_read_is_named(folder, monkeypatch):
    file = next(folder.glob(idx.FILES[2] + "*"))
    file.unlink()
    file.mkdir()
    with refused(f"{file.name}: cannot be read .Is a directory"):
        idx.load(path=str(folder))

    def refuses(self, *mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuses)
    with refused(f"{idx.FILES[0]}.*: cannot be read .Permission denied"):
        idx.load(path=str(folder))


PATHS = {
    "~nobody-of-this-name/data": "no user",
    "data\nmore": r"'data\\+nmore' is not allowed",
    "data\0": "is not allowed",
    "x" * 5000: "cannot be looked up .File name too long",
}


@pytest.mark.parametrize("path", PATHS, ids=["user", "newline", "nul", "long"])
@pytest.mark.parametrize("load", [idx.load, mnist.load, cars3d.load, dsprites.load, tfds.load])
def test_a_path_that_names_no_file_is_refused_in_a_line(load, path):
    if load is tfds.load and not INSTALLED:
        pytest.skip("the extra 'tfds' is not installed")
    with refused(f"^path: .*{PATHS[path]}"):
        load(path=path)


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no MNIST in ../shared/data/mnist")
def test_mnist_is_mnist():
    protocol = mnist.load(path=str(SHARED / "mnist"))
    loaded = mnist.load(path=str(SHARED / "mnist"), validation=0)
    assert (loaded.train.size, loaded.test.size, loaded.image_shape) == (60_000, 10_000, (28, 28, 1))
    assert {name: split.size for name, split in protocol.splits.items()} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    np.testing.assert_array_equal(protocol.validation.labels, loaded.train.labels[50_000:])
    histogram = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(loaded.train.labels).tolist() == histogram
    assert np.bincount(loaded.test.labels).sum() == 10_000
    images = loaded.train.fetch(np.arange(60_000))
    assert (images.dtype, images.min(), images.max()) == (np.uint8, 0, 255)
    assert abs(images.mean() - 33.318) < 0.001


@needs_tfds
@pytest.mark.skipif(not (SHARED / "tfds/mnist").is_dir(), reason="no prepared MNIST in ../shared/data/tfds")
@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no MNIST in ../shared/data/mnist")
def test_tfds_mnist_is_idx_mnist_and_is_read_without_tensorflow():
    code = f"""
import sys
from collections import Counter
import numpy as np
from vae_jax.data import idx, tfds

def rows(split):
    pairs = zip(split.fetch(np.arange(split.size)), split.labels, strict=True)
    return Counter(image.tobytes() + bytes([label]) for image, label in pairs)

a = tfds.load(dataset="mnist", path={str(SHARED / "tfds")!r}, train="train[:9000]")
b = idx.load(path={str(SHARED / "mnist")!r})
print(rows(a.train) <= rows(b.train), rows(a.test) == rows(b.test), a.train.size, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[-2] == "True True 9000 False"


@pytest.fixture(scope="module")
def toy():
    """The name of a TFDS dataset of 3 + 2 one-channel images, each one column wider than the one before."""
    core = importlib.import_module("tensorflow_datasets").core
    features = importlib.import_module("tensorflow_datasets").features
    from PIL import Image

    class ToyWidths(core.GeneratorBasedBuilder):
        VERSION = core.Version("1.0.0")

        def _info(self):
            columns = {"image": features.Image(shape=(None, None, 1)), "label": features.ClassLabel(num_classes=5)}
            return core.DatasetInfo(builder=self, features=features.FeaturesDict(columns))

        def _split_generators(self, dl_manager):
            parts = {"train": range(3), "validation": range(1), "test": range(3, 5)}
            return {name: self._generate_examples(labels) for name, labels in parts.items()}

        def _generate_examples(self, labels):
            for label in labels:
                # The middle 8 columns are bright, so a crop of the middle holds nothing else.
                image = np.zeros((8, 10 + label * 2), np.uint8)
                image[:, 1 + label : 9 + label] = 100 + label
                yield label, {"image": Image.fromarray(image), "label": label}

    return "toy_widths"


@needs_tfds
def test_tfds_images_of_several_shapes_are_cut_and_scaled(toy, tmp_path):
    loaded = tfds.load(dataset=toy, path=str(tmp_path), size=4, validation_split="auto")
    assert loaded.image_shape == (4, 4, 1)
    assert sorted(loaded.train.labels) == [0, 1, 2]
    assert sorted(loaded.test.labels) == [3, 4]
    assert loaded.validation.labels.tolist() == [0]
    sliced = tfds.load(dataset=toy, path=str(tmp_path), size=4, train="train[:2]", validation_split="train[2:]")
    assert (sliced.train.size, sliced.validation.size) == (2, 1)
    assert tfds.load(dataset=toy, path=str(tmp_path), size=4).validation is None
    mixed = tfds.load(dataset=toy, path=str(tmp_path), size=4, test="test+validation", validation_split="auto")
    assert mixed.validation is None  # its images report
    assert data.defaults("tfds")["validation_split"] == "auto"
    for split in (loaded.train, loaded.test):
        levels = np.broadcast_to(100 + split.labels[:, None, None, None], (split.size, 4, 4, 1))
        np.testing.assert_array_equal(split.fetch(np.arange(split.size)), levels)
    with refused(r"^size: .*differ"):
        tfds.load(dataset=toy, path=str(tmp_path))
    with refused(r"^train: 'valid' is not a split"):
        tfds.load(dataset=toy, path=str(tmp_path), train="valid")
    assert tfds.load(dataset=toy, path=str(tmp_path), train="train[:1]", size=8).train.size == 1
    with refused(r"^test: 'test\[:0\]' (has no images|is not a split)"):
        tfds.load(dataset=toy, path=str(tmp_path), test="test[:0]", size=4)
    with refused(r"^size: -4 is not allowed"):
        tfds.load(dataset=toy, path=str(tmp_path), size=-4)


@needs_tfds
@pytest.mark.parametrize("name", ["mnst", "mnist:9.9.9", "no such/name"])
def test_a_tfds_name_that_is_none_is_refused(tmp_path, name):
    hint = r".*did you mean 'mnist'\?" if name == "mnst" else ""
    with refused(rf"^dataset: {hint}"):
        tfds.load(dataset=name, path=str(tmp_path))
