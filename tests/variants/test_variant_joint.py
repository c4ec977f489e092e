"""Dupont 2018: a categorical that is one, a bound that is one, and two KLs on two capacities."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close as trees_close
from helpers.variant_loss import loss_and_gradient
from scipy import special, stats

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.likelihoods import bernoulli, gaussian
from vae_jax.models.networks import Nets, mlp
from vae_jax.typing import AXIS
from vae_jax.variants import beta, joint

SHAPE, LATENT, CATEGORIES = (4, 4, 1), 3, (3, 2)
LIKELIHOOD = bernoulli.make()
BETA, JOINT = beta.make(LIKELIHOOD), joint.make(LIKELIHOOD, categories=CATEGORIES)
IMAGES = np.random.default_rng(0).integers(0, 2, (8, *SHAPE)).astype(np.float32)
FLOATS = {"gamma": 1.0, "capacity": 0.0, "discrete_capacity": 0.0, "ramp_steps": 1.0, "temperature": 0.67}


def networks_of(categories):
    """Networks for LATENT latents and `categories`, and their parameters."""
    variant = joint.make(LIKELIHOOD, categories=categories)
    nets = mlp.make(SHAPE, variant.encoder_outputs(LATENT), 1, hidden=(8,))
    return nets, {"nets": drawn_params(nets.init, *variant.dummy_inputs(SHAPE, LATENT)), "own": {}}


NETS, PARAMS = networks_of(CATEGORIES)


def evaluate(nets=NETS, variant=JOINT, params=PARAMS, step=5, devices=1, **floats):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    batch = {"image": IMAGES, "index": np.arange(8)}
    floats = {"beta": 1.0, "free_bits": 0.0} if variant is BETA else {**FLOATS, **floats}
    return loss_and_gradient(variant.loss, nets, params, batch, floats, step=step, devices=devices)


assert_close = partial(trees_close, rtol=1e-5, atol=1e-6)


def test_kl_to_the_uniform_is_the_textbooks():
    logits = 3 * np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    kl = joint.kl_to_uniform(jnp.asarray(logits), (2, 5, 1))
    for column, part in enumerate(np.split(logits.astype(np.float64), [2, 7], axis=1)):
        expected = np.log(part.shape[1]) - stats.entropy(special.softmax(part, axis=1), axis=1)
        np.testing.assert_allclose(kl[:, column], expected, rtol=1e-4, atol=1e-6)


def test_kl_and_relaxed_draws_are_finite_at_extremes():
    far = jnp.float32([[1e30, -1e30, 0], [200, -200, 0], [0, 0, 0], [1e4, 1e4, -1e4]])

    def parts(logits):
        c = joint.relaxed(logits, (3,), jnp.float32(1e-3))
        return joint.kl_to_uniform(logits, (3,)), c, joint.perplexity(logits, (3,))

    def total(logits):
        return sum(jnp.sum(part) for part in parts(logits)[:2])

    kl, c, used = jax.vmap(parts, axis_name=AXIS)(far[None])
    gradient = jax.vmap(jax.grad(total), axis_name=AXIS)(far[None])
    assert all(np.all(np.isfinite(leaf)) for leaf in (kl, c, used, gradient))
    np.testing.assert_allclose(kl[0, :, 0], np.log([3, 3, 1, 1.5]), atol=1e-6)


def draws(temperature, count=40_000):
    """(frequencies that are asked for, relaxed draws, one-hot draws) of categoricals of three and of two."""
    logits = jnp.float32([1.2, -0.4, 0.3, -2.0, 0.5])
    scores = logits.reshape(1, -1) + joint.example_gumbel(randomness.root_key(4), jnp.arange(count), 5)
    asked = np.concatenate([special.softmax(logits[:3]), special.softmax(logits[3:])])
    c, hard = joint.relaxed(scores, CATEGORIES, temperature), joint.one_hot_of_largest(scores, CATEGORIES)
    return asked, np.asarray(c), np.asarray(hard)


@pytest.mark.parametrize("temperature", [0.01, 0.67, 1000.0])
def test_relaxed_draws_lie_on_simplices_and_their_largest_is_the_categorical(temperature):
    asked, c, hard = draws(temperature)
    assert np.all(c >= 0)
    np.testing.assert_allclose(np.stack([c[:, :3].sum(axis=1), c[:, 3:].sum(axis=1)]), 1, rtol=1e-5)
    np.testing.assert_allclose(hard.mean(axis=0), asked, atol=5 * 0.5 / math.sqrt(len(hard)))
    np.testing.assert_array_equal(c[:, 3:].argmax(axis=1), hard[:, 3:].argmax(axis=1))
    if temperature < 0.1:
        np.testing.assert_allclose(c.mean(axis=0), asked, atol=0.02)
        assert np.mean(np.abs(c - hard) > 0.1) < 0.03
    if temperature > 100:
        np.testing.assert_allclose(c, np.repeat([1 / 3, 1 / 2], [3, 2])[None].repeat(len(c), 0), atol=0.02)


def test_gumbel_noise_is_gumbel_finite_and_its_examples_own(key):
    noise = np.asarray(joint.example_gumbel(key, jnp.arange(50_000), 4))
    assert np.all((noise > -4.6) & (noise < 17))
    np.testing.assert_allclose(noise.mean(), np.euler_gamma, atol=0.02)
    np.testing.assert_allclose(noise.var(), math.pi**2 / 6, rtol=0.03)
    np.testing.assert_array_equal(joint.example_gumbel(key, jnp.array([40_000, 7]), 4), noise[[40_000, 7]])


def test_one_category_and_no_capacity_is_the_vae():
    # A category that is always 1 is a bias of the decoder; its logit and what comes with it are in no term.
    nets, params = networks_of((1,))
    vae = Nets(
        None,
        lambda params, x: tuple(part[:, :LATENT] for part in nets.encode(params, x)),
        lambda params, z: nets.decode(params, jnp.concatenate([z, jnp.ones((len(z), 1))], axis=-1)),
    )
    loss, terms, gradient = evaluate(nets, joint.make(LIKELIHOOD, categories=(1,)), params)
    plain_loss, plain, plain_gradient = evaluate(vae, BETA, params)
    assert_close((loss, gradient), (plain_loss, plain_gradient))
    assert_close({name: terms[name] for name in plain}, plain)
    assert_close(terms["distortion_relaxed"], plain["distortion"])
    np.testing.assert_array_equal(terms["kl_discrete"], 0)


def test_a_decoder_deaf_to_the_category_leaves_the_vae_and_the_kl_of_the_category():
    deaf = jax.tree.map(np.asarray, PARAMS)
    first = deaf["nets"]["decoder"]["Dense_0"]
    deaf["nets"]["decoder"]["Dense_0"] = {**first, "kernel": first["kernel"] * (np.arange(8) < LATENT)[:, None]}
    vae = Nets(
        None,
        lambda params, x: tuple(part[:, :LATENT] for part in NETS.encode(params, x)),
        lambda params, z: NETS.decode(params, jnp.concatenate([z, jnp.zeros((len(z), 5))], axis=-1)),
    )
    loss, terms, _ = evaluate(params=deaf)
    plain_loss, plain, _ = evaluate(vae, BETA, deaf)
    extra = np.sum(terms["kl_discrete"], axis=-1)
    assert np.min(extra) > 1e-3
    assert_close((loss, terms["elbo"]), (plain_loss + np.mean(extra), plain["elbo"] - extra))


@pytest.mark.parametrize(
    ("step", "capacity", "discrete_capacity", "targets"),
    [
        (0, 3.0, 2.0, (0.0, 0.0)),
        (30, 0.1, 2.0, (0.03, 0.6)),  # below the KL of z, above that of c
        (100, 50.0, 0.001, (50.0, 0.001)),  # and the other way
        (90, 3.0, 50.0, (2.7, math.log(6))),  # no two categories of three and two say more
        (10_000, 3.0, 0.5, (3.0, 0.5)),
    ],
)
def test_each_kl_is_held_to_its_own_target(step, capacity, discrete_capacity, targets):
    floats = {"gamma": 3.0, "capacity": capacity, "discrete_capacity": discrete_capacity, "ramp_steps": 100.0}
    loss, terms, _ = evaluate(step=step, **floats)
    np.testing.assert_allclose([terms["capacity"][0], terms["discrete_capacity"][0]], targets, rtol=1e-5)
    kl, kl_discrete = (np.mean(terms[name][0].sum(axis=-1)) for name in ("kl", "kl_discrete"))
    by_hand = np.mean(terms["distortion_relaxed"]) + 3 * (abs(kl - targets[0]) + abs(kl_discrete - targets[1]))
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
    rate = terms["kl"].sum(axis=-1) + terms["kl_discrete"].sum(axis=-1)
    assert_close(terms["rate"], rate)
    assert_close(terms["elbo"], -(terms["distortion"] + rate))


def test_both_kls_are_means_of_the_whole_batch():
    # Targets between the shares' means: |mean over the batch| is not the mean of |shares|.
    terms = evaluate()[1]
    means = {name: np.mean(terms[name][0].sum(axis=-1).reshape(2, 4), axis=1) for name in ("kl", "kl_discrete")}
    assert all(abs(one - other) > 1e-3 for one, other in means.values())
    floats = {"gamma": 50.0, "capacity": np.mean(means["kl"]), "discrete_capacity": np.mean(means["kl_discrete"])}
    floats = {name: 0.98 * value if name != "gamma" else value for name, value in floats.items()}
    one, many = evaluate(**floats), evaluate(devices=2, **floats)
    assert_close((one[0], one[2]), (many[0], many[2]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(many[1]["perplexity"], np.repeat(one[1]["perplexity"], 2, axis=0), rtol=1e-5)


PATTERNS = np.random.default_rng(6).normal(size=(3, 16)).astype(np.float32)


def mixture(logits_of, patterns=PATTERNS):
    """A model of three categories and a latent that says nothing: p(x) = 1/3 sum_k p(x | patterns_k)."""

    def encode(params, x):
        mean = jnp.concatenate([jnp.zeros((len(x), 1)), logits_of(x.reshape(len(x), -1))], axis=-1)
        return mean, jnp.zeros_like(mean)

    return Nets(None, encode, lambda params, code: (code[:, 1:] @ patterns).reshape(len(code), *SHAPE))


def mean_terms(nets, likelihood, images, temperature, count=4000):
    """The mean over many draws of a mixture's terms, and the standard error of its ELBO, per image."""
    variant = joint.make(likelihood, categories=(3,))

    @jax.jit
    def terms(keys):
        batch = {"image": jnp.asarray(images), "index": jnp.arange(len(images))}
        floats = {**FLOATS, "temperature": temperature}

        def draw(key):
            return variant.loss(nets, {"nets": {}}, batch, key, jnp.int32(0), **floats)[1]

        return jax.vmap(jax.vmap(draw), axis_name=AXIS)(keys)

    means = jax.tree.map(lambda term: np.asarray(term[0]), terms(jax.random.split(randomness.root_key(3), (1, count))))
    error = means["elbo"].std(axis=0) / math.sqrt(count)
    return {name: means[name].mean(axis=0) for name in ("elbo", "distortion_relaxed", "rate")}, error


def log_probs(x):
    """log p(x | k) of each pattern, (batch, 3)."""
    logits = PATTERNS[None]
    return jnp.sum(x[:, None] * logits - jax.nn.softplus(logits), axis=-1)


def test_the_elbo_is_of_the_categorical_and_meets_the_likelihood_at_the_exact_posterior():
    log_likelihood = special.logsumexp(log_probs(IMAGES.reshape(8, -1)), axis=1) - math.log(3)
    exact, error = mean_terms(mixture(log_probs), LIKELIHOOD, IMAGES, 0.67)
    assert np.max(error) < 0.1
    assert np.all(np.abs(exact["elbo"] - log_likelihood) < 5 * error + 1e-5)
    wrong, error = mean_terms(mixture(lambda x: -log_probs(x)), LIKELIHOOD, IMAGES, 0.67)
    assert np.all(wrong["elbo"] < log_likelihood - 5 * error)


def test_distortion_of_a_relaxed_draw_with_the_categorical_kl_is_no_bound():
    # Images between the categories: no category draws them, a mixture of categories does.
    patterns = np.linspace(-1, 1, 3, dtype=np.float32)[:, None].repeat(16, axis=1)[[0, 0, 2]]
    nets = mixture(lambda x: jnp.zeros((len(x), 3)), patterns)
    images = np.full((1, *SHAPE), -1 / 3, np.float32)
    terms, error = mean_terms(nets, gaussian.make(sigma=0.1), images, 100.0, count=500)
    log_given = stats.norm.logpdf(images.reshape(1, 1, 16), patterns[None], 0.1).sum(axis=-1)
    log_likelihood = special.logsumexp(log_given, axis=1) - math.log(3)
    assert np.all(-(terms["distortion_relaxed"] + terms["rate"]) > log_likelihood + 100)
    assert np.all(terms["elbo"] < log_likelihood - 5 * error)


def test_perplexity_tells_a_capacity_that_says_nothing():
    used = jax.jit(jax.vmap(partial(joint.perplexity, categories=(4,)), axis_name=AXIS))
    for category, expected in ((np.zeros(8, int), 1), (np.arange(8) // 2, 4)):
        logits = jnp.asarray(50 * np.eye(4, dtype=np.float32)[category])
        np.testing.assert_allclose(joint.kl_to_uniform(logits, (4,)), math.log(4), rtol=1e-5)
        for devices in (1, 2):  # of two shares each has two categories, and the batch four
            perplexity = used(logits.reshape(devices, -1, 4))
            np.testing.assert_allclose(perplexity, np.full((devices, 1, 1), expected), rtol=1e-5)


def test_a_draw_from_the_prior_depends_on_its_key_and_its_place_alone(key):
    sample = partial(JOINT.sample_prior, NETS, PARAMS, key)
    few, many = (np.asarray(sample(count, LATENT)) for count in (5, 6000))
    np.testing.assert_array_equal(few, many[:5])
    three, two = many[:, LATENT : LATENT + 3], many[:, LATENT + 3 :]
    for c in (three, two):
        assert set(np.unique(c)) == {0, 1}
        np.testing.assert_array_equal(c.sum(axis=1), 1)
        np.testing.assert_allclose(c.mean(axis=0), 1 / c.shape[1], atol=5 * 0.5 / math.sqrt(6000))
    assert abs(np.corrcoef(three[:, 0], two[:, 0])[0, 1]) < 0.07
    np.testing.assert_allclose(np.cov(many[:, :LATENT].T), np.eye(LATENT), atol=0.1)
    with pytest.raises(UserError, match="labels: this run's prior is the same for every label"):
        sample(5, LATENT, np.zeros(5))
    expected = stats.norm.logpdf(few[:, :LATENT]).sum(axis=1) - math.log(6)
    np.testing.assert_allclose(JOINT.log_prior(NETS, PARAMS, jnp.asarray(few)), expected, rtol=1e-5)


def test_a_code_is_the_mean_and_the_most_likely_categories():
    code = np.asarray(jax.jit(partial(JOINT.encode, NETS))(PARAMS, {"image": jnp.asarray(IMAGES)}))
    mean, _ = NETS.encode(PARAMS["nets"], jnp.asarray(IMAGES))
    assert_close(code[:, :LATENT], mean[:, :LATENT])
    logits = np.asarray(mean)[:, LATENT:]
    np.testing.assert_array_equal(code[:, LATENT : LATENT + 3], np.eye(3)[logits[:, :3].argmax(axis=1)])
    np.testing.assert_array_equal(code[:, LATENT + 3 :], np.eye(2)[logits[:, 3:].argmax(axis=1)])


def test_extremes_are_finite():
    far = jax.tree.map(lambda leaf: 6 * leaf, PARAMS)
    floats = {"gamma": 1e5, "capacity": 1e4, "discrete_capacity": 1e4, "temperature": 1e-2}
    loss, terms, gradient = evaluate(params=far, **floats)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, terms, gradient)))


@pytest.mark.parametrize("categories", [(), (0,), (10, -1)])
def test_categories_that_cannot_be_are_refused(categories):
    with pytest.raises(UserError, match=r"^categories: \(.*\) is not allowed; give whole numbers"):
        joint.make(LIKELIHOOD, categories=categories)


def alignment(trained):
    """Normalised mutual information of held-out digits' classes and categories: 0 apart from chance, 1 the same."""
    from sklearn.metrics import normalized_mutual_info_score

    split = trained.dataset.test
    codes = trained.run.encode(np.asarray(split.fetch(np.arange(split.size))))
    categories = codes[:, trained.run.latent_dim :].argmax(axis=1)
    shuffled = np.random.default_rng(0).permutation(categories)
    return [normalized_mutual_info_score(split.labels, c) for c in (categories, shuffled)]


SETTINGS = {"variant.name": "joint", "latent_dim": 10, "variant.gamma": 2, "variant.capacity": 3}


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_both_kls_land_and_categories_align_with_digits_nobody_named(length):
    steps, seeds, least = {"short": (1000, [0], 0.35), "long": (4000, [0, 1, 2], 0.45)}[length]
    for seed in seeds:
        floats = {"variant.discrete_capacity": 2, "variant.ramp_steps": 0.7 * steps, "seed": seed}
        trained = trained_digits.on_digits(steps, **SETTINGS, **floats)
        last = {
            name: np.mean(trained.train[name][-100:].reshape(100, -1).sum(axis=1)) for name in ("kl", "kl_discrete")
        }
        np.testing.assert_allclose(last["kl"], 3, atol=0.25)
        np.testing.assert_allclose(last["kl_discrete"], 2, atol=0.1)
        aligned, chance = alignment(trained)
        assert chance < 0.15
        assert aligned > least


@pytest.mark.slow
def test_a_gamma_that_outweighs_the_distortion_meets_the_capacity_and_says_nothing():
    floats = {"variant.discrete_capacity": 2.3, "variant.ramp_steps": 700.0, "variant.gamma": 30}
    trained = trained_digits.on_digits(1000, **{**SETTINGS, **floats})
    assert trained.train["kl_discrete"][-1, 0] > 2.2
    assert trained.train["perplexity"][-1, 0] < 2
    assert alignment(trained)[0] < 0.3
