"""InfoVAE's points, and MMD^2 of two Gaussians against its closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient
from scipy import integrate

from vae_jax import data, randomness
from vae_jax.data import digits
from vae_jax.errors import UserError
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import autoencoder, beta, info

SHAPE, LATENT = (4, 4, 1), 3
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
AUTOENCODER, BETA = autoencoder.make(LIKELIHOOD), beta.make(LIKELIHOOD)
INFO = {kernel: info.make(LIKELIHOOD, kernel=kernel) for kernel in info.KERNELS}
POINTS = info.make(LIKELIHOOD, deterministic=True)
IMAGES = np.random.default_rng(0).uniform(size=(8, *SHAPE)).astype(np.float32)
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
PARAMS = {"nets": NETS_PARAMS, "own": {}}
OFF = {"beta": 0.0, "free_bits": 0.0, "lambda_mmd": 0.0}


BATCH = {"image": IMAGES, "index": np.arange(8)}


def evaluate(loss, floats, params=PARAMS, devices=1):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    return loss_and_gradient(loss, NETS, params, BATCH, floats, devices=devices)


def test_without_mmd_it_is_the_beta_vae():
    for floats in ({"beta": 1.0, "free_bits": 0.0}, {"beta": 4.0, "free_bits": 0.1}):
        one, other = evaluate(INFO["rbf"].loss, {**OFF, **floats}), evaluate(BETA.loss, floats)
        assert_close((one[0], one[2]), (other[0], other[2]), rtol=1e-6, atol=1e-7)


def test_without_anything_points_are_the_autoencoder():
    one, other = evaluate(POINTS.loss, OFF), evaluate(AUTOENCODER.loss, {"noise": 0.0})
    assert_close((one[0], one[2]), (other[0], other[2]), rtol=1e-6, atol=1e-7)
    assert {"rate", "elbo", "kl"}.isdisjoint(one[1])


def rbf_mean(square, variance, dim, scale):
    """E exp(-|v|^2 / (2 dim scale)) for v ~ N(m, variance I) with |m|^2 = square."""
    h = dim * scale
    return (h / (h + variance)) ** (dim / 2) * np.exp(-square / (2 * (h + variance)))


def imq_mean(square, variance, dim, scale):
    """1 / (1 + u) is the integral of e^-t e^(-t u): a mixture of Gaussian kernels, of scale / t."""

    def integrand(t):
        return np.exp(-t) * rbf_mean(square, variance, dim, scale / t)

    return integrate.quad(integrand, 0, np.inf, epsabs=1e-10)[0]


def closed_form(kernel, scales, m, v):
    """MMD^2 of N(m, v I) and N(0, I): differences within have variance 2v and 2, across v + 1."""
    mean, dim, square = {"rbf": rbf_mean, "imq": imq_mean}[kernel], len(m), float(np.sum(np.square(m)))
    squares = [mean(0, 2 * v, dim, s) + mean(0, 2, dim, s) - 2 * mean(square, v + 1, dim, s) for s in scales]
    return np.mean(squares)


@pytest.mark.parametrize("kernel", info.KERNELS)
@pytest.mark.parametrize(("m", "v"), [((0.0, 0.0, 0.0), 1.0), ((1.0, 0.5, 0.0), 0.4)])
def test_mmd_of_two_gaussians_is_without_bias(kernel, m, v):
    # Eight codes a sample: the biased estimator would be off by some 2/8 of 1 - E k, many standard errors.
    scales, count, repeats = (0.2, 1.0, 5.0), 8, 4000
    x, y = np.random.default_rng(5).normal(size=(2, repeats, count, 3)).astype(np.float32)
    x = np.float32(m) + np.float32(np.sqrt(v)) * x
    estimates = np.asarray(jax.jit(jax.vmap(partial(info.mmd, info.mean_kernel(kernel, scales))))(x, y), np.float64)
    error = np.std(estimates) / np.sqrt(repeats)
    assert abs(np.mean(estimates) - closed_form(kernel, scales, m, v)) < 4 * error
    assert error < 0.005
    assert np.min(estimates) < 0


def test_kernels_at_known_distances():
    a, b = jnp.zeros((1, 2)), jnp.float32([[2.0, 0.0], [0.0, 0.0]])  # u = 4 / (2 * 2 * scale)
    np.testing.assert_allclose(info.mean_kernel("rbf", (1.0,))(a, b), [[np.exp(-1), 1]], rtol=1e-6)
    np.testing.assert_allclose(info.mean_kernel("imq", (1.0,))(a, b), [[1 / 2, 1]], rtol=1e-6)
    np.testing.assert_allclose(info.mean_kernel("imq", (1.0, 0.5))(a, b), [[(1 / 2 + 1 / 3) / 2, 1]], rtol=1e-6)


def test_a_single_code_says_nothing():
    assert info.mmd(info.mean_kernel("rbf", (1.0,)), jnp.ones((1, 2)), jnp.zeros((1, 2))) == 0


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("kernel", info.KERNELS)
def test_an_axis_of_several_equals_an_axis_of_one(kernel, devices):
    floats = {"beta": 0.5, "free_bits": 0.0, "lambda_mmd": 100.0}
    one, many = (evaluate(INFO[kernel].loss, floats, devices=count) for count in (1, devices))
    assert_close((one[0], one[2]), (many[0], many[2]), rtol=1e-3, atol=1e-4)


def test_the_prior_draws_are_not_the_noise_and_leave_the_decoder_alone():
    without, with_mmd = (evaluate(INFO["rbf"].loss, {**OFF, "lambda_mmd": weight}) for weight in (0.0, 100.0))
    assert_close(with_mmd[2]["nets"]["decoder"], without[2]["nets"]["decoder"], rtol=0, atol=1e-6)
    moved = jax.tree.map(
        lambda a, b: np.max(np.abs(a - b)), with_mmd[2]["nets"]["encoder"], without[2]["nets"]["encoder"]
    )
    assert min(jax.tree.leaves(moved)) > 1e-3
    # The same codes under the same key: with the noise as the prior's draws, z = epsilon would give 0 or less.
    noise = randomness.example_normal(randomness.root_key(2), jnp.arange(8), LATENT)
    prior = randomness.example_normal(randomness.stream(randomness.root_key(2), "info/prior"), jnp.arange(8), LATENT)
    assert np.max(np.abs(np.corrcoef(np.ravel(noise), np.ravel(prior))[0, 1])) < 0.5


def test_points_leave_the_variance_alone():
    layer = evaluate(POINTS.loss, {**OFF, "lambda_mmd": 100.0})[2]["nets"]["encoder"]
    kernels = [leaf for leaf in jax.tree.leaves(layer) if leaf.shape == (8, 2 * LATENT)]
    assert len(kernels) == 1
    assert np.max(np.abs(kernels[0][:, :LATENT])) > 1e-2
    assert np.all(kernels[0][:, LATENT:] == 0)


@pytest.mark.parametrize("kernel", info.KERNELS)
def test_extremes_are_finite(kernel):
    x, y = 1e15 * jnp.eye(4), jnp.zeros((4, 4))
    value, gradient = jax.value_and_grad(partial(info.mmd, info.mean_kernel(kernel, (0.1, 10.0))))(x, y)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_unknown_kernels_and_bad_scales_are_refused():
    with pytest.raises(UserError, match=r"^kernel: 'rbg' is unknown; known: imq, rbf; did you mean"):
        info.make(LIKELIHOOD, kernel="rbg")
    for scales in ((), (1.0, 0.0), (-1.0,), (float("inf"),)):
        with pytest.raises(UserError, match=r"^scales: .* give positive numbers"):
            info.make(LIKELIHOOD, scales=scales)


@pytest.mark.full
def test_mmd_falls_on_digits():
    # Members of one program: an autoencoder that chooses its own noise, and the same with MMD.
    dataset, steps = digits.load(), 300
    split = jax.device_put(dataset.train)
    nets = mlp.make(dataset.image_shape, 6, 1, hidden=(64,))
    adam = make_optimizer()
    root = randomness.root_key(0)
    step = make_train_step(nets, INFO["imq"], adam, partial(data.make_batch, split, data.sample_pixels))
    indices = data.index_stream(0, 0, steps, split.size, 64)

    def discrepancy(weight):
        state = init_state(root, nets, INFO["imq"], adam, dataset.image_shape, 6, 0.0)
        hyper = Hyper(jnp.float32(2e-3), {"beta": 0.0, "free_bits": 0.0, "lambda_mmd": weight})
        terms = jax.lax.scan(lambda state, share: step(state, share, root, hyper), state, indices)[1]
        return jnp.mean(terms["mmd"][-50:])

    members = jax.jit(jax.vmap(jax.vmap(discrepancy), axis_name=AXIS))
    without, with_mmd = np.asarray(members(np.float32([[0, 500]])))[0]
    assert without > 0.02
    assert with_mmd < 0.25 * without
