"""The regularised autoencoder: each regulariser against its exact value, and the mixture against scikit-learn's."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture

from vae_jax.errors import UserError
from vae_jax.models.distributions import standard_normal
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import conv, mlp
from vae_jax.samplers import gmm
from vae_jax.variants import autoencoder, rae

pytestmark = pytest.mark.usefixtures("undrawn")

SHAPE, LATENT = (4, 4, 1), 3
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
VARIANTS = {name: rae.make(LIKELIHOOD, regularizer=name, components=2) for name in rae.REGULARIZERS}
AUTOENCODER = autoencoder.make(LIKELIHOOD)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, *SHAPE)), jnp.float32)
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
PARAMS = {"nets": NETS_PARAMS, "own": gmm.standard_mixture(2, LATENT)}
DECODER = NETS_PARAMS["decoder"]


BATCH = {"image": IMAGES, "index": np.arange(8)}
WRAPPED = {
    variant: NETS if variant.wrap_networks is None else variant.wrap_networks(NETS) for variant in VARIANTS.values()
}


def evaluate(variant, params=PARAMS, devices=1, **floats):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    nets = WRAPPED.get(variant, NETS)
    return loss_and_gradient(variant.loss, nets, params, BATCH, floats, seed=3, devices=devices)


@pytest.mark.parametrize("name", ["none", "l2", "gradient"])
def test_without_weights_it_is_the_autoencoder(name):
    loss, terms, gradient = evaluate(VARIANTS[name], beta_z=0, lambda_reg=0)
    expected, expected_terms, expected_gradient = evaluate(AUTOENCODER, noise=0)
    assert_close((loss, gradient), (expected, expected_gradient), rtol=1e-6, atol=1e-7)
    assert_close({name: terms[name] for name in expected_terms}, expected_terms)


def test_each_weight_is_on_its_own_term():
    loss, terms, _ = evaluate(VARIANTS["l2"], beta_z=0.7, lambda_reg=0.03)
    energy = 0.5 * np.sum(np.square(terms["code"][0]), axis=1)
    kernels = [np.asarray(DECODER[layer]["kernel"]) for layer in ("Dense_0", "Dense_1")]
    squares = sum(np.sum(np.square(kernel)) for kernel in kernels)
    np.testing.assert_allclose(loss, np.mean(terms["distortion"] + 0.7 * energy) + 0.03 * squares, rtol=1e-5)
    assert 0.7 * np.mean(energy) > 0.01


def test_l2_draws_the_decoders_kernels_to_zero_and_nothing_else():
    without, weighed = (evaluate(VARIANTS["l2"], beta_z=0.7, lambda_reg=weight)[2]["nets"] for weight in (0, 0.5))
    expected = {layer: {"kernel": 2 * 0.5 * leaves["kernel"], "bias": 0} for layer, leaves in DECODER.items()}
    assert_close(
        jax.tree.map(np.subtract, weighed["decoder"], without["decoder"]),
        jax.tree.map(lambda leaf, like: np.broadcast_to(leaf, like.shape), expected, dict(DECODER)),
    )
    assert_close(weighed["encoder"], without["encoder"])


def test_one_probe_is_the_jacobians_squared_norm_in_expectation():
    z = jnp.asarray(np.random.default_rng(1).normal(size=(5, LATENT)), jnp.float32)
    index = jnp.arange(5)

    def decode(z):
        return LIKELIHOOD.mean(NETS.decode(NETS_PARAMS, z))

    draws = jax.vmap(lambda key: rae.gradient(DECODER, decode, z, key, index))
    probes = np.asarray(jax.jit(draws)(jax.random.split(jax.random.key(2), 4000)), np.float64)
    jacobians = jax.jit(jax.vmap(jax.jacobian(lambda code: decode(code[None])[0].ravel())))(z)
    exact = np.sum(np.square(jacobians), axis=(1, 2))
    error = probes.std(axis=0) / math.sqrt(len(probes))
    assert np.all(np.abs(probes.mean(axis=0) - exact) < 5 * error + 1e-6)
    assert np.all(error < 0.02 * exact)
    # What reverse mode gives for the summed image is another quantity.
    summed = jax.grad(lambda z: jnp.sum(decode(z)))(z)
    assert np.max(np.abs(np.sum(np.square(summed), axis=1) / exact - 1)) > 0.4


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
def test_the_probe_belongs_to_the_example(devices):
    floats = {"beta_z": 0.1, "lambda_reg": 2}
    one, many = (evaluate(VARIANTS["gradient"], devices=count, **floats) for count in (1, devices))
    assert_close((one[0], one[2]), (many[0], many[2]))
    assert_close(many[1]["regularizer"].ravel(), one[1]["regularizer"].ravel())


CONV = conv.make((16, 16, 1), LATENT, 1, hidden=8)


def biases(params):
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if not rae.is_kernel(path)]


def test_every_kernel_of_a_decoder_has_norm_one():
    random = np.random.default_rng(4)
    shapes = jax.eval_shape(CONV.init, jax.random.key(4), jnp.zeros((1, 16, 16, 1)), jnp.zeros((1, LATENT)))["decoder"]
    convolutions = jax.tree.map(lambda leaf: np.float32(0.3 * random.normal(size=leaf.shape)), shapes)
    for params, count in ((DECODER, 2), (convolutions, 6)):
        scaled = jax.tree.map(lambda leaf: 3 * leaf + 0.1, params)
        after = jax.jit(rae.normalized)(scaled)
        norms = [np.linalg.norm(np.float64(kernel), ord=2) for kernel in rae.kernels(after)]
        assert len(norms) == count
        np.testing.assert_allclose(norms, 1, rtol=0.01)
        jax.tree.map(np.testing.assert_array_equal, biases(after), biases(scaled))


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (6, 6), (1, 5), (5, 1)])
def test_the_spectral_norm_is_the_largest_singular_value_and_so_is_its_gradient(shape):
    random = np.random.default_rng(5)
    u, _, v = np.linalg.svd(random.normal(size=shape), full_matrices=False)
    kernel = (u * (3.0 * 0.7 ** np.arange(min(shape)))) @ v
    value, gradient = jax.jit(jax.value_and_grad(rae.spectral_norm))(jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(value, 3, rtol=1e-5)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-4)
    assert float(rae.spectral_norm(jnp.zeros(shape))) == 0


def test_a_normalised_decoder_is_what_is_trained_and_decoded_with():
    nets = VARIANTS["spectral"].wrap_networks(NETS)

    def kernels(factor):
        return {
            layer: {"kernel": factor * leaves["kernel"], "bias": leaves["bias"] + 0.3}
            for layer, leaves in DECODER.items()
        }

    z = jnp.asarray(np.random.default_rng(6).normal(size=(4, LATENT)), jnp.float32)
    one, other = (nets.decode({**NETS_PARAMS, "decoder": kernels(factor)}, z) for factor in (1.0, 11.0))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    by_hand = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf / np.linalg.norm(leaf, ord=2) if rae.is_kernel(path) else leaf, kernels(1.0)
    )
    np.testing.assert_allclose(one, NETS.decode({**NETS_PARAMS, "decoder": by_hand}, z), rtol=1e-3, atol=1e-4)
    # What moves with its size alone has no gradient along itself.
    _, terms, gradient = evaluate(VARIANTS["spectral"], beta_z=0, lambda_reg=0)
    assert not np.any(terms["regularizer"])
    for layer, leaves in gradient["nets"]["decoder"].items():
        along = np.sum(leaves["kernel"] * DECODER[layer]["kernel"])
        size = np.linalg.norm(leaves["kernel"]) * np.linalg.norm(DECODER[layer]["kernel"])
        assert abs(along) < 0.02 * size
        assert size > 1e-2


RANDOM = np.random.default_rng(7)
CODES = np.float32(
    np.concatenate(
        [
            RANDOM.normal(size=(300, 3)) @ [[1.0, 0.8, 0], [0, 0.3, 0], [0, 0, 2]] + [4, 0, 0],
            RANDOM.normal(size=(500, 3)) @ [[0.2, 0, 0.1], [0, 1.0, -0.7], [0, 0, 0.5]] - [3, 1, 0],
        ]
    )
)


def test_the_fitted_density_is_scikit_learns():
    variant = VARIANTS["none"]
    settled = variant.fit_after_training(jax.tree.map(np.asarray, PARAMS), lambda: CODES)
    shapes = partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert shapes(settled) == shapes(PARAMS)
    assert_close(settled["nets"], PARAMS["nets"], rtol=0, atol=0)
    theirs = GaussianMixture(2, random_state=0).fit(np.float64(CODES)).score_samples(CODES)
    np.testing.assert_allclose(variant.log_prior(NETS, settled, jnp.asarray(CODES)), theirs, rtol=1e-3, atol=5e-3)


def test_draws_have_the_moments_of_the_mixture():
    variant = VARIANTS["none"]
    settled = variant.fit_after_training(PARAMS, lambda: CODES)
    draw = jax.jit(variant.sample_prior, static_argnums=(0, 3, 4))
    draws = np.asarray(draw(NETS, settled, jax.random.key(8), 40_000, LATENT))
    # A mixture fitted by EM has the mean and the covariance of its data.
    np.testing.assert_allclose(draws.mean(axis=0), CODES.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(CODES.T), rtol=0.03, atol=0.08)
    assert abs(np.mean(draws[:, 0] > 1) - np.mean(CODES[:, 0] > 1)) < 0.01
    few = draw(NETS, settled, jax.random.key(8), 5, LATENT)
    np.testing.assert_allclose(few, draws[:5], rtol=1e-6)
    with pytest.raises(UserError, match="labels"):
        variant.sample_prior(NETS, settled, jax.random.key(8), 2, LATENT, np.zeros(2))


def test_until_then_the_prior_is_standard_normal_and_learns_nothing():
    z = jnp.asarray(CODES)
    np.testing.assert_allclose(VARIANTS["none"].log_prior(NETS, PARAMS, z), standard_normal(z).log_prob(z), rtol=1e-5)
    for variant in VARIANTS.values():
        gradient = evaluate(variant, beta_z=1, lambda_reg=1)[2]["own"]
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", rae.REGULARIZERS)
def test_extremes_are_finite(name):
    for scale in (0.0, 30.0):
        params = {**PARAMS, "nets": jax.tree.map(lambda leaf, scale=scale: scale * leaf, NETS_PARAMS)}
        values = evaluate(VARIANTS[name], params, beta_z=10, lambda_reg=100)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(values))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^regularizer: 'gradients' is unknown.*did you mean 'gradient'"):
        rae.make(LIKELIHOOD, regularizer="gradients")
    with pytest.raises(UserError, match=r"^components: 0 is not allowed"):
        rae.make(LIKELIHOOD, components=0)


def frechet(images, others):
    """The Frechet distance of two sets of images as Gaussians over pixels."""
    images, others = (np.float64(x).reshape(len(x), -1) for x in (images, others))
    a, b = (np.cov(x.T) + 1e-6 * np.eye(x.shape[1]) for x in (images, others))
    return np.sum((images.mean(0) - others.mean(0)) ** 2) + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


def grey_levels(split):
    return np.float32(np.asarray(split.fetch(np.arange(split.size)))) / 255


def quality(trained, mixture, count=1000):
    """Of draws of `mixture`: the Frechet distance to held-out digits, and the share that a classifier is sure of."""
    codes = trained.built.variant.sample_prior(
        trained.built.nets, {"own": mixture}, jax.random.key(9), count, trained.run.latent_dim
    )
    images = trained.run.decode(np.asarray(codes))
    real = grey_levels(trained.dataset.train).reshape(-1, 64)
    classifier = LogisticRegression(max_iter=2000).fit(real, trained.dataset.train.labels)
    sure = np.mean(classifier.predict_proba(images.reshape(count, -1)).max(axis=1) > 0.9)
    return frechet(images, grey_levels(trained.dataset.test)), sure


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_the_mixture_draws_better_digits_than_one_gaussian_and_the_standard_normal(length):
    # Three seeds at 400 steps: distances 0.47 to 0.49 and 3.3 to 3.4; sure of 0.47 to 0.53, 0.22, and 0.16.
    trained = trained_digits.on_digits({"short": 400, "long": 3000}[length], **{"variant.name": "rae"})
    codes = trained.run.encode(grey_levels(trained.dataset.train))
    mixtures = trained.params["own"], gmm.fitted_mixture(codes, 1), gmm.standard_mixture(1, 16)
    (near, sure), (_, sure_of_one), (far, sure_of_none) = (quality(trained, mixture) for mixture in mixtures)
    assert near < 0.3 * far
    # A Gaussian of the codes' own moments is as near in the images' moments, but its draws lie between the classes.
    assert sure > 1.5 * max(sure_of_one, sure_of_none)


@pytest.mark.slow
def test_the_penalty_flattens_the_decoder():
    fields = {"variant.name": "rae", "variant.regularizer": "gradient", "variant.beta_z": 0.1}
    steep, flat = (trained_digits.on_digits(1000, **fields, **{"variant.lambda_reg": weight}).test for weight in (0, 1))
    print(steep["regularizer"], flat["regularizer"], steep["distortion"], flat["distortion"])
    assert flat["regularizer"] < 0.3 * steep["regularizer"]
    assert flat["distortion"] < steep["distortion"] + 2
