"""Each likelihood against scipy or quadrature, at its extremes too; the discrete ones sum to 1."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
from helpers import trained_digits

from vae_jax import model, registry
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.models import likelihoods
from vae_jax.models.likelihoods import (
    Likelihood,
    _levels,
    _scale,
    bernoulli,
    continuous_bernoulli,
    gaussian,
    laplace,
    logistic_mixture,
)

RNG = np.random.default_rng(0)
NAMES = registry.file_names("vae_jax.models.likelihoods")
ROWS, DRAWS = 5120, 4000
"""How many images a compiled function takes: of one number each, and of 2 x 2 pixels and 3 channels."""
LEVELS = np.arange(256, dtype=np.float32) / 255
EXTREME = np.float32([-1e4, -200, -89, -20, -1, -1e-6, 0, 1e-6, 0.3, 1, 20, 89, 200, 1e4])
"""What a decoder may return."""


class Compiled(NamedTuple):
    """A likelihood and its functions, compiled once for each shape that the tests share."""

    likelihood: Likelihood
    log_prob: Callable
    mean: Callable
    sample: Callable

    @property
    def numbers(self):
        """The decoder's numbers for one pixel of one channel."""
        return self.likelihood.channels + self.likelihood.shared


@functools.cache
def compiled(name, **fields):
    likelihood = likelihoods.get(name)(**fields)
    return Compiled(likelihood, *map(jax.jit, (likelihood.log_prob, likelihood.mean, likelihood.sample)))


def pixels(values):
    """A batch of images of one row, one image for each row of `values`."""
    values = np.asarray(values, np.float32)
    return values.reshape(len(values), 1, -1, 1)


def parameters(of, count, rng=RNG, spread=1.0):
    """Random parameters of `count` images of 2 x 2 pixels and 3 channels."""
    shape = (count, 2, 2, 3 * of.likelihood.channels + of.likelihood.shared)
    return rng.normal(0, spread, shape).astype(np.float32)


def images_of(of, rows):
    """Parameters of images of 2 x 2 pixels and 3 channels, all pixels of image i with the numbers rows[i]."""
    rows = np.atleast_2d(np.float32(rows))
    wide = np.concatenate([*[rows[:, : of.likelihood.channels]] * 3, rows[:, of.likelihood.channels :]], axis=1)
    return np.broadcast_to(wide[:, None, None], (len(rows), 2, 2, wide.shape[1]))


def log_probs(of, rows, x):
    """log p of the single numbers x, (n,), under the parameters `rows`, (n, numbers), in float64."""
    rows, x, chunks = np.float32(rows), np.float32(x), -(-len(x) // ROWS)
    parts = zip(
        np.resize(rows, (chunks, ROWS, 1, 1, rows.shape[1])), np.resize(x, (chunks, ROWS, 1, 1, 1)), strict=True
    )
    return np.concatenate([np.asarray(of.log_prob(p, values), np.float64) for p, values in parts])[: len(x)]


def draws(of, parameters, key, index=None):
    """One draw for each example, (DRAWS, 2, 2, 3); parameters of fewer images are repeated."""
    index = np.arange(DRAWS) if index is None else index
    return np.asarray(of.sample(np.resize(parameters, (DRAWS, *parameters.shape[1:])), key, np.int32(index)))


def means(of, parameters):
    """The expected images; parameters are of at most four."""
    return np.asarray(of.mean(np.resize(parameters, (4, *parameters.shape[1:]))))[: len(parameters)]


def masses(of, rows):
    """The levels, and the probability of each under each of `rows`, (n, levels)."""
    levels = LEVELS if of.likelihood.levels == 256 else np.float32([0, 1])
    x = np.tile(levels, len(rows))
    return levels, np.exp(log_probs(of, np.repeat(rows, len(levels), axis=0), x)).reshape(len(rows), -1)


def test_bernoulli_is_scipys_summed_over_pixels():
    logits, x = RNG.normal(0, 3, (4, 6)).astype(np.float32), RNG.integers(0, 2, (4, 6))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits.astype(np.float64))).sum(axis=1)
    of = compiled("bernoulli")
    np.testing.assert_allclose(of.log_prob(pixels(logits), pixels(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(of.mean(pixels(logits)).ravel(), scipy.special.expit(logits).ravel(), rtol=1e-5)


def with_gradient(log_prob):
    """(parameters, x) -> (the gradient of the sum, log p of each image), compiled."""

    def summed(parameters, x):
        values = log_prob(parameters, x)
        return values.sum(), values

    return jax.jit(jax.grad(summed, has_aux=True))


BERNOULLI_GRADIENT = with_gradient(bernoulli.make().log_prob)


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_bernoulli_and_its_gradient_are_exact_at_any_logit(x):
    logits = np.float32([-1e4, -200, -89, -88, -3, -1e-6, 1e-6, 0.5, 20, 89, 200, 1e4])[:, None]
    x = np.full_like(logits, x)
    gradients, values = BERNOULLI_GRADIENT(pixels(logits), pixels(x))
    wide, wide_x = logits.astype(np.float64), x.astype(np.float64)
    np.testing.assert_allclose(values, (wide_x * wide - np.logaddexp(0, wide))[:, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradients, pixels(wide_x - scipy.special.expit(wide)), rtol=1e-6, atol=2e-7)


def test_bernoulli_slopes_at_logit_zero_are_those_of_the_sigmoid():
    x = pixels([[0.0, 0.25, 1.0]])

    @jax.jit
    def slopes(logits, x):
        gradient = jax.grad(lambda logits: bernoulli.make().log_prob(logits, x)[0])
        return jax.jvp(gradient, (logits,), (jnp.ones_like(logits),))

    first, second = slopes(np.zeros_like(x), x)
    np.testing.assert_array_equal(first, x - 0.5)
    np.testing.assert_array_equal(second, np.full_like(x, -0.25))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_gaussian_likelihood_is_scipys_summed_over_pixels(sigma):
    mean, x = RNG.normal(size=(2, 4, 6)).astype(np.float32)
    expected = scipy.stats.norm.logpdf(x, mean, sigma).sum(axis=1)
    of = compiled("gaussian", sigma=sigma)
    np.testing.assert_allclose(of.log_prob(pixels(mean), pixels(x)), expected, rtol=1e-5)
    np.testing.assert_array_equal(of.mean(pixels(mean)), pixels(mean))


def test_gaussian_likelihood_of_sigma_one_is_half_the_squared_error():
    mean, x = np.zeros((4, 6)), np.float32([[0] * 6, [1, 2, 3, 0, 0, 0], [0] * 6, [0] * 6])
    at_mean, away, *_ = compiled("gaussian", sigma=1.0).log_prob(pixels(mean), pixels(x))
    np.testing.assert_allclose(at_mean - away, 7.0, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_likelihood_is_one_number_for_each_image_and_grows_with_its_pixels(name):
    of = compiled(name)
    p, x = parameters(of, 4), RNG.integers(0, 2, (4, 2, 2, 3)).astype(np.float32)
    values = of.log_prob(p, x)
    doubled = of.log_prob(np.tile(p, (1, 2, 1, 1)), np.tile(x, (1, 2, 1, 1)))
    assert values.shape == (4,)
    assert of.mean(p).shape == x.shape
    np.testing.assert_allclose(doubled, 2 * values, rtol=1e-4)
    order = [1, 1, 3, 0]  # among other images
    np.testing.assert_allclose(values[np.array(order)], of.log_prob(p[order], x[order]), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_a_sigma_that_is_no_scale_is_refused(sigma):
    with pytest.raises(UserError, match=r"^sigma: .*positive") as error:
        gaussian.make(sigma=sigma)
    assert "\n" not in str(error.value)


def test_a_misspelt_likelihood_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"^name: 'bernouli' .* did you mean 'bernoulli'\?"):
        likelihoods.get("bernouli")


@pytest.mark.parametrize("name", NAMES)
def test_a_likelihood_reads_the_numbers_of_each_channel_of_each_pixel(name):
    # A change of one pixel's own numbers changes that pixel's term and no other's: the sum of one pixel at a time.
    of = compiled(name)
    p, x = parameters(of, 4), np.float32(RNG.integers(0, 256, (4, 2, 2, 3)) / 255)
    terms = log_probs(of, p.reshape(4 * 12, of.numbers), x.ravel()).reshape(4, 12)
    np.testing.assert_allclose(of.log_prob(p, x), terms.sum(axis=1), rtol=1e-4)


SCALED = {
    "gaussian": ("sigma", scipy.stats.norm),
    "laplace": ("width", scipy.stats.laplace),
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", _scale.SCALES)
def test_location_scale_densities_are_scipys(name, scale):
    field, family = SCALED[name]
    of = compiled(name, **{field: 0.2}, scale=scale)
    p, x = parameters(of, 4), RNG.uniform(size=(4, 2, 2, 3)).astype(np.float32)
    if scale == "shared":
        p[..., -1] = 0.7
    wide = np.float64(p)
    mean = {"fixed": wide, "shared": wide[..., :-1], "pixel": wide[..., 0::2]}[scale]
    raw = {"fixed": 0.0, "shared": 0.7, "pixel": wide[..., 1::2]}[scale]
    width = 0.2 * np.exp(raw)  # the least scale, 0.001, is far: softplus adds it up
    width = 0.2 if scale == "fixed" else width + 1e-3
    expected = family.logpdf(x, mean, width).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(of.log_prob(p, x), expected, rtol=1e-4)
    np.testing.assert_allclose(of.mean(p), mean, rtol=1e-6)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", _scale.SCALES)
def test_a_sigmoid_mean_is_the_same_density_around_the_sigmoid_of_the_number(name, scale):
    of, linear = (compiled(name, scale=scale, mean=mean) for mean in ("sigmoid", "linear"))
    p, x = parameters(of, 4, spread=3.0), RNG.uniform(size=(4, 2, 2, 3)).astype(np.float32)
    mean = slice(0, None, 2) if scale == "pixel" else slice(0, 3)
    squashed = p.copy()
    squashed[..., mean] = scipy.special.expit(np.float64(p[..., mean]))
    np.testing.assert_allclose(of.log_prob(p, x), linear.log_prob(squashed, x), rtol=1e-4)
    np.testing.assert_allclose(of.mean(p), squashed[..., mean], rtol=1e-5)
    np.testing.assert_allclose(draws(of, p, jax.random.key(0)), draws(linear, squashed, jax.random.key(0)), atol=1e-4)


def test_a_new_config_has_a_sigmoid_mean_and_one_without_the_field_a_linear_one():
    rows = images_of(compiled("gaussian"), [[3.0], [-2.0], [0.0], [1.0]])
    for name in SCALED:
        assert likelihoods.defaults(name)["mean"] == "sigmoid"
        assert likelihoods.absent_fields(name)["mean"] == "linear"
        np.testing.assert_array_equal(means(compiled(name), rows), rows)
    with pytest.raises(UserError, match=r"^mean: 'sigmoids' is unknown; .* did you mean 'sigmoid'\?"):
        gaussian.make(mean="sigmoids")


def test_a_saved_config_without_the_field_is_built_with_a_linear_mean():
    config = load_config("digits", **{"data.binarize": "none", "likelihood.name": "gaussian"}).to_dict()
    numbers = jnp.full((1, 8, 8, 1), 3.0)
    np.testing.assert_allclose(model.build(config, (8, 8, 1)).likelihood.mean(numbers), scipy.special.expit(3.0), 1e-6)
    assert config["likelihood"].pop("mean") == "sigmoid"
    model.check_fields(config)
    np.testing.assert_array_equal(model.build(config, (8, 8, 1)).likelihood.mean(numbers), numbers)


def test_a_shared_sigma_starts_where_it_is_told_and_finds_the_root_mean_square_error():
    likelihood = gaussian.make(sigma=0.3, scale="shared")
    mean, x = RNG.uniform(size=(2, 64, 4, 4, 1)).astype(np.float32)

    @jax.jit
    def loss(shared, mean, x):
        tiled = jnp.broadcast_to(shared.reshape(1, 1, 1, 1), mean.shape)
        return -jnp.mean(likelihood.log_prob(jnp.concatenate([mean, tiled], axis=-1), x))

    start = -scipy.stats.norm.logpdf(x, mean, 0.3 + 1e-3).sum(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(loss(np.float32(0), mean, x), start, rtol=1e-4)
    best = scipy.optimize.minimize_scalar(lambda s: float(loss(np.float32(s), mean, x)), bracket=(-1, 1))
    np.testing.assert_allclose(0.3 * math.exp(best.x) + 1e-3, math.sqrt(np.mean((x - mean) ** 2)), rtol=1e-3)


LOGITS = [-60, -20, -3, -0.5001, -0.4999, -1e-3, -1e-12, 0, 1e-4, 0.4999, 0.5001, 7, 60]


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_a_density_with_its_mean(logit):
    of = compiled("continuous_bernoulli")
    wide = float(np.float32(logit))
    normalizer = 1 / scipy.integrate.quad(lambda x: math.exp(wide * x - max(wide, 0)), 0, 1, epsabs=1e-13)[0]
    x = np.array([0.0, 0.2, 1.0])
    expected = wide * np.float64(np.float32(x)) - max(wide, 0) + math.log(normalizer)
    np.testing.assert_allclose(log_probs(of, np.full((3, 1), logit), x), expected, rtol=2e-6, atol=2e-6)
    mean = normalizer * scipy.integrate.quad(lambda x: x * math.exp(wide * x - max(wide, 0)), 0, 1, epsabs=1e-13)[0]
    np.testing.assert_allclose(means(of, images_of(of, [logit])), np.full((1, 2, 2, 3), mean), rtol=1e-5, atol=1e-6)


def test_continuous_bernoulli_gradient_is_x_minus_the_mean_at_any_logit():
    likelihood = continuous_bernoulli.make()
    p, x = pixels(EXTREME[:, None]), pixels(np.full((len(EXTREME), 1), 0.3))

    @jax.jit
    def slopes(p, x):
        mean, pull = jax.vjp(likelihood.mean, p)
        gradient, values = with_gradient(likelihood.log_prob)(p, x)
        return values, gradient, mean, pull(jnp.ones_like(mean))[0]

    values, gradient, mean, second = slopes(p, x)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(gradient, x - mean, atol=1e-5)
    np.testing.assert_allclose(second.ravel()[5:8], 1 / 12, rtol=1e-4)  # the variance: 1/12 at logit 0
    assert np.isfinite(second).all()


@pytest.mark.parametrize("name", ["discretized_logistic", "logistic_mixture", "bernoulli"])
@pytest.mark.parametrize("spread", [1.0, 5.0, 30.0])
def test_probabilities_sum_to_one_over_the_levels(name, spread):
    of = compiled(name)
    _, probabilities = masses(of, np.random.default_rng(1).normal(0, spread, (20, of.numbers)).astype(np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=2e-4)


LOGISTICS = [(0.5, -2.3), (0.0, -3.0), (1.3, -1.0), (0.5, -5.5), (-0.2, 2.0), (0.4, 12.0)]
LOG_LEVEL = jax.jit(_levels.log_level)


@pytest.mark.parametrize(("mean", "log_scale"), LOGISTICS)
def test_a_level_has_the_mass_of_its_bin(mean, log_scale):
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    logistic = scipy.stats.logistic(mean, math.exp(log_scale))
    below, above = np.diff(logistic.cdf(edges)), -np.diff(logistic.sf(edges))
    expected = np.where(edges[:-1] > mean, above, below)  # the difference of the two small numbers, not of 1 - small
    values = np.asarray(LOG_LEVEL(LEVELS, np.full(256, mean, np.float32), np.full(256, log_scale, np.float32)))
    seen = expected > 1e-30
    np.testing.assert_allclose(values[seen], np.log(expected[seen]), rtol=3e-4, atol=3e-4)


def test_levels_far_from_a_narrow_logistic_keep_a_slope_that_leads_back():
    slope = jax.jit(jax.grad(lambda mean, x, log_scale: _levels.log_level(x, mean, log_scale)[0]))
    gradient = slope(*np.float32([[0.9], [0.1], [-8.0]]))
    np.testing.assert_allclose(gradient, [-math.exp(8.0)], rtol=1e-3)  # -1/s, where a density of 1e-12 would be flat


def test_a_mixture_of_one_is_the_logistic_and_of_equals_too():
    logistic = compiled("discretized_logistic")
    x = np.float32(RNG.integers(0, 256, (4, 2, 2, 3)) / 255)
    p = parameters(logistic, 4)
    mean, raw = p[..., 0::2], p[..., 1::2]
    expected = logistic.log_prob(p, x)
    alone = np.stack([np.ones_like(mean), mean, raw], axis=-1).reshape(4, 2, 2, 9)
    np.testing.assert_allclose(compiled("logistic_mixture", components=1).log_prob(alone, x), expected, rtol=1e-5)
    starts = np.float32([1 / 6, 3 / 6, 5 / 6]).reshape(1, 1, 1, 1, 3)
    shifted = mean[..., None] + np.float32(0.5) - starts
    raws = np.broadcast_to(raw[..., None], shifted.shape)
    weights = np.broadcast_to(np.float32([1, 2, 3]).reshape(1, 1, 1, 1, 3), shifted.shape)
    three = np.stack([weights, shifted, raws], axis=-2).reshape(4, 2, 2, 27)
    np.testing.assert_allclose(compiled("logistic_mixture", components=3).log_prob(three, x), expected, rtol=1e-4)


DRAWN = [
    *((name, {}) for name in NAMES),
    *((name, {"scale": scale}) for name in SCALED for scale in ("shared", "pixel")),
]


@pytest.mark.parametrize(("name", "fields"), DRAWN)
def test_likelihoods_and_their_gradients_are_finite_at_extremes(name, fields):
    of = compiled(name, **fields)
    cases = list(itertools.product((0.0, 1 / 255, 0.5, 1.0), (0.0, -1e4, 40.0), EXTREME))
    p = np.float32([[extreme, *[others] * (of.numbers - 1)] for _, others, extreme in cases])
    gradients, values = with_gradient(of.likelihood.log_prob)(p[:, None, None], pixels([[x] for x, _, _ in cases]))
    finite = np.isfinite(values) & np.isfinite(gradients).all(axis=(1, 2, 3))
    assert finite.all(), [case for case, good in zip(cases, finite, strict=True) if not good]


def test_each_likelihood_says_what_it_is_of():
    levels = {name: likelihoods.get(name)().levels for name in NAMES}
    assert levels["bernoulli"] == 2
    assert levels["discretized_logistic"] == levels["logistic_mixture"] == 256
    assert levels["gaussian"] == levels["laplace"] == levels["continuous_bernoulli"] == 0


def test_a_scale_or_a_count_that_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^scale: 'pixels' is unknown; .* did you mean 'pixel'"):
        gaussian.make(scale="pixels")
    with pytest.raises(UserError, match=r"^width: -1"):
        laplace.make(width=-1.0)
    with pytest.raises(UserError, match=r"^components: 0"):
        logistic_mixture.make(components=0)


@pytest.mark.parametrize("name", ["bernoulli", "discretized_logistic", "logistic_mixture"])
@pytest.mark.parametrize(("spread", "narrower"), [(0.5, 3.0), (2.0, 0.0)])
def test_levels_are_drawn_as_often_as_they_are_probable(name, spread, narrower, key):
    of = compiled(name)
    p = np.random.default_rng(2).normal(0, spread, of.numbers).astype(np.float32)
    p[-max(1, of.numbers // 3) :] -= narrower  # a scale of a few levels
    levels, (probability,) = masses(of, p[None])
    drawn = draws(of, images_of(of, p), key).ravel()
    number = np.abs(np.round(drawn * (len(levels) - 1))).astype(int)
    np.testing.assert_allclose(levels[number], drawn, rtol=1e-6)
    counts = np.bincount(number, minlength=len(levels))
    expected = probability / probability.sum() * len(drawn)
    rare = expected < 10
    if rare.any():
        counts, expected = (np.append(values[~rare], values[rare].sum()) for values in (counts, expected))
    expected = expected + 1e-9
    assert counts[-1] < expected[-1] + 5 * math.sqrt(expected[-1]) + 1
    assert scipy.stats.chisquare(counts, expected / expected.sum() * len(drawn)).pvalue > 1e-3


@pytest.mark.parametrize(("name", "fields"), [case for case in DRAWN if likelihoods.get(case[0])().levels == 0])
def test_grey_levels_are_drawn_from_the_density(name, fields, key):
    of = compiled(name, **fields)
    p = np.float32([0.4, 0.7][: of.numbers])
    drawn = draws(of, images_of(of, p), key)
    ends = (0, 1) if name == "continuous_bernoulli" else (-6, 6)
    grid = np.linspace(*ends, 8 * ROWS, dtype=np.float32)
    density = np.exp(log_probs(of, np.repeat(p[None], len(grid), axis=0), grid))
    below = scipy.integrate.cumulative_trapezoid(density, np.float64(grid), initial=0)
    np.testing.assert_allclose(below[-1], 1, atol=1e-3)
    assert scipy.stats.kstest(np.interp(drawn.ravel(), grid, below), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_draws_have_its_mean_at_any_logit(logit, key):
    of = compiled("continuous_bernoulli")
    drawn = draws(of, images_of(of, [logit]), key)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    mean = means(of, images_of(of, [logit])).ravel()[0]
    np.testing.assert_allclose(drawn.mean(dtype=np.float64), mean, atol=4 * drawn.std() / math.sqrt(drawn.size))


@pytest.mark.parametrize(("name", "fields"), DRAWN)
def test_draws_of_each_channel_of_each_pixel_have_its_mean(name, fields, key):
    of = compiled(name, **fields)
    p = parameters(of, 1, np.random.default_rng(5))
    drawn = np.float64(draws(of, p, key))
    assert drawn.shape == (DRAWS, 2, 2, 3)
    mean = np.float64(means(of, p))[0]
    if of.likelihood.levels == 256:  # whose `mean` is that of the logistic
        levels, probabilities = masses(of, p.reshape(12, -1))
        mean = np.reshape(probabilities @ levels, (2, 2, 3))
    error = drawn.std(axis=0) / math.sqrt(DRAWS)
    assert (np.abs(drawn.mean(axis=0) - mean) < 4.5 * error + 1e-6).all()
    scaled = (drawn - drawn.mean(axis=0)[None]).reshape(DRAWS, 12) / np.maximum(drawn.std(axis=0), 1e-6).reshape(1, 12)
    between = scaled.T @ scaled / DRAWS
    assert np.abs(between - np.diag(np.diag(between))).max() < 0.1  # pixels are independent given z


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_belongs_to_its_example(name, key):
    of, rng = compiled(name), np.random.default_rng(4)
    p, index = parameters(of, DRAWS), rng.permutation(100_000)[:DRAWS]
    drawn, order = draws(of, p, key, index), rng.integers(0, DRAWS, DRAWS)
    np.testing.assert_array_equal(draws(of, p[order], key, index[order]), drawn[order])
    same = draws(of, p[:1], key, index)
    assert not np.array_equal(same[0], same[1])


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_images_at_extremes(name, key):
    of = compiled(name)
    rows = [[extreme, *[others] * (of.numbers - 1)] for others in (0.0, -1e4, 40.0) for extreme in EXTREME]
    drawn = draws(of, images_of(of, rows), key)
    assert np.isfinite(drawn).all()
    if of.likelihood.levels:
        number = drawn * np.float64(of.likelihood.levels - 1)
        np.testing.assert_allclose(number, np.clip(np.round(number), 0, of.likelihood.levels - 1), atol=1e-4)


GREY = {"data.binarize": "none", "likelihood.name": "gaussian", "likelihood.mean": "linear"}


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_a_learned_sigma_beats_guesses_and_comes_near_the_best(length):
    steps, hidden, guesses = {
        "short": (600, "(128,)", (1.0, 0.1)),
        "long": (2000, "(128, 128)", (1.0, 0.3, 0.2, 0.15, 0.1, 0.05)),
    }[length]

    def elbo(**fields):
        return trained_digits.on_digits(steps, **GREY, **{"net.hidden": hidden}, **fields).test["elbo"]

    learned = elbo(**{"likelihood.scale": "shared"})
    fixed = {sigma: elbo(**{"likelihood.sigma": sigma}) for sigma in guesses}
    assert learned > fixed[1.0] + 50, (learned, fixed)
    assert learned > max(fixed.values()) - 2, (learned, fixed)  # the best guess is found by a search
    if length == "long":
        assert learned > max(value for sigma, value in fixed.items() if sigma != 0.1) + 2
        assert elbo(**{"likelihood.scale": "pixel"}) > learned + 5
