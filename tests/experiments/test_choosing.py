import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.untrained_run import some_data, untrained
from PIL import Image

from experiments import choosing
from vae_jax.metrics.likelihood import log_weights
from vae_jax.randomness import root_key, stream

pytestmark = pytest.mark.full

DATA = some_data(n=400)


@functools.cache
def run(variant):
    """A run with its data, as those that are trained have them."""
    opened = untrained(**{"variant.name": variant, "data.name": "digits"})
    opened.dataset = DATA
    return opened


@pytest.mark.parametrize("name", ["reconstructions", "codes", "labels", "bounds"])
def test_each_purpose_has_its_picture(tmp_path, name, monkeypatch):
    monkeypatch.setattr(choosing, "BOUND_IMAGES", 5)
    getattr(choosing, name)(tmp_path / f"{name}.png", run)
    pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
    assert min(pixels.shape) > 150
    assert len(np.unique(pixels)) > 20


def test_held_out_images_are_in_the_order_of_their_labels():
    images, labels = choosing.held_out(run("beta"), 12)
    assert sorted(labels) == list(labels)
    assert set(labels) == set(range(10))
    assert images.shape == (12, 8, 8, 1)


def test_the_bound_is_the_logarithm_of_the_mean_weight(monkeypatch):
    monkeypatch.setattr(choosing, "BOUND_IMAGES", 5)
    bounds = choosing.bound_by_draws(run("beta"))
    assert len(bounds) == len(choosing.DRAWS)
    images = np.asarray(DATA.test.fetch(np.arange(5)))
    binary = np.float32(np.random.default_rng(0).random(images.shape) < images / 255)
    batch = {"image": jnp.asarray(binary), "index": jnp.arange(5)}
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(stream(root_key(0), "bounds"), jnp.arange(5))
    weights = np.exp(np.float64(log_weights(run("beta").model, run("beta").params, batch, keys)))
    expected = [np.mean(np.log(np.mean(weights[:k], axis=0))) for k in (1, 2, 5)]
    np.testing.assert_allclose(bounds[:3], expected, rtol=1e-5)
