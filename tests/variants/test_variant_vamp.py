"""Tomczak & Welling 2018: the prior is the mixture that it says, in value, integral, draws and gradient."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from helpers.variant_loss import assert_close, loss_and_gradient, whole_batch
from scipy import special, stats

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets, mlp
from vae_jax.typing import AXIS
from vae_jax.variants import beta, vamp

SHAPE, LATENT, K = (4, 4, 1), 3, 5
LIKELIHOOD = bernoulli.make()
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, *SHAPE)), jnp.float32)
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
VARIANT = vamp.make(LIKELIHOOD, components=K)
VAE = beta.make(LIKELIHOOD)


def parameters(variant=VARIANT, nets=NETS, latent=LATENT):
    """Parameters whose components are apart: the weights of the start, doubled."""
    start = {
        "nets": nets.init(jax.random.key(1), jnp.zeros((1, *SHAPE)), jnp.zeros((1, latent))),
        "own": variant.init(jax.random.key(2), SHAPE, latent),
    }
    return jax.tree.map(lambda leaf: 2 * leaf, start)


@partial(jax.jit, static_argnames="nets")
def log_prior(nets, params, z):
    return VARIANT.log_prior(nets, params, z)


@partial(jax.jit, static_argnames="count")
def sample_prior(params, key, count):
    return VARIANT.sample_prior(NETS, params, key, count, LATENT)


def components_of(params, nets=NETS):
    """Mean and standard deviation of each component, as NumPy has them."""
    mean, logvar = nets.encode(params["nets"], jax.nn.sigmoid(params["own"]["logits"]))
    return np.float64(mean), np.exp(0.5 * np.float64(logvar))


def log_mixture(z, mean, sd):
    """log 1/K sum_k N(z; mean_k, sd_k^2) by SciPy, in float64."""
    parts = np.stack([stats.norm.logpdf(z, m, s).sum(axis=-1) for m, s in zip(mean, sd, strict=True)])
    return special.logsumexp(parts, axis=0) - math.log(len(mean))


@pytest.fixture(scope="module")
def params():
    return parameters()


@pytest.mark.parametrize("distance", [1.0, 8.0])
def test_the_log_prior_is_the_mixture_of_the_pseudo_inputs_posteriors(params, distance):
    mean, sd = components_of(params)
    assert np.ptp(mean, axis=0).min() > 0.5  # components that are told apart
    z = distance * np.random.default_rng(3).normal(size=(20, LATENT)).astype(np.float32)
    z = jnp.asarray(z)
    np.testing.assert_allclose(log_prior(NETS, params, z), log_mixture(z, mean, sd), rtol=2e-5, atol=2e-5)


def test_narrow_components_far_from_zero_cancel_no_worse_than_stated():
    random = np.random.default_rng(4)
    mean, sd = 5 + random.uniform(-1, 1, (30, 40)), np.full((30, 40), 0.025)  # some 40 sigma from their middle
    z = mean[:, None] + sd[:, None] * random.normal(size=(30, 10, 40))
    mean, logvar, z = (jnp.float32(x) for x in (mean, 2 * np.log(sd), z.reshape(-1, 40)))
    log_density = jax.nn.logsumexp(vamp.log_densities(z, Gaussian(mean, logvar)), axis=1) - math.log(30)
    expected = log_mixture(np.float64(z), np.float64(mean), np.exp(0.5 * np.float64(logvar)))
    np.testing.assert_allclose(log_density, expected, atol=0.03)
    assert abs(np.mean(log_density - expected)) < 0.005


@pytest.mark.parametrize("latent", [1, 2])
def test_the_prior_integrates_to_one(latent):
    nets = mlp.make(SHAPE, latent, 1, hidden=(8,))
    params = parameters(nets=nets, latent=latent)
    mean, sd = components_of(params, nets)
    grids = [
        np.linspace(low, high, 2001 if latent == 1 else 401)
        for low, high in zip((mean - 8 * sd).min(axis=0), (mean + 8 * sd).max(axis=0), strict=True)
    ]
    z = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, latent)
    density = np.exp(np.float64(log_prior(nets, params, jnp.float32(z))))
    np.testing.assert_allclose(density.sum() * np.prod([g[1] - g[0] for g in grids]), 1, rtol=1e-4)


@partial(jax.jit, static_argnames=("variant", "nets", "draws"))
def rates(variant, nets, params, draws):
    """The rate of each image in each of `draws` draws, and the loss of each draw."""
    batch = {"image": IMAGES, "index": jnp.arange(len(IMAGES))}

    def one(key):
        loss, terms = variant.loss(nets, params, batch, key, jnp.int32(0), beta=1.0)
        return terms["rate"], loss

    return jax.vmap(one)(jax.random.split(jax.random.key(6), draws))


def test_the_rate_of_one_component_is_the_kl_of_two_gaussians():
    single = vamp.make(LIKELIHOOD, components=1)
    params = parameters(single)
    draws = np.asarray(rates(single, NETS, params, 20_000)[0])
    mean, logvar = (np.float64(x) for x in NETS.encode(params["nets"], IMAGES))
    other, sd = components_of(params)
    closed = np.log(sd) - 0.5 * logvar + (np.exp(logvar) + (mean - other) ** 2) / (2 * sd**2) - 0.5
    deviation = draws.std(axis=0) / math.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - closed.sum(axis=1)) < 4 * deviation)
    assert np.all(closed.sum(axis=1) > 20 * deviation)


def test_the_rate_of_a_mixture_is_what_quadrature_gives():
    nets = mlp.make(SHAPE, 1, 1, hidden=(8,))
    params = parameters(nets=nets, latent=1)
    draws = np.asarray(rates(VARIANT, nets, params, 20_000)[0])
    mean, logvar = (np.float64(x) for x in nets.encode(params["nets"], IMAGES))
    z = mean + np.exp(0.5 * logvar) * np.linspace(-9, 9, 4001)
    log_q = stats.norm.logpdf(z, mean, np.exp(0.5 * logvar))
    integrand = np.exp(log_q) * (log_q - log_mixture(z[..., None], *components_of(params, nets)))
    expected = integrand.sum(axis=1) * (z[:, 1] - z[:, 0])
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 4 * draws.std(axis=0) / math.sqrt(len(draws)))


def test_the_priors_draws_have_the_mixtures_moments(params):
    mean, sd = components_of(params)
    draws = np.float64(sample_prior(params, randomness.root_key(3), 40_000))
    expected = mean.mean(axis=0)
    second = np.einsum("ki,kj->ij", mean, mean) / K + np.diag((sd**2).mean(axis=0))
    covariance = second - np.outer(expected, expected)
    scale = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 5 * scale / 200)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.03 * scale.max() ** 2)
    # The entropy sees what two moments do not: that each draw is of one component.
    ours, exact = (log_mixture(x, mean, sd) for x in (draws, direct_draws(mean, sd)))
    assert abs(ours.mean() - exact.mean()) < 5 * ours.std() * math.sqrt(2 / 40_000)


def direct_draws(mean, sd):
    """40,000 draws from the mixture by NumPy."""
    random = np.random.default_rng(7)
    k = random.integers(0, len(mean), 40_000)
    return mean[k] + sd[k] * random.normal(size=(40_000, LATENT))


def test_a_draw_depends_on_the_key_and_its_number_alone(params):
    one, again, other = (
        np.asarray(sample_prior(params, randomness.root_key(seed), count)) for seed, count in ((3, 4), (3, 9), (4, 4))
    )
    np.testing.assert_allclose(one, again[:4], rtol=1e-5)
    assert np.abs(one - other).min() > 1e-4
    with pytest.raises(UserError, match="labels"):
        VARIANT.sample_prior(NETS, params, randomness.root_key(3), 2, LATENT, np.zeros(2, np.int32))


def affine(params, x):
    flat = x.reshape(len(x), -1) - 0.5
    return flat @ params["mean"], flat @ params["logvar"]


def test_with_posteriors_of_pseudo_inputs_at_the_standard_normal_it_is_the_vae_in_expectation():
    # Images of 1/2, where this encoder says N(0, I) whatever its weights are: its gradient through the prior is 0.
    nets = Nets(NETS.init, affine, NETS.decode)
    weights = 0.3 * np.random.default_rng(5).normal(size=(2, 16, LATENT)).astype(np.float32)
    encoder = {"mean": weights[0], "logvar": weights[1], "decoder": parameters()["nets"]["decoder"]}
    ours = {"nets": encoder, "own": {"logits": jnp.zeros((K, *SHAPE))}}
    batch = {"image": IMAGES, "index": jnp.arange(len(IMAGES))}

    def difference(key):
        def values(variant, **floats):
            return jax.value_and_grad(
                lambda p: variant.loss(nets, {**ours, "nets": p}, batch, key, jnp.int32(0), beta=2.0, **floats)[0]
            )(ours["nets"])

        return jax.tree.map(jnp.subtract, values(VARIANT), values(VAE, free_bits=0.0))

    with jax.debug_key_reuse(False):  # both losses under one key
        differences = jax.jit(jax.vmap(jax.vmap(difference), axis_name=AXIS))(
            jax.random.split(jax.random.key(8), (1, 4000))
        )
    for leaf in jax.tree.leaves(differences):
        deviation = leaf[0].std(axis=0) / math.sqrt(4000)
        assert np.all(np.abs(leaf[0].mean(axis=0)) < 5 * deviation + 1e-6)


def evaluated(params, weight, devices):
    """Loss, terms of the whole batch and gradient, the batch cut over an axis of `devices`."""
    batch = {"image": IMAGES, "index": np.arange(8)}
    loss, terms, gradient = loss_and_gradient(
        VARIANT.loss, NETS, params, batch, {"beta": weight}, seed=0, devices=devices
    )
    return loss, whole_batch(terms), gradient


def test_devices_agree_and_beta_weighs_the_rate(params):
    loss, terms, gradient = evaluated(params, 3.0, 1)
    np.testing.assert_allclose(loss, np.mean(terms["distortion"] + 3 * terms["rate"]), rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=1e-6)
    many = evaluated(params, 3.0, 4)
    assert_close((loss, terms, gradient), many, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_pseudo_input_and_the_encoder_through_the_prior(params):
    z = NETS.encode(params["nets"], vamp.pseudo_inputs(params))[0] + 0.1  # one code near each component

    @jax.jit
    def along(direction):
        """The derivative of log p(z) along a direction in the parameters, by gradient and by difference."""

        def moved(t):
            return jax.tree.map(lambda leaf, d: leaf + t * d, params, direction)

        def objective(p):
            return jnp.mean(VARIANT.log_prior(NETS, p, z))

        gradient = jax.grad(objective)(params)
        slope = sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))
        return slope, (objective(moved(1e-3)) - objective(moved(-1e-3))) / 2e-3, gradient["own"]["logits"]

    zero, sign = jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda leaf: jnp.sign(jnp.sin(9 * leaf)), params)
    for moving in ({**zero, "own": sign["own"]}, {**zero, "nets": sign["nets"]}):
        slope, difference, reached = along(moving)
        assert abs(slope) > 0.02
        np.testing.assert_allclose(slope, difference, rtol=0.02)
    assert np.all(np.abs(reached).max(axis=(1, 2, 3)) > 1e-4)


def test_pseudo_inputs_start_apart_and_stay_grey_levels(params):
    start = vamp.pseudo_inputs({"own": VARIANT.init(jax.random.key(0), SHAPE, LATENT)})
    assert 0.2 < np.mean(start) < 0.4
    assert np.std(start, axis=0).min() > 0.02
    extreme = vamp.pseudo_inputs(
        {"own": {"logits": jnp.float32([-1e30, -200.0, 0.0, 200.0, 1e30]).reshape(1, 1, 5, 1)}}
    )
    assert np.all((np.asarray(extreme) >= 0) & (np.asarray(extreme) <= 1))


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1, 2))
def total_and_gradient(z, mean, logvar):
    return jnp.sum(jax.nn.logsumexp(vamp.log_densities(z, Gaussian(mean, logvar)), axis=1))


@pytest.mark.parametrize("logvar", [-40.0, -10.0, 10.0, 40.0])
@pytest.mark.parametrize("far", [0.0, 1e3])
def test_finite_at_extremes(logvar, far):
    mean = far * np.arange(6.0, dtype=np.float32).reshape(2, 3)
    values = total_and_gradient(mean[:1] + 1, mean, np.full((2, 3), logvar, np.float32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_no_component_is_refused():
    with pytest.raises(UserError, match=r"^components: 0 is not allowed"):
        vamp.make(LIKELIHOOD, components=0)


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_the_held_out_elbo_is_above_that_of_the_standard_normal_prior(length):
    steps, components, margin = {"short": (600, 50, 0.1), "long": (6000, 50, 0.25)}[length]
    ours = trained_digits.on_digits(steps, **{"variant.name": "vamp", "variant.components": components})
    plain = trained_digits.on_digits(steps, **{"variant.name": "beta"})
    assert ours.test["elbo"] > plain.test["elbo"] + margin
    assert "kl" not in ours.test
