"""Every config can be trained, each variant is."""

import functools
import gzip
import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_run import train

from vae_jax import configs, model, randomness, registry, variants
from vae_jax.config.parse import load_config
from vae_jax.data import idx, sprites
from vae_jax.errors import UserError
from vae_jax.training.setup import prepare
from vae_jax.training.step import evaluation_params, make_hyper
from vae_jax.typing import AXIS

pytestmark = pytest.mark.usefixtures("share_programs")

CONFIGS = sorted(path.stem for path in Path(configs.__file__).parent.glob("*.py") if path.stem != "__init__")
VARIANTS = registry.file_names("vae_jax.variants")


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


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    """A small table."""
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    np.savetxt(file, np.random.default_rng(0).normal(size=(200, 4)), delimiter=",", header="a,b,c,d", comments="")
    return file


SMALL_SPRITES = {"data.sizes": "(3, 2, 4, 4, 4)", "data.resolution": 16}
PLAIN = ("capacity", "dip", "factor", "info", "iwae", "tcvae")
"""Variants whose pictures are made as beta's are: codes are Gaussian, and so is the prior."""
TWO_STEPS = {"train.steps": 2, "train.dispatch": 2, "parallel.devices": 1}


def home(name):
    """The config that a variant trains with here: digits, or sprites for one whose own check refuses digits."""
    config = load_config(f"digits:{name}")
    dataset = model.load_data(config.data)
    try:
        model.build(config, dataset.image_shape).variant.check(dataset.train)
    except UserError:
        return "sprites", SMALL_SPRITES
    return "digits", {"data.validation": 300, "evaluation.batch_size": 300}  # as many as test: one program


@pytest.fixture
def small(mnist_files, sprites_file, table_file):
    """Of the data of a config, what makes it small."""
    fields = {
        "mnist": {"data.path": mnist_files, "data.validation": 0},
        "dsprites": {"data.path": sprites_file},
        "sprites": SMALL_SPRITES,
        "table": {"data.path": table_file},
        "scenes": {"data.sizes": "(3, 2, 3, 2, 4, 3)", "data.resolution": 16},
    }
    return lambda name: fields.get(load_config(name).data.name, {})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if "_" in name else name for name in CONFIGS]
)
def test_every_config_has_a_step_and_an_evaluation(name, small):
    config = load_config(name, **small(name))
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


CONVOLUTIONAL = ("dsprites", "mnist_conv", "scenes")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) for name in ("sprites", "why_vae", *CONVOLUTIONAL)]
)
def test_configs_of_every_network_and_data_train_two_steps(name, tmp_path, small):
    hidden = 8 if name in CONVOLUTIONAL else "(8,)"
    fields = TWO_STEPS | {"net.hidden": hidden, "train.batch_size": 2} | small(name)
    assert train(tmp_path, name, **fields) == 0
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["step"] == 2
    assert np.isfinite(evaluation["loss"])


@pytest.fixture(scope="module")
def train_variant(tmp_path_factory):
    """name -> (exit status, folder) of a variant's run of two steps, trained once."""

    @functools.cache
    def train_variant(name):
        folder, (config, fields) = tmp_path_factory.mktemp(name), home(name)
        fields = {**TWO_STEPS, **fields, "net.hidden": "()", "log.pictures": name not in PLAIN}
        return train(folder, f"{config}:{name}", **fields), folder

    return train_variant


IN_SHORT = ("factor",)
"""With an optimiser of its own."""


@pytest.mark.parametrize(
    "name", [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.full) for name in VARIANTS]
)
def test_every_variant_trains_two_steps(name, train_variant):
    status, folder = train_variant(name)
    assert status == 0
    saved = json.loads((folder / "config.json").read_text())
    assert saved["config"]["variant"] == json.loads(json.dumps(variants.defaults(name)))


def test_the_autoencoder_reports_no_rate(train_variant):
    _, folder = train_variant("autoencoder")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert {"elbo", "rate", "kl", "bits_per_dim"}.isdisjoint(evaluation)
    assert evaluation["loss"] == evaluation["distortion"]


@pytest.mark.full
def test_grey_levels_under_a_gaussian(tmp_path):
    fields = {"data.binarize": "none", "likelihood.name": "gaussian", "likelihood.sigma": 0.3}
    fields |= {"train.steps": 200, "net.dtype": "bfloat16", "parallel.devices": 2}
    assert train(tmp_path, **fields) == 0
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["elbo"] > -64 * (0.5 * np.log(2 * np.pi) + np.log(0.3)) - 64  # a unit of squared error a pixel
    assert "bits_per_dim" not in evaluation


@pytest.mark.full
def test_the_default_config_trains_two_steps_on_all_eight_devices(tmp_path, capsys):
    assert train(tmp_path, "default", **TWO_STEPS | {"parallel.devices": 0}) == 0
    assert "8 cpu devices" in capsys.readouterr().out
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["step"] == 2
    assert np.isfinite(evaluation["loss"])
