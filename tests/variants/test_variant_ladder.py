"""The ladder against a linear-Gaussian hierarchy solved by hand, the VAE it is with one layer, and its own rate."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close as trees_close
from helpers.variant_loss import loss_and_gradient, whole_batch
from scipy import integrate, stats

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.likelihoods import gaussian as gaussian_module
from vae_jax.models.networks import Nets, mlp
from vae_jax.typing import AXIS
from vae_jax.variants import beta, ladder

SHAPE, LATENT, WIDTHS, HIDDEN = (4, 4, 1), 3, (4, 2), (16, 12)
LIKELIHOOD = bernoulli.make()
LADDER = ladder.make(LIKELIHOOD, widths=WIDTHS, hidden=HIDDEN)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(8, *SHAPE)), jnp.float32)
BATCH = {"image": IMAGES, "index": jnp.arange(8)}


def parameters(variant):
    """(networks, params) of a new model, the weights twice as large, so that no layer is near its prior."""
    nets = mlp.make(SHAPE, variant.encoder_outputs(LATENT), 1, hidden=(8,))

    own = drawn_params(partial(variant.init, image_shape=SHAPE, latent_dim=LATENT), seed=2)
    params = {"nets": drawn_params(nets.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT))), "own": own}
    return nets, jax.tree.map(lambda leaf: 2 * leaf, params)


NETS, PARAMS = parameters(LADDER)


def evaluated(loss, nets, params, seed=2, **floats):
    """(loss, terms of each image, gradient) on BATCH."""
    floats = {"beta": 1.0, "free_bits": 0.0, **floats}
    value, terms, gradient = loss_and_gradient(loss, nets, params, BATCH, floats, seed=seed)
    return value, whole_batch(terms), gradient


assert_close = partial(trees_close, rtol=1e-5, atol=1e-6)


def gaussian(mean, variance):
    """A Gaussian of one example from plain numbers."""
    return Gaussian(jnp.float32([mean]), jnp.log(jnp.float32([variance])))


def test_the_product_is_the_product_of_the_densities():
    one, other = gaussian([0.5, -2.0], [0.3, 2.0]), gaussian([-1.0, 1.0], [1.5, 0.1])
    product = distributions.product(one, other)
    z = jnp.float32(np.random.default_rng(0).normal(size=(50, 2)))
    ratio = one.log_prob(z) + other.log_prob(z) - product.log_prob(z)
    # What is left is the normaliser, N(mean; mean', variance + variance'), whatever z is.
    expected = stats.norm.logpdf([1.5, -3.0], scale=np.sqrt([1.8, 2.1])).sum()
    np.testing.assert_allclose(ratio, np.full(50, expected), rtol=2e-5, atol=2e-5)
    assert_close(product, distributions.product(other, one))


def test_kl_is_the_integral():
    q, p = (0.5, 0.3), (-1.0, 1.5)

    def log_density(z, mean, variance):
        return stats.norm.logpdf(z, mean, np.sqrt(variance))

    def integrand(z):
        return np.exp(log_density(z, *q)) * (log_density(z, *q) - log_density(z, *p))

    expected, _ = integrate.quad(integrand, -6, 6)
    (kl,) = distributions.kl(*(gaussian([mean], [variance]) for mean, variance in (q, p)))
    np.testing.assert_allclose(kl, [expected], rtol=1e-5)


# z_2 ~ N(0, 1), z_1 ~ N(A z_2 + C, V), x ~ N(W z_1, S^2), two pixels and two latents: everything is Gaussian, and
# what x says of z_1 is N(x / W, S^2 / W^2) for each latent, which is what the ladder can say.
A, C, V, W, S = (np.float64(v) for v in ([1.2, -0.7], [0.4, 0.1], [0.3, 0.6], [1.5, -0.8], 0.4))
X = np.float64([0.9, 0.2])
COVARIANCE = np.outer(A, A) + np.diag(V)
OF_X = np.outer(W, W) * COVARIANCE + S**2 * np.eye(2)
LOG_P = stats.multivariate_normal.logpdf(X, W * C, OF_X)


def linear(first, last, bias):
    """Parameters of `layer_network(4, ...)` for last * (first . input) + bias, as a difference of leaky ReLUs."""
    inward = np.stack([first, -first, 0 * first, 0 * first], axis=1)
    outward = np.stack([last, -last, 0 * last, 0 * last]) / (1 + 0.01**2)
    layers = ((inward, np.zeros(4)), (np.eye(4), np.zeros(4)), (outward, bias))
    return {f"Dense_{i}": {"kernel": jnp.float32(k), "bias": jnp.float32(b)} for i, (k, b) in enumerate(layers)}


def hierarchy():
    """(variant, networks, params) that are the true model, and its true posterior."""
    variance = 1 / (1 + np.sum((W * A) ** 2 / (W**2 * V + S**2)))
    gain = variance * W * A / (W**2 * V + S**2)

    def unbounded(v):
        return ladder.LARGEST_LOGVAR * np.arctanh(np.log(v) / ladder.LARGEST_LOGVAR)

    own = {
        "up_2": linear(np.r_[gain, 0, 0], np.r_[1.0, 0.0], np.r_[-gain @ (W * C), unbounded(variance)]),
        "down_1": linear(np.ones(1), np.r_[A, 0, 0], np.r_[C, unbounded(V)]),
    }

    def encode(params, x):
        mean, d = jnp.float32(X / W) + params["shift"], jnp.float32(X)
        logvar = jnp.float32(np.log(S**2 / W**2))
        rows = jnp.concatenate([mean, d]), jnp.concatenate([logvar, jnp.zeros(2)])
        return tuple(jnp.broadcast_to(row[None], (len(x), 4)) for row in rows)

    def decode(params, z):
        return (z * jnp.float32(W[None])).reshape(-1, 1, 2, 1)

    variant = ladder.make(gaussian_module.make(sigma=float(S)), widths=(1,), hidden=(4,))
    return variant, Nets(None, encode, decode), {"nets": {"shift": jnp.zeros(2)}, "own": own}


@jax.jit
def on_hierarchy(params, key):
    """(terms, layers) of 20,000 draws for the one image."""
    count = 20_000
    variant, nets, _ = hierarchy()
    image = jnp.broadcast_to(jnp.float32(X).reshape(1, 1, 2, 1), (count, 1, 2, 1))
    batch = {"image": image, "index": jnp.arange(count)}
    loss = jax.vmap(
        lambda _: variant.loss(nets, params, batch, key, jnp.int32(0), beta=1.0, free_bits=0.0), axis_name=AXIS
    )
    terms = jax.tree.map(lambda leaf: leaf[0], loss(jnp.zeros(1))[1])
    mean, logvar = nets.encode(params["nets"], image)
    d = jnp.concatenate([mean[:, 2:], logvar[:, 2:]], axis=1)
    of_x = ladder.upwards(params["own"], Gaussian(mean[:, :2], logvar[:, :2]), d, (1,), (4,))
    layers = ladder.downwards(params["own"], of_x, ladder.layer_noises(key, batch["index"], (2, 1)), (4,))
    return terms, layers


def test_on_a_linear_hierarchy_the_elbo_is_the_likelihood():
    _, _, params = hierarchy()
    with jax.debug_key_reuse(False):
        terms, layers = on_hierarchy(params, randomness.root_key(3))
        shifted, _ = on_hierarchy({**params, "nets": {"shift": jnp.float32([0.2, 0.2])}}, randomness.root_key(3))
    # The posterior is the true one, so log p(x, z) - log q(z|x) is log p(x) at each draw, not only on average.
    weight = sum(layer.prior.log_prob(layer.z) - layer.posterior.log_prob(layer.z) for layer in layers)
    np.testing.assert_allclose(weight - terms["distortion"], np.full(20_000, LOG_P), atol=2e-3)
    elbos = np.asarray(terms["elbo"], np.float64)
    error = 4 * elbos.std() / math.sqrt(len(elbos))
    assert error < 0.05
    assert abs(elbos.mean() - LOG_P) < error
    assert np.mean(shifted["elbo"]) < LOG_P - error
    # The mean path is the posterior's mean where all is linear.
    expected = C + COVARIANCE @ np.diag(W) @ np.linalg.solve(OF_X, X - W * C)
    np.testing.assert_allclose(terms["code"], np.broadcast_to(expected, (20_000, 2)), rtol=1e-4)


def test_draws_from_the_prior_go_through_every_layer():
    variant, nets, params = hierarchy()
    draw = jax.jit(lambda count: variant.sample_prior(nets, params, randomness.root_key(4), count, 2), static_argnums=0)
    many = np.asarray(draw(20_000), np.float64)
    np.testing.assert_allclose(many.mean(axis=0), C, atol=0.04)
    np.testing.assert_allclose(np.cov(many.T), COVARIANCE, atol=0.06)
    np.testing.assert_allclose(draw(3), many[:3], rtol=1e-5)
    with pytest.raises(UserError, match="the same for every label"):
        variant.sample_prior(nets, params, randomness.root_key(4), 2, 2, np.zeros(2, int))


def test_the_rate_is_that_of_all_layers_together():
    count = 20_000

    def draws(key):
        image = jnp.broadcast_to(IMAGES[:1], (count, *SHAPE))
        mean, logvar = NETS.encode(PARAMS["nets"], image)
        d = jnp.concatenate([mean[:, LATENT:], logvar[:, LATENT:]], axis=1)
        bottom = Gaussian(mean[:, :LATENT], logvar[:, :LATENT])
        of_x = ladder.upwards(PARAMS["own"], bottom, d, WIDTHS, HIDDEN)
        noises = ladder.layer_noises(key, jnp.arange(count), (LATENT, *WIDTHS))
        layers = ladder.downwards(PARAMS["own"], of_x, noises, HIDDEN)
        log_ratio = sum(layer.posterior.log_prob(layer.z) - layer.prior.log_prob(layer.z) for layer in layers)
        return log_ratio, [jnp.sum(distributions.kl(layer.posterior, layer.prior), axis=-1) for layer in layers]

    log_ratio, rates = jax.jit(draws)(randomness.root_key(2))
    difference = np.asarray(log_ratio - sum(rates), np.float64)
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(count)
    assert difference.std() > 0.1
    # The loss's own terms are these: image 0 has index 0, and so the first draw's noise.
    _, terms, _ = evaluated(LADDER.loss, NETS, PARAMS)
    assert_close([terms[f"rate_{n}"][0] for n in (1, 2, 3)], [rate[0] for rate in rates], rtol=1e-4)
    assert_close(terms["rate"], terms["rate_1"] + terms["rate_2"] + terms["rate_3"])
    assert all(np.min(terms[f"rate_{n}"]) > 0.01 for n in (1, 2, 3))
    assert "kl" not in terms


@pytest.mark.parametrize("free_bits", [0.0, 0.2])
def test_one_layer_is_the_vae(free_bits):
    variant = ladder.make(LIKELIHOOD, widths=(), hidden=())
    nets, params = parameters(variant)
    floats = {"beta": 2.0, "free_bits": free_bits}
    one = evaluated(variant.loss, nets, params, **floats)
    other = evaluated(beta.make(LIKELIHOOD).loss, nets, params, **floats)
    assert one[0] > 5
    assert_close((one[0], one[2]), (other[0], other[2]))
    for name in ("elbo", "distortion", "rate", "code"):
        assert_close(one[1][name], other[1][name])


def test_layers_have_noise_of_their_own():
    one, two, three = ladder.layer_noises(randomness.root_key(2), jnp.arange(1000), (3, 3, 3))
    correlations = np.corrcoef(np.stack([np.ravel(one), np.ravel(two), np.ravel(three)]))
    assert np.max(np.abs(correlations - np.eye(3))) < 0.1


def test_free_bits_are_of_every_latent_of_every_layer():
    loss, terms, _ = evaluated(LADDER.loss, NETS, PARAMS, beta=2.0, free_bits=1e6)
    np.testing.assert_allclose(loss - np.mean(terms["distortion"]), 2e6 * (3 + 4 + 2), rtol=1e-5)


def test_beta_is_on_every_layer_and_every_parameter_has_a_gradient():
    loss, terms, gradient = evaluated(LADDER.loss, NETS, PARAMS, beta=3.0)
    np.testing.assert_allclose(loss, np.mean(terms["distortion"] + 3 * terms["rate"]), rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=1e-6)
    sizes = jax.tree.map(lambda leaf: float(np.max(np.abs(leaf))), gradient)
    assert min(jax.tree.leaves(sizes)) > 1e-4


def test_the_code_is_what_represents_an_image():
    _, terms, _ = evaluated(LADDER.loss, NETS, PARAMS)
    _, again, _ = evaluated(LADDER.loss, NETS, PARAMS, seed=9)
    assert_close(LADDER.encode(NETS, PARAMS, BATCH), terms["code"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(terms["code"], again["code"])


def test_extremes_are_finite():
    @jax.jit
    @jax.value_and_grad
    def total(pair):
        posterior = distributions.product(*pair)
        kl = jnp.sum(distributions.kl(posterior, pair[1]))
        return kl + jnp.sum(posterior.mean) + jnp.sum(jnp.exp(posterior.logvar))

    for of_x in (-200.0, -20.0, 0.0, 20.0, 200.0):
        for of_prior in (-ladder.LARGEST_LOGVAR, ladder.LARGEST_LOGVAR):
            pair = Gaussian(jnp.full((1, 1), 1e4), jnp.full((1, 1), of_x)), Gaussian(*jnp.full((2, 1, 1), of_prior))
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(total(pair)))
    for scale in (0.0, 3.0, -3.0):
        far = jax.tree.map(lambda leaf, scale=scale: scale * leaf, PARAMS)
        values = evaluated(LADDER.loss, NETS, far)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(values))


def test_what_cannot_be_is_refused():
    for fields in ({"widths": (0,)}, {"hidden": (-2,)}, {"hidden": (7,)}, {"widths": (4, 2)}, {"widths": ()}):
        field = "widths" if fields == {"widths": (0,)} else "hidden"
        with pytest.raises(UserError, match=rf"^{field}: .* is not allowed; give"):
            ladder.make(LIKELIHOOD, **fields)
    with pytest.raises(UserError, match="no closed form"):
        LADDER.log_prior(NETS, PARAMS, jnp.zeros((1, LATENT)))


def collapsed_runs(steps, count):
    """The first `count` seeds that give up a layer without warm-up, and their held-out numbers."""
    runs = []
    for seed in range(4 * count):
        cold = trained_digits.on_digits(steps, **{"variant.name": "ladder", "seed": seed}).test
        if min(cold["rate_1"], cold["rate_2"]) < 0.2:
            runs.append((seed, cold))
        if len(runs) == count:
            break
    return runs


@pytest.mark.slow  # the short form too takes most of a minute
@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_warm_up_keeps_both_layers_in_use_on_digits(length):
    # One seed in four keeps both without it, and which one depends on rounding.
    steps, count = {"short": (1000, 2), "long": (1500, 3)}[length]
    runs = collapsed_runs(steps, count)
    assert len(runs) == count
    for seed, cold in runs:
        warm_up = {"schedule.name": "linear", "schedule.steps": steps // 2}
        warm = trained_digits.on_digits(steps, **{"variant.name": "ladder", "seed": seed}, **warm_up).test
        assert min(warm["rate_1"], warm["rate_2"]) > 0.4
        assert warm["elbo"] > cold["elbo"] + 0.5


@pytest.mark.slow
def test_the_ladder_is_above_the_vae_on_digits_with_the_upper_layer_in_use():
    fields = {"net.hidden": "(400,)", "train.learning_rate": 1e-3, "schedule.name": "linear", "schedule.steps": 3000}
    vae, stacked = (
        trained_digits.on_digits(6000, **{"variant.name": name}, **fields).test for name in ("beta", "ladder")
    )
    assert stacked["rate_2"] > 1.5
    assert stacked["elbo"] > vae["elbo"] + 0.1
