"""Densities fitted to codes: the mixture against SciPy, the trained ones on a bend whose density is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vae_jax import samplers
from vae_jax.errors import UserError
from vae_jax.models.coupling import CouplingFlow
from vae_jax.randomness import root_key
from vae_jax.samplers import _training, coupling_flow, gmm, two_stage

pytestmark = pytest.mark.usefixtures("undrawn")

WIDTH = 0.3
MEAN, DEVIATION = np.float64([5, 0.5]), np.float64([3, math.sqrt(0.5 + WIDTH**2)])


def bend(count, seed):
    """x ~ N(5, 3^2), y ~ N(t^2 / 2, WIDTH^2), t = (x - 5) / 3: a parabola with noise, which no Gaussian is like."""
    t, noise = np.random.default_rng(seed).normal(size=(2, count))
    return np.float32(np.stack([5 + 3 * t, t**2 / 2 + WIDTH * noise], axis=1))


def height(z):
    """y - t^2 / 2, of standard deviation WIDTH."""
    return np.float64(z[:, 1]) - ((np.float64(z[:, 0]) - 5) / 3) ** 2 / 2


def exact_log_density(z):
    """That of `bend`, nats."""
    return stats.norm.logpdf(z[:, 0], 5, 3) + stats.norm.logpdf(height(z), 0, WIDTH)


def gaussian_log_density(z):
    """That of the Gaussian with its moments."""
    return stats.norm.logpdf(z, MEAN, DEVIATION).sum(axis=1)


CODES, UNSEEN = bend(2000, 0), bend(3000, 1)


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """Networks that are trained in a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coupling_flow, "FLOW", CouplingFlow(blocks=4, hidden=(32,)))
        patch.setattr(two_stage, "HIDDEN", (64,))
        yield


@pytest.fixture(scope="module")
def fitted(small_networks):
    """Each sampler by its name, fitted to the codes."""
    steps = {"coupling_flow": 500, "two_stage": 1000}
    fields = {"gmm": {"components": 8}, **{name: {"steps": steps[name], "learning_rate": 1e-2} for name in steps}}
    return {
        name: samplers.FittedSampler(samplers.get(name), samplers.get(name).fit(CODES, root_key(1), **fields[name]))
        for name in fields
    }


def log_density(fitted, z):
    return np.float64(jax.jit(fitted.sampler.log_density)(fitted.params, jnp.asarray(z)))


@pytest.mark.parametrize("name", ["gmm", "coupling_flow", "two_stage"])
def test_draws_have_the_moments_and_the_bend_of_the_codes(fitted, name):
    draws = np.asarray(fitted[name].sample(root_key(2), 4000))
    np.testing.assert_allclose((draws.mean(axis=0) - MEAN) / DEVIATION, [0, 0], atol=0.1)
    # A second VAE of few codes draws a sixth too narrow, and less sharp.
    spread, blur = (0.2, 2.0) if name == "two_stage" else (0.1, 1.3)
    np.testing.assert_allclose(draws.std(axis=0), DEVIATION, rtol=spread)
    assert abs(height(draws).mean()) < 0.2 * WIDTH
    assert height(draws).std() < blur * WIDTH  # 3.5 times that of the Gaussian with these moments


@pytest.mark.parametrize("name", ["gmm", "coupling_flow"])
def test_unseen_codes_are_almost_as_likely_as_they_are(fitted, name):
    ours, exact = log_density(fitted[name], UNSEEN).mean(), exact_log_density(UNSEEN).mean()
    assert gaussian_log_density(UNSEEN).mean() < exact - 0.7
    assert exact - 0.15 < ours < exact


def test_the_second_vaes_bound_is_above_a_gaussians_density(fitted):
    params = fitted["two_stage"].params
    standard = jnp.asarray((UNSEEN - params["mean"][None]) / params["spread"][None])
    negative_elbo = np.asarray(two_stage.negative_elbo(params["vae"], standard, root_key(8)))
    bound = -negative_elbo.mean() - np.log(params["spread"]).sum()
    assert gaussian_log_density(UNSEEN).mean() + 0.3 < bound < exact_log_density(UNSEEN).mean()


@pytest.mark.parametrize("name", ["gmm", "coupling_flow"])
def test_a_density_integrates_to_one_and_is_that_of_its_draws(fitted, name):
    x, y = np.linspace(-12, 22, 171, dtype=np.float32), np.linspace(-3, 15, 361, dtype=np.float32)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    density, area = np.exp(log_density(fitted[name], points)), 0.2 * 0.05
    np.testing.assert_allclose(density.sum() * area, 1, atol=0.01)
    ours = log_density(fitted[name], fitted[name].sample(root_key(3), 4000))
    negative_entropy = special.xlogy(density, density).sum() * area
    assert abs(ours.mean() - negative_entropy) < 5 * ours.std() / math.sqrt(4000) + 0.01


def test_the_mixtures_density_is_scipys():
    random = np.random.default_rng(4)
    weights, means = np.float64([0.2, 0.5, 0.3]), 3 * random.normal(size=(3, 4))
    factors = np.tril(random.normal(size=(3, 4, 4)), -1) + np.exp(random.normal(size=(3, 4, 1))) * np.eye(4)[None]
    z = 3 * random.normal(size=(20, 4))
    parts = [stats.multivariate_normal(m, L @ L.T).logpdf(z) for m, L in zip(means, factors, strict=True)]
    expected = special.logsumexp(np.stack(parts) + np.log(weights)[:, None], axis=0)
    mixture = {"log_weights": np.log(weights), "means": means, "factors": factors}
    ours = gmm.mixture_log_density(jax.tree.map(np.float32, mixture), jnp.float32(z))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_the_second_vaes_loss_bounds_the_log_density_of_the_codes():
    # With codes of N(0, I), u = z, gamma^2 = 1 - r^2 and mean(u) = r u the marginal is N(0, I), the bound exact where
    # q(u|z) = N(r z, 1 - r^2); any other q is further by the KL between them.
    r, z = 0.6, np.random.default_rng(5).normal(size=(2000, 2)).astype(np.float32)

    def bound(slope, variance):
        params = {"encoder": (slope, variance), "decoder": r, "log_gamma": jnp.float32(0.5 * math.log(1 - r**2))}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(two_stage, "network", lambda outputs: Linear(outputs))
            return float(jnp.mean(two_stage.negative_elbo(params, jnp.asarray(z), root_key(6))))

    exact = -stats.norm.logpdf(np.float64(z)).sum(axis=1).mean()
    assert abs(bound(r, 1 - r**2) - exact) < 0.02
    gap = 2 * 0.5 * (0.5 / (1 - r**2) - 1 - math.log(0.5 / (1 - r**2)))
    assert abs(bound(r, 0.5) - exact - gap) < 0.02


class Linear:
    """A network of two_stage that is a multiple of its input: an encoder's mean with its variance, a decoder's mean."""

    def __init__(self, outputs):
        self.outputs = outputs

    def apply(self, params, x):
        if self.outputs == x.shape[1]:
            return params * x
        slope, variance = params
        return jnp.concatenate([slope * x, jnp.full_like(x, math.log(variance))], axis=1)


@pytest.mark.parametrize("name", ["gmm", "coupling_flow", "two_stage"])
def test_a_draw_depends_on_the_key_and_its_number_alone(fitted, name):
    one, again, other = (np.asarray(fitted[name].sample(root_key(k), n)) for k, n in ((3, 4), (3, 9), (4, 4)))
    np.testing.assert_allclose(one, again[:4], rtol=1e-4, atol=1e-4)
    assert np.abs(one - other).min() > 1e-4
    assert one.dtype == np.float32


@pytest.mark.parametrize("name", ["gmm", "coupling_flow", "two_stage"])
def test_a_fit_follows_from_codes_and_key(name):
    fields = {} if name == "gmm" else {"steps": 50}
    fit = samplers.get(name).fit
    one, again, other = (fit(CODES[:300], root_key(k), **fields) for k in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), one, other)
    assert max(jax.tree.leaves(differences)) > 1e-3


def test_the_step_that_the_held_out_tenth_likes_best_is_kept():
    # A parameter that Adam drives up without end, and that codes held out want at 0.02: the loss of training codes
    # falls by it, that of the others, marked by a 1, is its distance from there.
    marks = np.zeros((40, 1), np.float32)
    order = np.asarray(jax.random.permutation(_training.stream(root_key(7), "held_out"), 40))
    marks[order[:4]] = 1
    best = _training.fit(one_way, jnp.float32(0), jnp.asarray(marks), root_key(7), 500, 1e-3)
    np.testing.assert_allclose(best, 0.02, atol=0.006)


def one_way(params, codes, key):
    return jnp.where(codes[:, 0] == 1, jnp.abs(params - 0.02), -params)


@pytest.mark.parametrize("name", ["gmm", "coupling_flow", "two_stage"])
def test_a_latent_that_does_not_vary_does_no_harm(name):
    codes = np.stack([CODES[:300, 0], np.full(300, 7, np.float32)], axis=1)
    fields = {"components": 2} if name == "gmm" else {"steps": 50}
    sampler = samplers.get(name)
    draws = np.asarray(sampler.sample(sampler.fit(codes, root_key(0), **fields), root_key(1), 50))
    assert np.isfinite(draws).all()
    assert abs(draws[:, 1].mean() - 7) < 1.5


def test_what_cannot_be_is_one_line():
    assert samplers.get("prior") is None
    assert samplers.names() == ("coupling_flow", "gmm", "prior", "two_stage")
    with pytest.raises(UserError, match=r"^sampler: 'gm' is unknown; .*mean 'gmm'\?"):
        samplers.get("gm")
    for fit, codes, fields, message in (
        (gmm.fit, CODES[:5], {"components": 6}, r"^components: 6 is not allowed; give 1 to 5"),
        (coupling_flow.fit, CODES[:, :1], {}, "^sampler: 'coupling_flow' needs two latents"),
        (coupling_flow.fit, CODES, {"steps": 3}, "^steps: 3 is not allowed; give at least 50"),
        (two_stage.fit, CODES[:1], {}, "^codes: 1 is too few"),
    ):
        with pytest.raises(UserError, match=message):
            fit(codes, root_key(0), **fields)
