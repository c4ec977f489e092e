"""Kumar et al. 2018: the covariances of known encoders, and codes that come apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient

from vae_jax import data, randomness
from vae_jax.data import digits
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets, mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import beta, dip

SHAPE, LATENT = (4, 4, 1), 3
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
BETA, DIP = beta.make(LIKELIHOOD), {kind: dip.make(LIKELIHOOD, kind=kind) for kind in dip.KINDS}
IMAGES = np.random.default_rng(0).uniform(size=(8, *SHAPE)).astype(np.float32)
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
PARAMS = {"nets": NETS_PARAMS, "own": {}}


BATCH = {"image": IMAGES, "index": np.arange(8)}


def evaluate(loss, params=PARAMS, devices=1, nets=NETS, **floats):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    known = {} if loss is BETA.loss else {"lambda_od": 0.0, "lambda_d": 0.0}
    floats = {**known, "beta": 1.0, "free_bits": 0.0, **floats}
    return loss_and_gradient(loss, nets, params, BATCH, floats, devices=devices)


@pytest.mark.parametrize("kind", dip.KINDS)
def test_without_penalties_it_is_the_beta_vae(kind):
    for floats in ({"beta": 1.0}, {"beta": 4.0, "free_bits": 0.1}):
        one, other = evaluate(DIP[kind].loss, **floats), evaluate(BETA.loss, **floats)
        assert_close((one[0], one[2]), (other[0], other[2]), rtol=1e-6, atol=1e-7)


def linear_encoder():
    """Networks whose posterior is N(A x, diag(exp(log_var(x)))), and a decoder that sees nothing."""
    random = np.random.default_rng(3)
    a, b = random.normal(size=(2, 16, LATENT)).astype(np.float32)

    def encode(params, x):
        flat = x.reshape(len(x), -1)
        return params["scale"] * (flat @ a) + 100, flat @ b  # far from 0, where E[z^2] - E[z]^2 cancels

    return Nets(None, encode, lambda params, z: jnp.zeros((len(z), *SHAPE))), a, b


def test_covariances_of_a_linear_encoder():
    nets, a, b = linear_encoder()
    params = {"nets": {"scale": jnp.float32(1.0)}, "own": {}}
    x = IMAGES.reshape(8, -1).astype(np.float64)
    cov_x = np.cov(x, rowvar=False, bias=True)
    of_means = a.T @ cov_x @ a
    of_codes = of_means + np.diag(np.mean(np.exp(x @ b), axis=0))
    for kind, s in (("I", of_means), ("II", of_codes)):
        terms = evaluate(DIP[kind].loss, params, nets=nets)[1]
        off_diagonal = sum(s[i, j] ** 2 for i in range(LATENT) for j in range(LATENT) if i != j)
        diagonal = sum((s[i, i] - 1) ** 2 for i in range(LATENT))
        np.testing.assert_allclose(terms["covariance_off_diagonal"], [off_diagonal], rtol=1e-3)
        np.testing.assert_allclose(terms["covariance_diagonal"], [diagonal], rtol=1e-3)


def test_covariances_against_many_draws():
    # Law of total covariance: the codes' own covariance, drawn, is Cov[mean] + E[diag(sigma^2)].
    random = np.random.default_rng(4)
    mean = random.normal(size=(5, LATENT)) @ random.normal(size=(LATENT, LATENT))
    logvar = random.normal(size=(5, LATENT))
    draws = mean + np.exp(0.5 * logvar) * random.normal(size=(200_000, 5, LATENT))
    expected = np.cov(draws.reshape(-1, LATENT), rowvar=False, bias=True)
    covariance = dip.aggregate_covariance(Gaussian(jnp.float32(mean), jnp.float32(logvar)))
    np.testing.assert_allclose(covariance, expected, rtol=0.02, atol=0.02)


def test_penalties_of_a_known_matrix():
    s = jnp.float32([[3.0, 0.5, 0.0], [0.5, 1.0, -2.0], [0.0, -2.0, 0.0]])
    np.testing.assert_allclose(dip.penalties(s), (2 * (0.25 + 4), 4 + 0 + 1), rtol=1e-6)
    assert dip.penalties(jnp.eye(4)) == (0, 0)


@pytest.mark.parametrize(("kind", "moves"), [("I", False), ("II", True)])
def test_only_type_two_moves_the_variance(kind, moves):
    # The gradient of the penalties alone: with the rate off, and what is left without them taken away.
    kept = evaluate(DIP[kind].loss, beta=0.0)[2]
    penalised = evaluate(DIP[kind].loss, beta=0.0, lambda_od=5.0, lambda_d=50.0)[2]
    assert_close(penalised["nets"]["decoder"], kept["nets"]["decoder"], rtol=0, atol=0)
    last = list(penalised["nets"]["encoder"].values())[-1]
    while "kernel" not in last:
        last = list(last.values())[-1]
    before = list(kept["nets"]["encoder"].values())[-1]
    while "kernel" not in before:
        before = list(before.values())[-1]
    change = np.abs(last["kernel"] - before["kernel"])
    assert np.max(change[:, :LATENT]) > 1e-2
    assert (np.max(change[:, LATENT:]) > 1e-2) if moves else (np.max(change[:, LATENT:]) < 1e-7)


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("kind", dip.KINDS)
def test_an_axis_of_several_equals_an_axis_of_one(kind, devices):
    floats = {"lambda_od": 5.0, "lambda_d": 50.0}
    one, many = (evaluate(DIP[kind].loss, devices=count, **floats) for count in (1, devices))
    assert_close((one[0], one[2]), (many[0], many[2]))


def test_extremes_are_finite():
    far = jax.tree.map(lambda leaf: 6 * leaf, PARAMS)
    loss, _, gradient = evaluate(DIP["II"].loss, far, lambda_od=1e4, lambda_d=1e4)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, gradient)))
    assert np.all(dip.empirical_covariance(jnp.ones((1, 3))) == 0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match=r"^kind: 'III' is unknown; known: I, II; did you mean 'II'"):
        dip.make(LIKELIHOOD, kind="III")


@pytest.mark.full
@pytest.mark.parametrize("kind", dip.KINDS)
def test_the_penalties_fall_on_digits(kind):
    # Members of one program: without the penalties and with them.
    dataset, steps = digits.load(), 400
    split = jax.device_put(dataset.train)
    nets = mlp.make(dataset.image_shape, 6, 1, hidden=(64,))
    adam = make_optimizer()
    root = randomness.root_key(0)
    step = make_train_step(nets, DIP[kind], adam, partial(data.make_batch, split, data.sample_pixels))
    indices = data.index_stream(0, 0, steps, split.size, 64)

    def penalties(weight):
        state = init_state(root, nets, DIP[kind], adam, dataset.image_shape, 6, 0.0)
        floats = {"lambda_od": 10 * weight, "lambda_d": 10 * weight, "beta": 0.2, "free_bits": 0.0}
        hyper = Hyper(jnp.float32(2e-3), floats)
        terms = jax.lax.scan(lambda state, share: step(state, share, root, hyper), state, indices)[1]
        return jnp.stack([jnp.mean(terms[f"covariance_{name}"][-50:]) for name in ("off_diagonal", "diagonal")])

    members = jax.jit(jax.vmap(jax.vmap(penalties), axis_name=AXIS))
    without, with_both = np.asarray(members(np.float32([[0, 1]])))[0]
    assert np.all(with_both < 0.5 * without)
