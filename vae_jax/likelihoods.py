"""What the decoder says of an image: log p(x | z), in nats per image, and the image it expects.

Nothing here reduces over examples. Densities are of grey levels in [0, 1]; discrete likelihoods give
probabilities, of 2 levels or of 256, and so bits/dim.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.distributions import LOG_2PI, example_keys
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels

Values = Float[Array, "..."]


class Likelihood(NamedTuple):
    """p(x | z) over pixels, given what the decoder returns.

    `log_prob(parameters, x)` is in nats per image, summed over pixels; `mean(parameters)` is the
    expected image; `sample(parameters, key, index)` draws an image for each example, a function of key and the
    example's index. Parameters are (batch, height, width, channels of an image * `channels` + `shared`):
    for each channel of each pixel its `channels` numbers side by side, then `shared` learned numbers
    that are the same everywhere. `levels` is how many values a pixel may take: 2, 256, or 0 for a density.
    `binarize` names the settings of config.data.binarize under which the likelihood makes sense.
    """

    log_prob: Callable[[Pixels, Images], PerExample]
    mean: Callable[[Pixels], Images]
    sample: Callable[[Pixels, Key, Indices], Images]
    channels: int
    levels: int
    binarize: tuple[str, ...] = ("none", "static", "dynamic")
    shared: int = 0


def _flat(x: Images) -> Float[Array, "batch pixels"]:
    # Vectorised loops run along the last axis, which for grey images has one channel.
    return x.reshape(len(x), -1)


def _split(parameters: Pixels, parts: int) -> tuple[Images, ...]:
    """The `parts` numbers of each channel of each pixel, as that many images."""
    shape = parameters.shape
    grouped = parameters.reshape(*shape[:-1], shape[-1] // parts, parts)
    return tuple(grouped[..., i] for i in range(parts))


def _noise(draw: Callable[[Key, tuple[int, ...]], Values], key: Key, index: Indices, like: Values) -> Values:
    """`draw(key, shape)` for each example, in the shape of `like`."""
    return jax.vmap(lambda key: draw(key, like.shape[1:]))(example_keys(key, index))


def _positive(field: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise registry.UserError(f"config.likelihood.{field}: {value} is not allowed; give a positive number")


def bernoulli() -> Likelihood:
    """Pixels are coins: log p(x) = x l - log(1 + e^l), l the logit (Kingma & Welling 2014, eq. 11).

    Written as x l - relu(l) - log1p(e^-|l|): finite at any finite logit, and so is its gradient x - sigmoid(l),
    at 0 too, where relu has the slope 0 and log1p(e^l), the branch taken there, the slope 1/2.
    For x strictly between 0 and 1 this is a cross-entropy and no log-probability: binarise the data.
    """

    def log_prob(logits: Pixels, x: Images) -> PerExample:
        logits, x = _flat(logits), _flat(x)
        smaller = jnp.exp(jnp.where(logits > 0, -logits, logits))
        # Two sums: in one, XLA's CPU compiler fuses the logarithm with what makes the logits, and vectorises neither.
        return jnp.sum(x * logits - jax.nn.relu(logits), axis=1) - jnp.sum(jnp.log1p(smaller), axis=1)

    def sample(logits: Pixels, key: Key, index: Indices) -> Images:
        uniform = _noise(jax.random.uniform, key, index, logits)
        return (uniform < jax.nn.sigmoid(logits)).astype(jnp.float32)

    return Likelihood(log_prob, jax.nn.sigmoid, sample, channels=1, levels=2)


def _at_least(least: float, value: Values) -> Values:
    # A softplus: the identity well above the least, and below it a gradient that leads back up.
    return least + jax.nn.softplus(value - least)


LEAST_LOG_SCALE = math.log(1e-3)
"""A quarter of a grey level of 256: a learned scale below it would fit the grid of levels, not the image."""


class Scale(NamedTuple):
    """Where a scale comes from: (decoder's numbers, log of the start) -> (mean, log scale); how many numbers.

    `binarize` as in Likelihood: on two levels a learned scale would go to its least, the density of what is none.
    """

    read: Callable[[Pixels, float], tuple[Images, Values]]
    channels: int
    shared: int
    binarize: tuple[str, ...] = ("none",)


def _fixed(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters, jnp.float32(start)


def _shared(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters[..., :-1], _at_least(LEAST_LOG_SCALE, start + parameters[..., -1:])


def _per_pixel(parameters: Pixels, start: float) -> tuple[Images, Values]:
    mean, relative = _split(parameters, 2)
    return mean, _at_least(LEAST_LOG_SCALE, start + relative)


SCALES = {
    "fixed": Scale(_fixed, 1, 0, ("none", "static", "dynamic")),
    "shared": Scale(_shared, 1, 1),
    "pixel": Scale(_per_pixel, 2, 0),
}


def _scaled(
    density: Callable[[Values, Values], Values], draw: Callable[..., Values], field: str, scale: str, start: float
) -> Likelihood:
    """The likelihood of a location-scale family: density((x - mean) / s, log s) with s as `scale` says.

    `draw(key, shape)` are draws of mean 0 and scale 1.
    """
    _positive(field, start)
    read, channels, shared, binarize = registry.choose("config.likelihood.scale", scale, SCALES)
    start = math.log(start)

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        mean, log_scale = read(parameters, start)
        mean, log_scale, x = _flat(mean), _flat(jnp.broadcast_to(log_scale, mean.shape)), _flat(x)
        return jnp.sum(density((x - mean) * jnp.exp(-log_scale), log_scale), axis=1)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        mean, log_scale = read(parameters, start)
        return mean + jnp.exp(log_scale) * _noise(draw, key, index, mean)

    mean = lambda parameters: read(parameters, start)[0]  # noqa: E731
    return Likelihood(log_prob, mean, sample, channels=channels, levels=0, binarize=binarize, shared=shared)


def gaussian(*, sigma: float = 0.1, scale: str = "fixed") -> Likelihood:
    """Pixels are N(mean, s^2), the decoder giving the mean: log p(x) = -(x - mean)^2 / (2 s^2) - log(s sqrt(2 pi)).

    `scale` says what s is: "fixed" at sigma; "shared", one learned number for all pixels and images that
    starts at sigma (the sigma-VAE, Rybkin et al. 2021, section 3.1, which weighs the two parts of the
    ELBO as their own units ask, so that beta has less to do); "pixel", from the decoder for each pixel.
    The squared error of the textbooks, summed over pixels and halved, is a fixed sigma of 1 without the
    constant. Raises UserError unless sigma is positive and finite, and for an unknown scale.
    """
    density = lambda u, log_s: -0.5 * jnp.square(u) - log_s - 0.5 * LOG_2PI  # noqa: E731
    return _scaled(density, jax.random.normal, "sigma", scale, sigma)


def laplace(*, width: float = 0.1, scale: str = "fixed") -> Likelihood:
    """Pixels are Laplace(mean, b): log p(x) = -|x - mean| / b - log(2 b); the decoder gives the mean, the median too.

    b is `width`, "fixed", or learned from there as for the gaussian. Raises UserError unless width is
    positive and finite, and for an unknown scale.
    """
    return _scaled(lambda u, log_b: -jnp.abs(u) - log_b - math.log(2), jax.random.laplace, "width", scale, width)


NEAR_HALF = 0.5
"""|logit| below which the continuous Bernoulli's normaliser is its series: 1e-9 off, and no 0 / 0."""


def log_normalizer(logit: Values) -> Values:
    """log C of the continuous Bernoulli at lambda = sigmoid(logit) (Loaiza-Ganem & Cunningham 2019, eq. 9).

        C = 2 artanh(1 - 2 lambda) / (1 - 2 lambda) = logit / tanh(logit / 2),    2 at lambda = 1/2

    In the logit l: log 2 + log((l/2) / tanh(l/2)), even in l; near 0 the series
    log 2 + l^2/12 - 7 l^4/1440 + 31 l^6/90720 ..., and log|l| far away, where lambda itself would round to 0 or 1.
    """
    near = jnp.abs(logit) < NEAR_HALF
    # Each branch sees only arguments it is good at, or the other's NaN would leak into the gradient.
    far = jnp.where(near, 1.0, jnp.abs(logit))
    closed = jnp.log(far) - jnp.log(jnp.tanh(0.5 * far))
    square = jnp.square(jnp.where(near, logit, 0.0))
    terms = 1 / 12 + square * (-7 / 1440 + square * (31 / 90720 + square * (-127 / 4838400 + square * 73 / 34214400)))
    return jnp.where(near, math.log(2) + square * terms, closed)


def continuous_bernoulli() -> Likelihood:
    """Grey levels in [0, 1] with density C lambda^x (1 - lambda)^(1 - x) (Loaiza-Ganem & Cunningham 2019, eq. 6).

    The Bernoulli's formula with the normaliser that makes it a density. A draw is the quantile of a uniform u,
    -log(1 - u (1 - e^-|l|)) / |l|, counted from the end of [0, 1] that has more density. The expected grey level is not
    lambda but lambda / (2 lambda - 1) + 1 / (2 artanh(1 - 2 lambda)) (eq. 8), the derivative of
    log(1 + e^l) - log C by the logit.
    """
    coin = bernoulli()

    def log_prob(logits: Pixels, x: Images) -> PerExample:
        return coin.log_prob(logits, x) + jnp.sum(log_normalizer(_flat(logits)), axis=1)

    def mean(logits: Pixels) -> Images:
        slope = jax.grad(lambda logits: jnp.sum(log_normalizer(logits)))(logits)
        return jnp.clip(jax.nn.sigmoid(logits) - slope, 0.0, 1.0)

    def sample(logits: Pixels, key: Key, index: Indices) -> Images:
        uniform = _noise(jax.random.uniform, key, index, logits)
        size = jnp.maximum(jnp.abs(logits), 1e-6)  # flat there to 1e-6, and no 0 / 0
        from_end = -jnp.log1p(uniform * jnp.expm1(-size)) / size
        return jnp.clip(jnp.where(logits > 0, 1 - from_end, from_end), 0.0, 1.0)

    return Likelihood(log_prob, mean, sample, channels=1, levels=0, binarize=("none",))


HALF_LEVEL = 1 / 510
"""Half the distance of two of the 256 grey levels on [0, 1]."""


def log_level(x: Values, mean: Values, log_scale: Values) -> Values:
    """log P of the grey level at x in {0, 1/255, ..., 1}: a logistic's mass in the bin around x.

        P(x) = sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s),    h = 1/510

    The bin of level 0 reaches to -inf and that of 255 to inf, so the 256 sum to 1 (Salimans et al. 2017,
    eq. 2). As log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a - b)) with a, b the bin's edges: exact far in either
    tail, where the difference of two sigmoids is 0 and libraries fall back on the density.
    """
    inverse = jnp.exp(-log_scale)
    upper, lower = (x + HALF_LEVEL - mean) * inverse, (x - HALF_LEVEL - mean) * inverse
    width = 2 * HALF_LEVEL * inverse
    narrow = width < 1e-3
    log_width = math.log(2 * HALF_LEVEL) - log_scale - 0.5 * width
    log_gap = jnp.where(narrow, log_width, jnp.log(-jnp.expm1(-jnp.where(narrow, 1.0, width))))
    inside = jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower) + log_gap
    outer = jnp.where(x > 0.5, jax.nn.log_sigmoid(-lower), jax.nn.log_sigmoid(upper))
    return jnp.where((x < HALF_LEVEL) | (x > 1 - HALF_LEVEL), outer, inside)


def _log_scale(raw: Values) -> Values:
    # At the decoder's 0 a scale of 0.1; never below a fiftieth of a level.
    return _at_least(math.log(HALF_LEVEL / 25), raw + math.log(0.1))


def nearest_level(x: Values) -> Values:
    """The grey level in whose bin x is."""
    return jnp.clip(jnp.round(255 * x), 0, 255) / 255


def discretized_logistic() -> Likelihood:
    """256 grey levels, each the mass that a logistic of the decoder's mean and scale has in the level's bin.

    See `log_level`. The mean is sigmoid-free, around 1/2 at the decoder's 0; the expected image is the
    mean cut to [0, 1], of the logistic and not of its bins: off by less than the mass outside.
    """

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        mean, raw = map(_flat, _split(parameters, 2))
        return jnp.sum(log_level(_flat(x), mean + 0.5, _log_scale(raw)), axis=1)

    def mean(parameters: Pixels) -> Images:
        return jnp.clip(_split(parameters, 2)[0] + 0.5, 0.0, 1.0)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        mean, raw = _split(parameters, 2)
        return nearest_level(mean + 0.5 + jnp.exp(_log_scale(raw)) * _noise(jax.random.logistic, key, index, mean))

    return Likelihood(log_prob, mean, sample, channels=2, levels=256, binarize=("none",))


COMPONENT = 2**32 - 1
"""What is folded into the key for a pixel's component: beyond any example's index."""


def logistic_mixture(*, components: int = 5) -> Likelihood:
    """256 grey levels under a mixture of discretised logistics for each channel of each pixel (Salimans et al. 2017).

    log p(x) = sum over pixels of log sum_k w_k P_k(x), w a softmax. Channels are independent given z: the
    paper's linear dependence of green on red and blue on both is for decoders that see the pixels before.
    Raises UserError unless there is at least one component.
    """
    if components < 1:
        raise registry.UserError(
            f"config.likelihood.components: {components} is not allowed; give a whole number of at least 1"
        )
    # Equal components would stay equal: their means start spread over the grey levels.
    starts = (jnp.arange(components) + 0.5) / components

    def parts(parameters: Pixels):
        shape = (*parameters.shape[:-1], parameters.shape[-1] // (3 * components), 3, components)
        weights, means, raw = jnp.moveaxis(parameters.reshape(shape), -2, 0)
        return jax.nn.log_softmax(weights), means + starts.reshape(1, 1, 1, 1, -1), _log_scale(raw)

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        weights, means, log_scales = parts(parameters)
        pixels = jax.nn.logsumexp(weights + log_level(x[..., None], means, log_scales), axis=-1)
        return jnp.sum(pixels, axis=(1, 2, 3))

    def mean(parameters: Pixels) -> Images:
        weights, means, _ = parts(parameters)
        return jnp.sum(jnp.exp(weights) * jnp.clip(means, 0.0, 1.0), axis=-1)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        weights, means, log_scales = parts(parameters)
        gumbel = _noise(jax.random.gumbel, jax.random.fold_in(key, COMPONENT), index, weights)
        chosen = jnp.argmax(weights + gumbel, axis=-1, keepdims=True)
        mean, log_scale = (jnp.take_along_axis(part, chosen, axis=-1)[..., 0] for part in (means, log_scales))
        return nearest_level(mean + jnp.exp(log_scale) * _noise(jax.random.logistic, key, index, mean))

    return Likelihood(log_prob, mean, sample, channels=3 * components, levels=256, binarize=("none",))


LIKELIHOODS = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "laplace": laplace,
    "continuous_bernoulli": continuous_bernoulli,
    "discretized_logistic": discretized_logistic,
    "logistic_mixture": logistic_mixture,
}


def get(name: str) -> Callable[..., Likelihood]:
    """The likelihood `name`; call it with its fields. Raises UserError for an unknown name."""
    return registry.choose("config.likelihood.name", name, LIKELIHOODS)
