"""Bounds against models with a known log p(x), and gradients against Jacobians weighed by hand."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae, trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient, whole_batch
from scipy import special, stats

from vae_jax import data, randomness
from vae_jax.errors import UserError
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.likelihoods import gaussian as gaussian_module
from vae_jax.models.networks import Nets, mlp
from vae_jax.training.step import Hyper, make_eval_step
from vae_jax.typing import AXIS
from vae_jax.variants import beta, iwae

SHAPE, LATENT, GROUPS, SAMPLES = (4, 4, 1), 3, 2, 3
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
COIN = bernoulli.make()
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, *SHAPE)), jnp.float32)
PARAMS = {
    "nets": jax.tree.map(
        lambda leaf: 1.5 * leaf, drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, 3)), seed=3)
    ),
    "own": {},
}
SHARE = 0.3
PAIRS = [(objective, estimator) for objective in iwae.OBJECTIVES for estimator in iwae.ESTIMATORS]


@cache
def make(objective="miwae", estimator="plain", samples=SAMPLES, groups=GROUPS, likelihood=COIN):
    return iwae.make(likelihood, samples=samples, groups=groups, objective=objective, estimator=estimator)


def evaluate(variant, devices=1, **floats):
    """(loss, terms of each image, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    batch = {"image": IMAGES, "index": np.arange(8)}
    floats = floats or {"elbo_share": SHARE}
    loss, terms, gradient = loss_and_gradient(variant.loss, NETS, PARAMS, batch, floats, devices=devices)
    return loss, whole_batch(terms), gradient


# By hand: log w of each draw by SciPy in double precision, its Jacobians by JAX, the weights as the papers write them.

NOISE = np.asarray(randomness.example_normal(randomness.root_key(2), jnp.arange(8), GROUPS * SAMPLES * LATENT))
NOISE = NOISE.reshape(8, GROUPS * SAMPLES, LATENT)


def log_w_by_scipy():
    def dense(x, layer):
        return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])

    def layers(x, params):
        return dense(np.maximum(dense(x, params["Dense_0"]), 0), params["Dense_1"])

    x = np.asarray(IMAGES, np.float64).reshape(8, -1)
    encoder, decoder = (PARAMS["nets"][part] for part in ("encoder", "decoder"))
    mean, logvar = np.split(layers(x, encoder.get("body", encoder)), 2, axis=-1)
    mean, sigma = mean[:, None], np.exp(logvar / 2)[:, None]
    z = mean + sigma * NOISE
    logits = layers(z, decoder)
    log_p = np.where(x[:, None] == 1, special.log_expit(logits), special.log_expit(-logits)).sum(axis=-1)
    return log_p, stats.norm.logpdf(z).sum(axis=-1) - stats.norm.logpdf(z, mean, sigma).sum(axis=-1)


@pytest.fixture(scope="module")
def by_hand():
    """log w as (image, group, sample), and its gradients: by way of z and the decoder, and by way of q's parameters."""
    log_p, log_ratio = log_w_by_scipy()

    def log_w(params, of_q):
        posterior, q = (Gaussian(*NETS.encode(p, IMAGES)) for p in (params, of_q))

        def one(noise):
            z = posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise
            prior = distributions.standard_normal(z).log_prob(z)
            return COIN.log_prob(NETS.decode(params, z), IMAGES) + prior - q.log_prob(z)

        return jax.vmap(one, in_axes=1, out_axes=1)(NOISE).reshape(8, GROUPS, SAMPLES)

    jacobians = jax.jit(jax.jacrev(log_w, (0, 1)))(PARAMS["nets"], PARAMS["nets"])
    return -log_p, (log_p + log_ratio).reshape(8, GROUPS, SAMPLES), *jax.tree.map(np.asarray, jacobians)


def values_by_hand(log_w):
    """Each objective's value for each image, and both bounds it is made of."""
    miwae = np.mean(special.logsumexp(log_w, axis=2) - math.log(SAMPLES), axis=1)
    whole = special.logsumexp(log_w, axis=(1, 2)) - math.log(GROUPS * SAMPLES)
    elbo = np.mean(log_w, axis=(1, 2))
    return {"miwae": miwae, "ciwae": SHARE * elbo + (1 - SHARE) * miwae, "piwae": whole}


def weights_by_hand(log_w, objective, power):
    """What each draw's gradient counts for the decoder (power 1) and for the encoder."""
    one_draw = np.full_like(log_w, 1 / (GROUPS * SAMPLES))
    group, whole = special.softmax(log_w, axis=2), special.softmax(log_w, axis=(1, 2))
    return {
        "miwae": (group / GROUPS, group**power / GROUPS),
        "ciwae": tuple(SHARE * one_draw + (1 - SHARE) * group**p / GROUPS for p in (1, power)),
        "piwae": (whole, group**power / GROUPS),
    }[objective]


@pytest.mark.parametrize(("objective", "estimator"), PAIRS)
def test_values_and_gradients_are_those_by_hand(objective, estimator, by_hand):
    distortion, log_w, through_z, score = by_hand
    loss, terms, gradient = evaluate(make(objective, estimator))
    values = values_by_hand(log_w)
    np.testing.assert_allclose(loss, -np.mean(values[objective]), rtol=1e-5)
    np.testing.assert_allclose(terms["bound"], values["miwae"], rtol=1e-5)
    np.testing.assert_allclose(terms["distortion"], np.mean(distortion, axis=1), rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=1e-5)
    w = np.exp(log_w)
    share = np.mean(np.sum(w, axis=2) ** 2 / (SAMPLES * np.sum(w**2, axis=2)), axis=1)
    np.testing.assert_allclose(terms["effective_samples"], share, rtol=1e-4)

    by_decoder, by_encoder = weights_by_hand(log_w, objective, power=2 if estimator == "dreg" else 1)
    total = jax.tree.map(np.add, through_z, score) if estimator == "plain" else through_z

    def weigh(weights, tree):
        return jax.tree.map(lambda leaf: -np.tensordot(weights, leaf, axes=3) / len(IMAGES), tree)

    expected = {"encoder": weigh(by_encoder, total["encoder"]), "decoder": weigh(by_decoder, through_z["decoder"])}
    assert_close(gradient["nets"], expected)


def test_the_draws_weigh_unequally_enough_to_tell_objectives_apart(by_hand):
    values = values_by_hand(by_hand[1])
    assert np.mean(values["piwae"]) > np.mean(values["miwae"]) + 0.1 > np.mean(values["ciwae"]) + 0.2


@pytest.mark.parametrize(("share", "samples", "groups"), [(0.0, SAMPLES, GROUPS), (1.0, 1, SAMPLES * GROUPS)])
def test_ciwae_is_miwae_at_share_0_and_the_vae_of_all_draws_at_share_1(share, samples, groups):
    end, other = evaluate(make("ciwae", "dreg"), elbo_share=share), evaluate(make("miwae", "dreg", samples, groups))
    assert_close((end[0], end[2]), (other[0], other[2]))


# Linear Gaussian: p(x|z) = N(x; z KERNEL, SIGMA^2 I), the rows of KERNEL orthogonal, so that q can be the posterior.

SIGMA, KERNEL = 0.5, np.float32([[1.0, 0.5, 0.3], [-0.5, 1.0, 0.0]])
POINTS = jnp.float32([[0.5, -1.0, 0.2], [1.5, 0.3, -0.4]]).reshape(2, 1, 3, 1)
LINEAR = Nets(
    init=lambda key, image, code: {},
    encode=lambda params, x: (
        x.reshape(len(x), -1) @ params["encoder"]["kernel"],
        jnp.broadcast_to(params["encoder"]["logvar"].reshape(1, -1), (len(x), 2)),
    ),
    decode=lambda params, z: (z @ params["decoder"]).reshape(len(z), 1, 3, 1),
)
VARIANCE = 1 / (1 + np.sum(KERNEL**2, axis=1) / SIGMA**2)
LOG_P = stats.multivariate_normal(np.zeros(3), KERNEL.T @ KERNEL + SIGMA**2 * np.eye(3)).logpdf(
    np.asarray(POINTS).reshape(2, 3)
)


def linear(off=0.0):
    """The model with the exact posterior, or with means and log variances `off` it."""
    wrong = np.float32([[1.0, -0.5], [0.3, 1.0], [-1.0, 0.4]])
    encoder = {"kernel": KERNEL.T * VARIANCE / SIGMA**2 + off * wrong, "logvar": np.log(VARIANCE) + off}
    return jax.tree.map(jnp.float32, {"nets": {"encoder": encoder, "decoder": KERNEL}, "own": {}})


NOISY = gaussian_module.make(sigma=SIGMA)


def gaussian(objective="miwae", estimator="plain", samples=1, groups=1):
    return make(objective, estimator, samples, groups, NOISY)


@partial(jax.jit, static_argnames=("loss", "draws"))
def compiled_terms(loss, params, draws):
    images = jnp.broadcast_to(POINTS[:1], (draws, 1, 3, 1))
    batch = {"image": images, "index": jnp.arange(draws), "size": 2}
    return loss(LINEAR, params, batch, randomness.root_key(0), jnp.int32(0))[1]


def linear_terms(params, draws=20_000, **counts):
    """The terms of `draws` independent visits to the first point."""
    return jax.tree.map(np.asarray, compiled_terms(gaussian(**counts).loss, params, draws))


def test_with_the_exact_posterior_every_draw_gives_log_p():
    for samples, groups in ((1, 1), (3, 4)):
        terms = linear_terms(linear(), samples=samples, groups=groups)
        np.testing.assert_allclose(terms["bound"], LOG_P[0], atol=2e-5)
        np.testing.assert_allclose(terms["effective_samples"], 1.0, rtol=1e-5)


def test_the_bound_rises_with_k_from_the_elbo_to_log_p():
    params = linear(off=0.3)
    bounds = [linear_terms(params, samples=k)["bound"] for k in (1, 3, 100)]
    means, errors = np.mean(bounds, axis=1), np.std(bounds, axis=1) / math.sqrt(20_000)
    assert np.all(np.diff(means) > 5 * (errors[1:] + errors[:-1]))
    assert -0.05 < means[-1] - LOG_P[0] < 5 * errors[-1]
    q_mean, p_mean = (POINTS[0].reshape(3) @ p["nets"]["encoder"]["kernel"] for p in (params, linear()))
    q_variance = np.exp(params["nets"]["encoder"]["logvar"])
    kl = 0.5 * np.sum((q_variance + (q_mean - p_mean) ** 2) / VARIANCE - 1 - np.log(q_variance / VARIANCE))
    assert abs(means[0] - (LOG_P[0] - kl)) < 5 * errors[0]
    assert kl > 0.3


def test_groups_take_noise_from_the_bound_and_leave_its_mean():
    one, four = (linear_terms(linear(off=0.3), samples=3, groups=m)["bound"] for m in (1, 4))
    assert abs(np.mean(one) - np.mean(four)) < 5 * math.sqrt((np.var(one) + np.var(four)) / 20_000)
    np.testing.assert_allclose(np.var(one) / np.var(four), 4, rtol=0.15)


@partial(jax.jit, static_argnames=("loss", "draws"))
def compiled_gradients(loss, params, floats, draws):
    def one(key):
        batch = {"image": POINTS, "index": jnp.arange(2), "size": 2}
        return jax.grad(lambda p: loss(LINEAR, p, batch, key, jnp.int32(0), **floats)[0])(params)["nets"]

    lifted = jax.vmap(jax.vmap(one), axis_name=AXIS)
    return jax.tree.map(lambda leaf: leaf[0], lifted(jax.random.split(randomness.root_key(3), (1, draws))))


def gradients(variant, params, draws=20_000, **floats):
    """(encoder, decoder) gradients as (draw, parameter), the same noise whatever the variant."""
    floats = jax.tree.map(jnp.float32, floats or {"elbo_share": SHARE})
    trees = compiled_gradients(variant.loss, params, floats, draws)

    def flat(tree):
        return np.concatenate(
            [np.asarray(leaf, np.float64).reshape(draws, -1) for leaf in jax.tree.leaves(tree)], axis=1
        )

    return flat(trees["encoder"]), flat(trees["decoder"])


def in_errors(difference):
    """The mean over draws of each parameter's difference, in its standard errors."""
    return np.abs(np.mean(difference, axis=0)) / (np.std(difference, axis=0) / math.sqrt(len(difference)) + 1e-12)


def blend(estimator, samples=4):
    """Two groups; at elbo_share 0 it is miwae, as proven above, and the encoder of piwae."""
    return gaussian("ciwae", estimator, samples, groups=2)


@pytest.mark.parametrize("share", [0.0, SHARE])
def test_dreg_is_unbiased_and_stl_is_not(share):
    plain, stl, dreg = (
        gradients(blend(estimator), linear(off=0.3), elbo_share=share) for estimator in ("plain", "stl", "dreg")
    )
    np.testing.assert_allclose(plain[1], dreg[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(plain[1], stl[1], rtol=1e-4, atol=1e-4)
    assert np.max(in_errors(plain[0])) > 50
    assert np.max(in_errors(dreg[0] - plain[0])) < 4.5
    assert np.max(in_errors(stl[0] - plain[0])) > 30


def test_at_one_draw_all_estimators_are_the_vae_in_expectation():
    params = linear(off=0.3)
    vae = gradients(beta.make(NOISY), params, beta=1.0, free_bits=0.0)
    plain, stl, dreg = (gradients(gaussian(estimator=estimator), params) for estimator in ("plain", "stl", "dreg"))
    np.testing.assert_array_equal(stl[0], dreg[0])
    for estimator in (plain, stl):
        assert np.max(in_errors(estimator[0] - vae[0])) < 4.5
        np.testing.assert_allclose(estimator[1], vae[1], rtol=1e-4, atol=1e-4)


def test_at_one_draw_the_distortion_is_the_vaes_and_the_loss_differs_by_the_rate_alone():
    loss, terms, _ = evaluate(make(samples=1, groups=1))
    vae_loss, vae_terms, _ = evaluate(beta.make(COIN), beta=1.0, free_bits=0.0)
    for name in ("distortion", "rate", "kl", "elbo", "code"):
        np.testing.assert_allclose(terms[name], vae_terms[name], rtol=1e-5)
    one_draw_rate = -terms["bound"] - terms["distortion"]
    np.testing.assert_allclose(loss - vae_loss, np.mean(one_draw_rate - terms["rate"]), rtol=1e-4)


def test_more_draws_leave_the_first_as_they_are():
    index = jnp.arange(3)
    few, many = (randomness.example_normal(randomness.root_key(0), index, draws * LATENT) for draws in (1, 5))
    np.testing.assert_array_equal(few, many[:, :LATENT])


@pytest.mark.parametrize("share", [0.0, SHARE])
def test_at_the_exact_posterior_only_plain_has_noise_in_the_encoder(share):
    plain, stl, dreg = (
        gradients(blend(estimator), linear(), elbo_share=share)[0] for estimator in ("plain", "stl", "dreg")
    )
    assert np.min(np.std(plain, axis=0)) > 0.05
    assert max(np.max(np.abs(stl)), np.max(np.abs(dreg))) < 1e-4


@pytest.mark.full
def test_more_draws_drown_plains_encoder_gradient_and_not_dregs():
    ratios = []
    for k in (4, 64):
        both = (blend(estimator, k) for estimator in ("plain", "dreg"))
        plain, dreg = (gradients(variant, linear(off=0.1), elbo_share=0.0)[0] for variant in both)
        # One mean for both, as proven above; dreg's is known far better.
        signal = np.linalg.norm(np.mean(dreg, axis=0))
        ratios.append([signal / math.sqrt(np.sum(np.var(draws, axis=0))) for draws in (plain, dreg)])
    (few_plain, few_dreg), (many_plain, many_dreg) = ratios
    np.testing.assert_allclose(many_plain / few_plain, math.sqrt(4 / 64), rtol=0.2)
    np.testing.assert_allclose(many_dreg / few_dreg, math.sqrt(64 / 4), rtol=0.2)
    assert few_dreg > 10 * few_plain


@pytest.mark.parametrize(("objective", "estimator", "devices"), [("miwae", "plain", 2), ("piwae", "dreg", 4)])
def test_devices_agree_with_one(objective, estimator, devices):
    variant = make(objective, estimator)
    assert_close(evaluate(variant), evaluate(variant, devices))


@pytest.mark.parametrize(("objective", "estimator"), [("miwae", "plain"), ("ciwae", "stl"), ("piwae", "dreg")])
def test_finite_at_extremes(objective, estimator):
    variant = make(objective, estimator, likelihood=gaussian_module.make(sigma=0.01))
    batch = {"image": POINTS, "index": jnp.arange(2), "size": 2}

    def one(scale, logvar):
        encoder = {"kernel": scale * KERNEL.T, "logvar": jnp.full(2, logvar)}
        params = {"nets": {"encoder": encoder, "decoder": scale * KERNEL}, "own": {}}

        def loss(params):
            return variant.loss(LINEAR, params, batch, randomness.root_key(0), jnp.int32(0), elbo_share=SHARE)

        return jax.value_and_grad(loss, has_aux=True)(params)

    scales, logvars = np.meshgrid(np.float32([0, 1, 1e3]), np.float32([-60, -10, 0, 10, 30]))
    values = jax.jit(jax.vmap(one))(scales.ravel(), logvars.ravel())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    assert np.max(np.abs(values[0][0])) > 1e9


def test_what_cannot_be_is_refused():
    for field, value in (("samples", 0), ("groups", -1)):
        with pytest.raises(UserError, match=f"^{field}: {value} is not allowed"):
            make(**{field: value})
    with pytest.raises(UserError, match=r"^objective: 'iwea' is unknown"):
        make("iwea")
    with pytest.raises(UserError, match=r"^estimator: 'dregs' is unknown.*did you mean 'dreg'"):
        make(estimator="dregs")


MANY = make(samples=256, groups=1)


def evidence(trained):
    """log p(x) of the held-out digits, nearly: their mean bound of 256 draws, the same for whatever was trained."""
    fetch = partial(data.make_batch, jax.device_put(trained.dataset.test), data.sample_pixels)
    step = tiny_vae.over_axis(make_eval_step(trained.built.nets, MANY, fetch), None, 0, None, None, None)
    hyper = Hyper(jnp.float32(0), {"elbo_share": jnp.float32(0)})
    indices = jnp.arange(trained.dataset.test.size)[None]
    return float(step(trained.params, indices, randomness.root_key(7), jnp.int32(0), hyper)["bound"])


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_it_models_digits_better_than_the_vae(length):
    steps, samples, gain = {"short": (400, 8, 0.5), "long": (3000, 20, 0.4)}[length]
    vae = trained_digits.on_digits(steps)
    weighted = trained_digits.on_digits(
        steps, **{"variant.name": "iwae", "variant.samples": samples, "variant.estimator": "dreg"}
    )
    assert evidence(weighted) > evidence(vae) + gain
    assert weighted.test["bound"] > vae.test["elbo"] + gain
    assert weighted.test["elbo"] < vae.test["elbo"]  # one draw's bound is not what it maximises
