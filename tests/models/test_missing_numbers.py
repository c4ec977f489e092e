"""Numbers that are missing: a likelihood leaves them out of its sum, an encoder sees 0 in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vae_jax import model
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.models import likelihoods

ROWS = np.random.default_rng(5).normal(0, 3, (4, 1, 6, 1)).astype(np.float32)
HOLES = ROWS.copy()
HOLES[0, 0, 2] = HOLES[1, 0, :] = HOLES[3, 0, 4:] = np.nan
MEANS = np.random.default_rng(6).normal(0, 3, (4, 1, 6, 1)).astype(np.float32)


@pytest.mark.parametrize(("name", "family"), [("gaussian", stats.norm), ("laplace", stats.laplace)])
def test_what_is_missing_adds_nothing_to_the_log_density(name, family):
    made = likelihoods.get(name)(**{"gaussian": {"sigma": 0.7}, "laplace": {"width": 0.7}}[name])
    density = family.logpdf(HOLES.astype(np.float64), MEANS, 0.7)
    expected = np.nansum(density, axis=(1, 2, 3))
    np.testing.assert_allclose(made.log_prob(jnp.asarray(MEANS), jnp.asarray(HOLES)), expected, rtol=1e-5)
    assert expected[1] == 0


@pytest.mark.parametrize("scale", ["fixed", "shared", "pixel"])
def test_gradients_are_finite_and_none_comes_from_what_is_missing(scale):
    made = likelihoods.get("gaussian")(scale=scale)
    width = {"fixed": 1, "shared": 2, "pixel": 2}[scale]
    parameters = jnp.concatenate([MEANS] * width, axis=-1)

    def total(parameters, x):
        return made.log_prob(parameters, x).sum()

    gradient = jax.grad(total)(parameters, jnp.asarray(HOLES))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(gradient)[np.isnan(HOLES)[..., 0]], 0)
    whole = jax.grad(total)(parameters, jnp.asarray(ROWS))
    present = ~np.isnan(HOLES)[..., 0]
    np.testing.assert_allclose(np.asarray(gradient)[present], np.asarray(whole)[present], rtol=1e-6)


REAL = {
    "data.name": "arrays",
    "data.binarize": "real",
    "likelihood.name": "gaussian",
    "likelihood.mean": "linear",
    "net.hidden": (4,),
}


def test_an_encoder_sees_0_where_a_number_is_missing(key):
    built = model.build(load_config("digits", **REAL), (1, 6, 1))
    params = built.nets.init(key, jnp.zeros((1, 1, 6, 1)), jnp.zeros((1, 16)))
    given, filled = (built.nets.encode(params, jnp.asarray(x)) for x in (HOLES, np.nan_to_num(HOLES)))
    for a, b in zip(given, filled, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "fields",
    [
        {"likelihood.mean": "sigmoid"},
        {"likelihood.name": "bernoulli"},
        {"likelihood.name": "continuous_bernoulli"},
        {"likelihood.name": "discretized_logistic"},
        {"likelihood.name": "logistic_mixture"},
    ],
)
def test_likelihoods_of_grey_levels_refuse_numbers_of_any_size(fields):
    named = {name: value for name, value in REAL.items() if name != "likelihood.mean"} | fields
    with pytest.raises(UserError, match=r"^config\.data\.binarize: 'real' does not fit .*likelihood\.mean=linear$"):
        model.build(load_config("digits", **named), (1, 6, 1))
