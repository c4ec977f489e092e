"""Images that stay on the host: a run is the same, to the last bit, as one whose images are on the devices."""

import json
import shutil
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from helpers.run_folder import digest, records, results
from helpers.small_run import SMALL, small_words, train, train_small

from vae_jax import cli, data
from vae_jax.config.parse import parse_config
from vae_jax.data._splits import host_split, on_host
from vae_jax.errors import UserError
from vae_jax.metrics import _feature_classifier
from vae_jax.training import placement, prefetch
from vae_jax.training.executors import DataParallel, MemberParallel, local_devices
from vae_jax.training.placement import place

pytestmark = pytest.mark.usefixtures("share_programs")

HOST, DEVICE = {"parallel.images": "host"}, {"parallel.images": "device"}
UNDRAWN = {"log.pictures": False}
UNEVEN = {"evaluation.batch_size": 40}
"""Of 150 images that validate: three batches, and the remainder."""
THREE_BATCHES = 3 * SMALL["train.batch_size"] * 64
"""Bytes of the images of three batches, so that ten steps come in blocks of 3, 3, 3 and 1."""


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(prefetch, "BLOCK_BYTES", THREE_BATCHES)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A run whose images are on the device."""
    folder = tmp_path_factory.mktemp("held")
    assert train_small(folder, **UNEVEN, **DEVICE) == 0
    return folder


def no_reader():
    """Whether no thread reads ahead any more."""
    return not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_a_run_is_the_same_to_the_last_bit_wherever_its_images_lie(held, tmp_path, small_blocks, monkeypatch):
    read, blocks = prefetch.read_block, []

    def read_block(split, ids, steps):
        blocks.append((ids.shape, steps))
        return read(split, ids, steps)

    monkeypatch.setattr("vae_jax.training.loop.read_block", read_block)
    assert train_small(tmp_path, **UNEVEN, **HOST, **UNDRAWN) == 0
    assert results(tmp_path) == results(held)
    assert blocks[:5] == [((1, 1, steps, 20), 3) for steps in (3, 3, 3, 1, 3)]
    assert no_reader()


def test_a_stopped_run_goes_on_to_the_same_bits(held, tmp_path, small_blocks, monkeypatch):
    index_stream, sent = data.index_stream, []

    def stream(seed, start, *more):
        if start >= 30 and not sent:
            sent.append(start)
            signal.raise_signal(signal.SIGTERM)
        return index_stream(seed, start, *more)

    with monkeypatch.context() as patched:
        # A handler of Python runs in the main thread alone, wherever the signal is raised.
        patched.setattr(data, "index_stream", stream)
        assert train_small(tmp_path, **UNEVEN, **HOST, **UNDRAWN) == 128 + signal.SIGTERM
    assert no_reader()
    assert 0 < digest(tmp_path)[0] < 60
    assert train_small(tmp_path, **UNEVEN, **HOST, **UNDRAWN) == 0
    assert digest(tmp_path) == digest(held)
    assert records(tmp_path)[-1] == records(held)[-1]


def test_a_run_that_is_evaluated_from_the_host_has_the_same_numbers_and_pictures(held, tmp_path, small_blocks):
    folder = tmp_path / "run"
    shutil.copytree(held, folder)
    saved = json.loads((folder / "config.json").read_text())
    saved["config"]["parallel"]["images"] = "host"
    (folder / "config.json").write_text(json.dumps(saved))
    (folder / "evaluation.json").unlink()
    assert cli.evaluate([f"--workdir={folder}"]) == 0
    assert cli.evaluate([f"--workdir={held}"]) == 0
    for name in ("evaluation.json", "pictures/reconstructions.png", "pictures/latents.png"):
        assert (folder / name).read_bytes() == (held / name).read_bytes()


@pytest.mark.full
def test_labels_go_with_their_images_and_every_device_gets_its_share(tmp_path, small_blocks):
    fields = {**SMALL, "parallel.devices": 4, "evaluation.batch_size": 40}
    for name, images in {"held": DEVICE, "host": HOST}.items():
        assert train(tmp_path / name, "digits:conditional", **fields | images | UNDRAWN) == 0
    assert results(tmp_path / "host") == results(tmp_path / "held")


def members_file(folder, **fields):
    """Members of two seeds, of which two share one, over two devices."""
    own = ({"seed": 0}, {"seed": 1}, {"seed": 0, "train.learning_rate": 1e-2})
    words = [small_words(**{**fields, "parallel.devices": 2, **given}) for given in own]
    rows = [{"workdir": str(folder / f"m{i}"), "words": each} for i, each in enumerate(words)]
    folder.mkdir()
    (folder / "members.json").write_text(json.dumps(rows))
    return f"--members={folder / 'members.json'}"


@pytest.mark.full
def test_a_population_is_the_same_to_the_last_bit_wherever_its_images_lie(tmp_path, small_blocks):
    for name, images in {"held": DEVICE, "host": HOST}.items():
        assert cli.population([members_file(tmp_path / name, **UNEVEN, **images, **UNDRAWN)]) == 0
    for member in ("m0", "m1", "m2"):
        assert results(tmp_path / "host" / member) == results(tmp_path / "held" / member)


def test_a_device_reads_each_stream_of_its_members_once():
    streams = np.arange(3 * 2 * 4).reshape(3, 2, 4)
    ids, slots = MemberParallel(local_devices(2)).block_indices(streams, [2, 0, 2, 2])
    np.testing.assert_array_equal(ids, [[streams[0], streams[2]], [streams[2], streams[2]]])
    positions = prefetch.block_positions(ids, slots, steps=5, batch_size=4)
    assert positions[:, 0, 0].tolist() == [20, 0, 0, 0]
    ids, slots = DataParallel(local_devices(2)).block_indices(streams[:1], [0])
    np.testing.assert_array_equal(ids[:, 0], [streams[0][:, :2], streams[0][:, 2:]])
    positions = prefetch.block_positions(ids, slots, steps=5, batch_size=4)
    np.testing.assert_array_equal(positions[0], [[0, 1, 0, 1], [2, 3, 2, 3]])


def test_a_block_is_bounded_but_for_two_batches(monkeypatch):
    split = host_split(data.make_split(np.zeros((9, 4, 4, 1), np.uint8)))
    monkeypatch.setattr(prefetch, "BLOCK_BYTES", 16 * 5 * 7)
    assert prefetch.batches_at_once(split, 5, most=100) == 7
    assert prefetch.batches_at_once(split, 5, most=6) == 6
    assert prefetch.batches_at_once(split, 500, most=100) == 2


def test_one_is_read_ahead_and_what_breaks_in_reading_is_a_line():
    begun = []

    def read(item):
        begun.append(item)
        if item == 4:
            raise OSError("the disk is gone")
        return 10 * item

    reading = prefetch.prefetch(read, range(9))
    for item in range(4):
        assert next(reading) == 10 * item
        assert max(begun) <= item + 1
    with pytest.raises(OSError, match=r"\Aconfig\.data: images cannot be read \(the disk is gone\)\Z"):
        next(reading)
    assert no_reader()
    reading = prefetch.prefetch(read, range(4))
    next(reading)
    reading.close()
    assert no_reader()


def test_a_run_whose_file_cannot_be_read_ends_in_a_line(tmp_path, monkeypatch):
    def read(self, indices):
        raise OSError("no such device")

    monkeypatch.setattr(prefetch, "read_block", read)
    monkeypatch.setattr("vae_jax.training.loop.read_block", lambda *arguments: read(None, None))
    with pytest.raises(OSError, match=r"\Aconfig\.data: images cannot be read \(no such device\)\Z"):
        train_small(tmp_path, **HOST)
    assert no_reader()


def config(**fields):
    return parse_config(small_words(**fields))


def test_images_lie_on_a_device_that_has_room_for_them(monkeypatch):
    split, devices = data.make_split(np.zeros((9, 4, 4, 1), np.uint8)), local_devices(1)
    for free, is_host in ((288, False), (287, True)):
        monkeypatch.setattr(placement, "agreed_free_bytes", lambda devices, free=free: free)
        assert on_host(place(split, config(), devices)) == is_host
        assert on_host(place(host_split(split), config(), devices)) == is_host
    assert not on_host(place(split, config(**DEVICE), devices))
    assert on_host(place(split, config(**HOST), devices))
    monkeypatch.setattr(placement, "agreed_free_bytes", lambda devices: 143)
    with pytest.raises(
        UserError, match=r"\Aconfig\.parallel\.images: 'device' .* 9 images take .* give auto or host\Z"
    ):
        place(split, config(**DEVICE), devices)


def test_what_a_device_draws_is_not_read_on_the_host(tmp_path):
    with pytest.raises(UserError, match=r"\Aconfig\.parallel\.images: 'host' .*='sprites' are made on the device"):
        train(tmp_path, **SMALL | {"data.name": "sprites", "data.resolution": 8} | HOST)
    with pytest.raises(UserError, match=r"config\.parallel\.images: 'hots' .*did you mean 'host'"):
        train_small(tmp_path, **{"parallel.images": "hots"})


def test_metrics_see_the_same_images_wherever_they_lie():
    images = np.random.default_rng(0).integers(0, 256, (700, 4, 4, 1), dtype=np.uint8)
    split = data.make_split(images, np.arange(700) % 3)
    chosen = np.random.default_rng(1).permutation(700)
    for binarize in ("none", "static"):
        on_device = _feature_classifier.pictures(jax.device_put(split), binarize, chosen)
        np.testing.assert_array_equal(_feature_classifier.pictures(split, binarize, chosen), on_device)
        np.testing.assert_array_equal(_feature_classifier.pictures(host_split(split), binarize, chosen), on_device)


CHILD = """
import sys
from pathlib import Path
from vae_jax import cli
status = cli.train(sys.argv[1:])
peaks = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print("peak", int(peaks[0]) // 1024)
sys.exit(status)
"""
"""Trains, and says the most MiB that it held: of the program alone, where ru_maxrss counts those of who started it."""


@pytest.mark.full
def test_a_set_of_12_gib_trains_in_a_process_of_less_than_3(tmp_path):
    shape = (3 * 2**20, 64, 64, 1)
    images = np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=shape)
    images[0] = 255  # all others are holes of the file, which take no place on a disk
    images.flush()
    fields = {
        **{"data.name": "arrays", "data.path": tmp_path / "large.npy", "data.test": 50, "data.validation": 50},
        **{"train.steps": 20, "evaluation.every": 10, "checkpoint.every": 20, **HOST},
    }
    words = [*small_words(**fields), f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.rsplit("peak", 1)[1])
    assert 200 < peak < 3 * 1024
    assert [row["step"] for row in records(tmp_path / "run") if row["split"] == "validation"] == [10, 20]
