"""Each likelihood against scipy or quadrature, at its extremes too; the discrete ones sum to 1."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
from helpers import trained_digits

from vae_jax.errors import UserError
from vae_jax.models import likelihoods
from vae_jax.models.likelihoods import (
    _levels,
    _scale,
    bernoulli,
    continuous_bernoulli,
    discretized_logistic,
    gaussian,
    laplace,
    logistic_mixture,
)

RNG = np.random.default_rng(0)


def pixels(values):
    """A batch of images of one row, one image for each row of `values`."""
    values = jnp.asarray(values, jnp.float32)
    return values.reshape(len(values), 1, -1, 1)


def test_bernoulli_is_scipys_summed_over_pixels():
    logits, x = RNG.normal(0, 3, (4, 6)).astype(np.float32), RNG.integers(0, 2, (4, 6))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits.astype(np.float64))).sum(axis=1)
    np.testing.assert_allclose(bernoulli.make().log_prob(pixels(logits), pixels(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(
        bernoulli.make().mean(pixels(logits)).ravel(), scipy.special.expit(logits).ravel(), rtol=1e-5
    )


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_bernoulli_and_its_gradient_are_exact_at_any_logit(x):
    logits = np.float32([-1e4, -200, -89, -88, -3, -1e-6, 1e-6, 0.5, 20, 89, 200, 1e4])[:, None]
    x = np.full_like(logits, x)

    def log_prob(logits):
        values = bernoulli.make().log_prob(pixels(logits), pixels(x))
        return values.sum(), values

    gradients, values = jax.grad(log_prob, has_aux=True)(jnp.asarray(logits))
    wide, wide_x = logits.astype(np.float64), x.astype(np.float64)
    np.testing.assert_allclose(values, (wide_x * wide - np.logaddexp(0, wide))[:, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradients, wide_x - scipy.special.expit(wide), rtol=1e-6, atol=2e-7)


def test_bernoulli_slopes_at_logit_zero_are_those_of_the_sigmoid():
    x = pixels([[0.0, 0.25, 1.0]])
    gradient = jax.grad(lambda logits: bernoulli.make().log_prob(logits, x)[0])
    first, second = jax.jvp(gradient, (jnp.zeros_like(x),), (jnp.ones_like(x),))
    np.testing.assert_array_equal(first, x - 0.5)
    np.testing.assert_array_equal(second, jnp.full_like(x, -0.25))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_gaussian_likelihood_is_scipys_summed_over_pixels(sigma):
    mean, x = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    expected = scipy.stats.norm.logpdf(x, mean, sigma).sum(axis=1)
    likelihood = gaussian.make(sigma=sigma)
    np.testing.assert_allclose(likelihood.log_prob(pixels(mean), pixels(x)), expected, rtol=1e-5)
    np.testing.assert_array_equal(likelihood.mean(pixels(mean)), pixels(mean))


def test_gaussian_likelihood_of_sigma_one_is_half_the_squared_error():
    a, b = pixels([[0.0, 0.0, 0.0]]), pixels([[1.0, 2.0, 3.0]])
    likelihood = gaussian.make(sigma=1.0)
    np.testing.assert_allclose(likelihood.log_prob(a, a) - likelihood.log_prob(a, b), [7.0], rtol=1e-5)


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
def test_a_likelihood_is_one_number_for_each_image_and_grows_with_its_pixels(name):
    likelihood = likelihoods.get(name)()
    x = jnp.asarray(RNG.integers(0, 2, (3, 4, 5, 2)), jnp.float32)
    parameters = jnp.asarray(RNG.normal(size=(3, 4, 5, 2 * likelihood.channels + likelihood.shared)), jnp.float32)
    log_prob = jax.jit(likelihood.log_prob)
    one = log_prob(parameters, x)
    double = log_prob(jnp.tile(parameters, (1, 2, 1, 1)), jnp.tile(x, (1, 2, 1, 1)))
    assert one.shape == (3,)
    assert likelihood.mean(parameters).shape == x.shape
    np.testing.assert_allclose(double, 2 * one, rtol=1e-4)
    np.testing.assert_allclose(one[1:2], log_prob(parameters[1:2], x[1:2]), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_a_sigma_that_is_no_scale_is_refused(sigma):
    with pytest.raises(UserError, match=r"^config\.likelihood\.sigma: .*positive") as error:
        gaussian.make(sigma=sigma)
    assert "\n" not in str(error.value)


def test_a_misspelt_likelihood_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"config\.likelihood\.name: 'bernouli' .* did you mean 'bernoulli'\?"):
        likelihoods.get("bernouli")


LEVELS = np.arange(256, dtype=np.float32) / 255
EXTREME = np.float32([-1e4, -200, -89, -20, -1, -1e-6, 0, 1e-6, 0.3, 1, 20, 89, 200, 1e4])
"""What a decoder may return."""


def parameters(likelihood, count, rng=RNG, spread=1.0):
    """Random parameters of `count` images of 2 x 2 pixels and 3 channels."""
    return jnp.asarray(rng.normal(0, spread, (count, 2, 2, 3 * likelihood.channels + likelihood.shared)), jnp.float32)


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
def test_a_likelihood_reads_the_numbers_of_each_channel_of_each_pixel(name):
    # A change of one pixel's own numbers changes that pixel's term and no other's: found by one pixel at a time.
    likelihood = likelihoods.get(name)()
    p, x = parameters(likelihood, 1), jnp.asarray(RNG.integers(0, 256, (1, 2, 2, 3)) / 255, jnp.float32)
    log_prob = jax.jit(likelihood.log_prob)
    whole, total = log_prob(p, x)[0], 0.0
    for row in range(2):
        for column in range(2):
            for channel in range(3):
                own = p[:, row, column, channel * likelihood.channels : (channel + 1) * likelihood.channels]
                total += log_prob(own.reshape(1, 1, 1, -1), x[:, row, column, channel].reshape(1, 1, 1, 1))[0]
    np.testing.assert_allclose(whole, total, rtol=1e-4)


SCALED = {
    "gaussian": ("sigma", scipy.stats.norm),
    "laplace": ("width", scipy.stats.laplace),
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", _scale.SCALES)
def test_location_scale_densities_are_scipys(name, scale):
    field, family = SCALED[name]
    likelihood = likelihoods.get(name)(**{field: 0.2}, scale=scale)
    p, x = parameters(likelihood, 4), jnp.asarray(RNG.uniform(size=(4, 2, 2, 3)), jnp.float32)
    if scale == "shared":
        p = p.at[..., -1].set(0.7)
    wide = np.asarray(p, np.float64)
    mean = {"fixed": wide, "shared": wide[..., :-1], "pixel": wide[..., 0::2]}[scale]
    raw = {"fixed": 0.0, "shared": 0.7, "pixel": wide[..., 1::2]}[scale]
    width = 0.2 * np.exp(raw)  # the least scale, 0.001, is far: softplus adds it up
    width = 0.2 if scale == "fixed" else width + 1e-3
    expected = family.logpdf(x, mean, width).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(likelihood.log_prob(p, x), expected, rtol=1e-4)
    np.testing.assert_allclose(likelihood.mean(p), mean, rtol=1e-6)


def test_a_shared_sigma_starts_where_it_is_told_and_finds_the_root_mean_square_error():
    likelihood = gaussian.make(sigma=0.3, scale="shared")
    mean, x = jnp.asarray(RNG.uniform(size=(2, 64, 4, 4, 1)), jnp.float32)

    def loss(shared):
        everywhere = jnp.broadcast_to(shared.reshape(1, 1, 1, 1), mean.shape)
        return -jnp.mean(likelihood.log_prob(jnp.concatenate([mean, everywhere], axis=-1), x))

    start = -scipy.stats.norm.logpdf(x, mean, 0.3 + 1e-3).sum(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(loss(jnp.zeros(())), start, rtol=1e-4)
    best = scipy.optimize.minimize_scalar(lambda s: float(loss(jnp.float32(s))), bracket=(-1, 1))
    np.testing.assert_allclose(0.3 * math.exp(best.x) + 1e-3, math.sqrt(np.mean((x - mean) ** 2)), rtol=1e-3)


LOGITS = [-60, -20, -3, -0.5001, -0.4999, -1e-3, -1e-12, 0, 1e-4, 0.4999, 0.5001, 7, 60]


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_a_density_with_its_mean(logit):
    likelihood = continuous_bernoulli.make()
    p = jnp.full((1, 1, 1, 1), logit, jnp.float32)
    wide = float(np.float32(logit))
    normalizer = 1 / scipy.integrate.quad(lambda x: math.exp(wide * x - max(wide, 0)), 0, 1, epsabs=1e-13)[0]
    for x in (0.0, 0.2, 1.0):
        expected = wide * x - max(wide, 0) + math.log(normalizer)
        found = likelihood.log_prob(p, jnp.full((1, 1, 1, 1), x, jnp.float32))
        np.testing.assert_allclose(found, [expected], rtol=2e-6, atol=2e-6)
    mean = normalizer * scipy.integrate.quad(lambda x: x * math.exp(wide * x - max(wide, 0)), 0, 1, epsabs=1e-13)[0]
    np.testing.assert_allclose(likelihood.mean(p), [[[[mean]]]], rtol=1e-5, atol=1e-6)


def test_continuous_bernoulli_gradient_is_x_minus_the_mean_at_any_logit():
    likelihood = continuous_bernoulli.make()
    p, x = pixels(EXTREME[:, None]), pixels(np.full((len(EXTREME), 1), 0.3))
    values = likelihood.log_prob(p, x)
    gradient = jax.grad(lambda p: likelihood.log_prob(p, x).sum())(p)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(gradient, x - likelihood.mean(p), atol=1e-5)
    second = jax.grad(lambda p: likelihood.mean(p).sum())(p)  # the variance: 1/12 at logit 0
    np.testing.assert_allclose(second.ravel()[5:8], 1 / 12, rtol=1e-4)
    assert np.isfinite(second).all()


@pytest.mark.parametrize("name", ["discretized_logistic", "logistic_mixture", "bernoulli"])
@pytest.mark.parametrize("spread", [1.0, 5.0, 30.0])
def test_probabilities_sum_to_one_over_the_levels(name, spread):
    likelihood, count = likelihoods.get(name)(), 20
    levels = LEVELS if likelihood.levels == 256 else np.float32([0, 1])
    p = np.random.default_rng(1).normal(0, spread, (count, likelihood.channels)).astype(np.float32)
    rows = jnp.repeat(p, len(levels), axis=0).reshape(-1, 1, 1, likelihood.channels)
    log_prob = likelihood.log_prob(rows, pixels(np.tile(levels, count)[:, None]))
    total = np.exp(np.asarray(log_prob, np.float64)).reshape(count, -1).sum(axis=1)
    np.testing.assert_allclose(total, 1, rtol=2e-4)


LOGISTICS = [(0.5, -2.3), (0.0, -3.0), (1.3, -1.0), (0.5, -5.5), (-0.2, 2.0), (0.4, 12.0)]


@pytest.mark.parametrize(("mean", "log_scale"), LOGISTICS)
def test_a_level_has_the_mass_of_its_bin(mean, log_scale):
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    logistic = scipy.stats.logistic(mean, math.exp(log_scale))
    below, above = np.diff(logistic.cdf(edges)), -np.diff(logistic.sf(edges))
    expected = np.where(edges[:-1] > mean, above, below)  # the difference of the two small numbers, not of 1 - small
    full = lambda value: jnp.full(256, value, jnp.float32)  # noqa: E731
    found = np.asarray(_levels.log_level(jnp.asarray(LEVELS), full(mean), full(log_scale)))
    seen = expected > 1e-30
    np.testing.assert_allclose(found[seen], np.log(expected[seen]), rtol=3e-4, atol=3e-4)


def test_levels_far_from_a_narrow_logistic_keep_a_slope_that_leads_back():
    mean = jnp.float32([0.9])
    gradient = jax.grad(lambda mean: _levels.log_level(jnp.float32([0.1]), mean, jnp.float32([-8.0]))[0])(mean)
    np.testing.assert_allclose(gradient, [-math.exp(8.0)], rtol=1e-3)  # -1/s, where a density of 1e-12 would be flat


def test_a_mixture_of_one_is_the_logistic_and_of_equals_too():
    one, three = logistic_mixture.make(components=1), logistic_mixture.make(components=3)
    logistic = discretized_logistic.make()
    x = jnp.asarray(RNG.integers(0, 256, (4, 2, 2, 3)) / 255, jnp.float32)
    p = parameters(logistic, 4)
    mean, raw = p[..., 0::2], p[..., 1::2]
    expected = logistic.log_prob(p, x)
    as_one = jnp.stack([jnp.ones_like(mean), mean, raw], axis=-1).reshape(4, 2, 2, 9)
    np.testing.assert_allclose(one.log_prob(as_one, x), expected, rtol=1e-5)
    starts = jnp.float32([1 / 6, 3 / 6, 5 / 6]).reshape(1, 1, 1, 1, 3)
    means = mean[..., None] + 0.5 - starts
    raws = jnp.broadcast_to(raw[..., None], means.shape)
    weights = jnp.broadcast_to(jnp.float32([1, 2, 3]).reshape(1, 1, 1, 1, 3), means.shape)
    as_three = jnp.stack([weights, means, raws], axis=-2).reshape(4, 2, 2, 27)
    np.testing.assert_allclose(three.log_prob(as_three, x), expected, rtol=1e-4)


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
@pytest.mark.parametrize("scale", [None, "shared", "pixel"])
def test_likelihoods_and_their_gradients_are_finite_at_extremes(name, scale):
    if scale and name not in SCALED:
        return
    likelihood = likelihoods.get(name)(**({"scale": scale} if scale else {}))
    numbers = likelihood.channels + likelihood.shared
    for x, others in itertools.product((0.0, 1 / 255, 0.5, 1.0), (0.0, -1e4, 40.0)):
        p = jnp.full((len(EXTREME), 1, 1, numbers), others, jnp.float32).at[:, 0, 0, 0].set(EXTREME)
        images = jnp.full((len(EXTREME), 1, 1, 1), x, jnp.float32)
        values, gradient = jax.value_and_grad(lambda p, images=images: likelihood.log_prob(p, images).sum())(p)
        assert np.isfinite(values), (x, others)
        assert np.isfinite(gradient).all(), (x, others)


def test_each_likelihood_says_what_it_is_of():
    levels = {name: likelihoods.get(name)().levels for name in likelihoods.LIKELIHOODS}
    assert levels["bernoulli"] == 2
    assert levels["discretized_logistic"] == levels["logistic_mixture"] == 256
    assert levels["gaussian"] == levels["laplace"] == levels["continuous_bernoulli"] == 0


def test_a_scale_or_a_count_that_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"config\.likelihood\.scale: 'pixels' is unknown; .* did you mean 'pixel'"):
        gaussian.make(scale="pixels")
    with pytest.raises(UserError, match=r"config\.likelihood\.width: -1"):
        laplace.make(width=-1.0)
    with pytest.raises(UserError, match=r"config\.likelihood\.components: 0"):
        logistic_mixture.make(components=0)


DRAWN = [
    *((name, {}) for name in likelihoods.LIKELIHOODS),
    *((name, {"scale": scale}) for name in SCALED for scale in ("shared", "pixel")),
]


def masses(likelihood, p):
    """The probability of each of the levels at one pixel's parameters."""
    levels = LEVELS if likelihood.levels == 256 else np.float32([0, 1])
    rows = jnp.repeat(jnp.reshape(p, (1, 1, 1, -1)), len(levels), axis=0)
    return levels, np.exp(np.asarray(likelihood.log_prob(rows, pixels(levels[:, None])), np.float64))


@pytest.mark.parametrize("name", ["bernoulli", "discretized_logistic", "logistic_mixture"])
@pytest.mark.parametrize(("spread", "narrower"), [(0.5, 3.0), (2.0, 0.0)])
def test_levels_are_drawn_as_often_as_they_are_probable(name, spread, narrower, key):
    likelihood = likelihoods.get(name)()
    p = np.random.default_rng(2).normal(0, spread, likelihood.channels).astype(np.float32)
    p[-max(1, likelihood.channels // 3) :] -= narrower  # a scale of a few levels
    levels, probability = masses(likelihood, p)
    wide = jnp.tile(jnp.reshape(p, (1, 1, 1, -1)), (100, 20, 20, 1))
    drawn = np.asarray(likelihood.sample(wide, key, jnp.arange(100))).ravel()
    number = np.abs(np.round(drawn * (len(levels) - 1))).astype(int)
    np.testing.assert_allclose(levels[number], drawn, rtol=1e-6)
    counts = np.bincount(number, minlength=len(levels))
    expected = probability / probability.sum() * len(drawn)
    rare = expected < 10
    merge = lambda each: [*each[~rare], each[rare].sum()] if rare.any() else each  # noqa: E731
    observed, expected = np.asarray(merge(counts)), np.asarray(merge(expected)) + 1e-9
    assert observed[-1] < expected[-1] + 5 * math.sqrt(expected[-1]) + 1
    assert scipy.stats.chisquare(observed, expected / expected.sum() * len(drawn)).pvalue > 1e-3


@pytest.mark.parametrize(("name", "fields"), [given for given in DRAWN if likelihoods.get(given[0])().levels == 0])
def test_grey_levels_are_drawn_from_the_density(name, fields, key):
    likelihood = likelihoods.get(name)(**fields)
    p = jnp.float32([0.4, 0.7][: likelihood.channels + likelihood.shared])
    drawn = np.asarray(likelihood.sample(jnp.tile(p.reshape(1, 1, 1, -1), (5000, 1, 1, 1)), key, jnp.arange(5000)))
    ends = (0, 1) if name == "continuous_bernoulli" else (-6, 6)
    grid = np.linspace(*ends, 40_001, dtype=np.float32)
    rows = jnp.repeat(p.reshape(1, 1, 1, -1), len(grid), axis=0)
    density = np.exp(np.asarray(likelihood.log_prob(rows, pixels(grid[:, None])), np.float64))
    below = scipy.integrate.cumulative_trapezoid(density, np.float64(grid), initial=0)
    np.testing.assert_allclose(below[-1], 1, atol=1e-3)
    assert scipy.stats.kstest(np.interp(drawn.ravel(), grid, below), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_draws_have_its_mean_at_any_logit(logit, key):
    likelihood = continuous_bernoulli.make()
    drawn = np.asarray(likelihood.sample(jnp.full((4, 50, 50, 1), logit, jnp.float32), key, jnp.arange(4)))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    mean = likelihood.mean(jnp.full((1, 1, 1, 1), logit, jnp.float32)).item()
    np.testing.assert_allclose(drawn.mean(dtype=np.float64), mean, atol=4 * drawn.std() / 100)


@pytest.mark.parametrize(("name", "fields"), DRAWN)
def test_draws_of_each_channel_of_each_pixel_have_its_mean(name, fields, key):
    likelihood = likelihoods.get(name)(**fields)
    p = parameters(likelihood, 1, np.random.default_rng(5))
    drawn = np.asarray(likelihood.sample(jnp.repeat(p, 4000, axis=0), key, jnp.arange(4000)), np.float64)
    assert drawn.shape == (4000, 2, 2, 3)
    mean = np.asarray(likelihood.mean(p), np.float64)[0]
    if likelihood.levels == 256:  # whose `mean` is that of the logistic
        own = np.asarray(p).reshape(12, -1)
        mean = np.reshape([levels @ mass for levels, mass in (masses(likelihood, one) for one in own)], (2, 2, 3))
    error = drawn.std(axis=0) / math.sqrt(4000)
    assert (np.abs(drawn.mean(axis=0) - mean) < 4.5 * error + 1e-6).all()
    apart = (drawn - drawn.mean(axis=0)[None]).reshape(4000, 12) / np.maximum(drawn.std(axis=0), 1e-6).reshape(1, 12)
    between = apart.T @ apart / 4000
    assert np.abs(between - np.diag(np.diag(between))).max() < 0.1  # pixels are independent given z


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
def test_a_draw_belongs_to_its_example(name, key):
    likelihood = likelihoods.get(name)()
    p, index = parameters(likelihood, 3), jnp.array([3, 900, 7])
    drawn = likelihood.sample(p, key, index)
    np.testing.assert_array_equal(likelihood.sample(p[1:], key, index[1:]), drawn[1:])
    same = likelihood.sample(jnp.repeat(p[:1], 3, axis=0), key, index)
    assert not np.array_equal(same[0], same[1])


@pytest.mark.parametrize("name", likelihoods.LIKELIHOODS)
def test_draws_are_images_at_extremes(name, key):
    likelihood = likelihoods.get(name)()
    numbers = likelihood.channels + likelihood.shared
    for others in (0.0, -1e4, 40.0):
        p = jnp.full((len(EXTREME), 2, 2, numbers), others, jnp.float32).at[..., 0].set(EXTREME[:, None, None])
        drawn = np.asarray(likelihood.sample(p, key, jnp.arange(len(EXTREME))))
        assert np.isfinite(drawn).all()
        if likelihood.levels:
            number = drawn * np.float64(likelihood.levels - 1)
            np.testing.assert_allclose(number, np.clip(np.round(number), 0, likelihood.levels - 1), atol=1e-4)


GREY = {"data.binarize": "none", "likelihood.name": "gaussian"}


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_a_learned_sigma_beats_guesses_and_comes_near_the_best(length):
    steps, guesses = {"short": (600, (1.0, 0.1)), "full": (2000, (1.0, 0.3, 0.2, 0.15, 0.1, 0.05))}[length]
    elbo = lambda **fields: trained_digits.on_digits(steps, **GREY, **fields).test["elbo"]  # noqa: E731
    learned = elbo(**{"likelihood.scale": "shared"})
    fixed = {sigma: elbo(**{"likelihood.sigma": sigma}) for sigma in guesses}
    assert learned > fixed[1.0] + 50, (learned, fixed)
    assert learned > max(fixed.values()) - 2, (learned, fixed)  # the best guess is found by a search
    if length == "full":
        assert learned > max(value for sigma, value in fixed.items() if sigma != 0.1) + 2
        assert elbo(**{"likelihood.scale": "pixel"}) > learned + 5
