"""The RealNVP prior: a bijection and its volume, the density in integral, draws and loss; N(0, I) when new."""

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
from vae_jax.metrics import likelihood
from vae_jax.model import Model
from vae_jax.models.coupling import LIMIT, CouplingFlow
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.variants import realnvp

SHAPE, LATENT, BLOCKS, HIDDEN = (4, 4, 1), 3, 3, (8, 6)
LIKELIHOOD = bernoulli.make()
VARIANT = realnvp.make(LIKELIHOOD, blocks=BLOCKS, hidden=HIDDEN)
FLOW = CouplingFlow(BLOCKS, HIDDEN)
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, *SHAPE)), jnp.float32)
BATCH = {"image": IMAGES, "index": np.arange(8)}


def bent(latents, scale=0.5, seed=1):
    """A flow far from the identity: every parameter drawn anew, normal."""
    random = np.random.default_rng(seed)
    start = jax.eval_shape(partial(FLOW.init, latents=latents), randomness.root_key(0))
    return jax.tree.map(lambda leaf: np.float32(scale * random.normal(size=leaf.shape)), start)


def parameters(latents=LATENT):
    """Those of the networks and of a bent flow."""
    nets = mlp.make(SHAPE, latents, 1, hidden=(8,))
    start = jax.jit(nets.init)(randomness.root_key(1), jnp.zeros((1, *SHAPE)), jnp.zeros((1, latents)))
    return {"nets": jax.tree.map(np.asarray, start), "own": bent(latents)}


forward, inverse, log_density = jax.jit(FLOW.forward), jax.jit(FLOW.inverse), jax.jit(FLOW.log_density)


@jax.jit
def jacobian(params, z):
    """(du/dz, log|det| as the flow gives it) of one z."""

    def transform(z):
        u, log_det = FLOW.forward(params, z[None])
        return u[0], log_det[0]

    return jax.jacfwd(transform, has_aux=True)(z)


@pytest.mark.parametrize("latents", [2, 3, 6])
def test_there_and_back_is_the_same_code(latents):
    params = bent(latents)
    z = 2 * np.random.default_rng(2).normal(size=(50, latents)).astype(np.float32)
    u, _ = forward(params, z)
    assert np.abs(u - z).max() > 2
    np.testing.assert_allclose(inverse(params, u), z, atol=2e-3)
    np.testing.assert_allclose(forward(params, inverse(params, z))[0], z, atol=2e-3)


@pytest.mark.parametrize("latents", [2, 3, 6])
def test_the_log_determinant_is_that_of_the_whole_jacobian(latents):
    params = bent(latents)
    for z in np.random.default_rng(3).normal(size=(5, latents)).astype(np.float32):
        matrix, log_det = jacobian(params, z)
        _, expected = np.linalg.slogdet(np.float64(matrix))
        assert abs(expected) > 0.02
        np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=1e-4)
        assert np.all(matrix != 0)  # all latents are mixed


def test_a_new_prior_is_the_standard_normal():
    own = VARIANT.init(randomness.root_key(4), SHAPE, 5)
    z = 3 * np.random.default_rng(4).normal(size=(20, 5)).astype(np.float32)
    expected = stats.norm.logpdf(np.float64(z)).sum(axis=1)
    np.testing.assert_allclose(VARIANT.log_prior(NETS, {"own": own}, jnp.asarray(z)), expected, rtol=1e-6)
    kernels = own["conditioner"]["Dense_0"]["kernel"]
    assert np.abs(kernels[0] - kernels[1]).min() > 1e-6  # blocks begin apart


def square(params, count=701):
    """The points of a fine square that holds the prior of two latents, the density at each, and a cell's area."""
    draws = inverse(params, np.random.default_rng(5).normal(size=(20_000, 2)).astype(np.float32))
    low, high = np.min(draws, axis=0) - 4, np.max(draws, axis=0) + 4
    sides = [np.linspace(a, b, count, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(np.float64(log_density(params, points)))
    return points, density, np.prod((high - low) / (count - 1))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_prior_integrates_to_one(seed):
    _, density, area = square(bent(2, 0.4, seed))
    np.testing.assert_allclose(density.sum() * area, 1, atol=2e-3)


def test_draws_fall_where_the_density_says():
    params = {"own": bent(2, 0.4)}
    points, density, area = square(params["own"])
    draws = np.asarray(VARIANT.sample_prior(NETS, params, randomness.root_key(6), 20_000, 2))
    edges = np.quantile(draws[:, 0], [0.2, 0.4, 0.6, 0.8]), np.quantile(draws[:, 1], [0.2, 0.4, 0.6, 0.8])

    def box(z):
        return 5 * np.searchsorted(edges[0], z[:, 0]) + np.searchsorted(edges[1], z[:, 1])

    counts = np.bincount(box(draws), minlength=25)
    expected = np.bincount(box(points), density * area, minlength=25)
    gaussian = stats.multivariate_normal(draws.mean(axis=0), np.cov(draws.T)).pdf(points)
    assert np.abs(np.bincount(box(points), gaussian * area, minlength=25) - expected).max() > 0.01
    np.testing.assert_allclose(counts / 20_000, expected, atol=5 * math.sqrt(0.1 / 20_000))
    # The entropy too: E log p over draws and over the square.
    ours = log_density(params["own"], draws)
    assert abs(np.mean(ours) - np.sum(special.xlogy(density, density)) * area) < 5 * np.std(ours) / math.sqrt(20_000)


def test_a_draw_depends_on_the_key_and_its_number_alone():
    params = parameters()
    one, again, other = (
        np.asarray(VARIANT.sample_prior(NETS, params, randomness.root_key(seed), count, LATENT))
        for seed, count in ((3, 4), (3, 9), (4, 4))
    )
    np.testing.assert_allclose(one, again[:4], rtol=1e-4, atol=1e-5)
    assert np.abs(one - other).min() > 1e-4
    with pytest.raises(UserError, match="labels"):
        VARIANT.sample_prior(NETS, params, randomness.root_key(3), 2, LATENT, np.zeros(2, np.int32))


def dense_by_hand(params, x):
    """Dense layers with SiLU between them, NumPy in float64."""
    for i in range(len(params)):
        layer = params[f"Dense_{i}"]
        x = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
        x = x if i == len(params) - 1 else x * special.expit(x)
    return x


def log_prior_by_hand(own, z):
    """log p(z) by NumPy in float64, block by block."""
    log_det, half = 0.0, z.shape[1] // 2
    for k in range(BLOCKS):
        block = jax.tree.map(lambda leaf, k=k: np.float64(leaf[k]), own)
        diagonal = np.diag(block["mixing"])
        lower = np.tril(block["mixing"], -1) + np.eye(len(diagonal))
        upper = np.triu(block["mixing"], 1) + np.diag(np.exp(diagonal))
        y = np.stack([lower @ upper @ row + block["shift"] for row in z])
        outputs = dense_by_hand(block["conditioner"], y[:, :half])
        width = z.shape[1] - half
        s, t = LIMIT * np.tanh(outputs[:, :width] / LIMIT), outputs[:, width:]
        z = np.concatenate([y[:, :half], np.exp(s) * y[:, half:] + t], axis=1)[:, ::-1]
        log_det = log_det + diagonal.sum() + s.sum(axis=1)
    return stats.norm.logpdf(z).sum(axis=1) + log_det


def evaluated(params, weight=1.0, devices=1):
    """Loss, terms of the whole batch and gradient, the batch cut over an axis of `devices`."""
    value, terms, gradient = loss_and_gradient(VARIANT.loss, NETS, params, BATCH, {"beta": weight}, devices=devices)
    return value, whole_batch(terms), gradient


def test_the_loss_is_the_one_computed_by_hand():
    params = parameters()
    loss, terms, _ = evaluated(params, 3.0)
    mean, logvar = (np.float64(part) for part in NETS.encode(params["nets"], IMAGES))
    noise = np.float64(randomness.example_normal(randomness.root_key(2), jnp.arange(8), LATENT))
    z = mean + np.exp(0.5 * logvar) * noise
    logits = np.float64(NETS.decode(params["nets"], jnp.float32(z)))
    distortion = np.sum(np.logaddexp(0, logits) - np.float64(IMAGES) * logits, axis=(1, 2, 3))
    log_q = stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=1)
    rate = log_q - log_prior_by_hand(params["own"], z)
    np.testing.assert_allclose(terms["distortion"], distortion, rtol=1e-5)
    np.testing.assert_allclose(terms["rate"], rate, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(terms["elbo"], -distortion - rate, rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(distortion + 3 * rate), rtol=1e-4)
    np.testing.assert_allclose(terms["code"], mean, rtol=1e-6)
    assert "kl" not in terms


def test_devices_agree_and_every_parameter_has_a_gradient():
    params = parameters()
    one, many = evaluated(params, 2.0), evaluated(params, 2.0, 4)
    assert_close(one, many, rtol=1e-3, atol=1e-3)
    sizes = jax.tree.map(lambda leaf: float(np.max(np.abs(leaf))), one[2])
    assert min(jax.tree.leaves(sizes)) > 1e-5


def test_importance_sampling_finds_the_likelihood_that_quadrature_gives():
    params, nets = {**parameters(2), "own": bent(2, 0.4)}, mlp.make(SHAPE, 2, 1, hidden=(8,))
    points, density, area = square(params["own"], 501)
    logits = np.asarray(jax.jit(nets.decode)(params["nets"], points), np.float64).reshape(len(points), -1)
    x = np.float64(IMAGES).reshape(len(IMAGES), -1)
    log_p_x_z = logits @ x.T - np.logaddexp(0, logits).sum(axis=1, keepdims=True)
    joint = np.exp(log_p_x_z) * density[:, None] * area
    expected = np.log(joint.sum(axis=0))

    # A proposal wider than p(z|x), so that no weight is large.
    points, posterior = np.float64(points), joint / joint.sum(axis=0, keepdims=True)
    mean = posterior.T @ points
    logvar = np.log(2 * (posterior.T @ np.square(points) - np.square(mean)))

    def encode(params, x):
        return jnp.float32(mean), jnp.float32(logvar)

    model = Model(nets._replace(encode=encode), VARIANT, LIKELIHOOD, {})
    keys = jax.random.split(randomness.root_key(7), 20_000)
    log_w = np.float64(jax.jit(partial(likelihood.log_weights, model))(params, BATCH, keys))
    ratios = np.exp(log_w - expected[None])  # of mean 1
    assert ratios.std(axis=0).max() < 5
    assert np.all(np.abs(ratios.mean(axis=0) - 1) < 5 * ratios.std(axis=0) / math.sqrt(len(keys)) + 2e-3)


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1))
def total_and_gradient(params, z):
    return jnp.sum(FLOW.log_density(params, z))


@pytest.mark.parametrize("far", [0.0, 1e3, -1e3])
@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_finite_at_extremes(far, scale):
    z = far * np.float32([[1, -2, 3], [0, 0, 1]])
    params = bent(3, scale)
    values = total_and_gradient(params, z), inverse(bent(3, min(scale, 0.3)), z)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_what_cannot_be_is_refused():
    for field, value in (("blocks", 0), ("hidden", (8, 0))):
        with pytest.raises(UserError, match=rf"^{field}: .* is not allowed; give"):
            realnvp.make(LIKELIHOOD, **{field: value})
    with pytest.raises(UserError, match=r"^latent_dim: 1 is not allowed; give at least 2"):
        VARIANT.encoder_outputs(1)


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_the_held_out_elbo_is_above_that_of_the_standard_normal_prior(length):
    steps, margin = {"short": (1500, 0.1), "long": (6000, 0.15)}[length]
    one_layer = {"net.hidden": "(400,)", "train.learning_rate": 1e-3}  # with two the decoder bends N(0, I) itself
    small = {"variant.name": "realnvp", "variant.blocks": 4, "variant.hidden": "(64,)"}
    ours = trained_digits.on_digits(steps, **small, **one_layer)
    plain = trained_digits.on_digits(steps, **{"variant.name": "beta", **one_layer})
    assert ours.test["elbo"] > plain.test["elbo"] + margin
    assert "kl" not in ours.test
