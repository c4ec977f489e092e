"""Draws from the aggregate posterior: one for each training image, of any variant whose codes are plain numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.variant_configs import SHAPE, config_of, split_with_factors

from vae_jax import aggregate_codes, data, model
from vae_jax.aggregate_codes import posterior_draws
from vae_jax.errors import UserError
from vae_jax.model import Model
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets
from vae_jax.training.step import initial_state
from vae_jax.variants import Variant, beta

CONFIG = {"seed": 3, "data": {"binarize": "none"}, "variant": {"name": "beta"}}
SIGMA = 0.5


def brightness(params, x):
    """q(z|x) = N((first pixel, second pixel), SIGMA^2)."""
    mean = x.reshape(len(x), -1)[:, :2]
    return mean, jnp.full_like(mean, 2 * np.log(SIGMA))


def made(variant, encode=brightness):
    """A model of an encoder."""
    return Model(Nets(None, encode, None), variant, bernoulli.make(), {})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (1203, 1, 2, 1), np.uint8)


def test_draws_are_of_each_images_posterior(images):
    variant = beta.make(bernoulli.make())
    split = data.make_split(images)
    z = posterior_draws(made(variant), {"nets": None}, split, CONFIG)
    noise = (z - images.reshape(1203, 2) / 255) / SIGMA
    assert z.dtype == np.float32
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.08)
    assert len(np.unique(noise[:, 0].round(5))) > 1190  # no draw is another's, in no batch
    np.testing.assert_array_equal(z, posterior_draws(made(variant), {"nets": None}, split, CONFIG))
    other = posterior_draws(made(variant), {"nets": None}, split, {**CONFIG, "seed": 4})
    assert np.abs(z - other).min(axis=1).max() > 0.1


def test_points_are_the_codes(images, monkeypatch):
    split = data.make_split(images)
    points = made(Variant(None, posterior=None))
    z = posterior_draws(points, {"nets": None}, split, CONFIG)
    np.testing.assert_allclose(z, images.reshape(1203, 2) / 255, rtol=1e-6)
    monkeypatch.setattr(aggregate_codes, "MOST_CODES", 100)
    assert len(posterior_draws(points, {"nets": None}, split, CONFIG)) == 100


def test_codes_that_are_not_finite_are_counted(images):
    def broken(params, x):
        mean, logvar = brightness(params, x)
        return jnp.where(mean > 0.9, jnp.nan, mean), logvar

    points = made(Variant(None, posterior=None), broken)
    count = (images.reshape(1203, 2) / 255 > 0.9).any(axis=1).sum()
    with pytest.raises(UserError, match=f"^sampler: the codes of {count} of 1203 training images are not finite"):
        posterior_draws(points, {"nets": None}, data.make_split(images), CONFIG)


def trained(name):
    """A model of the variant on tiny images, before its first step, and its config."""
    config = config_of(name)
    config.net.hidden = ()
    built = model.build(config, SHAPE)
    return built, initial_state(built, config, SHAPE).params, config.to_dict()


@pytest.mark.parametrize("name", ["flow", "rae", "realnvp"])
def test_other_posteriors_have_draws_too(name):
    built, params, config = trained(name)
    z = posterior_draws(built, params, split_with_factors(), config)
    assert z.shape == (tiny_vae.SIZE, 12)
    assert np.std(z, axis=0).min() > 0


@pytest.mark.parametrize("name", ["vq", "joint", "conditional", "ladder"])
def test_codes_that_are_no_plain_numbers_are_refused(name):
    built, params, config = trained(name)
    with pytest.raises(UserError, match=f"^sampler: the codes of variant.name='{name}' have a part that is discrete"):
        posterior_draws(built, params, split_with_factors(), config)
