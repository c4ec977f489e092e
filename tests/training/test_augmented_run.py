"""Runs whose training images are flipped and shifted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.run_folder import digest, records
from helpers.small_run import train_small

from vae_jax import model
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.randomness import root_key
from vae_jax.training.setup import prepare
from vae_jax.training.step import fetch_fn

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")


@pytest.fixture(scope="module")
def split():
    return jax.device_put(model.load_data(load_config("digits").data).train)


def batch(split, is_training, **fields):
    config = load_config("digits", **{"data.binarize": "none", "likelihood.name": "gaussian"} | fields)
    indices = jnp.arange(40)
    return np.asarray(fetch_fn(config, is_training)(split)(indices, indices, root_key(0))["image"])


def test_training_images_alone_are_augmented(split):
    fields = {"data.flip": True, "data.shift": 1}
    plain = batch(split, True)
    np.testing.assert_array_equal(batch(split, False, **fields), plain)
    assert (batch(split, True, **fields) != plain).any(axis=(1, 2, 3)).mean() > 0.8
    mirrored = batch(split, True, **{"data.flip": True})
    is_mirrored = (mirrored == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((mirrored == plain).all(axis=(1, 2, 3)) ^ is_mirrored).all()


@pytest.mark.parametrize(
    ("config", "fields", "match"),
    [
        ("digits", {"data.shift": 8}, "config.data.shift: 8 is not allowed for images of 8 pixels; give 0 to 7"),
        ("digits", {"data.shift": -1}, "config.data.shift"),
        ("sprites", {"data.flip": True}, "config.data.flip: True is not allowed for images whose factors are known"),
    ],
)
def test_what_cannot_be_augmented_is_refused(config, fields, match):
    with pytest.raises(UserError, match=match):
        prepare(load_config(config, **fields))


@pytest.mark.full
def test_an_augmented_run_is_resumed_with_the_same_bits_and_on_two_devices(tmp_path):
    fields = {"data.flip": True, "data.shift": 1}
    assert train_small(tmp_path / "whole", **fields) == 0
    assert train_small(tmp_path / "cut", **fields, **{"train.steps": 20}) == 0
    assert train_small(tmp_path / "cut", **fields) == 0
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert train_small(tmp_path / "two", **fields, **{"parallel.devices": 2}) == 0
    losses = [[row["loss"] for row in records(tmp_path / name)] for name in ("whole", "two")]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert train_small(tmp_path / "plain") == 0
    assert digest(tmp_path / "plain") != digest(tmp_path / "whole")
