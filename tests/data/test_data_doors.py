"""Data as people have it: files of arrays, and folders of pictures."""

import io
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_run import train_small
from PIL import Image, ImageCms

from vae_jax import api, cli, data, model
from vae_jax.data import _arrays, _decoded_cache, _decoding, _host_images, _random_split, arrays, folder
from vae_jax.data._host_images import HostImages
from vae_jax.errors import UserError

SHARED = Path(__file__).parents[2].parent / "shared/data"
RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(20) % 3


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


@pytest.fixture
def said(caplog):
    """What has been said, as if nothing had been said before."""
    _arrays.warn_once.cache_clear()
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/vae_jax/folders"


def levels(split):
    return np.asarray(split.fetch(np.arange(split.size)))


def whole(dataset):
    """All images of a set of both splits, in an order that does not depend on them."""
    rows = np.concatenate([levels(dataset.train), levels(dataset.test)])
    return rows[np.lexsort(rows.reshape(len(rows), -1).T)]


def in_order(images):
    return images[np.lexsort(images.reshape(len(images), -1).T)]


# Splits


def test_a_fixed_permutation_holds_out_a_fraction_or_a_count():
    train, test = _random_split.hold_out(20, 0.1)
    assert (len(train), len(test)) == (18, 2)
    assert sorted([*train, *test]) == list(range(20))
    np.testing.assert_array_equal(_random_split.hold_out(20, 2.0)[1], test)
    assert set(test) < set(_random_split.hold_out(20, 5)[1])
    assert len(_random_split.hold_out(5, 0.01)[1]) == 1


@pytest.mark.parametrize("test", [0.0, -0.1, 1.5, float("nan"), float("inf"), 20, 1e9])
def test_a_split_that_cannot_be_is_refused(test):
    with refused("^test: .* (is not allowed|leaves none to train on)"):
        _random_split.hold_out(20, test)


def test_one_image_cannot_be_split(tmp_path):
    np.save(tmp_path / "one.npy", GREY[:1])
    with refused("^test: 0.1 of 1 image leaves none to train on"):
        arrays.load(path=str(tmp_path / "one.npy"))


# Files of arrays


def write_npy(file, **named):
    (images,) = named.values()
    np.save(file, images)


def write_hdf5(file, **named):
    h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    with h5py.File(file, "w") as opened:
        for name, array in named.items():
            opened[name] = array


def write_mat(file, **named):
    from scipy.io import savemat

    savemat(file, named)


WRITERS = {"npz": np.savez, "h5": write_hdf5, "mat": write_mat}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_and_labels_are_found_by_their_names(tmp_path, kind, images):
    file = tmp_path / f"set.{kind}"
    WRITERS[kind](file, x_train=images[:15], y_train=LABELS[:15], x_test=images[15:], y_test=LABELS[15:])
    loaded = arrays.load(path=str(file))
    shape = (6, 5, 1 if images is GREY else 3)
    assert loaded.image_shape == shape
    np.testing.assert_array_equal(levels(loaded.train), images[:15].reshape(15, *shape))
    np.testing.assert_array_equal(levels(loaded.test), images[15:].reshape(5, *shape))
    np.testing.assert_array_equal(loaded.train.labels, LABELS[:15])
    np.testing.assert_array_equal(loaded.test.labels, LABELS[15:])


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
    "groups": ("train/images", "train/labels", "test/images", "test/labels"),
    "camel": ("trainImages", "trainTargets", "testImages", "testTargets"),
    "short": ("Xtrain", "ytrain", "Xtest", "ytest"),
    "mixed": ("images", "labels", "test_images", "test_labels"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_people_name_the_same_arrays_in_many_ways(tmp_path, names):
    parts = GREY[:15], LABELS[:15, None], GREY[15:], LABELS[15:, None]
    np.savez(tmp_path / "set.npz", **dict(zip(names, parts, strict=True)))
    loaded = arrays.load(path=str(tmp_path / "set.npz"))
    assert (loaded.train.size, loaded.test.size) == (15, 5)
    np.testing.assert_array_equal(loaded.test.labels, LABELS[15:])


def test_images_alone_are_split_by_a_fixed_permutation(tmp_path):
    np.save(tmp_path / "set.npy", GREY)
    loaded = arrays.load(path=str(tmp_path / "set.npy"), test=4)
    train, test = _random_split.hold_out(20, 4)
    np.testing.assert_array_equal(levels(loaded.train)[..., 0], GREY[train])
    np.testing.assert_array_equal(levels(loaded.test)[..., 0], GREY[test])
    assert loaded.train.labels is None
    np.savez(tmp_path / "set.npz", faces=GREY, labels=LABELS)
    loaded = arrays.load(path=str(tmp_path / "set.npz"), test=0.2)
    np.testing.assert_array_equal(levels(loaded.test)[..., 0], GREY[test])
    np.testing.assert_array_equal(loaded.test.labels, LABELS[test])
    assert arrays.load(path=str(tmp_path / "set.npz"), labels="none").train.labels is None


def test_arrays_are_named_where_several_could_be_meant(tmp_path):
    file = str(tmp_path / "set.npz")
    np.savez(file, left=GREY, right=GREY[::-1], age=LABELS, kind=LABELS + 1)
    with refused(r"^images: '' does not say which .*set\.npz'; give one of left \(uint8 \(20, 6, 5\)\), right"):
        arrays.load(path=file)
    with refused(r"^images: 'rigth' is unknown; known: .*did you mean 'right'\?"):
        arrays.load(path=file, images="rigth")
    loaded = arrays.load(path=file, images="right", labels="kind")
    train, _ = _random_split.hold_out(20, 0.1)
    np.testing.assert_array_equal(levels(loaded.train)[..., 0], GREY[::-1][train])
    np.testing.assert_array_equal(loaded.train.labels, LABELS[train] + 1)
    loaded = arrays.load(path=file, images="left", labels="age", test_images="right", test_labels="kind")
    np.testing.assert_array_equal(levels(loaded.test)[..., 0], GREY[::-1])


def test_a_named_array_is_split_by_itself_unless_it_is_called_train(tmp_path):
    np.savez(tmp_path / "set.npz", depth=GREY, x_train=GREY, x_test=GREY[:3])
    assert arrays.load(path=str(tmp_path / "set.npz"), images="depth").test.size == 2
    assert arrays.load(path=str(tmp_path / "set.npz"), images="x_train").test.size == 3


def test_labels_may_lie_in_a_file_beside(tmp_path):
    np.save(tmp_path / "set.npy", GREY)
    np.save(tmp_path / "ages.npy", LABELS)
    loaded = arrays.load(path=str(tmp_path / "set.npy"), labels="ages.npy")
    np.testing.assert_array_equal(loaded.train.labels, LABELS[_random_split.hold_out(20, 0.1)[0]])
    with refused(r"^labels: .*years\.npy' is not a file"):
        arrays.load(path=str(tmp_path / "set.npy"), labels="years.npy")


def test_labels_are_numbers_names_or_one_hot(tmp_path, said):
    classes = np.array(["cat", "ant", "bee"])
    numbers = np.argsort(np.argsort(classes))[LABELS]
    train = _random_split.hold_out(20, 0.1)[0]
    for labels, expected in ((classes[LABELS], numbers), (np.eye(3)[LABELS], LABELS), (LABELS[None] * 1.0, LABELS)):
        np.savez(tmp_path / "set.npz", images=GREY, labels=labels)
        loaded = arrays.load(path=str(tmp_path / "set.npz"))
        np.testing.assert_array_equal(loaded.train.labels, expected[train])
    assert "3 names of classes" in said()


def test_validation_images_are_a_split(tmp_path):
    np.savez(
        tmp_path / "set.npz",
        **{"train_images": GREY[:10], "val_images": GREY[10:14], "test_images": GREY[14:]},
        **{"train_labels": LABELS[:10], "val_labels": LABELS[10:14], "test_labels": LABELS[14:]},
    )
    loaded = arrays.load(path=str(tmp_path / "set.npz"))
    for part, wanted in ((loaded.train, slice(10)), (loaded.validation, slice(10, 14)), (loaded.test, slice(14, None))):
        np.testing.assert_array_equal(levels(part)[..., 0], GREY[wanted])
        np.testing.assert_array_equal(part.labels, LABELS[wanted])


RANGED = {
    "uint8": (GREY, ""),
    "uint16": (GREY.astype(np.uint16) * 257, ""),
    "12 bits": (np.uint16(np.round(GREY * (4095 / 255))), "0 4095"),
    "float32": (np.float32(GREY / 255), ""),
    "float16 of -1 to 1": (np.float64(GREY / 127.5 - 1), "-1 1"),
    "float of 0 to 255": (GREY * 1.0, "0,255"),
    "int64": (GREY.astype(np.int64), ""),
    "a stray rounding": (GREY / 255 * 1.0005, ""),
    "fortran": (np.asfortranarray(GREY), ""),
    "big-endian": (GREY.astype(">f4") / np.float32(255), ""),
}


@pytest.mark.parametrize("case", RANGED)
def test_numbers_of_any_range_become_256_levels(tmp_path, said, case):
    images, interval = RANGED[case]
    np.save(tmp_path / "set.npy", images)
    loaded = arrays.load(path=str(tmp_path / "set.npy"), range=interval)
    np.testing.assert_array_equal(whole(loaded)[..., 0], in_order(GREY))
    assert ("in 256 levels" in said()) == (images.dtype != np.uint8)


def test_uint16_that_uses_few_of_its_levels_is_said(tmp_path, said):
    np.save(tmp_path / "set.npy", GREY.astype(np.uint16) * 16)
    arrays.load(path=str(tmp_path / "set.npy"))
    assert "give range '0 4080'" in said()


def test_black_and_white_stays_so(tmp_path):
    np.save(tmp_path / "set.npy", GREY > 127)
    loaded = arrays.load(path=str(tmp_path / "set.npy"))
    assert np.unique(levels(loaded.train)).tolist() == [0, 255]


LAYOUTS = {"nhwc": (0, 1, 2, 3), "nchw": (0, 3, 1, 2), "hwcn": (1, 2, 3, 0)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes_come_in_the_order_that_is_said(tmp_path, layout):
    np.save(tmp_path / "set.npy", COLOUR.transpose(LAYOUTS[layout]))
    loaded = arrays.load(path=str(tmp_path / "set.npy"), layout=layout)
    np.testing.assert_array_equal(whole(loaded), in_order(COLOUR))
    if layout != "nhwc":
        with refused(f"^layout: shape .* has [0-9]+ channels where they are last; give {layout}, or nhwc"):
            arrays.load(path=str(tmp_path / "set.npy"), layout="")
        believed = arrays.load(path=str(tmp_path / "set.npy"), layout="nhwc", test=1)
        assert believed.image_shape == COLOUR.transpose(LAYOUTS[layout]).shape[1:]


def test_grey_images_of_matlab_have_their_number_last(tmp_path):
    write_mat(tmp_path / "set.mat", faces=GREY.transpose(1, 2, 0))
    loaded = arrays.load(path=str(tmp_path / "set.mat"), layout="hwcn")
    np.testing.assert_array_equal(whole(loaded)[..., 0], in_order(GREY))


def test_matlab_7_3_is_hdf5_with_its_axes_reversed(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra 'hdf5' is not installed")
    file = tmp_path / "set.mat"
    with h5py.File(file, "w", userblock_size=512) as opened:
        opened["images"], opened["labels"] = COLOUR.T, LABELS[None]
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file")
    loaded = arrays.load(path=str(file))
    np.testing.assert_array_equal(whole(loaded), in_order(COLOUR))
    assert loaded.train.labels.shape == (18,)


def test_images_with_factors_are_a_grid(tmp_path):
    shape, x = np.indices((4, 5)).reshape(2, -1)
    order = RNG.permutation(20)
    np.savez(
        tmp_path / "set.npz", imgs=GREY[order], classes=np.stack([shape, x], 1)[order], shape=shape[order], x=x[order]
    )
    file = str(tmp_path / "set.npz")
    grid = arrays.load(path=file, factors="classes", split="random 0.3").factors
    assert (grid.names, grid.sizes) == (("factor_0", "factor_1"), (4, 5))
    named = arrays.load(path=file, images="imgs", factors="shape,x", split="without x=2 shape=1")
    assert (named.factors.names, named.test.size) == (("shape", "x"), 1)
    np.testing.assert_array_equal(np.asarray(named.factors.render(jnp.arange(20)))[..., 0], GREY)
    np.testing.assert_array_equal(np.asarray(grid.render(jnp.arange(20)))[..., 0], GREY)
    with refused("^factors: 'y' is unknown"):
        arrays.load(path=file, factors="shape,y")
    np.save(tmp_path / "many.npy", RNG.random((20, 20)))
    with refused("are not a complete grid of 20 x 20 x 20"):
        arrays.load(path=file, images="imgs", factors=f"{tmp_path / 'many.npy'}")
    with refused("^factors: ',' is unknown"):
        arrays.load(path=file, factors=",")
    with refused("are not a complete grid of 4 factors"):
        arrays.load(path=file, factors="shape")


BAD_ARRAYS = {
    "one colour image": (COLOUR[0], {}, r"images of shape \(6, 5, 3\) is not allowed: it is one image"),
    "rows": (
        GREY.reshape(20, -1),
        {"images": "images"},
        r"of shape \(20, 30\) is not allowed; give \(n, height, width\)",
    ),
    "no image": (GREY[:0], {}, "at least one image"),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), {"layout": ""}, "^layout: shape .* has 5 channels .*; give nchw"),
    "nan": (
        np.where(np.arange(20)[:, None, None] == 7, np.nan, GREY / 255),
        {},
        "NaN or infinities, first in image 7;",
    ),
    "floats beyond 1": (
        GREY / 100,
        {},
        "^range: .* outside 0 to 1; give the values of black and white, perhaps '0 255'",
    ),
    "floats from -1": (GREY / 127.5 - 1, {}, "^range: .* perhaps '-1 1'"),
    "integers beyond": (GREY.astype(np.int32) * 1000, {}, "^range: images of int32"),
    "a wrong range": (GREY / 255, {"range": "0 0.5"}, "^range: .* outside 0 to 0.5; give one that holds all"),
    "no range": (GREY, {"range": "1 0"}, "^range: '1 0' is not allowed"),
    "words": (GREY, {"range": "black white"}, "^range: 'black white' is not allowed"),
    "a layout": (GREY, {"layout": "nchv"}, r"^layout: 'nchv' is unknown; .*did you mean 'nchw'\?"),
    "complex": (GREY + 0j, {"images": "images"}, "complex128 is not allowed"),
    "objects": (np.array([1, None] * 10), {}, "has no array of images"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_no_images_are_refused_in_a_line(tmp_path, case):
    images, fields, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "set.npz", images=images)
    with refused(message):
        arrays.load(path=str(tmp_path / "set.npz"), **fields)


BAD_LABELS = {
    "few": ({"labels": LABELS[:19]}, "labels: 19 of them for 20 images"),
    "nan": ({"labels": np.where(LABELS == 1, np.nan, LABELS)}, "labels: nan is not allowed"),
    "halves": ({"labels": LABELS / 2}, r"labels: 0\.5 is not allowed"),
    "a table": ({"labels": RNG.random((20, 2))}, r"labels: shape \(20, 2\) is not allowed"),
    "several": ({"labels": LABELS, "y": LABELS}, "^labels: '' does not say which array"),
    "none for the test": ({"labels": LABELS, "x_test": GREY}, "none for the images 'x_test'.*, or give labels none"),
    "other test images": ({"x_test": GREY[:, :4]}, r"train has shape \(6, 5, 1\), test has \(4, 5, 1\)"),
    "other dtype": ({"x_test": GREY / 255}, "uint8, float64 in one set are not allowed"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_and_splits_that_do_not_fit_are_refused_in_a_line(tmp_path, case):
    others, message = BAD_LABELS[case]
    np.savez(tmp_path / "set.npz", images=GREY, **others)
    with refused(message):
        arrays.load(path=str(tmp_path / "set.npz"))


def npy_header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


IMAGE_BYTES = npy_header(GREY.shape) + GREY.tobytes()
DAMAGED = {
    "empty.npy": (b"", "begins with nothing; give an .npy, .npz, HDF5 or .mat file"),
    "text.npz": (b"hello, world", "begins with 68656c6c"),
    "cut.npy": (IMAGE_BYTES[:-1], r"cannot be read \(uint8 \(20, 6, 5\) is 600 bytes, and the file has 599"),
    "header.npy": (IMAGE_BYTES[:20], "cannot be read"),
    "claim.npy": (npy_header((5000, 1000, 1000)), "5000000000 bytes, and the file has 0"),
    "claim.npz": (npz(images=npy_header((5000, 1000, 1000))), "5000000000 bytes, and the file has 0"),
    "beyond.npz": (npz(images=npy_header((2**20, 2**20, 2**20))), "GiB, and this machine has .* GiB of memory"),
    "cut.npz": (npz(images=IMAGE_BYTES)[:-30], "cannot be read"),
    "none.npz": (npz(), "has no array of images, .*; it has nothing"),
    "bytes.npz": (npz(images=b"nothing"), "cannot be read"),
    "cut.mat": (b"MATLAB 5.0 MAT-file" + bytes(10), "cannot be read"),
    "text.mat": (b"hello, world, this is no matrix", "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_in_a_line(tmp_path, name):
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with refused(f"^path: .*{name}.*{message}"):
        arrays.load(path=str(tmp_path / name))


def test_a_damaged_hdf5_file_is_named_in_a_line(tmp_path):
    file = tmp_path / "set.h5"
    write_hdf5(file, images=GREY)
    file.write_bytes(file.read_bytes()[:-400])
    with refused(r"^path: .*set\.h5.* cannot be read"):
        arrays.load(path=str(file))


def test_pickled_objects_are_never_read(tmp_path):
    np.savez(tmp_path / "set.npz", images=GREY, labels=np.array([{}] * 20))
    with refused(r"^path: .*labels cannot be read .(Object arrays cannot|object .* is damaged)"):
        arrays.load(path=str(tmp_path / "set.npz"))


def test_hdf5_without_its_extra_names_it(tmp_path, monkeypatch):
    (tmp_path / "set.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with refused("^path: reading HDF5 needs the extra 'hdf5'"):
        arrays.load(path=str(tmp_path / "set.h5"))


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    np.save(tmp_path / "set.npy", GREY)

    def refuses(self, *mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuses)
    with refused(r"^path: .*set\.npy' cannot be read \(Permission denied\)"):
        arrays.load(path=str(tmp_path / "set.npy"))


PATHS = {
    "": "has no value; give a path",
    "nowhere": "nowhere' is not",
    "~nobody-of-this-name/set": "no user",
    "data\nmore": "is not allowed",
    "data\0": "is not allowed",
    "x" * 5000: "cannot be looked up .File name too long",
}


@pytest.mark.parametrize("load", [arrays.load, folder.load])
@pytest.mark.parametrize("path", PATHS, ids=["none", "missing", "user", "newline", "nul", "long"])
def test_a_path_that_names_no_file_is_refused_in_a_line(load, path):
    with refused(f"^path: .*{PATHS[path]}"):
        load(path=path)


def test_a_file_and_a_folder_are_not_taken_for_one_another(tmp_path):
    with refused("^path: .* is a folder; .*data.name=folder reads folders"):
        arrays.load(path=str(tmp_path))
    np.save(tmp_path / "set.npy", GREY)
    with refused("^path: .* is a file; data.name=arrays reads files of arrays"):
        folder.load(path=str(tmp_path / "set.npy"))


@pytest.mark.skipif(not (SHARED / "frey_faces").is_dir(), reason="no Frey faces in ../shared/data/frey_faces")
def test_frey_faces_are_read():
    loaded = model.load_data(
        {**data.defaults("arrays"), "path": str(SHARED / "frey_faces/frey_faces.npy"), "test": 400, "validation": 0}
    )
    assert (loaded.image_shape, loaded.train.size, loaded.test.size) == ((28, 20, 1), 1565, 400)
    images = whole(loaded)
    assert (images.min(), images.max()) == (8, 238)


# Folders of pictures


def save(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, **options)


@pytest.fixture
def pictures(tmp_path):
    """A folder, to be filled."""
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def flat(level, shape=(6, 5)):
    return np.full(shape, level, np.uint8)


def fill(pictures, *names):
    """Grey images by name, each of a level of its own: 10, 20, ..."""
    for i, name in enumerate(names):
        save(pictures / name, flat(10 * (i + 1)))


def first_levels(split):
    return levels(split)[:, 0, 0, 0].tolist()


def test_images_alone_are_in_the_order_of_their_names(pictures):
    fill(pictures, "b.png", "a.PNG", "d.png", "c.png")
    (pictures / "notes.txt").write_text("hello")
    (pictures / ".hidden.png").write_text("hello")
    loaded = folder.load(path=str(pictures), test=1)
    assert loaded.image_shape == (6, 5, 1)
    order = np.array([20, 10, 40, 30])
    train, test = _random_split.hold_out(4, 1)
    assert first_levels(loaded.train) == order[train].tolist()
    assert first_levels(loaded.test) == order[test].tolist()
    assert loaded.train.labels is None


def test_subfolders_are_classes(pictures):
    fill(pictures, "cat/1.png", "ant/1.png", "bee/deep/1.png", "cat/2.png", "ant/2.png")
    loaded = folder.load(path=str(pictures), test=1)
    found = {
        level: label
        for split in (loaded.train, loaded.test)
        for level, label in zip(first_levels(split), split.labels, strict=True)
    }
    assert found == {20: 0, 50: 0, 30: 1, 10: 2, 40: 2}


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_subfolders_are_splits(pictures, validation):
    fill(pictures, "train/1.png", "train/2.png", f"{validation}/1.png", "test/1.png", "test/2.png")
    loaded = folder.load(path=str(pictures))
    assert first_levels(loaded.train) == [10, 20]
    assert first_levels(loaded.validation) == [30]
    assert first_levels(loaded.test) == [40, 50]
    assert loaded.train.labels is None


def test_subfolders_are_classes_in_splits_and_a_lone_one_is_entered(pictures):
    fill(pictures, "set/train/b/1.png", "set/train/a/1.png", "set/test/b/1.png", "set/test/c/1.png")
    loaded = folder.load(path=str(pictures))
    assert first_levels(loaded.train) == [20, 10]
    assert loaded.train.labels.tolist() == [0, 1]
    assert loaded.test.labels.tolist() == [1, 2]


def test_training_folders_without_a_test_are_split(pictures):
    fill(pictures, *(f"train/{i}.png" for i in range(10)))
    loaded = folder.load(path=str(pictures), test=0.3)
    assert (loaded.train.size, loaded.test.size) == (7, 3)


def jpeg_with(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PALETTE = Image.fromarray(flat(1)).convert("P")
PALETTE.putpalette([0, 0, 0, 200, 100, 50])
GREY_PALETTE = Image.fromarray(flat(1)).convert("P")
GREY_PALETTE.putpalette([0, 0, 0, 77, 77, 77])
CMYK = Image.fromarray(np.full((6, 5, 4), (0, 255, 255, 0), np.uint8), "CMYK")
KINDS = {
    "grey": ("a.png", flat(77), {}, [77]),
    "black and white": ("a.png", Image.fromarray(flat(255)).convert("1"), {}, [255]),
    "16 bits": ("a.png", np.full((6, 5), 0xC000, np.uint16), {}, [191]),
    "colour": ("a.webp", np.full((6, 5, 3), (200, 100, 50), np.uint8), {"lossless": True}, [200, 100, 50]),
    "half transparent": ("a.png", np.full((6, 5, 4), (200, 100, 50, 51), np.uint8), {}, [40, 20, 10]),
    "grey and transparent": ("a.png", np.full((6, 5, 2), (200, 0), np.uint8), {}, [0]),
    "palette": ("a.png", PALETTE, {}, [200, 100, 50]),
    "transparent palette": ("a.png", PALETTE, {"transparency": 1}, [0]),
    "grey palette": ("a.png", GREY_PALETTE, {}, [77]),
    "CMYK": ("a.jpg", CMYK, {"quality": 100}, [255, 0, 0]),
    "jpeg": ("a.jpeg", np.full((6, 5, 3), (200, 100, 50), np.uint8), {"quality": 100}, [200, 100, 50]),
    "profile": (
        "a.png",
        flat(77),
        {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        [77],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_are_read(pictures, kind):
    name, pixels, options, expected = KINDS[kind]
    save(pictures / name, pixels, **options)
    save(pictures / f"b{name}", pixels, **options)
    loaded = folder.load(path=str(pictures), test=1)
    assert loaded.image_shape == (6, 5, len(expected))
    assert np.abs(levels(loaded.train)[0, 3, 2].astype(int) - expected).max() <= (2 if "j" in name else 0)


def test_images_are_turned_as_their_exif_says(pictures):
    pixels = flat(0, (8, 16))
    pixels[:, :8] = 255
    for name in ("a.jpg", "b.jpg"):
        save(pictures / name, pixels, exif=jpeg_with(6), quality=100)
    loaded = folder.load(path=str(pictures), test=1)
    assert loaded.image_shape == (16, 8, 1)
    assert levels(loaded.train)[0, 2, 4, 0] > 250
    assert levels(loaded.train)[0, 13, 4, 0] < 5


def test_images_are_cut_to_a_square_and_scaled_or_stretched(pictures):
    wide, tall = flat(200, (8, 20)), flat(200, (24, 8))
    wide[:, :6] = wide[:, 14:] = tall[:8] = tall[16:] = 0
    save(pictures / "a.png", wide)
    save(pictures / "b.png", tall)
    cut = folder.load(path=str(pictures), size=4, test=1)
    assert cut.image_shape == (4, 4, 1)
    assert set(np.unique(whole(cut))) == {200}
    stretched = folder.load(path=str(pictures), size=4, crop=False, test=1)
    assert whole(stretched).min() < 10
    with refused(
        r"^size: 0 keeps images as they are, and they differ: 20 x 8 in a\.png, 8 x 24 in b\.png; give one size"
    ):
        folder.load(path=str(pictures), test=1)


def test_channels_are_those_of_the_first_or_as_said(pictures, said):
    save(pictures / "a.png", flat(90))
    save(pictures / "b.png", np.full((6, 5, 3), (200, 100, 50), np.uint8))
    assert folder.load(path=str(pictures), test=1).image_shape == (6, 5, 1)
    assert "the first image is grey, and 1 image of colour made grey; data.channels=3" in said()
    assert whole(folder.load(path=str(pictures), channels=3, test=1))[:, 0, 0].tolist() in (
        [[90, 90, 90], [200, 100, 50]],
        [[200, 100, 50], [90, 90, 90]],
    )
    assert folder.load(path=str(pictures), channels=1, test=1).image_shape == (6, 5, 1)


def broken_files(pictures):
    """Ten whole images, and files that are none."""
    fill(pictures, *(f"{i}.png" for i in range(10)))
    whole_file = (pictures / "0.png").read_bytes()
    (pictures / "5a.png").write_bytes(whole_file[:48])
    (pictures / "b.jpg").write_bytes(b"")
    (pictures / "c.jpg").write_text("<html>")
    (pictures / "d.png").symlink_to(pictures / "nowhere.png")
    os.mkfifo(pictures / "e.png")
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + bytes([8, 0, 0, 0, 0])
    header += struct.pack(">I", zlib.crc32(header))
    (pictures / "f.png").write_bytes(whole_file[:12] + header + whole_file[33:])
    Image.fromarray(flat(3)).save(pictures / "g.webp", format="GIF")


def test_broken_files_are_refused_or_skipped_and_named(pictures, said):
    broken_files(pictures)
    message = r"7 of 17 images cannot be read: 5a\.png \(.*\), b\.jpg \(no PNG, JPEG or WebP\), c\.jpg "
    with refused(
        rf"^path: {message}.* d\.png \(not a file\), e\.png \(not a file\) and 2 more; remove them, or give broken skip"
    ):
        folder.load(path=str(pictures))
    for _ in range(2):  # decoded, and from the cache
        _arrays.warn_once.cache_clear()
        loaded = folder.load(path=str(pictures), broken="skip")
        assert sorted(whole(loaded)[:, 0, 0, 0]) == [10 * (i + 1) for i in range(10)]
    assert said().count("7 of 17 images cannot be read and are left out: 5a.png") == 2
    with refused("^path: 7 of 17 images cannot be read"):
        folder.load(path=str(pictures))


def test_an_image_of_more_pixels_than_it_may_have_is_not_decoded(pictures, monkeypatch):
    fill(pictures, "a.png", "b.png")
    save(pictures / "c.png", flat(3, (7, 7)))
    monkeypatch.setattr(_decoding, "MAX_PIXELS", 48)
    with refused(r"c\.png \(7 x 7 pixels, more than 48\)"):
        folder.load(path=str(pictures))


def test_pictures_are_mapped_from_the_cache_whatever_their_size(pictures, cache):
    fill(pictures, "a.png", "b.png", "c.png")
    loaded = folder.load(path=str(pictures), test=1)
    again = folder.load(path=str(pictures), test=1)
    for split in (loaded.train, again.train, again.test):
        assert isinstance(split.fetch, HostImages)
        assert isinstance(split.fetch.images, np.memmap)
        assert split.fetch.images.filename.parent == cache


def test_pictures_that_neither_the_cache_nor_memory_holds_are_refused(pictures, tmp_path, monkeypatch):
    fill(pictures, "a.png", "b.png")
    (tmp_path / "cache").write_text("a file where a folder belongs")
    monkeypatch.setattr(_host_images, "host_memory", lambda: 59)
    with refused(r"^path: the array of 2 decoded images of 6x5x1 takes "):
        folder.load(path=str(pictures))


BAD_FOLDERS = {
    "empty": ([], {}, "has no images .*png, .*in it or its subfolders"),
    "loose beside classes": (["cat/1.png", "x.png"], {}, r"images beside its subfolders \(x\.png\); move"),
    "loose beside splits": (
        ["train/1.png", "x.png"],
        {},
        r"beside its folder 'train' \(x\.png\); move them into a split",
    ),
    "classes beside splits": (["train/1.png", "cat/1.png"], {}, "beside its folder 'train'"),
    "classes in one split": (["train/a/1.png", "test/1.png"], {}, "classes in one split, and none in test"),
    "no train": (["test/1.png", "val/2.png"], {}, "has test, val and no train"),
    "a test alone": (["test/1.png"], {}, "has test and no train"),
    "one": (["1.png"], {}, "^test: 0.1 of 1 image leaves none to train on"),
    "a size": (["1.png"], {"size": -1}, "^size: -1 is not allowed"),
    "channels": (["1.png"], {"channels": 2}, "^channels: 2 is not allowed"),
    "a choice": (["1.png"], {"broken": "skp"}, r"^broken: 'skp' is unknown; .*did you mean 'skip'\?"),
    "a split": (["1.png", "2.png"], {"test": 2.5}, "^test: 2.5 is not allowed"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folders_that_are_no_set_are_refused_in_a_line(pictures, case):
    names, fields, message = BAD_FOLDERS[case]
    fill(pictures, *names)
    with refused(message):
        folder.load(path=str(pictures), **fields)


def test_an_empty_test_folder_is_named(pictures):
    fill(pictures, "train/1.png")
    (pictures / "test").mkdir()
    with refused("^path: .*test' has no images; fill it, or remove it"):
        folder.load(path=str(pictures))


def test_links_that_lead_back_are_followed_once(pictures):
    fill(pictures, "a/1.png", "b/1.png")
    (pictures / "b/back").symlink_to(pictures)
    assert folder.load(path=str(pictures), test=1).train.size == 1


def test_pictures_are_decoded_once_until_they_change(pictures, cache, monkeypatch):
    fill(pictures, "a.png", "b.png", "c.png")
    decoded = []
    decode = _decoding.decode_image
    monkeypatch.setattr(_decoding, "decode_image", lambda file, form: decoded.append(file.name) or decode(file, form))

    def count(**fields):
        decoded.clear()
        loaded = folder.load(path=str(pictures), test=1, **fields)
        return len(set(decoded)), sorted(whole(loaded)[:, 0, 0, 0])

    assert count() == (3, [10, 20, 30])
    assert count() == (0, [10, 20, 30])
    save(pictures / "c.png", flat(99))
    assert count() == (3, [10, 20, 99])
    assert sorted(file.suffix for file in cache.iterdir()) == [".npy", ".npz"]
    assert count(size=2)[0] == 3
    assert count(size=2, channels=3)[0] == 3
    assert count()[0] == 0
    for suffix in (".npy", ".npz"):
        for file in cache.glob(f"*{suffix}"):
            file.write_bytes(file.read_bytes()[:-50])
        assert count() == (3, [10, 20, 99])
    (pictures / "c.png").rename(pictures / "d.png")
    assert count()[0] == 3


def test_a_cache_that_cannot_be_written_is_no_error(pictures, tmp_path, monkeypatch, said):
    fill(pictures, "a.png", "b.png")
    (tmp_path / "cache").write_text("a file where a folder belongs")
    assert folder.load(path=str(pictures), test=1).train.size == 1
    assert "cannot be kept" in said()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert folder.load(path=str(pictures), test=1).train.size == 1


def test_a_cache_is_whole_or_not_there(pictures, cache, monkeypatch):
    fill(pictures, "a.png", "b.png")

    def disk_full(file, **named):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_decoded_cache.np, "savez", disk_full)
    loaded = folder.load(path=str(pictures), test=1)
    assert list(cache.iterdir()) == []
    assert sorted(whole(loaded)[:, 0, 0, 0]) == [10, 20]  # what was mapped is whole


def test_who_maps_a_folder_keeps_its_images_when_it_changes(pictures, cache):
    fill(pictures, "a.png", "b.png", "c.png")
    before = folder.load(path=str(pictures), test=1)
    (cache / f"{next(cache.glob('*.npz')).stem}.00000000.part").touch()  # another process writes
    (pictures / "c.png").unlink()
    after = folder.load(path=str(pictures), test=1)
    assert len(list(cache.glob("*.np?"))) == 2
    assert len(list(cache.glob("*.part"))) == 1
    assert sorted(whole(before)[:, 0, 0, 0]) == [10, 20, 30]
    assert sorted(whole(after)[:, 0, 0, 0]) == [10, 20]


# From the command line

RUN = {"train.steps": 10, "evaluation.every": 10, "checkpoint.every": 10, "log.every": 10, "net.hidden": "(4,)"}


@pytest.mark.full
def test_a_folder_of_photographs_trains_is_evaluated_and_explored(pictures, tmp_path):
    for i in range(40):
        noise = RNG.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        save(pictures / f"{'ab'[i % 2]}/{i:06}.jpg", noise)
    fields = {"data.name": "folder", "data.path": pictures, "data.size": 16, "data.binarize": "none"}
    assert train_small(tmp_path / "run", **RUN, **fields, **{"likelihood.name": "gaussian"}) == 0
    assert api.open_run(tmp_path / "run").sample(0, 2).shape == (2, 16, 16, 3)
    assert cli.evaluate([f"--workdir={tmp_path / 'run'}", "--metrics=active_units"]) == 0
    assert cli.explore([f"--workdir={tmp_path / 'run'}"]) == 0


@pytest.mark.full
def test_a_file_of_arrays_trains_is_evaluated_and_explored(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=GREY.repeat(2, 0) / 255, x_test=GREY / 255)
    fields = {"data.name": "arrays", "data.path": tmp_path / "set.npz", "data.binarize": "none"}
    assert train_small(tmp_path / "run", **RUN, **fields, **{"likelihood.name": "gaussian"}) == 0
    assert cli.evaluate([f"--workdir={tmp_path / 'run'}", "--metrics=active_units"]) == 0
    assert cli.explore([f"--workdir={tmp_path / 'run'}"]) == 0
