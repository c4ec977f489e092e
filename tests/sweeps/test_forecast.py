"""A sweep on a machine that is not here: members, rounds and time by hand, counts that are kept, words for mistakes."""

import re

import numpy as np
import pytest
from helpers.small_run import SMALL

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.sweeps import chips, forecast
from vae_jax.sweeps.algebra import grid, product, seeds
from vae_jax.sweeps.forecast import Counts
from vae_jax.sweeps.groups import group_runs, plan_runs
from vae_jax.training.executors import local_devices
from vae_jax.training.setup import prepare, tree_bytes
from vae_jax.training.step_cost import lower_steps

POINTS = product(grid(**{"variant.beta": [1.0, 2.0, 4.0]}), seeds(4))
"""Twelve runs of one program."""

SWEEP = """
def sweep():
    return [{"seed": 0}]
"""


def group_of(points=POINTS, **fields):
    """The only program of a sweep of digits."""
    overrides = [(field, str(value)) for field, value in (SMALL | fields).items()]
    (group,) = group_runs(plan_runs("digits", overrides, points))
    return group


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setattr(forecast, "cache_folder", lambda name: tmp_path / name)
    return tmp_path / "forecasts"


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("tpu:v5e:2x4", "tpu:v5e", 8),
        ("TPU:v4:2x2x1", "tpu:v4", 4),
        ("gpu:h100", "gpu:h100", 1),
        ("gpu:a100:16", "gpu:a100", 16),
    ],
)
def test_a_machine_is_so_many_chips(text, name, count):
    assert chips.parse_machine(text) == (name, count)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tpu:v9:2x2", "'tpu:v9' is unknown; known: .*tpu:v6e; did you mean 'tpu:v4'"),
        ("h100", "'h100' is unknown; known: .*; did you mean 'gpu:h100'"),
        ("gpu:h100:0", "'0' in 'gpu:h100:0' is not allowed; give a topology as 2x4, or a number of chips"),
        ("tpu:v5e:2x", "'2x' in 'tpu:v5e:2x' is not allowed"),
        ("tpu:v5e:2x2:4", "'2x2:4' in .* is not allowed"),
    ],
)
def test_what_is_no_machine_is_named(text, words):
    with pytest.raises(UserError, match=f"^--on: {words}"):
        chips.parse_machine(text)


def test_members_rounds_and_time_follow_from_counts():
    group, machine = group_of(**{"train.steps": 1000}), chips.Machine("tpu:v5e", 2)
    # Of 16 GB 80% may be filled: beside 0.8 GB of data four members of 3 GB.
    found = forecast.forecast(group, Counts(bytes=819e6, operations=197e8, member_bytes=3e9, shared_bytes=8e8), machine)
    assert found == (4, 2, pytest.approx(1e-4), pytest.approx(1e-3))  # six runs on each of two chips
    assert forecast.program_seconds(group, found, machine) == pytest.approx((6 * 1000 * 1e-4, 6 * 1000 * 1e-3))
    assert forecast.forecast(group, Counts(1.0, 1.0, 1e6, 0.0), machine)[:2] == (6, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.parallel.mode=data"], "--on: plans populations, and config.parallel.mode='data' splits"),
        (["--config=mnist"], "config.data.path: is empty, and a plan downloads no data"),
        (["--config=mnist", "--config.data.path=nowhere"], "config.data.path: 'nowhere' is not there, and a plan"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_compiled(words, message, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "count", None)
    monkeypatch.setattr(forecast, "use_cpu", lambda: None)
    own = tmp_path / "mnist_sweep.py"
    own.write_text(f"from vae_jax.configs.{'mnist' if 'mnist' in words[0] else 'digits'} import *\n" + SWEEP)
    with pytest.raises(UserError, match="^" + re.escape(message)):
        cli.sweep(
            [f"--config={own}", *(word for word in words if word != "--config=mnist"), "--dry_run", "--on=gpu:h200"]
        )


def test_bfloat16_has_a_rate_of_its_own_on_a_gpu():
    counted, machine = Counts(1.0, 989e9, 1e6, 0.0), chips.Machine("gpu:h100", 1)
    seconds = [
        forecast.forecast(group_of(**{"net.dtype": dtype}), counted, machine).operation_seconds
        for dtype in ("bfloat16", "float32")
    ]
    assert seconds == [pytest.approx(1e-3), pytest.approx(2e-3)]


def test_a_member_that_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"^--on: tpu:v5e has 16.0 GB, and one member of beta_digits\S* takes 13.0 GB"):
        forecast.forecast(group_of(), Counts(1.0, 1.0, 13e9, 1e6), chips.Machine("tpu:v5e", 1))


def test_counts_are_compiled_once_for_a_program_a_chip_and_the_code(kept, monkeypatch, capsys):
    group, chip = group_of(), chips.CHIPS["gpu:h100"]
    counted = forecast.count(group, chip)
    state = tree_bytes(prepare(group.config).state_shape)
    assert counted.member_bytes >= state
    assert counted.bytes > 2 * state  # read and written
    assert counted.operations > 0
    assert "compiling beta_digits" in capsys.readouterr().err

    monkeypatch.setattr(forecast, "compile_counts", lambda *_: counted._replace(bytes=-1.0))
    assert forecast.count(group, chip) == counted
    assert forecast.count(group_of(seeds(1)), chip) == counted  # of the same program
    assert forecast.count(group, chips.CHIPS["gpu:a100"]).bytes == -1
    assert forecast.count(group_of(latent_dim=5), chip).bytes == -1
    monkeypatch.setattr(forecast, "code_digest", lambda: "other")
    assert forecast.count(group, chip).bytes == -1
    assert len(list(kept.iterdir())) == 4


def test_a_plan_for_elsewhere_is_printed_and_nothing_is_written(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "use_cpu", lambda: None)  # which this process has settled
    monkeypatch.setattr(forecast, "compile_counts", lambda *_: Counts(4.8e9, 1.0, 1e9, 1e9))
    study = tmp_path / "study"
    assert cli.sweep(["--config=digits", f"--workdir={study}", "--dry_run", "--on=gpu:h200:4"]) == 0
    output = capsys.readouterr().out
    assert "models an hour" in output
    # By bytes a millisecond a step: 10,000 steps, four cards, eight runs on each.
    assert re.search(r"^beta_digits\S+ +32 +8 +1 +< \S+ +~ 1,440 +> 0 s +~ 80 s", output, re.MULTILINE)
    assert "32 runs in 1 program; at least 0 s, by bytes 80 s" in output
    assert "bounds, no forecast" in output
    assert not study.exists()


def test_a_machine_without_a_plan_is_refused():
    with pytest.raises(UserError, match=r"^--on: plans for a machine that you do not have; give --dry_run too"):
        cli.sweep(["--config=digits", "--on=gpu:h200"])


@pytest.mark.parametrize("memory", [1e9, 100.0])
def test_images_of_the_host_are_planned_as_they_are_trained_on(memory, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
    np.save(tmp_path / "images.npy", images)
    group = group_of(**{"data.name": "arrays", "data.path": tmp_path / "images.npy", "parallel.images": "host"})
    train = prepare(group.config).dataset.train
    monkeypatch.setattr(forecast, "BLOCK_BYTES", 64)
    shapes = forecast.shapes_on_device(train, memory)
    assert shapes.fetch.rows.shape == ((train.size, 16) if memory == 1e9 else (12, 16))
    counts = forecast.compile_counts(group, [], 1e9)
    assert counts.bytes > 0


def test_states_are_given_back_in_place():
    """What a program gives back lies where it lay before, or its members would be counted twice."""
    group = group_of()
    setup = prepare(group.config)
    executor = setup.member_executor(local_devices(1), "tpu")
    lowered = lower_steps(setup, executor, 2, ("tpu",))
    assert lowered.compile().memory_analysis().alias_size_in_bytes >= 2 * tree_bytes(setup.state_shape)
