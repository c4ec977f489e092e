import json
import math
import os
import socket
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.wandb_server import serve

from vae_jax import files
from vae_jax.files import read_records
from vae_jax.training import background, writers

SETTINGS = {"project": "lab", "entity": "", "group": "sweep", "name": "first", "tags": ("beta", "digits")}
CONFIG = {"seed": 0, "net": {"hidden": [8, 8]}}
PIXEL = (  # a grey PNG of one pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da6368000000820081"
    "dd436af40000000049454e44ae426082"
)


def settings(mode, **others):
    return SETTINGS | {"mode": mode, "artifact": False} | others


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


# --- metrics.jsonl and other files ----------------------------------------------------------------


def test_values_become_plain_json():
    record = {"a": np.float32(0.5), "b": jnp.arange(2), "c": (1, math.nan), "d": {"e": -math.inf, "f": None, "g": True}}
    expected = {"a": 0.5, "b": [0, 1], "c": [1, None], "d": {"e": None, "f": None, "g": True}}
    assert files.plain(record) == expected


def test_numbers_that_are_not_finite_are_null(tmp_path):
    file = writers.MetricsFile(tmp_path / "metrics.jsonl", 0)
    file.write({"step": 1, "loss": np.nan, "kl": np.array([1.0, np.inf])})
    file.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "loss": None, "kl": [1.0, None]}


def test_a_record_is_in_the_file_at_once(tmp_path):
    file = writers.MetricsFile(tmp_path / "metrics.jsonl", 0)
    file.write({"step": 1})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1}]
    file.close()


@pytest.mark.parametrize("tail", ["", '{"step": 5, "lo', '{"step": 4, "loss": 1.0}\n{"st'])
def test_reopening_drops_what_came_later_and_a_cut_line(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    file = writers.MetricsFile(path, 0)
    for step in range(1, 4):
        file.write({"step": step, "split": "train", "loss": np.float32(1 / step), "rate": 1e-30 / 3})
    file.close()
    early = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    path.write_bytes(path.read_bytes() + tail.encode())
    file = writers.MetricsFile(path, 2)
    assert path.read_bytes() == early
    file.write({"step": 3})
    file.close()
    assert path.read_bytes() == early + b'{"step": 3}\n'
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.jsonl"]


BAD_LINES = [b'{"step": 2, "lo', b"{}", b"5", b"\xff\xfe", b'{"step": "2"}', b'{"step": true}', b"[" * 100_000]


def test_lines_that_are_no_record_are_kept_aside_and_no_record_is_lost(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    rows = [json.dumps({"step": step, "split": "train"}).encode() for step in range(1, 9)]
    path.write_bytes(b"\n".join([rows[0], *BAD_LINES, b"", *rows[1:], b'{"step": 9, "sp']))
    assert [record["step"] for record in read_records(path)] == list(range(1, 9))
    file = writers.MetricsFile(path, 7, said.append)
    file.close()
    assert path.read_bytes().splitlines() == rows[:7]
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes().splitlines() == BAD_LINES
    assert said == [f"{path}: moved 7 damaged lines to metrics.damaged.jsonl; every record is kept"]
    writers.MetricsFile(path, 7, said.append).close()
    assert len(said) == 1


def test_a_blank_line_costs_no_record(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    path.write_text('{"step": 1}\n\n{"step": 2}\n')
    writers.MetricsFile(path, 2, said.append).close()
    assert [record["step"] for record in read_records(path)] == [1, 2]
    assert not said


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "evaluation.json"
    files.write_json(file, {"elbo": np.float32(-1.5)})
    assert json.loads(file.read_text()) == {"elbo": -1.5}

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_json(file, {"elbo": 0.0})
    assert json.loads(file.read_text()) == {"elbo": -1.5}


# --- W&B ------------------------------------------------------------------------------------------

MIRROR = """
import json, sys, time
from pathlib import Path
from vae_jax import files
from vae_jax.training import writers

def say(line):
    print(line, flush=True)

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
writers.START_SECONDS = options.get("start", 10.0)
folder.mkdir(exist_ok=True)
started = time.monotonic()
mirror = writers.WandbMirror(folder, options["settings"], options["config"], say)
for step in options["steps"]:
    mirror.metrics({"step": step, "split": "train", "loss": 1 / step, "kl": [1.0, 3.0]})
mirror.metrics({"step": step, "split": "test", "elbo": -2.0, "kl": [0.5, 0.25]})
if "picture" in options:
    mirror.picture(Path(options["picture"]), step)
mirror.summary({"elbo": -3.0})
mirror.artifact(folder / "checkpoints")
assert time.monotonic() - started < 5, "the caller waited"
if "deafen" in options:
    while not (folder / "deaf").exists():
        time.sleep(0.05)
mirror.close(0, options.get("close", 30.0))
"""


def environment(home, **variables):
    """A user without any settings of W&B's, who reports to nobody."""
    kept = {name: value for name, value in os.environ.items() if "WANDB" not in name and "proxy" not in name.lower()}
    return kept | {"HOME": str(home), "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "disabled"} | variables


def start(tmp_path, mode, env=(), others=(), **options):
    """A process that mirrors a short run in tmp_path/run; its second dictionary goes to the config's section."""
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True, exist_ok=True)
    (tmp_path / "run" / "checkpoints" / "3" / "weights").write_bytes(b"weights")
    options = {"steps": [1, 2, 3], "config": CONFIG, "settings": settings(mode, **dict(others))} | options
    return subprocess.Popen(
        # The folder of W&B's own tables is its to clean.
        [
            *(sys.executable, "-X", "dev", "-W", "ignore:Implicitly cleaning:ResourceWarning", "-c", MIRROR),
            *(str(tmp_path / "run"), json.dumps(options)),
        ],
        env=environment(tmp_path, **dict(env)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process):
    """What the mirror said, once the process has ended well and without a word from W&B itself."""
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    return out.splitlines()


def read_back(folder):
    """The records of the one offline run in `folder`, by type, as W&B's own reader gives them."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    env = environment(folder, WANDB_MODE="offline")
    out = subprocess.run(reader, capture_output=True, text=True, timeout=60, check=True, env=env).stdout
    records = [json.loads(line) for line in out.splitlines()]
    return lambda kind: [record[kind] for record in records if record["type"] == kind]


def check_offline(folder, steps=(1, 2, 3)):
    kept = read_back(folder)
    history = {record["step"]["num"]: record["item"] for record in kept("history")}
    assert [history[step]["train/loss"] for step in steps] == [1 / step for step in steps]
    assert kept("exit")
    return kept, history


def test_disabled_never_imports_wandb(tmp_path):
    code = f"{MIRROR}\nassert 'wandb' not in sys.modules and not (folder / 'wandb').exists()"
    options = json.dumps({"steps": [1], "config": CONFIG, "settings": settings("disabled", artifact=True)})
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run"), options], timeout=60, check=True)


def test_an_offline_run_can_be_read_back(tmp_path):
    (tmp_path / "samples.png").write_bytes(bytes.fromhex(PIXEL))
    assert said(start(tmp_path, "offline", picture=str(tmp_path / "samples.png"))) == []
    kept, history = check_offline(tmp_path / "run")
    assert history[3]["test/elbo"] == -2
    assert history[3]["train/kl._type"] == "histogram"
    assert sum(history[3]["train/kl.values"]) == 2
    assert (history[3]["train/kl.bins"][0], history[3]["train/kl.bins"][-1]) == (1, 3)
    assert (history[3]["test/kl_table._type"], history[3]["test/kl_table.nrows"]) == ("table-file", 2)
    assert not any(name.startswith("train/kl_table") for name in history[3])
    picture = {key: value for key, value in history[3].items() if key.startswith("pictures/samples")}
    assert "image-file" in json.dumps(picture)
    summary = {}
    for record in kept("summary"):
        summary |= record.get("update", {})
    assert summary["final/elbo"] == -3
    run = kept("run")[0]
    names = {"project": "lab", "run_group": "sweep", "display_name": "first", "tags": ["beta", "digits"]}
    names["job_type"] = "train"
    assert {name: run[name] for name in names} == names
    assert run["run_id"] == (tmp_path / "run" / "wandb" / "id").read_text()
    config = run["config"]["update"]
    assert config["seed"] == 0
    assert "[8" in json.dumps(config["net"])


def test_a_second_start_keeps_the_id(tmp_path, monkeypatch):
    started = []

    def init(self, wandb, mode):
        started.append(writers._identity(self._workdir / "wandb" / "id"))
        raise RuntimeError("no W&B today")

    monkeypatch.setattr(writers.WandbMirror, "_init", init)
    lines = []
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        writers.WandbMirror(tmp_path / folder, settings("offline"), CONFIG, lines.append).close()
    assert started[0] == started[1] != started[2]
    assert lines == ["wandb: mirror stopped (no W&B today); metrics.jsonl has everything"] * 3


@pytest.mark.full
def test_without_a_key_the_run_is_kept_offline(tmp_path):
    (line,) = said(start(tmp_path, "online"))
    assert "no API key" in line
    assert "offline" in line
    check_offline(tmp_path / "run")


@pytest.mark.full
def test_without_a_network_the_run_is_kept_offline(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    (line,) = said(start(tmp_path, "online", {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": url}))
    assert f"{url} cannot be reached" in line
    check_offline(tmp_path / "run")


@pytest.mark.full
def test_with_a_server_that_never_answers_the_run_is_kept_offline(tmp_path):
    with serve() as server:
        server.deaf.set()
        (line,) = said(start(tmp_path, "online", {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": server.url}, start=2.0))
    assert "this run is kept offline" in line
    check_offline(tmp_path / "run")


@pytest.mark.full
def test_closing_early_leaves_a_hanging_start_behind(tmp_path):
    with serve() as server:
        server.deaf.set()
        began = time.monotonic()
        key = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": server.url}
        (line,) = said(start(tmp_path, "online", key, start=50.0, close=3.0))
        assert time.monotonic() - began < 40
    assert "still sending after 3 s" in line


def test_an_online_run_arrives(tmp_path):
    (tmp_path / "samples.png").write_bytes(bytes.fromhex(PIXEL))
    with serve() as server:
        env = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": server.url}
        process = start(
            tmp_path, "online", env, {"artifact": True, "entity": "e"}, picture=str(tmp_path / "samples.png")
        )
        assert said(process) == []
    assert [(line["_step"], line["train/loss"]) for line in server.history] == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert server.summaries[-1]["final/elbo"] == -3
    run = server.requests("UpsertBucket")[0]
    assert (run["project"], run["entity"], run["groupName"], run["displayName"]) == ("lab", "e", "sweep", "first")
    assert run["tags"] == ["beta", "digits"]
    assert json.loads(run["config"])["net"]["value"] == {"hidden": [8, 8]}
    assert run["name"] == (tmp_path / "run" / "wandb" / "id").read_text()
    assert any("pictures/samples" in name for name in server.uploads)
    kinds = [request["input"]["artifactTypeName"] for request in server.requests("CreateArtifact")]
    assert sorted(kinds) == ["model", "run_table"]


@pytest.mark.full
def test_a_server_lost_on_the_way_does_not_hold_the_process(tmp_path):
    with serve() as server:
        env = {"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": server.url}
        process = start(tmp_path, "online", env, deafen=True, close=3.0)
        while not server.requests("UpsertBucket") and process.poll() is None:
            time.sleep(0.05)
        server.deaf.set()
        (tmp_path / "run" / "deaf").touch()
        (line,) = said(process)
    assert "still sending after 3 s" in line


class Silent:
    """A run that keeps what it is told, or waits."""

    id = "silent"

    def __init__(self):
        self.logged, self.finished, self.go = [], [], threading.Event()

    def log(self, values, step):
        self.go.wait(30)
        self.logged.append((step, values))

    def finish(self, exit_code):
        self.finished.append(exit_code)


def test_a_backlog_is_cut_and_reported_once(tmp_path, monkeypatch):
    run, lines = Silent(), []
    monkeypatch.setattr(writers.WandbMirror, "_start", lambda self: run)
    monkeypatch.setattr(background, "BACKLOG", 3)
    mirror = writers.WandbMirror(tmp_path, settings("online"), CONFIG, lines.append)
    for step in range(20):
        mirror.metrics({"step": step, "split": "train", "loss": 0.0})
    run.go.set()
    mirror.close(143)
    assert len(lines) == 1
    assert "3 records behind" in lines[0]
    steps = [step for step, _ in run.logged]
    assert steps[:3] == [0, 1, 2]
    assert len(steps) < 5  # one more came where the thread had taken the first
    assert run.finished == [143]


def test_a_failing_call_ends_the_mirror_aloud_and_never_the_caller(tmp_path, monkeypatch):
    run, lines = Silent(), []
    run.go.set()
    monkeypatch.setattr(writers.WandbMirror, "_start", lambda self: run)
    mirror = writers.WandbMirror(tmp_path, settings("offline"), CONFIG, lines.append)
    mirror.metrics({"split": "train"})  # no step
    mirror._calls.thread.join(30)
    mirror.metrics({"step": 1, "split": "train", "loss": 0.0})
    mirror.close()
    assert lines == ["wandb: mirror stopped ('step'); metrics.jsonl has everything"]
    assert run.logged == []
    assert run.finished == [1]


def test_scalars_and_vectors_of_a_record_are_told_apart():
    kl, weights = np.array([1.0, np.nan]), np.array([0.5, 2.0])
    record = {"step": 3, "split": "train", "loss": np.float32(2), "kl": kl, "weights": weights}
    assert writers.split_values(record) == ({"train/loss": 2.0}, {"train/weights": [0.5, 2.0]})
