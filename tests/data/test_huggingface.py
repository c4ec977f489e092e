"""Datasets of Hugging Face on disk, in the layouts that `datasets` writes."""

import io
import json
import sys

import numpy as np
import pytest
from helpers.small_run import train_small
from PIL import Image

from vae_jax.data import _arrays, _decoding, huggingface
from vae_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("undrawn")

pa = pytest.importorskip("pyarrow", reason="the extra 'hf' is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]}
FEATURES = {"image": {"_type": "Image"}, "label": CLASSES, "id": {"_type": "Value", "dtype": "string"}}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def said(caplog):
    """What has been said, as if nothing had been said before."""
    _arrays.warn_once.cache_clear()
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


def png(level, shape=(6, 5), kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.full(shape, level, np.uint8)).save(stream, kind)
    return stream.getvalue()


def rows(*levels, labels=None, features=FEATURES, **columns):
    """A table as `datasets` writes it: an image of each level, its label and an id."""
    images = [{"bytes": png(level), "path": None} for level in levels]
    numbers = [level % 3 for level in levels] if labels is None else labels
    arrays = {"image": pa.array(images, IMAGE), "label": pa.array(numbers), "id": pa.array([str(x) for x in levels])}
    table = pa.table(arrays | columns)
    known = {name: kind for name, kind in features.items() if name in table.column_names}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": known}})} if known else None)


def write_arrow(file, table):
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)


def write_parquet(file, table):
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=2)
    return file


def save_to_disk(folder, *shards, **state):
    """What Dataset.save_to_disk leaves."""
    names = [f"data-{i:05}-of-{len(shards):05}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        write_arrow(folder / name, shard)
    listed = {"_data_files": [{"filename": name} for name in names], "_split": None} | state
    (folder / "state.json").write_text(json.dumps(listed))


def save_splits(folder, **splits):
    """What DatasetDict.save_to_disk leaves."""
    for name, table in splits.items():
        save_to_disk(folder / name, table)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def levels(split):
    return np.asarray(split.fetch(np.arange(split.size)))[:, 0, 0, 0].tolist()


def load(path, **fields):
    return huggingface.load(path=str(path), **fields)


LEVELS = range(100, 250, 10)


def test_a_saved_dataset_of_splits_is_read_with_its_classes(tmp_path):
    save_splits(tmp_path / "set", train=rows(100, 110, 121), validation=rows(130), test=rows(140, 150))
    loaded = load(tmp_path / "set")
    assert loaded.image_shape == (6, 5, 1)
    assert (levels(loaded.train), levels(loaded.validation), levels(loaded.test)) == (
        [100, 110, 121],
        [130],
        [140, 150],
    )
    assert loaded.train.labels.tolist() == [1, 2, 1]
    assert loaded.test.labels.tolist() == [2, 0]


def test_of_a_saved_dataset_without_splits_some_are_held_out(tmp_path):
    save_to_disk(tmp_path / "set", rows(*LEVELS[:8]), rows(*LEVELS[8:]))
    write_arrow(tmp_path / "set/data-00002-of-00003.arrow", rows(99))  # left by an earlier save
    loaded = load(tmp_path / "set", test=5)
    assert (loaded.train.size, loaded.test.size) == (10, 5)
    assert sorted(levels(loaded.train) + levels(loaded.test)) == list(LEVELS)
    for split in (loaded.train, loaded.test):
        assert split.labels.tolist() == [level % 3 for level in levels(split)]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/valid-00000.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0000.parquet", "dev/0000.parquet", "test/0000.parquet"),
        ("my-train.parquet", "my-val.parquet", "my-eval.parquet"),
        ("test-of-2024/train.parquet", "test-of-2024/val.parquet", "test-of-2024/0.parquet"),
    ],
)
def test_files_of_parquet_are_splits_by_their_names(tmp_path, train, validation, test):
    for name, level in ((train, 100), (validation, 110), (test, 120)):
        write_parquet(tmp_path / "set" / name, rows(level, level + 1))
    loaded = load(tmp_path / "set")
    assert (levels(loaded.train), levels(loaded.validation), levels(loaded.test)) == (
        [100, 101],
        [110, 111],
        [120, 121],
    )


def test_files_of_no_split_beside_splits_are_left_out_aloud(tmp_path, said):
    for name in ("train", "test", "extra"):
        write_arrow(tmp_path / f"set/svhn-{name}.arrow", rows(100, 200))
    assert load(tmp_path / "set").train.size == 2
    assert "data: svhn-extra.arrow: of no split by name, and left out" in said()


def test_one_file_alone_is_split(tmp_path):
    file = write_parquet(tmp_path / "my-test.parquet", rows(*LEVELS))
    loaded = load(file, test=0.2)
    assert (loaded.train.size, loaded.test.size) == (12, 3)


def test_names_of_classes_are_numbered_over_all_splits(tmp_path, said):
    names = pa.array(["owl", "cat"]).dictionary_encode()
    write_parquet(tmp_path / "train.parquet", rows(100, 110, features={}, label=names))
    write_parquet(
        tmp_path / "test.parquet", rows(120, 130, features={}, label=pa.array(["dog", "owl"]).dictionary_encode())
    )
    loaded = load(tmp_path)
    assert loaded.train.labels.tolist() == [2, 0]
    assert loaded.test.labels.tolist() == [1, 2]
    assert "3 names of classes, numbered in their order" in said()


def test_columns_are_found_by_what_they_hold_or_named(tmp_path):
    masks = pa.array([{"bytes": png(level), "path": None} for level in (10, 20)], IMAGE)
    sound = pa.array([{"bytes": b"RIFF", "path": None}] * 2, IMAGE)
    features = FEATURES | {"fine": CLASSES, "mask": {"_type": "Image"}, "sound": {"_type": "Audio"}}
    file = write_parquet(tmp_path / "a.parquet", rows(100, 110, features=features, sound=sound, fine=pa.array([2, 2])))
    with refused("labels: '' does not say which column is meant; give one of label, fine, or none"):
        load(file)
    assert load(file, labels="fine", test=1).train.labels.tolist() == [2]
    assert load(file, labels="none", test=1).train.labels is None
    file = write_parquet(tmp_path / "b.parquet", rows(100, 110, features=features, mask=masks))
    with refused("images: '' does not say which column is meant; give one of image, mask"):
        load(file)
    loaded = load(file, images="mask", test=1)
    assert sorted(levels(loaded.train) + levels(loaded.test)) == [10, 20]


def test_bytes_alone_and_names_of_files_are_images_too(tmp_path):
    (tmp_path / "0.png").write_bytes(png(50))
    cells = pa.array([{"bytes": None, "path": "0.png"}, {"bytes": png(60), "path": "0.png"}], IMAGE)
    file = write_parquet(tmp_path / "a.parquet", rows(1, 2, image=cells))
    loaded = load(file, test=1)
    assert sorted(levels(loaded.train) + levels(loaded.test)) == [50, 60]
    file = write_parquet(tmp_path / "b.parquet", pa.table({"picture": [png(70), png(80, kind="JPEG")]}))
    loaded = load(file, test=1)
    assert sorted(levels(loaded.train) + levels(loaded.test)) == [70, 80]
    assert loaded.train.labels is None


def test_images_are_made_alike(tmp_path):
    cells = pa.array([png(50, (6, 4)), png(60, (9, 5, 3))])
    file = write_parquet(tmp_path / "a.parquet", pa.table({"image": cells}))
    with refused("size: 0 keeps images as they are, and they differ: 4 x 6 in a.parquet:image.0., 5 x 9 in"):
        load(file)
    assert load(file, size=4, test=1).image_shape == (4, 4, 1)
    assert load(file, size=4, channels=3, crop=False, test=1).image_shape == (4, 4, 3)


def test_what_cannot_be_read_is_refused_or_left_out_with_its_label(tmp_path, said):
    cells = [*({"bytes": png(level), "path": None} for level in (100, 110)), {"bytes": b"no", "path": None}, None]
    table = rows(100, 111, 120, 131, image=pa.array([cells[0], *cells[2:], cells[1]], IMAGE))
    file = write_parquet(tmp_path / "a.parquet", table)
    broken = r"2 of 4 images cannot be read: a.parquet:image.1. .no PNG, JPEG or WebP., a.parquet:image.2. .no image."
    with refused(broken):
        load(file)
    loaded = load(file, broken="skip", test=1)
    labels = [*loaded.train.labels.tolist(), *loaded.test.labels.tolist()]
    assert sorted(zip(levels(loaded.train) + levels(loaded.test), labels, strict=True)) == [(100, 1), (110, 2)]
    assert "are left out" in said()


def test_images_are_decoded_once_until_a_file_or_the_column_changes(tmp_path, monkeypatch):
    decoded, decode = [], _decoding.decode_image
    monkeypatch.setattr(_decoding, "decode_image", lambda file, form: decoded.append(file.name) or decode(file, form))
    masks = pa.array([{"bytes": png(level), "path": None} for level in (10, 20)], IMAGE)
    file = write_parquet(tmp_path / "a.parquet", rows(100, 110, mask=masks))

    def count(**fields):
        decoded.clear()
        loaded = load(file, test=1, **fields)
        return len(set(decoded)), sorted(levels(loaded.train) + levels(loaded.test))

    assert count(images="image") == (2, [100, 110])
    assert count(images="image") == (0, [100, 110])
    assert count(images="mask") == (2, [10, 20])
    write_parquet(file, rows(100, 115, 120))
    assert count() == (3, [100, 115, 120])


def damage(folder):
    """A file whose first page of images is overwritten."""
    file = write_parquet(folder / "a.parquet", rows(*LEVELS))
    content = bytearray(file.read_bytes())
    content[8:60] = bytes(52)
    file.write_bytes(content)


def write_bad_text(folder):
    (folder / "a.parquet").write_text("no table at all")


def cut(folder):
    file = write_parquet(folder / "a.parquet", rows(*LEVELS))
    file.write_bytes(file.read_bytes()[:-20])


def cut_arrow(folder):
    write_arrow(folder / "a.arrow", rows(*LEVELS))
    file = folder / "a.arrow"
    file.write_bytes(file.read_bytes()[:200])


def of_two_kinds(folder):
    write_parquet(folder / "train.parquet", rows(100, 110))
    write_parquet(folder / "test.parquet", rows(100, 110, image=pa.array(["a", "b"])))


def of_two_classes(folder):
    write_parquet(folder / "train.parquet", rows(100, 110))
    other = FEATURES | {"label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}
    write_parquet(folder / "test.parquet", rows(100, 110, features=other))


def without_labels(folder):
    write_parquet(folder / "train.parquet", rows(100, 110))
    write_parquet(folder / "test.parquet", rows(100, 110).drop_columns("label"))


def lone(table):
    return lambda folder: write_parquet(folder / "a.parquet", table)


BAD = {
    "nothing": (lambda folder: None, r"path: .* has no files of Parquet or Arrow \(.parquet, .arrow\) in it"),
    "text": (write_bad_text, "a.parquet' begins with 6e6f207461626c65; give files of Parquet or Arrow"),
    "cut": (cut, "path: .*a.parquet' cannot be read"),
    "cut arrow": (cut_arrow, "path: .*a.arrow' cannot be read"),
    "damaged": (damage, "path: .*a.parquet' cannot be read .Couldn't deserialize"),
    "no rows": (lone(rows()), "path: .* has no rows"),
    "no images": (lone(pa.table({"x": [1]})), "path: .* has no column of images in PNG or JPEG; it has x .int64."),
    "no train": (
        lambda folder: write_parquet(folder / "test.parquet", rows(1)),
        "has test .test.parquet. and no train",
    ),
    "two kinds": (of_two_kinds, "images: 'image' of test.parquet is not of images in PNG or JPEG; it has image"),
    "two classes": (of_two_classes, "labels: 'label' has other classes in t.*.parquet than in t.*.parquet"),
    "labels of one split": (
        without_labels,
        "labels: test.parquet has no column 'label'; it has image .Image., id .string.",
    ),
    "no class": (lone(rows(100, 110, labels=[-1, 0])), "labels: 'label' of a.parquet is -1, no class, in 1 row"),
    "null": (lone(rows(100, 110, labels=[None, 0])), "labels: 'label' of a.parquet has no value in 1 row"),
    "lists": (lone(rows(100, 110, labels=[[1], [0]])), "labels: 'label' of a.parquet is list<"),
    "beyond": (lone(rows(100, 110, labels=pa.array([2**64 - 1, 0], pa.uint64()))), "a.parquet' cannot be read"),
    "indices": (lambda folder: save_to_disk(folder, rows(1), _indices_data_files=[{}]), "call its flatten_indices"),
    "elsewhere": (
        lambda folder: save_to_disk(folder, _data_files=[{"filename": "/etc/passwd"}]),
        "state.json' does not list the names of files in _data_files",
    ),
    "missing": (
        lambda folder: save_to_disk(folder, _data_files=[{"filename": "data.arrow"}]),
        "data.arrow' cannot be read .No such file",
    ),
    "missing split": (
        lambda folder: (folder / "dataset_dict.json").write_text('{"splits": ["train"]}'),
        "path: .*train/state.json: cannot be read",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_such_dataset_is_refused_in_a_line(tmp_path, case):
    (tmp_path / "set").mkdir()
    write, match = BAD[case]
    write(tmp_path / "set")
    with refused(match):
        load(tmp_path / "set")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"images": "imgae"}, "images: 'imgae' is unknown; known: .*; did you mean 'image'"),
        ({"images": "id"}, "images: 'id' of a.parquet is not of images"),
        ({"labels": "lable"}, "labels: 'lable' is unknown; .*did you mean 'label'"),
        ({"size": -1}, "size: -1 is not allowed"),
        ({"channels": 2}, "channels: 2 is not allowed"),
        ({"broken": "skipp"}, "broken: 'skipp' is unknown; .*did you mean 'skip'"),
        ({"test": 2.5}, "test: 2.5 is not allowed"),
    ],
)
def test_fields_that_cannot_be_are_refused(tmp_path, fields, match):
    file = write_parquet(tmp_path / "a.parquet", rows(100, 110))
    with refused(match):
        load(file, **fields)


def test_what_is_not_there_and_a_missing_extra_are_named(tmp_path, monkeypatch):
    with refused("path: .*nowhere' is not there"):
        load(tmp_path / "nowhere")
    file = write_parquet(tmp_path / "a.parquet", rows(100, 110))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused(r"name: .* needs the extra 'hf' \(pip install -e .\[hf\]\)"):
        load(file)


@pytest.mark.full
def test_such_a_dataset_trains(tmp_path):
    save_to_disk(tmp_path / "set", rows(*range(100, 180)))
    fields = {"data.name": "huggingface", "data.path": tmp_path / "set", "data.size": 4, "data.binarize": "none"}
    fields |= {"train.steps": 10, "evaluation.every": 10, "checkpoint.every": 10, "log.every": 10}
    assert train_small(tmp_path / "run", **fields, **{"likelihood.name": "gaussian"}) == 0
