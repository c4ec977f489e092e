"""The flow's density and rate against inversion and closed forms; the identity is the VAE; a posterior it can fit."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient, whole_batch

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, standard_normal
from vae_jax.models.likelihoods import bernoulli, gaussian
from vae_jax.models.networks import Nets, mlp
from vae_jax.typing import AXIS
from vae_jax.variants import beta, flow

SHAPE, LATENT, CONTEXT = (4, 4, 1), 3, 4
LIKELIHOOD = bernoulli.make()
FLOW = flow.make(LIKELIHOOD, steps=2, hidden=(8,), context=CONTEXT)
PART = flow.make_conditioner((8,))
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(8, *SHAPE)), jnp.float32)
NETS = mlp.make(SHAPE, FLOW.encoder_outputs(LATENT), 1, hidden=(8,))
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
PLAIN = NETS._replace(encode=lambda params, x: tuple(part[:, :LATENT] for part in NETS.encode(params, x)))
BATCH = {"image": IMAGES, "index": jnp.arange(8)}


def own_of(steps, latents, hidden=(8,), scale=3.0):
    """The steps' parameters, `scale` times those of a new flow, so that it is far from the identity."""
    variant = flow.make(LIKELIHOOD, steps=steps, hidden=hidden, context=CONTEXT)
    own = jax.jit(partial(variant.init, image_shape=SHAPE, latent_dim=latents))(randomness.root_key(5))
    return jax.tree.map(lambda leaf: scale * leaf, own)


def gates_opened(own, names):
    """The same flow with s = 1, the identity, at the steps `names`."""

    def opened(params):
        return {**params, "context_1": {**params["context_1"], "bias": jnp.full(2 * LATENT, 200.0)}}

    return {name: opened(params) if name in names else params for name, params in own.items()}


PARAMS = {"nets": NETS_PARAMS, "own": own_of(2, LATENT)}


def evaluated(loss, nets, params, beta=1.0):
    """(loss, terms of each image, gradient) on BATCH."""
    value, terms, gradient = loss_and_gradient(loss, nets, params, BATCH, {"beta": beta})
    return value, whole_batch(terms), gradient


@jax.jit
def jacobian(own, z, context):
    """(dz_T/dz_0, log|det| as the flow gives it) at one z."""

    def transform(z):
        bent, log_det = flow.transform(PART, own, z[None], context[None])
        return bent[0], log_det[0]

    return jax.jacobian(transform, has_aux=True)(z)


def test_the_log_determinant_is_that_of_the_whole_jacobian():
    own = own_of(3, LATENT, scale=1.5)
    for z, context in zip(*np.random.default_rng(1).normal(size=(2, 5, 4)).astype(np.float32), strict=True):
        matrix, log_det = jacobian(own, z[:LATENT], context)
        sign, expected = np.linalg.slogdet(np.float64(matrix))
        assert sign == 1
        assert expected < -0.5
        np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=1e-4)


def test_every_other_step_runs_from_the_last_latent_back():
    own, z, context = PARAMS["own"], jnp.float32([0.3, -1.0, 0.7]), jnp.float32([1.0, -0.5, 0.2, 0.0])
    there, back, both = (
        np.abs(jacobian(gates_opened(own, names), z, context)[0]) > 0 for names in ({"step_1"}, {"step_0"}, set())
    )
    np.testing.assert_array_equal(there, np.tril(np.ones((LATENT, LATENT), bool)))
    np.testing.assert_array_equal(back, np.triu(np.ones((LATENT, LATENT), bool)))
    assert both.all()


def test_open_gates_are_the_gaussian_posterior():
    # s rounds to 1 in float32: the same z, and the rate is the Gaussian's own log q(z|x) - log p(z).
    own = gates_opened(PARAMS["own"], {"step_0", "step_1"})
    _, terms, _ = evaluated(FLOW.loss, NETS, {**PARAMS, "own": own})
    _, expected, _ = evaluated(beta.make(LIKELIHOOD).loss, PLAIN, PARAMS)
    posterior = Gaussian(*PLAIN.encode(NETS_PARAMS, IMAGES))
    z = posterior.sample(randomness.root_key(2), jnp.arange(8))
    assert_close(terms["distortion"], expected["distortion"])
    assert_close(terms["code"], expected["code"])
    assert_close(terms["rate"], posterior.log_prob(z) - standard_normal(z).log_prob(z))


def test_without_steps_it_is_the_vae_in_expectation():
    losses = flow.make(LIKELIHOOD, steps=0, context=CONTEXT).loss, beta.make(LIKELIHOOD).loss
    params = {"nets": NETS_PARAMS, "own": {}}

    def difference(key):
        def value(loss, nets):
            return jax.value_and_grad(lambda p: loss(nets, p, BATCH, key, jnp.int32(0), beta=2.0)[0])(params)

        return jax.tree.map(jnp.subtract, *map(value, losses, (NETS, PLAIN)))

    draws = jax.vmap(jax.vmap(difference), axis_name=AXIS)
    differences = jax.jit(draws)(jax.random.split(jax.random.key(3), (1, 4000)))

    def near_zero(leaf):
        deviation = leaf[0].std(axis=0) / math.sqrt(4000)
        assert np.all(np.abs(leaf[0].mean(axis=0)) < 5 * deviation + 1e-6)

    jax.tree.map(near_zero, differences)


def inverse(part, own, z, context):
    """z_0 of z_T = `z`, one latent after another, each step from the last: nothing of `transform` but its steps."""
    for t in reversed(range(len(own))):
        order = range(z.shape[1]) if t % 2 == 0 else range(z.shape[1] - 1, -1, -1)
        before = jnp.zeros_like(z)
        for place, i in enumerate(order):
            turned = before if t % 2 == 0 else before[:, ::-1]
            m, a = jnp.moveaxis(part.apply(own[f"step_{t}"], turned, context)[:, place], -1, 0)
            s = 1 / (1 + jnp.exp(-a - 2))
            before = before.at[:, i].set((z[:, i] - (1 - s) * m) / s)
        z = before
    return z


def test_the_density_integrates_to_one_and_gives_the_rate():
    own, context = own_of(2, 2, scale=1.5), jnp.float32([[1.0, -0.5, 0.2, 0.4]])
    mean, logvar = jnp.float32([[0.5, -0.3]]), jnp.float32([[-0.5, 0.3]])
    start = Gaussian(mean, logvar)

    def log_density(z):
        repeated = jnp.broadcast_to(context, (len(z), CONTEXT))
        z_0 = inverse(PART, own, z, repeated)
        again, log_det = flow.transform(PART, own, z_0, repeated)
        return start.log_prob(z_0) - log_det, again

    side, width = jnp.linspace(-7, 7, 281), 0.05
    grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    log_q, again = jax.jit(log_density)(grid)
    np.testing.assert_allclose(again, grid, atol=1e-3)
    q = np.exp(np.float64(log_q)) * width**2
    np.testing.assert_allclose(q.sum(), 1, atol=1e-3)
    rate = np.sum(q * np.float64(log_q - standard_normal(grid).log_prob(grid)))

    # The same posterior as a variant's: the mean of its one-draw rates is KL(q || p) on the grid.
    nets = Nets(
        init=None,
        encode=lambda params, x: tuple(
            jnp.broadcast_to(jnp.concatenate([part, h], axis=1), (len(x), 4))
            for part, h in ((mean, context[:, :2]), (logvar, context[:, 2:]))
        ),
        decode=lambda params, z: jnp.zeros((len(z), 1, 1, 1)),
    )
    batch = {"image": jnp.zeros((20_000, 1, 1, 1)), "index": jnp.arange(20_000)}
    variant = flow.make(LIKELIHOOD, steps=2, hidden=(8,), context=CONTEXT)
    params = {"nets": {}, "own": own}
    terms = jax.jit(lambda key: variant.loss(nets, params, batch, key, jnp.int32(0), beta=1.0)[1])(
        randomness.root_key(4)
    )
    rates = np.asarray(terms["rate"], np.float64)
    assert abs(rates.mean() - rate) < 4 * rates.std() / math.sqrt(len(rates)) + 1e-3
    assert np.sum(q * np.abs(log_q - start.log_prob(grid))) > 0.3  # and it is not the Gaussian that it bends


@pytest.mark.full
def test_a_linear_decoder_has_the_posterior_that_the_flow_can_fit_and_a_diagonal_cannot():
    # x = W z + 0.3 noise: p(x) is Gaussian, p(z|x) correlated. The best diagonal q(z|x) has the variances 1 / precision
    # and falls short by half of sum_i log precision_ii - log det precision; the ELBO is all that is optimised.
    w, sigma, x = np.float64([[1.0, 0.9], [0.8, 1.0]]), 0.3, np.float64([0.5, -0.4])
    precision = np.eye(2) + w.T @ w / sigma**2
    covariance = w @ w.T + sigma**2 * np.eye(2)
    log_p = -0.5 * (x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    short = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert short > 0.5
    variant = flow.make(gaussian.make(sigma=sigma), steps=2, hidden=(16,), context=2)
    nets = Nets(
        init=None,
        encode=lambda params, x: tuple(jnp.broadcast_to(row[None], (len(x), 3)) for row in params),
        decode=lambda params, z: (z @ jnp.float32(w.T)).reshape(-1, 1, 2, 1),
    )
    image = jnp.float32(x).reshape(1, 1, 2, 1)
    adam = optax.adam(optax.cosine_decay_schedule(2e-2, 1500))

    def elbos(params, key, count):
        batch = {"image": jnp.broadcast_to(image, (count, 1, 2, 1)), "index": jnp.arange(count)}
        return variant.loss(nets, params, batch, key, jnp.int32(0), beta=1.0)

    def trained(params):
        def one(state, i):
            params, moments = state
            gradient = jax.grad(lambda p: elbos(p, jax.random.fold_in(randomness.root_key(6), i), 64)[0])(params)
            updates, moments = adam.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), None

        (params, _), _ = jax.lax.scan(one, (params, adam.init(params)), jnp.arange(1500))
        return elbos(params, randomness.root_key(7), 20_000)[1]["elbo"]

    start = {"nets": (jnp.zeros(3), jnp.zeros(3)), "own": variant.init(randomness.root_key(8), (1, 2, 1), 2)}
    with jax.debug_key_reuse(False):
        bounds = np.asarray(jax.jit(trained)(start), np.float64)
    error = 4 * bounds.std() / math.sqrt(len(bounds))
    assert bounds.mean() < log_p + error
    assert bounds.mean() > log_p - 0.1 * short


def test_the_code_is_the_flow_of_the_mean():
    _, terms, _ = evaluated(FLOW.loss, NETS, PARAMS)
    mean, logvar = NETS.encode(NETS_PARAMS, IMAGES)
    context = jnp.concatenate([mean[:, LATENT:], logvar[:, LATENT:]], axis=1)
    expected, _ = flow.transform(PART, PARAMS["own"], mean[:, :LATENT], context)
    assert_close(terms["code"], expected)
    assert_close(FLOW.encode(NETS, PARAMS, BATCH), expected)
    assert "kl" not in terms


def test_beta_is_on_the_rate_and_every_parameter_has_a_gradient():
    loss, terms, gradient = evaluated(FLOW.loss, NETS, PARAMS, beta=3.0)
    np.testing.assert_allclose(loss, np.mean(terms["distortion"] + 3 * terms["rate"]), rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=1e-6)
    sizes = jax.tree.map(lambda leaf: float(np.max(np.abs(leaf))), gradient)
    assert min(jax.tree.leaves(sizes)) > 1e-5


def test_extremes_are_finite():
    for scale in (0.0, 10.0, -10.0):
        far = jax.tree.map(lambda leaf, scale=scale: scale * leaf, PARAMS)
        loss, terms, gradient = evaluated(FLOW.loss, NETS, far)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, terms, gradient)))


def test_what_cannot_be_is_refused():
    for field, value in (("steps", -1), ("context", 3), ("context", 0), ("hidden", (8, 0))):
        with pytest.raises(UserError, match=rf"^{field}: .* is not allowed; give"):
            flow.make(LIKELIHOOD, **{field: value})


RUNS = {
    "short": (1000, 0.03, {}),
    "long": (6000, 0.15, {"net.hidden": "(400,)", "train.learning_rate": 1e-3}),
}


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_with_two_latents_the_flow_raises_the_held_out_elbo_on_digits(length):
    # Few latents that each do much: given an image they are far from independent.
    steps, margin, fields = RUNS[length]
    plain, bent = (
        trained_digits.on_digits(steps, **{"latent_dim": 2, "variant.name": name, **fields})
        for name in ("beta", "flow")
    )
    assert bent.test["elbo"] > plain.test["elbo"] + margin
    assert np.mean(bent.train["elbo"][-200:]) > np.mean(plain.train["elbo"][-200:])
