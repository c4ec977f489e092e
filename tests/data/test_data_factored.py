"""Stored grids of factors: read through TFDS from small builders with the real ones' features, and from files."""

import importlib
import importlib.util
import io
import math
import sys
import tracemalloc
import zipfile
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import data, metrics
from vae_jax.data import _factors, _splits, _stored_grids, cars3d, dsprites, shapes3d, smallnorb
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import irs, mig, mig_sampled
from vae_jax.models.distributions import Gaussian

INSTALLED = all(importlib.util.find_spec(name) for name in ("tensorflow_datasets", "array_record"))
needs_tfds = pytest.mark.skipif(not INSTALLED, reason="the extra 'tfds' is not installed")

SPRITES = {"label_shape": 3, "label_scale": 2, "label_orientation": 3, "label_x_position": 2, "label_y_position": 2}
SHAPES = {f"label_{name}": size for name, size in zip(shapes3d.NAMES, (2, 3, 2, 2, 3, 2), strict=True)}
NORB = {"label_category": 2, "instance": 4, "label_elevation": 3, "label_azimuth": 2, "label_lighting": 3}
FEATURES = {"dsprites": SPRITES, "shapes3d": SHAPES, "smallnorb": NORB}
SHAPE = {"dsprites": (64, 64, 1), "shapes3d": (64, 64, 3), "smallnorb": (96, 96, 1)}
LOAD = {"dsprites": dsprites.load, "shapes3d": shapes3d.load, "smallnorb": smallnorb.load}


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


def classes_of(name):
    """The classes of all images in the order of the grid."""
    sizes = tuple(FEATURES[name].values())
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)


def images_of(name):
    """One image for each, no two alike: noise, and in the first row of what is not binary the classes, 20 apart."""
    classes, random = classes_of(name), np.random.default_rng(1)
    if name == "dsprites":
        return random.integers(0, 2, (len(classes), *SHAPE[name]), dtype=np.uint8)
    images = random.integers(0, 256, (len(classes), *SHAPE[name]), dtype=np.uint8)
    images[:, 0, : classes.shape[1], 0] = 20 * classes
    return images


def prepared(name, folder, parts):
    """Prepares a dataset with the features of TFDS's `name`, of the ids in `parts`, and gives its builder's class."""
    core = importlib.import_module("tensorflow_datasets").core
    features = importlib.import_module("tensorflow_datasets").features
    from PIL import Image

    labels, classes, images = FEATURES[name], classes_of(name), images_of(name)

    class Builder(core.GeneratorBasedBuilder):
        VERSION = core.Version("2.0.0")
        name = f"fake_{folder.name}"

        def _info(self):
            columns = {label: features.ClassLabel(num_classes=size) for label, size in labels.items()}
            columns |= {key: features.Image(shape=SHAPE[name]) for key in ("image", "image2")}
            return core.DatasetInfo(builder=self, features=features.FeaturesDict(columns))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, ids) for split, ids in parts.items()}

        def _generate_examples(self, split, ids):
            for key, i in enumerate(ids):
                image = images[i, ..., 0] if images.shape[-1] == 1 else images[i]
                pictures = {"image": Image.fromarray(image), "image2": Image.fromarray(255 - image)}
                yield key, {**pictures, **dict(zip(labels, map(int, classes[i]), strict=True))}

    Builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return Builder


def parts_of(name):
    """The ids in each split, in no order: small NORB's instances are parted, another half for each category."""
    shuffled = np.random.default_rng(0).permutation(len(classes_of(name)))
    if name != "smallnorb":
        return {"train": shuffled}
    category, instance = classes_of(name)[shuffled, :2].T
    train = (instance + category) % 2 == 0
    return {"train": shuffled[train], "test": shuffled[~train]}


@pytest.fixture(scope="module")
def builders(tmp_path_factory):
    """Name -> folder, and the class of the small builder prepared there."""
    folders = {name: tmp_path_factory.mktemp(name) for name in FEATURES}
    return {name: (folder, prepared(name, folder, parts_of(name))) for name, folder in folders.items()}


@pytest.fixture
def load(builders, monkeypatch):
    """name, fields -> the dataset, with the small builder in the place of TFDS's own."""
    look_up = {name: builder for name, (_, builder) in builders.items()}
    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, **kwargs: look_up[name](**kwargs))
    return lambda name, **fields: LOAD[name](path=str(builders[name][0]), **fields)


def rendered(dataset):
    return np.asarray(dataset.factors.render(jnp.arange(dataset.factors.size)))


@needs_tfds
@pytest.mark.parametrize("name", FEATURES)
def test_every_image_lands_at_its_factors(name, load):
    dataset = load(name, **({"size": 0} if name == "smallnorb" else {}))
    grid, expected = dataset.factors, images_of(name) * (255 if name == "dsprites" else 1)
    colour = (1,) if name == "dsprites" else ()
    assert grid.sizes == (*colour, *FEATURES[name].values())
    assert dataset.image_shape == SHAPE[name]
    np.testing.assert_array_equal(rendered(dataset), expected)
    for part in (dataset.train, dataset.test):
        places = np.arange(part.size)
        classes = np.asarray(part.factors(places))[:, len(colour) :]
        ids = np.ravel_multi_index(classes.T, tuple(FEATURES[name].values()))
        np.testing.assert_array_equal(part.fetch(places), expected[ids])
        # All parts look into one array, which is on the device already.
        assert part.fetch.render.args[0] is grid.render.args[0]
    assert isinstance(grid.render.args[0], jax.Array)


NAMES = {
    "dsprites": ("colour", "shape", "scale", "orientation", "x", "y"),
    "shapes3d": ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    "smallnorb": ("category", "instance", "elevation", "azimuth", "lighting"),
}
COUNTS = {"dsprites": 737_280, "shapes3d": 480_000, "smallnorb": 48_600}


@needs_tfds
@pytest.mark.parametrize("name", FEATURES)
def test_tfds_own_features_are_those_of_the_small_builders(name, load, builders, tmp_path):
    own = importlib.import_module(f"tensorflow_datasets.datasets.{name}.{name}_dataset_builder")
    builder = own.Builder(data_dir=tmp_path)
    features = builder.info.features
    assert load(name).factors.names == NAMES[name]
    assert set(FEATURES[name]) == {key for key in features if key.startswith("label_") or key == "instance"}
    assert math.prod(features[label].num_classes for label in FEATURES[name]) == COUNTS[name]
    assert features["image"].shape == SHAPE[name]
    assert features["image"].np_dtype == np.uint8
    nothing = SimpleNamespace(download=lambda url: url, download_and_extract=lambda urls: urls)
    assert [str(split.name) for split in builder._split_generators(nothing)] == list(parts_of(name))


@needs_tfds
def test_tfds_has_no_cars3d():
    names = importlib.import_module("tensorflow_datasets").list_builders(with_community_datasets=False)
    assert set(FEATURES) <= set(names)
    assert "cars3d" not in names, "it can be read through TFDS now"


def write_npz(file, name):
    classes = classes_of(name)
    if name == "dsprites":
        classes = np.concatenate([np.zeros_like(classes[:, :1]), classes], axis=1)
    images = images_of(name)
    np.savez(file, imgs=images[..., 0] if images.shape[-1] == 1 else images, latents_classes=classes)


@needs_tfds
@pytest.mark.parametrize("name", FEATURES)
def test_a_file_and_tfds_give_the_same_dataset(name, load, tmp_path):
    write_npz(tmp_path / "grid.npz", name)
    of_file, of_tfds = LOAD[name](path=str(tmp_path)), load(name)
    assert of_file.image_shape == of_tfds.image_shape
    for field in ("names", "sizes", "nuisance"):
        assert getattr(of_file.factors, field) == getattr(of_tfds.factors, field)
    np.testing.assert_array_equal(rendered(of_file), rendered(of_tfds))
    for one, other in ((of_file.train, of_tfds.train), (of_file.test, of_tfds.test)):
        np.testing.assert_array_equal(one.factors(np.arange(one.size)), other.factors(np.arange(other.size)))


def test_binary_images_are_kept_as_bits_and_others_refused(tmp_path):
    write_npz(tmp_path / "binary.npz", "dsprites")
    dataset = dsprites.load(path=str(tmp_path))
    held = dataset.factors.render.args[0]
    assert (held.shape, held.dtype) == ((72, 64 * 64 // 8), np.uint8)
    assert set(np.unique(rendered(dataset))) == {0, 255}
    write_npz(tmp_path / "binary.npz", "smallnorb")
    with refused(r"imgs of uint8 .*largest value 255.*give .* integers from 0 to 1"):
        dsprites.load(path=str(tmp_path))


def lanczos(images, size):
    """Lanczos-3 with its window widened by the ratio, one axis after the other, in float64."""
    for axis in (2, 1):
        width = images.shape[axis]
        ratio = width / size
        away = (np.arange(width)[None] + 0.5 - (np.arange(size)[:, None] + 0.5) * ratio) / ratio
        weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        images = np.clip(np.moveaxis(np.tensordot(weights, images, (1, axis)), 0, axis), 0, 255)
    return images


def test_images_are_scaled_as_stated(tmp_path):
    write_npz(tmp_path / "grid.npz", "smallnorb")
    for size, load in ((64, smallnorb.load), (24, lambda **fields: smallnorb.load(size=24, **fields))):
        dataset = load(path=str(tmp_path))
        assert dataset.image_shape == (size, size, 1)
        # Pillow rounds after each axis.
        assert np.abs(rendered(dataset) - lanczos(images_of("smallnorb").astype(float), size)).max() < 1.6
    with refused(r"^size: 7 is not allowed"):
        smallnorb.load(path=str(tmp_path), size=7)


@needs_tfds
@pytest.mark.parametrize("fault", ["missing", "twice", "half"])
def test_what_is_no_complete_grid_is_refused_with_counts(fault, tmp_path, monkeypatch):
    parts = parts_of("smallnorb")
    if fault == "half":
        parts = {"train": parts["train"], "test": parts["test"][:1]}
    else:
        parts["train"] = parts["train"][1:]
    if fault == "twice":
        parts["test"] = np.concatenate([parts["test"], parts["test"][:1]])
    builder = prepared("smallnorb", tmp_path, parts)
    monkeypatch.setattr("tensorflow_datasets.builder", lambda name, **kwargs: builder(**kwargs))
    count = {"missing": 143, "twice": 144, "half": 73}[fault]
    which = ": 1 are missing, 1 are there more than once" if fault == "twice" else ""
    expected = f"^path: .* has {count} images, which are not a complete grid of 2 x 4 x 3 x 2 x 3 factors"
    with refused(expected + which + "$"):
        smallnorb.load(path=str(tmp_path))


@pytest.mark.parametrize("name", FEATURES)
def test_without_tfds_what_is_needed_is_said(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for path in ("", str(tmp_path)):
        with refused(r"^name: reading from TFDS needs the extra 'tfds'"):
            LOAD[name](path=path)
    with refused(r"^path: .*nowhere' is not an npz file nor a folder with one"):
        LOAD[name](path=str(tmp_path / "nowhere"))


@needs_tfds
def test_what_tfds_cannot_prepare_is_said(load, builders, tmp_path, monkeypatch):
    def fails(self, **kwargs):
        raise OSError("no network\nat all")

    monkeypatch.setattr(builders["shapes3d"][1], "download_and_prepare", fails)
    with refused(r"^path: TFDS could not prepare 'shapes3d' \(no network\); give a folder"):
        shapes3d.load(path=str(tmp_path))


def write_cars(folder, cars=3, azimuths=4, elevations=2, width=16):
    from scipy.io import savemat

    views = np.random.default_rng(2).integers(0, 256, (cars, width, width, 3, azimuths, elevations), dtype=np.uint8)
    for number, im in enumerate(views):
        savemat(folder / f"car_{number + 7:03d}_mesh.mat", {"im": im, "mask": im[:, :, 0]})
    return views


def test_cars_are_read_from_their_files(tmp_path):
    views = write_cars(tmp_path)
    dataset = cars3d.load(path=str(tmp_path), size=0)
    assert (dataset.factors.names, dataset.factors.sizes) == (("elevation", "azimuth", "car"), (2, 4, 3))
    for elevation, azimuth, car in np.ndindex(2, 4, 3):
        image = dataset.factors.images(jnp.array([[elevation, azimuth, car]]))
        np.testing.assert_array_equal(image[0], views[car, :, :, :, azimuth, elevation])
    scaled = cars3d.load(path=str(tmp_path), size=8)
    expected = lanczos(np.moveaxis(views, (5, 4), (0, 1)).reshape(-1, 16, 16, 3).astype(float), 8)
    assert np.abs(rendered(scaled) - expected).max() < 1.6
    assert data.defaults("cars3d")["size"] == data.defaults("smallnorb")["size"] == 64


def test_files_that_are_no_cars_are_refused(tmp_path):
    for path in ("", str(tmp_path)):
        with refused(r"^path: '.*' has no \.mat files and no npz; give the folder data/cars"):
            cars3d.load(path=path)
    write_cars(tmp_path)
    from scipy.io import savemat

    whole = (tmp_path / "car_007_mesh.mat").read_bytes()
    savemat(tmp_path / "car_001_mesh.mat", {"other": np.zeros(3)})
    other = (tmp_path / "car_001_mesh.mat").read_bytes()
    for content in (b"", b"no matrix", whole[: len(whole) // 2], whole[:200], other, b"\x89HDF\r\n\x1a\n" + bytes(600)):
        (tmp_path / "car_001_mesh.mat").write_bytes(content)
        with refused(r"car_001_mesh\.mat' is not in the format of Cars3D"):
            cars3d.load(path=str(tmp_path))
    (tmp_path / "car_001_mesh.mat").unlink()
    (tmp_path / "car_001_mesh.mat").mkdir()
    with refused(r"car_001_mesh\.mat' is not in the format of Cars3D"):
        cars3d.load(path=str(tmp_path))
    (tmp_path / "car_001_mesh.mat").rmdir()
    savemat(tmp_path / "car_100_mesh.mat", {"im": np.zeros((16, 16, 3, 4, 1), np.uint8)})
    with refused(r"car_100_mesh\.mat' has views of .*, car_007_mesh\.mat of"):
        cars3d.load(path=str(tmp_path))
    savemat(tmp_path / "car_000_mesh.mat", {"im": np.zeros((16, 16, 3, 4), np.uint8)})
    with refused(r"car_000_mesh\.mat' has an im of uint8 \(16, 16, 3, 4\)"):
        cars3d.load(path=str(tmp_path))


def test_a_file_with_other_columns_is_refused(tmp_path):
    write_npz(tmp_path / "grid.npz", "smallnorb")
    with refused(r"latents_classes of 5 columns; give 6, for floor_hue"):
        shapes3d.load(path=str(tmp_path))


def header(shape, dtype="|u1"):
    """What an npy file of such an array begins with."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def write_zip(file, **members):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


IMGS, CLASSES = np.zeros((2, 4, 4), np.uint8), np.arange(2)[:, None]
LYING = {
    "other names": ({"images": IMGS}, "no item named 'imgs.npy'"),
    "objects": ({"imgs": np.array([None, 1]), "latents_classes": CLASSES}, "imgs of object, which are not numbers"),
    "texts": ({"imgs": IMGS, "latents_classes": np.array([["a"], ["b"]])}, "latents_classes of <U1"),
    "one dimension": ({"imgs": IMGS.ravel(), "latents_classes": CLASSES}, r"imgs of uint8 \(32,\)"),
    "no images": ({"imgs": IMGS[:0], "latents_classes": CLASSES[:0]}, r"imgs of uint8 \(0, 4, 4\)"),
    "no columns": ({"imgs": IMGS, "latents_classes": CLASSES[:, :0]}, r"latents_classes of \(2, 0\)"),
    "too few classes": ({"imgs": IMGS, "latents_classes": CLASSES[:1]}, r"latents_classes of \(1, 1\)"),
    "no number": ({"imgs": IMGS, "latents_classes": CLASSES * np.nan}, r"latents_classes of \(2, 1\)"),
    "floats": ({"imgs": IMGS / 2, "latents_classes": CLASSES}, "imgs of float64"),
    "many columns": (
        {"imgs": IMGS.repeat(9, axis=0), "latents_classes": np.arange(18)[:, None].repeat(20, axis=1)},
        "has 18 images, which are not a complete grid",
    ),
}


@pytest.mark.parametrize("lie", LYING)
def test_an_npz_whose_arrays_are_no_grid_is_refused_with_its_name(lie, tmp_path):
    arrays, message = LYING[lie]
    np.savez(tmp_path / "grid.npz", **arrays)
    with refused(rf"^path: .*grid\.npz' .*{message}"):
        dsprites.load(path=str(tmp_path))


def zeros(shape):
    return header(shape) + bytes(math.prod(shape))


ZIPS = {
    "claims a million times a million": (
        {"imgs": header((10**6, 10**6))},
        r"\(1000000, 1000000\), which are more than",
    ),
    "claims more than it has": ({"imgs": header((2, 99, 99)) + bytes(9)}, "which are 19602 bytes where the file has 9"),
    "has more than it claims": ({"imgs": header((2, 2, 2)) + bytes(10**6)}, "8 bytes where the file has 1000000"),
    "no array": ({"imgs": b"hello"}, "not in the format of dSprites"),
    "no header": ({"imgs": b"\x93NUMPY\x01\x00\x05\x00abcde"}, "not in the format of dSprites"),
    "empty": ({}, "no item named"),
}


@pytest.mark.parametrize("lie", ZIPS)
def test_an_npz_that_claims_what_it_has_not_is_refused_before_it_is_read(lie, tmp_path, monkeypatch):
    members, message = ZIPS[lie]
    write_zip(tmp_path / "grid.npz", **members)
    monkeypatch.setattr(np.lib.format, "read_array", None)  # of what is refused nothing is read
    with refused(rf"^path: .*grid\.npz' .*{message}"):
        shapes3d.load(path=str(tmp_path))


def test_what_is_no_zip_at_all_is_refused_with_its_name(tmp_path, monkeypatch):
    file = tmp_path / "grid.npz"
    np.save(tmp_path / "array.npy", IMGS)
    np.savez(file, imgs=IMGS, latents_classes=CLASSES)
    whole = file.read_bytes()
    damaged = whole.replace(bytes(32), bytes(31) + b"x", 1)
    for content in (b"", b"imgs", (tmp_path / "array.npy").read_bytes(), whole[: len(whole) // 2], damaged):
        file.write_bytes(content)
        with refused(r"^path: .*grid\.npz' is not in the format of dSprites"):
            dsprites.load(path=str(file))
    file.write_bytes(whole)

    def refuses(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuses)
    with refused(r"grid\.npz' is not in the format of dSprites .Permission denied"):
        dsprites.load(path=str(file))
    file.unlink()
    file.mkdir()
    with refused(r"^path: .*grid\.npz' is not a file; give an npz file"):
        dsprites.load(path=str(tmp_path))


def test_more_than_a_device_holds_is_refused_before_memory_is_asked_for(tmp_path, monkeypatch):
    np.savez(tmp_path / "grid.npz", imgs=IMGS, latents_classes=CLASSES)
    stored = _stored_grids.read_npz(tmp_path / "grid.npz")
    monkeypatch.setattr(_splits, "MAX_BYTES", 31)
    with refused("^path: .* GiB of images; at most 0 GiB fit"):
        _stored_grids.to_factors(stored)


def test_a_grid_is_held_once(monkeypatch):
    megabytes, put, given = 48, jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda array: given.append(array.ctypes.data) or put(array))

    def chunks():
        for start in range(0, megabytes * 16, 16):
            yield np.full((16, 256, 256, 1), start // 16, np.uint8), np.arange(start, start + 16)[::-1]

    stored = _stored_grids.StoredGrid("here", ("a", "b"), (megabytes, 16), (256, 256, 1), megabytes * 16, chunks())
    tracemalloc.start()
    try:
        images = _stored_grids.load_by_id(stored)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * megabytes * 2**20
    assert given == [images.unsafe_buffer_pointer()]  # NumPy's own memory is now the device's
    np.testing.assert_array_equal(images[:, 3, 5, 0], np.arange(megabytes).repeat(16))


class Drawn(metrics.EvaluationContext):
    """A context of which only these codes are known."""

    def __init__(self, coded):
        self.factor_codes = coded
        self.dataset = SimpleNamespace(factors=_factors.Factors(NORB_NAMES, NORB_SIZES, None, ("instance",)))

    def posterior_at(self, ids):
        mean = jnp.asarray(NORB_GRID[ids], jnp.float32)
        return Gaussian(mean, jnp.full_like(mean, -6.0))


class Reader(TrainedModel):
    """A run whose code of an image is what `read` finds in it."""

    def __init__(self, read, latent_dim):
        self.encode, self.latent_dim, self.model = read, latent_dim, None


NORB_NAMES, NORB_SIZES = ("category", "instance", "elevation", "azimuth"), (5, 10, 4, 6)
NORB_GRID = np.stack(np.unravel_index(np.arange(math.prod(NORB_SIZES)), NORB_SIZES), axis=1)


def test_a_nuisance_factor_varies_in_what_is_drawn_and_has_no_class(key):
    coded = metrics.FactorCodes.from_grid(NORB_GRID.astype(np.float32), NORB_NAMES, NORB_SIZES, ("instance",))
    assert coded.names == ("category", "elevation", "azimuth")
    first, second = jax.random.split(key)
    codes, classes = coded.draw(first, 20_000)
    np.testing.assert_array_equal(codes[:, [0, 2, 3]], classes)
    table = np.zeros((5, 10))
    np.add.at(table, (classes[:, 0], codes[:, 1].astype(int)), 1)
    np.testing.assert_allclose(table / 20_000, 1 / 50, atol=0.005)
    shared = np.repeat(np.arange(3), 500)
    groups = coded.draw_groups(second, shared, 8)
    still = (groups == groups[:, :1]).all(axis=1)
    assert still[np.arange(1500), np.array([0, 2, 3])[shared]].all()
    assert still[:, 1].sum() <= 1  # eight draws of ten instances are alike once in ten million
    np.testing.assert_allclose(np.bincount(groups[..., 1].ravel().astype(int)) / groups[..., 1].size, 0.1, atol=0.02)


def test_a_nuisance_factor_is_not_scored(key):
    coded = metrics.FactorCodes.from_grid(NORB_GRID.astype(np.float32), NORB_NAMES, NORB_SIZES, ("instance",))
    subject = Drawn(coded)
    one, other, sampled = jax.random.split(key, 3)
    for name, found in (("mig", mig.compute(subject, one)), ("mig_sampled", mig_sampled.compute(subject, sampled))):
        assert set(found) == {name, f"{name}.category", f"{name}.elevation", f"{name}.azimuth"}
        assert found[name] > 0.98
    # A latent of a factor that is scored stays still while all others move, the nuisance's does not.
    robust = irs.compute(subject, other, quantile=1.0)
    np.testing.assert_allclose([robust[f"irs.{i}"] for i in (0, 2, 3)], 1, atol=1e-6)
    assert robust["irs.1"] < 0.05
    with pytest.raises(UserError, match="none that is scored takes more than one value"):
        metrics.FactorCodes.from_grid(np.zeros((10, 2), np.float32), ("category", "instance"), (1, 10), ("instance",))


@needs_tfds
def test_a_subject_takes_the_codes_of_a_stored_grid_by_id(load, key):
    """An encoder that reads the classes that `images_of` writes into the first row."""
    dataset = load("smallnorb", size=0)
    run = Reader(lambda images: images[:, 0, :5, 0].astype(np.float32) / 20, 5)
    coded = metrics.EvaluationContext(run, dataset).factor_codes
    assert coded.names == ("category", "elevation", "azimuth", "lighting")
    codes, classes = coded.draw(key, 500)
    np.testing.assert_array_equal(codes[:, [0, 2, 3, 4]], classes)
    assert set(codes[:, 1]) == set(range(4))


@needs_tfds
def test_a_subject_takes_the_codes_of_bits(load):
    dataset = load("dsprites")
    coded = metrics.EvaluationContext(
        Reader(lambda images: images[:, 7, :9, 0].astype(np.float32), 9), dataset
    ).factor_codes
    np.testing.assert_array_equal(coded.codes, 255 * images_of("dsprites")[:, 7, :9, 0])
    assert coded.names == ("shape", "scale", "orientation", "x", "y")
