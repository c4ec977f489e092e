"""The example in docs/networks.md, as a person would use it: two files beside one another."""

import importlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_run import SMALL, small_words

from experiments import network_page
from vae_jax import cli, model, open_run
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.randomness import root_key
from vae_jax.training.step import initial_state

pytestmark = pytest.mark.usefixtures("undrawn")

DROPOUT = """
from flax import linen as nn

from vae_jax.models.networks import from_linen


def make(image_shape, latent_dim, channels, shared=0):
    def network(outputs):
        return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(outputs), nn.Dropout(0.5, deterministic=False)])

    height, width, colours = image_shape
    decoder = network(height * width * colours * channels)
    return from_linen(network(2 * latent_dim), decoder, image_shape, latent_dim, channels, shared)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The files of the page in a folder; the config."""
    text = network_page.PAGE.read_text().partition(network_page.KEPT)[2]
    my_nets, study, my_nnx = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_nets.py").write_text(my_nets)
    (tmp_path / "my_nnx.py").write_text(my_nnx)
    (tmp_path / "my_dropout.py").write_text(DROPOUT)
    (tmp_path / "study.py").write_text(study)
    monkeypatch.setattr(sys, "path", [*sys.path])
    importlib.invalidate_caches()
    yield tmp_path / "study.py"
    for name in ("my_nets", "my_dropout", "my_nnx"):
        sys.modules.pop(name, None)


def test_the_pages_own_network_is_built_and_codes_images(study):
    config = load_config(str(study), **{"net.width": 4, "latent_dim": 3})
    assert config.net.to_dict() == {"name": "my_nets.make", "width": 4}
    built = model.build(config, (8, 8, 1))
    params = jax.jit(lambda: initial_state(built, config, (8, 8, 1)).params)()["nets"]
    mean, logvar = built.nets.encode(params, jnp.ones((2, 8, 8, 1)))
    assert mean.shape == logvar.shape == (2, 3)
    assert np.isfinite(built.nets.decode(params, mean)).all()


def test_the_pages_nnx_network_is_built_from_the_seed_and_codes_images(study):
    config = load_config(str(study), **{"net.name": "my_nnx.make", "net.width": 4, "latent_dim": 3})
    assert config.net.to_dict() == {"name": "my_nnx.make", "width": 4}
    built = model.build(config, (8, 8, 1))
    init = jax.jit(lambda key: initial_state(built, config, (8, 8, 1), key).params["nets"])
    params, again, other = (init(root_key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    kernels = [p["encoder"]["layers"]["1"]["kernel"] for p in (params, other)]
    assert np.all(kernels[0] != kernels[1])
    x = np.float32(np.random.default_rng(0).uniform(size=(2, 8, 8, 1)))
    mean, logvar = jax.jit(built.nets.encode)(params, x)
    layers = params["encoder"]["layers"]
    h = np.maximum(x.reshape(2, -1) @ layers["1"]["kernel"] + layers["1"]["bias"][None], 0)
    by_hand = h @ layers["3"]["kernel"] + layers["3"]["bias"][None]
    np.testing.assert_allclose(np.concatenate([mean, logvar], axis=1), by_hand, rtol=1e-4, atol=1e-5)
    assert jax.jit(built.nets.decode)(params, mean).shape == (2, 8, 8, 1)


@pytest.mark.full
def test_the_pages_nnx_network_trains_and_is_opened(study, tmp_path):
    fields = {name: value for name, value in SMALL.items() if not name.startswith("net.")} | {"net.width": 4}
    words = [f"--config.{name}={value}" for name, value in ({"net.name": "my_nnx.make"} | fields).items()]
    assert cli.train([f"--config={study}", *words, f"--workdir={tmp_path / 'run'}"]) == 0
    assert open_run(tmp_path / "run").sample(0, 2).shape == (2, 8, 8, 1)


@pytest.mark.full
def test_the_pages_own_network_trains_from_the_command_line_and_is_opened(study, tmp_path):
    fields = {name: value for name, value in SMALL.items() if not name.startswith("net.")} | {"net.width": 4}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    assert cli.train([f"--config={study}", *words, f"--workdir={tmp_path / 'run'}"]) == 0
    assert open_run(tmp_path / "run").sample(0, 2).shape == (2, 8, 8, 1)


def test_dropout_is_refused_in_a_line_before_the_first_step(study, tmp_path, capsys):
    words = [word for word in small_words() if not word.startswith(("--config=", "--config.net."))]
    words = [f"--config={study}", *words, "--config.net.name=my_dropout.make", f"--workdir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"^config\.net\.name: its encoder asks for random numbers"):
        cli.train(words)
    assert not (tmp_path / "run").exists()
