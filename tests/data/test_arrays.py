"""Images and labels of a set: what is refused, what is taken as black and white, and the fingerprint of all of it."""

import logging
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from vae_jax import data, model
from vae_jax.data import _arrays, _stored_grids, idx, sprites
from vae_jax.data._factors import Factors
from vae_jax.errors import UserError

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (6, 2, 3, 1), dtype=np.uint8)
MASK = RNG.integers(0, 2, (6, 2, 3, 1), dtype=np.uint8)
MASK[0, 0, 0, 0] = 1


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


@pytest.fixture
def said(caplog):
    """What has been said of grey levels, as if nothing had been said before."""
    _arrays.warn_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(6, dtype=np.int32), r"shape \(6, 6\) is not allowed; .* shape \(6,\): np\.argmax\(labels, axis=1\)"),
        (np.zeros((6, 1), np.int64), r"shape \(6, 1\) is not allowed; .* shape \(6,\): labels\[:, 0\]"),
        (np.int32(1), r"shape \(\) is not allowed"),
        (np.arange(6) / 2, r"0\.5 is not allowed; give one whole number for each image"),
        (np.full(6, np.nan), "nan is not allowed"),
        (np.full(6, 2**31, np.uint64), "2147483648 is not allowed"),
        (np.full(6, -1e10), "-10000000000 is not allowed"),
        (np.array(list("abcdef")), r"<U1 is not allowed; .*np\.unique\(labels, return_inverse=True\)\[1\]"),
        ([[1], [1, 2]], "list is not allowed; give an array of numbers"),
        (np.arange(5), "5 of them for 6 images"),
    ],
)
def test_labels_that_are_not_one_whole_number_an_image_are_refused(labels, message):
    with refused(f"^labels: {message}"):
        data.make_split(GREY, labels)
    with refused(f"^test_labels: {message}"):
        data.from_arrays(GREY, np.arange(6), GREY, labels)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32, bool])
def test_whole_labels_of_any_dtype_are_kept(dtype):
    labels = np.array([0, 1, 1, 0, 1, 0]).astype(dtype)
    split = data.make_split(GREY, labels)
    assert split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.labels, labels)


def levels(split):
    return split.fetch(np.arange(split.size))


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_images_of_0_and_1_are_black_and_white_and_that_is_said_once(said, dtype):
    dataset = data.from_arrays(MASK.astype(dtype), None, np.zeros_like(MASK, dtype), None)
    np.testing.assert_array_equal(levels(dataset.train), 255 * MASK)
    np.testing.assert_array_equal(levels(dataset.test), 0 * MASK)
    assert levels(dataset.train).dtype == np.uint8
    np.testing.assert_array_equal(levels(data.make_split(MASK.astype(dtype))), 255 * MASK)
    assert said() == ["images: all values are 0 or 1, taken as black and white (0 and 255)"]


def test_an_image_is_held_as_a_row_and_nothing_is_copied():
    for images in (GREY, np.asfortranarray(GREY)):
        fetch = data.make_split(images).fetch
        assert np.shares_memory(fetch.rows, images)
        assert (fetch.rows.ndim == 2) == images.flags.c_contiguous
        np.testing.assert_array_equal(fetch(np.array([[1], [0]])), images[[[1], [0]]])


def test_one_image_beyond_1_makes_a_set_of_grey_levels(said):
    dataset = data.from_arrays(MASK, None, GREY, None)
    np.testing.assert_array_equal(levels(dataset.train), MASK)
    assert np.shares_memory(dataset.test.fetch.images, GREY)
    mixed = data.from_arrays(MASK.astype(bool), None, GREY, None)
    np.testing.assert_array_equal(levels(mixed.train), 255 * MASK)
    assert said() == []


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (GREY // 16, r"the largest value is 15 of 255, .*np\.uint8\(np\.round\(images \* \(255 / 15\)\)\)"),
        (0 * GREY, "every pixel has the value 0"),
        (0 * GREY + 200, "every pixel has the value 200"),
    ],
)
def test_dark_and_constant_images_are_kept_and_said(said, images, line):
    images[0, 0, 0] = images.max()
    np.testing.assert_array_equal(levels(data.make_split(images)), images)
    assert re.search(line, "\n".join(said()))


def test_stored_grids_of_0_and_1_are_black_and_white(said):
    stored = _stored_grids.StoredGrid("here", ("a",), (6,), (2, 3, 1), 6, [(MASK, np.arange(6))])
    np.testing.assert_array_equal(_stored_grids.to_factors(stored).render(jnp.arange(6)), 255 * MASK)
    assert "black and white" in said()[0]


def test_an_npz_of_0_and_1_is_spread_before_it_is_scaled(tmp_path, said):
    images = np.indices((2, 16, 16))[2].astype(np.uint8) // 6 % 2
    np.savez(tmp_path / "grid.npz", imgs=images, latents_classes=np.arange(2)[:, None])
    stored = _stored_grids.read_npz(tmp_path / "grid.npz", ("a",))
    scaled = _stored_grids.to_factors(_stored_grids.resize_grid(stored, 8)).render(jnp.arange(2))
    assert len(np.unique(scaled)) > 2
    assert "black and white" in said()[0]


def take(images, indices):
    return images[indices]


def split_of(fetch, labels, size):
    """A split of whatever size, as a person's own code makes it, without the types that these tests check."""
    split = data.Split(fetch, labels, 1)
    object.__setattr__(split, "size", size)
    return split


WHOLE = data.from_arrays(GREY, np.arange(6), GREY[:4], np.arange(4))
FETCH = Partial(take, GREY)
WRONG = {
    "no dataset": ((GREY, GREY), "load gave tuple; let it return a Dataset"),
    "nothing": (None, "load gave NoneType"),
    "flat images": (WHOLE._replace(image_shape=(6,)), r"image_shape: \(6,\) is not allowed"),
    "a float size": (WHOLE._replace(image_shape=(2, 3.0, 1)), r"image_shape: \(2, 3\.0, 1\) is not allowed"),
    "no pixel": (WHOLE._replace(image_shape=(2, 0, 1)), r"image_shape: \(2, 0, 1\) is not allowed"),
    "two channels": (WHOLE._replace(image_shape=(2, 3, 2)), r"train.fetch: gives uint8 \(2, 2, 3, 1\)"),
    "no split": (WHOLE._replace(test=GREY), "test: ndarray is not allowed; give a Split"),
    "empty": (WHOLE._replace(train=split_of(FETCH, None, 0)), "train.size: 0 is not allowed"),
    "half": (WHOLE._replace(train=split_of(FETCH, None, 5.5)), "train.size: 5.5 is not allowed"),
    "one-hot": (WHOLE._replace(train=split_of(FETCH, np.eye(6), 6)), r"train.labels: shape \(6, 6\) is not allowed"),
    "few labels": (WHOLE._replace(train=split_of(FETCH, np.arange(5), 6)), "train.labels: 5 of them for 6 images"),
    "other images": (WHOLE._replace(image_shape=(3, 2, 1)), r"train.fetch: gives uint8 \(2, 2, 3, 1\) for two indices"),
    "whole numbers": (
        WHOLE._replace(test=split_of(Partial(take, GREY.astype(np.int32)), None, 6)),
        "test.fetch: gives int",
    ),
    "a pair": (WHOLE._replace(test=split_of(Partial(lambda i: (i, i)), None, 6)), "test.fetch: gives tuple"),
    "classes": (
        WHOLE._replace(train=data.Split(FETCH, None, 6, Partial(take, np.arange(6)), Partial(lambda i, j, key: i))),
        r"train.factors: gives int32 \(2,\) for two indices; give integer \(2, any\)",
    ),
    "a partner": (
        WHOLE._replace(
            train=data.Split(FETCH, None, 6, Partial(take, np.zeros((6, 2), np.int32)), Partial(lambda i, j, key: i))
        ),
        r"train.partner: gives int32 \(2,\) for two indices; give uint8 \(2, 2, 3, 1\)",
    ),
    "grid": (WHOLE._replace(factors=("a", "b")), "factors: tuple is not allowed; give a Factors"),
    "a function": (WHOLE._replace(train=split_of(lambda i: GREY[i], None, 6)), "train.fetch: JAX cannot compile it"),
    "numpy": (WHOLE._replace(train=split_of(Partial(np.take, GREY), None, 6)), "train.fetch: JAX cannot compile it"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_dataset_is_refused_with_the_part_that_is_wrong(case):
    dataset, message = WRONG[case]
    with refused(f"^name: {message}"):
        data.check_dataset(dataset)


def test_a_dataset_is_checked_without_an_image_being_computed(monkeypatch):
    def computed(*arguments, **options):
        raise AssertionError("compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", computed)
    numbers = WHOLE._replace(image_shape=[np.int64(2), 3, 1], train=split_of(FETCH, np.arange(6.0), np.int64(6)))
    checked = data.check_dataset(numbers)
    assert checked.image_shape == (2, 3, 1)
    assert {type(number) for number in (*checked.image_shape, checked.train.size)} == {int}
    assert checked.train.labels.dtype == np.int32
    grid = data.check_dataset(sprites.load(sizes=(3, 2, 2, 2, 2), resolution=16))
    assert grid.image_shape == (16, 16, 1)


LOADERS = {
    "labels": ("return data.Dataset((2, 2, 1), s, data.Split(s.fetch, np.eye(4), 4))", "test.labels: shape"),
    "dict": ("return {'train': s}", "load gave dict"),
    "fails": ("raise RuntimeError('no\\nsuch disk')", r"'own_{0}' cannot be loaded .RuntimeError: no"),
    "exits": ("raise SystemExit('enough')", r"'own_{0}' cannot be loaded .SystemExit: enough"),
}


@pytest.mark.parametrize("case", LOADERS)
def test_a_dataset_of_the_users_own_is_checked_at_load(case, own_modules):
    body, message = LOADERS[case]
    name = f"own_{case}.load"
    (own_modules / f"own_{case}.py").write_text(
        "import numpy as np\nfrom vae_jax import data\n\n\ndef load():\n"
        f"    s = data.make_split(np.full((4, 2, 2, 1), 200, np.uint8))\n    {body}\n"
    )
    sys.path.append(str(own_modules))
    with refused("^config.data.name: " + message.format(case + ".load")):
        model.load_data({"name": name, "binarize": "none"})


def test_a_load_that_is_no_function_is_refused(own_modules):
    (own_modules / "own_value.py").write_text("load = 3\n")
    sys.path.append(str(own_modules))
    with refused("^name: 'own_value.load' is int; give a module with a function load"):
        data.get("own_value.load")


def test_a_fingerprint_is_of_the_images_and_not_of_where_they_lie(tmp_path):
    first = data.fingerprint(WHOLE)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert data.fingerprint(jax.tree.map(jnp.asarray, WHOLE._replace(image_shape=[2, 3, 1]))) == first
    for name, array in zip(idx.FILES, (GREY, np.arange(6), GREY[:4], np.arange(4)), strict=True):
        content = np.array(array[..., 0] if array.ndim == 4 else array, np.uint8)
        (tmp_path / name).write_bytes(
            bytes([0, 0, 8, content.ndim]) + np.array(content.shape, ">u4").tobytes() + content.tobytes()
        )
    assert data.fingerprint(idx.load(path=str(tmp_path))) == first


def changed(array, value):
    other = array.copy()
    other[-1] = value
    return other


def test_fingerprints_of_other_data_differ():
    labels = np.arange(6)
    others = [
        (GREY, labels, GREY[:4], np.arange(4)),
        (changed(GREY, 7), labels, GREY[:4], np.arange(4)),
        (GREY, labels, changed(GREY[:4], 7), np.arange(4)),
        (GREY, changed(labels, 9), GREY[:4], np.arange(4)),
        (GREY, labels, GREY[:4], None),
        (GREY, None, GREY[:4], None),
        (GREY, labels, GREY[:3], np.arange(3)),
        (GREY.reshape(6, 3, 2, 1), labels, GREY[:4].reshape(4, 3, 2, 1), np.arange(4)),
        (GREY[:4], np.arange(4), GREY, labels),
    ]
    assert len({data.fingerprint(data.from_arrays(*arrays)) for arrays in others}) == len(others)


@pytest.mark.full
def test_a_grid_that_code_draws_has_the_fingerprint_of_its_recipe():
    def grid(split="random 0.3", resolution=16, sizes=(3, 2, 2, 2, 2)):
        return sprites.load(sizes=sizes, resolution=resolution, split=split)

    grids = [grid(), grid("random 0.4"), grid("without shape=1"), grid(resolution=17), grid(sizes=(2, 3, 2, 2, 2))]
    prints = [data.fingerprint(dataset) for dataset in grids]
    assert len(set(prints)) == len(grids)
    assert prints[0] == data.fingerprint(grid())

    def unused(indices):
        raise AssertionError("an image is drawn")

    assert prints[0] == data.fingerprint(
        grids[0]._replace(**{part: data.Split(unused, *_rest(getattr(grids[0], part))) for part in ("train", "test")})
    )
    own = Factors(("a",), (6,), Partial(take, jnp.asarray(GREY)))
    other = own._replace(render=Partial(take, jnp.asarray(GREY[::-1])))
    one, two = (data.fingerprint(data.from_factors(factors, "random 0.5", 0)) for factors in (own, other))
    assert one != two


def _rest(split):
    return split.labels, split.size, split.factors, split.partner


# The validation split


def numbered(split):
    """The numbers of a split's images, which are constant."""
    return np.asarray(split.fetch(np.arange(split.size)))[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module")
def hundred():
    """A hundred constant images of levels 0 to 99 with their numbers as labels, and two test images."""
    images = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 2, 2, 1))
    return data.from_arrays(images, np.arange(100), images[:2], np.arange(2))


@pytest.mark.parametrize(("amount", "count"), [(0.1, 10), (25, 25), (25.0, 25), (0.001, 1)])
def test_training_images_validate_by_a_fixed_permutation(hundred, amount, count):
    dataset = data.with_validation(hundred, amount)
    train, validation = numbered(dataset.train), numbered(dataset.validation)
    assert len(validation) == count
    assert sorted(train + validation) == list(range(100))
    assert dataset.train.labels.tolist() == train
    assert dataset.validation.labels.tolist() == validation
    assert validation == numbered(data.with_validation(hundred, amount).validation)
    assert count == 1 or validation != list(range(100 - count, 100))
    assert dataset.test is hundred.test


def test_a_set_keeps_its_own_validation_split_and_0_leaves_it_out(hundred):
    own = hundred._replace(validation=hundred.test)
    assert data.with_validation(own, 0.1) is own
    assert data.with_validation(own, 0).validation is None
    assert data.with_validation(hundred, 0).splits.keys() == {"train", "test"}
    assert data.fingerprint(own) != data.fingerprint(hundred)


def test_the_last_images_validate_where_papers_have_it_so(hundred):
    dataset = data.last_as_validation(hundred, 30.0)
    assert numbered(dataset.validation) == list(range(70, 100))
    assert numbered(dataset.train) == list(range(70))
    assert data.last_as_validation(hundred, 0) is hundred


@pytest.mark.parametrize("amount", [1.5, -0.1, 100, 101])
def test_an_amount_that_leaves_nothing_or_means_nothing_is_refused(hundred, amount):
    for split_off in (data.with_validation, data.last_as_validation):
        with pytest.raises(UserError, match=f"^validation: {amount:g} "):
            split_off(hundred, amount)


def test_a_split_of_the_users_own_functions_is_parted_too():
    images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
    split = data.Split(
        Partial(own_images, images), np.arange(10, dtype=np.int32), 10, partner=Partial(own_partner, images)
    )
    dataset = data.with_validation(data.check_dataset(data.Dataset((2, 2, 1), split, split)), 3)
    for part in (dataset.train, dataset.validation):
        np.testing.assert_array_equal(part.fetch(np.arange(part.size)), images[part.labels])
        pairs = part.partner(np.arange(part.size), np.arange(part.size), None)
        np.testing.assert_array_equal(pairs, images[part.labels][:, ::-1])
    assert (dataset.train.size, dataset.validation.size) == (7, 3)


def own_images(images, indices):
    """What a user's own loader has."""
    return jnp.asarray(images)[indices]


def own_partner(images, indices, index, key):
    """The image upside down."""
    return jnp.asarray(images)[indices][:, ::-1]
