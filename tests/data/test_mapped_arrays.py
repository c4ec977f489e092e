"""Images in an .npy file: they stay there, and are what they are in memory."""

import jax
import numpy as np
import pytest

from vae_jax import data
from vae_jax.data import _arrays, _host_images, arrays
from vae_jax.data._host_images import HostImages
from vae_jax.data._splits import held_split, host_split, read_batch, read_window
from vae_jax.errors import UserError

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 3


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


def levels(split):
    return np.asarray(split.fetch(np.arange(split.size)))


@pytest.fixture
def files(tmp_path):
    """(images, labels) -> the paths of an .npy and of an .npz file of them."""

    def write(images, labels=LABELS):
        np.save(tmp_path / "set.npy", images)
        np.save(tmp_path / "classes.npy", labels)
        np.savez(tmp_path / "set.npz", images=images, labels=labels)
        return str(tmp_path / "set.npy"), str(tmp_path / "set.npz")

    return write


def both(files, images, **fields):
    """The dataset of an .npy file, and of an .npz file of the same, each with its validation split."""
    mapped, read = files(images)
    loaded = arrays.load(path=mapped, labels="classes.npy", **fields), arrays.load(path=read, **fields)
    return [data.check_dataset(data.with_validation(dataset, 5)) for dataset in loaded]


IMAGES = {
    "colour": (COLOUR, {}),
    "grey": (COLOUR[..., 0], {}),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), {"layout": "nchw"}),
    "black and white": (COLOUR[..., :1] & 1, {}),
    "truth values": (COLOUR[..., 0] > 99, {}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_a_file_stay_in_it_and_are_those_of_memory(files, name):
    images, fields = IMAGES[name]
    mapped, held = both(files, images, **fields)
    for split, own in mapped.splits.items():
        assert isinstance(own.fetch, HostImages)
        assert isinstance(own.fetch.images, np.memmap)
        assert own.fetch.images.filename is not None
        assert np.shares_memory(own.fetch.images, mapped.train.fetch.images)
        np.testing.assert_array_equal(levels(own), levels(held.splits[split]))
        np.testing.assert_array_equal(levels(held_split(own)), levels(own))
        np.testing.assert_array_equal(own.labels, held.splits[split].labels)
    assert data.fingerprint(mapped) == data.fingerprint(held)


def test_images_of_the_last_axis_and_other_numbers_are_read_whole(files):
    for images, fields in ((COLOUR.transpose(1, 2, 3, 0), {"layout": "hwcn"}), (np.float32(COLOUR / 255), {})):
        mapped, held = both(files, images, **fields)
        assert not isinstance(mapped.train.fetch, HostImages)
        np.testing.assert_array_equal(levels(mapped.train), levels(held.train))


def test_grey_levels_are_decided_by_all_images_and_no_more_than_a_chunk_at_once(files, monkeypatch):
    monkeypatch.setattr(_arrays, "CHUNK", 90)
    images = np.zeros((40, 6, 5, 1), np.uint8)
    images[-1, -1] = 1
    mapped, _ = files(images)
    assert levels(arrays.load(path=mapped, labels="none").train).max() == 255
    images[0, 0], images[-1, -1, -1] = 1, 2  # what the first image says, the last one denies
    mapped, _ = files(images)
    assert {*levels(arrays.load(path=mapped, labels="none", test=1).train).ravel()} <= {0, 1, 2}
    seen = []
    monkeypatch.setattr(_arrays, "release_pages", lambda array: seen.append(array.shape))
    assert _arrays._ends([COLOUR]) == (COLOUR[:1].min(), COLOUR[:1].max())
    assert not seen  # the first image has told all


def test_a_map_of_ones_own_is_not_copied(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "own.npy", mode="w+", dtype=np.uint8, shape=COLOUR.shape)
    mapped[:] = COLOUR
    split = data.make_split(mapped, LABELS)
    assert np.shares_memory(split.fetch.images, mapped)
    np.testing.assert_array_equal(levels(split), COLOUR)


def test_pages_of_a_file_are_let_go_of_where_they_are_many(files, monkeypatch):
    mapped, _ = files(COLOUR)
    split, released = arrays.load(path=mapped, labels="none").train, []
    release = _host_images.release_pages
    monkeypatch.setattr(_host_images, "release_pages", lambda array: released.append(array) or release(array))
    before = levels(split)
    assert _host_images.mapped_bytes() > 2**20  # the program's own
    assert not released
    monkeypatch.setattr(_host_images, "MAPPED", 0)
    np.testing.assert_array_equal(levels(split), before)
    assert len(released) == 1


def test_a_file_that_becomes_shorter_is_said_in_place_of_a_crash(files):
    mapped, _ = files(COLOUR)
    dataset = arrays.load(path=mapped, labels="none")
    with open(mapped, "r+b") as file:
        file.truncate(300)
    with pytest.raises(OSError, match=r"set\.npy' has become shorter"):
        dataset.train.fetch(np.arange(2))


def test_what_must_be_read_whole_and_is_more_than_memory_is_refused(files, monkeypatch):
    monkeypatch.setattr(_host_images, "host_memory", lambda: COLOUR.size - 1)
    mapped, read = files(COLOUR)
    assert arrays.load(path=mapped, labels="none").train.size == 36
    line = "GiB of memory; give uint8 images .* in an .npy file, which are read a batch at a time"
    with refused(rf"^path: '.*set\.npz': images of uint8 \(40, 6, 5, 3\) takes .*{line}"):
        arrays.load(path=read)
    mapped, _ = files(np.float32(COLOUR))
    with refused(rf"^path: '.*set\.npy': set\.npy as uint8 takes .*{line}"):
        arrays.load(path=mapped, labels="none", range="0 255")


@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_and_a_window_are_the_images_under_their_indices(labelled):
    held = data.make_split(COLOUR, LABELS if labelled else None)
    split, chosen = host_split(held), np.array([[7, 3, 7], [39, 0, 12]], np.int32)
    assert read_batch(held, chosen) == (held, chosen)
    batch, positions = read_batch(split, chosen)
    assert batch.size == 40
    assert len(batch.fetch.images) == 6
    window = read_window(split, 10, 14)
    assert len(window.fetch.rows.rows) == 4
    for part, places, indices in ((batch, positions, chosen), (window, np.arange(10, 14), np.arange(10, 14))):
        np.testing.assert_array_equal(part.fetch(places), COLOUR[indices])
        assert part.labels is None or np.array_equal(part.labels[places], LABELS[indices])
        assert (part.labels is not None) == labelled


def test_a_compiled_program_may_take_a_split_that_is_on_the_host():
    split = host_split(data.make_split(COLOUR))
    found = jax.jit(jax.vmap(lambda indices: split.fetch(indices)))(np.array([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(found, COLOUR[[[1, 2], [3, 4]]])
