"""Every config can be trained, each variant is; runs that go wrong stop as they should."""

import gzip
import json
import signal
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import cli, model, randomness, variants
from vae_jax.config.parse import load_config, parse_config
from vae_jax.data import idx, sprites
from vae_jax.errors import UserError
from vae_jax.training.loop import dispatches
from vae_jax.training.recorder import Diverged, Recorder, check_finite
from vae_jax.training.setup import prepare
from vae_jax.training.step import (
    evaluation_params,
    make_hyper,
)
from vae_jax.typing import AXIS

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
VARIANTS = sorted(path.stem for path in (ROOT / "vae_jax/variants").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def mnist_files(tmp_path_factory):
    """Four small IDX files in the place of MNIST's."""
    folder = tmp_path_factory.mktemp("idx")
    random = np.random.default_rng(0)
    for name, count in zip(idx.FILES, (200, 200, 50, 50), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = random.integers(0, 256 if "images" in name else 10, shape).astype(np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))
    return folder


@pytest.fixture(scope="module")
def sprites_file(tmp_path_factory):
    """A small grid in the format of dSprites."""
    file = tmp_path_factory.mktemp("dsprites") / "grid.npz"
    sizes = (1, 3, 2, 2, 4, 4)
    ids = np.arange(np.prod(sizes))
    images = sprites.render(sizes[1:], 16, jnp.asarray(ids))[..., 0] // 255
    np.savez(file, imgs=images, latents_classes=np.stack(np.unravel_index(ids, sizes), axis=1))
    return file


SMALL_SPRITES = {"data.sizes": "(3, 2, 4, 4, 4)", "data.resolution": 16}


def run(workdir, config, **options):
    options = {"train.steps": 2, "parallel.devices": 2, **options}
    words = [f"--config.{name}={value}" for name, value in options.items()]
    return cli.train([f"--config={ROOT / 'configs'}/{config}", f"--workdir={workdir}", *words])


def home(name):
    """The config that a variant trains with here: digits, or sprites for one whose own check refuses digits."""
    config = load_config(f"{ROOT / 'configs/digits.py'}:{name}")
    dataset = model.load_data(config.data)
    try:
        model.build(config, dataset.image_shape).variant.check(dataset.train)
    except UserError:
        return "sprites.py", SMALL_SPRITES
    return "digits.py", {}


@pytest.fixture
def small(mnist_files, sprites_file):
    """Of the data of a config, what makes it small."""
    scenes = {"data.sizes": "(3, 2, 3, 2, 4, 3)", "data.resolution": 16}
    of = {"mnist": {"data.path": mnist_files}, "dsprites": {"data.path": sprites_file}, "sprites": SMALL_SPRITES}
    of["scenes"] = scenes
    return lambda name: of.get(load_config(f"configs/{name}.py").data.name, {})


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_a_step_and_an_evaluation(name, small):
    words = [f"--config.{field}={value}" for field, value in small(name).items()]
    config = parse_config([f"--config={ROOT / 'configs'}/{name}.py", *words])
    setup = prepare(config)
    split = jax.tree.map(jnp.asarray, setup.dataset.train)
    step, evaluate, state = setup.train_step(split), setup.evaluation_step(split), setup.state_shape
    hyper = make_hyper(config, setup.model)
    share = jax.ShapeDtypeStruct((1, config.train.batch_size), jnp.int32)
    lifted = jax.vmap(step, in_axes=(None, 0, None, None), axis_name=AXIS)
    after, rows = jax.eval_shape(lifted, state, share, randomness.root_key(0), hyper)
    assert jax.tree.map(lambda leaf: leaf.shape[1:], after) == jax.tree.map(lambda leaf: leaf.shape, state)
    lifted = jax.vmap(evaluate, in_axes=(None, 0, None, None, None), axis_name=AXIS)
    numbers = (randomness.root_key(0), state.step, hyper)
    held_out = jax.eval_shape(lifted, evaluation_params(state), share, *numbers)
    assert rows["loss"].shape == held_out["loss"].shape == (1,)


@pytest.mark.parametrize("name", ["default", "dsprites", "mnist_conv", "scenes", "sprites", "why_vae"])
def test_configs_of_every_network_and_data_train_two_steps(name, tmp_path, small):
    assert run(tmp_path, f"{name}.py", **small(name)) == 0
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["step"] == 2
    assert np.isfinite(evaluation["loss"])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_two_steps(name, tmp_path):
    file, options = home(name)
    assert run(tmp_path, f"{file}:{name}", **options) == 0
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["config"]["variant"] == json.loads(json.dumps(variants.defaults(name)))


def test_the_autoencoder_reports_no_rate(tmp_path):
    run(tmp_path, "digits.py:autoencoder")
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert {"elbo", "rate", "kl", "bits_per_dim"}.isdisjoint(evaluation)
    assert evaluation["loss"] == evaluation["distortion"]


def test_grey_levels_under_a_gaussian(tmp_path):
    options = {"data.binarize": "none", "likelihood.name": "gaussian", "likelihood.sigma": 0.3}
    assert run(tmp_path, "digits.py", **options, **{"train.steps": 200, "net.dtype": "bfloat16"}) == 0
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["elbo"] > -64 * (0.5 * np.log(2 * np.pi) + np.log(0.3)) - 64  # a unit of squared error a pixel
    assert "bits_per_dim" not in evaluation


def test_a_run_that_diverges_names_step_and_term_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    options = {
        "train.steps": 400,
        "train.dispatch": 10,
        "log.every": 10,
        "checkpoint.every": 10,
        "train.learning_rate": 1e3,
    }
    options |= {"variant.beta": 1e6, "evaluation.every": 400, "net.hidden": "(64, 64)"}
    assert run(tmp_path, "digits.py", **options) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("error: "))
    assert "not finite" in line
    bad = int(line.split("step ")[1].split(":")[0])
    steps = sorted(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir())
    assert all(step < bad for step in steps)
    assert ("no checkpoint" in line) if not steps else (f"step {steps[-1]}" in line)
    assert not (tmp_path / "evaluation.json").exists()
    records = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) and record["step"] < bad for record in records)


def test_dispatches_end_wherever_anything_is_due():
    config = load_config(f"{ROOT / 'configs/digits.py'}")
    config.train.steps, config.train.dispatch, config.log.every = 250, 60, 100
    config.evaluation.every, config.checkpoint.every = 70, 1000
    found = list(dispatches(0, config.train.steps, config))
    assert [end for _, end in found] == [60, 70, 100, 120, 140, 180, 200, 210, 240, 250]
    assert list(dispatches(120, config.train.steps, config)) == found[4:]


def test_the_default_config_trains_on_all_eight_devices(tmp_path, capsys):
    assert run(tmp_path, "digits.py", **{"parallel.devices": 0}) == 0
    assert "8 cpu devices" in capsys.readouterr().out


def test_a_signal_during_an_evaluation_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "test", lambda *arguments: signal.raise_signal(signal.SIGTERM))
    options = {"train.steps": 60, "evaluation.every": 20, "checkpoint.every": 1000}
    assert run(tmp_path, "digits.py", **options) == 128 + signal.SIGTERM
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["20"]


def test_evaluating_an_unfinished_run_does_not_finish_it(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "test", lambda *arguments: signal.raise_signal(signal.SIGTERM))
        run(tmp_path, "digits.py", **{"train.steps": 40, "evaluation.every": 20})
    assert cli.evaluate([f"--workdir={tmp_path}"]) == 0
    assert (tmp_path / "evaluation_20.json").exists()
    assert not (tmp_path / "evaluation.json").exists()
    assert run(tmp_path, "digits.py", **{"train.steps": 40, "evaluation.every": 20}) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["step"] == 40


def test_held_out_numbers_that_are_not_finite_stop_a_run():
    with pytest.raises(Diverged, match="step 7: held-out rate not finite"):
        check_finite({"loss": np.array([1.0]), "rate": np.array([np.nan])}, 6, "held-out ")
