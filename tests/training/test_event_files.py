"""Event files of TensorBoard, read back as TensorBoard reads them."""

import json
import struct
import sys
from collections import defaultdict

import numpy as np
import pytest
from helpers.run_folder import digest, records
from helpers.small_run import train_small
from PIL import Image

from vae_jax.files import read_records
from vae_jax.plots import run_pictures
from vae_jax.training import background, event_files, writers

pytestmark = pytest.mark.usefixtures("share_programs")

pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")


def read_events(file):
    """The events of a file: each is its length, a checksum of that, itself and a checksum of it."""
    from tensorboardX.proto.event_pb2 import Event

    content, start = file.read_bytes(), 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        yield Event.FromString(content[start + 12 : start + 12 + length])
        start += length + 16


def points(folder):
    """tag -> [(step, value)] of all event files in their order; a session that starts at a step forgets what is later.

    That is how TensorBoard's EventAccumulator takes purge steps.
    """
    from tensorboardX.proto.event_pb2 import SessionLog

    found = defaultdict(list)
    for event in (event for file in sorted(folder.glob("*tfevents*")) for event in read_events(file)):
        if event.session_log.status == SessionLog.START:
            found = defaultdict(list, {tag: [p for p in kept if p[0] < event.step] for tag, kept in found.items()})
        for value in event.summary.value:
            found[value.tag].append((event.step, value))
    return {tag: kept for tag, kept in found.items() if kept}


def scalars(folder, tag):
    return [(step, value.simple_value) for step, value in points(folder)[tag]]


def expected(folder, split, name):
    rows = read_records(folder / "metrics.jsonl")
    return [(row["step"], np.float32(row[name])) for row in rows if row["split"] == split]


def write_records(folder, mirror, steps):
    """Records into metrics.jsonl and the mirror, as a Recorder does."""
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            record = {"step": step, "split": "train", "loss": 1 / step, "kl": [1.0, 3.0]}
            file.write(json.dumps(record) + "\n")
            mirror.metrics(record)


def go_on(folder, step, steps, say=print, is_enabled=True):
    """A run that goes on from `step` and is cut before its end."""
    writers.MetricsFile(folder / "metrics.jsonl", step).close()
    mirror = event_files.TensorboardMirror(folder, step, is_enabled, say)
    write_records(folder, mirror, steps)
    return mirror


def test_records_pictures_and_results_are_there(tmp_path):
    Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "samples.png")
    mirror = go_on(tmp_path, 0, [1, 2])
    mirror.metrics({"step": 3, "split": "train", "loss": float("nan"), "kl": [1.0, float("nan")], "seconds": 2})
    mirror.picture(tmp_path / "samples.png", 2)
    mirror.summary({"mig": 0.5, "step": 2, "name": "x", "kl": np.ones(2)}, "best")
    mirror.close()
    found = points(tmp_path)
    assert scalars(tmp_path, "train/loss") == [(1, 1), (2, 0.5)]
    assert scalars(tmp_path, "train/seconds") == [(3, 2)]
    assert scalars(tmp_path, "best/mig") == [(3, 0.5)]
    assert [(step, value.histo.num, value.histo.sum) for step, value in found["train/kl"]] == [(1, 2, 4), (2, 2, 4)]
    ((step, picture),) = found["pictures/samples"]
    assert (step, picture.image.width, picture.image.height) == (2, 4, 3)
    assert set(found) == {"train/loss", "train/seconds", "train/kl", "best/mig", "pictures/samples"}


def test_a_resumed_run_has_no_point_twice_and_keeps_those_before(tmp_path):
    for step in (0, 2, 2):  # within a second, which is all that the name of an event file tells
        go_on(tmp_path, step, range(step + 1, 5)).close()
    assert len(list(tmp_path.glob("*tfevents*"))) == 3
    assert scalars(tmp_path, "train/loss") == [(step, np.float32(1 / step)) for step in range(1, 5)]
    assert len(points(tmp_path)["train/kl"]) == 4


def test_a_run_that_is_mirrored_from_its_middle_on_gets_all_its_records(tmp_path):
    go_on(tmp_path, 0, [1, 2, 3], is_enabled=False).close()
    assert not list(tmp_path.glob("*tfevents*"))
    go_on(tmp_path, 3, [4]).close()
    assert scalars(tmp_path, "train/loss") == expected(tmp_path, "train", "loss")
    assert len(scalars(tmp_path, "train/loss")) == 4


def test_without_the_extra_a_line_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    said = []
    go_on(tmp_path, 0, [1, 2], said.append).close()
    assert said == [
        "tensorboard: mirror stopped (log.tensorboard needs the extra 'tensorboard': pip install -e .[tensorboard]); "
        "metrics.jsonl has everything"
    ]


def test_a_failure_is_said_once_and_ends_the_mirror_alone(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(event_files.EventFile, "write_values", fail)
    said = []
    go_on(tmp_path, 0, [1, 2], said.append).close()
    assert said == ["tensorboard: mirror stopped (disk full); metrics.jsonl has everything"]


def test_the_caller_never_waits_but_at_the_end(tmp_path, monkeypatch):
    go = background.threading.Event()
    monkeypatch.setattr(event_files.EventFile, "write_values", lambda *arguments: go.wait(30))
    monkeypatch.setattr(event_files, "CLOSE_SECONDS", 0.1)
    said = []
    mirror = go_on(tmp_path, 0, [1, 2, 3], said.append)  # returns while the first record waits
    mirror.close()
    go.set()
    assert said == ["tensorboard: still sending after 0 s; left behind"]


@pytest.mark.full
def test_a_run_with_event_files_has_the_numbers_of_one_without(tmp_path, capsys):
    """Trained, made longer, and compared with a run of as many steps that has none."""
    run, plain = tmp_path / "run", tmp_path / "plain"
    assert train_small(run, **{"train.steps": 30, "log.tensorboard": True}) == 0
    assert train_small(run, **{"log.tensorboard": True}) == 0
    assert train_small(plain) == 0
    assert digest(run) == digest(plain)
    assert not list(plain.glob("*tfevents*"))
    for split, name in (("train", "loss"), ("validation", "elbo"), ("test", "elbo"), ("train", "rate")):
        assert scalars(run, f"{split}/{name}") == expected(run, split, name)
    assert [step for step, _ in scalars(run, "test/elbo")] == [60]
    assert records(run) == records(plain)
    found = points(run)
    assert {f"pictures/{file.stem}" for file in (run / "pictures").glob("*.png")} <= set(found)
    assert {"final/elbo", "best/elbo"} <= set(found)
    # What changes no number may change: the same command without it says that the run is complete.
    assert train_small(run) == 0
    assert "tensorboard" not in capsys.readouterr().err


def test_each_evaluation_has_pictures_of_the_validation_split(tmp_path, monkeypatch):
    seen = []
    draw = run_pictures.draw_step

    def draw_step(run, dataset, numbers, folder):
        assert numbers["elbo"] == next(
            record["elbo"]
            for record in records(folder.parents[1])
            if (record["step"], record["split"]) == (run.step, "validation")
        )
        seen.append((run.step, float(run.encode(dataset.test.fetch(np.arange(1)))[0, 0])))
        return draw(run, dataset._replace(test=None), numbers, folder)  # which no picture may show before the end

    monkeypatch.setattr(run_pictures, "draw_step", draw_step)
    fields = {"train.steps": 60, "evaluation.every": 20, "log.tensorboard": True}
    assert train_small(tmp_path / "run", **fields) == 0
    found = points(tmp_path / "run")
    steps = {
        name: [step for step, _ in found[f"pictures/{name}"]] for name in ("samples", "reconstructions", "latents")
    }
    assert steps == {"samples": [20, 40, 60], "reconstructions": [20, 40, 60], "latents": [60]}
    assert [step for step, _ in seen] == [20, 40]
    assert len({code for _, code in seen}) == 2  # of the weights of that step
    assert train_small(tmp_path / "off", **fields | {"log.pictures": False}) == 0
    assert not any(tag.startswith("pictures/") for tag in points(tmp_path / "off"))
    assert not (tmp_path / "off" / "pictures").exists()
    assert records(tmp_path / "off") == records(tmp_path / "run")


def test_a_picture_that_cannot_be_drawn_stops_nothing(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device", "samples.png")

    monkeypatch.setattr(run_pictures, "draw_step", fail)
    assert train_small(tmp_path / "run", **{"evaluation.every": 30, "log.tensorboard": True}) == 0
    assert "step 30: no pictures (samples.png: no space left on device" in capsys.readouterr().out
