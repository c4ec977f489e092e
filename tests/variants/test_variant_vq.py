"""VQ-VAE and FSQ: which vector, who learns from which term, the tree of the prior, and a bound that holds."""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import trained_digits
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient
from scipy.linalg import sqrtm
from scipy.special import logsumexp

from vae_jax import randomness, registry
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.models import likelihoods
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import grid, mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.randomness import root_key
from vae_jax.training import executors
from vae_jax.training.evaluation import fit_after_training
from vae_jax.training.setup import prepare
from vae_jax.typing import AXIS
from vae_jax.variants import _code_prior, vq

SHAPE, LATENT, GROUPS, CODES = (4, 4, 1), 6, 3, 5
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
VQ = vq.make(LIKELIHOOD, codes=CODES, dim=2)
FSQ = vq.make(LIKELIHOOD, quantizer="fsq", levels=(3, 2))
UNIFORM = vq.make(LIKELIHOOD, codes=CODES, dim=2, prior="uniform")
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, *SHAPE)), jnp.float32)
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))


def parameters(variant):
    return {"nets": NETS_PARAMS, "own": variant.init(randomness.root_key(2), SHAPE, LATENT)}


BATCH = {"image": IMAGES, "index": np.arange(8)}


def evaluate(variant, params, commitment=0.25, devices=1):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    floats = {"commitment": commitment}
    return loss_and_gradient(variant.loss, NETS, params, BATCH, floats, seed=3, devices=devices)


def brute_force(book, e):
    """The nearest of `book` to each vector of `e`, in float64 and one by one."""
    book, e = np.float64(book), np.float64(e)
    flat = [min(range(len(book)), key=lambda k, v=v: np.sum((v - book[k]) ** 2)) for v in e.reshape(-1, e.shape[-1])]
    return np.reshape(flat, e.shape[:-1])


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_the_nearest_vector_is_found_also_far_from_zero(offset):
    random = np.random.default_rng(1)
    book, e = (np.float32(random.normal(size=size) + offset) for size in ((17, 3), (9, 4, 3)))
    np.testing.assert_array_equal(vq.nearest(jnp.asarray(book), jnp.asarray(e)), brute_force(book, e))


def test_a_vector_of_the_codebook_is_its_own_code_and_costs_nothing():
    quantizer = vq.QUANTIZERS["vq"](7, 2, ())
    book = quantizer.codebook(quantizer.init(jax.random.key(0)))
    index = jnp.arange(14).reshape(2, 7) % 7
    np.testing.assert_array_equal(vq.nearest(book, book[index]), index)
    np.testing.assert_array_equal(quantizer.penalty(book[index], book[index], jnp.float32(5)), [0, 0])
    # What is decoded is the vector to the bit, however far the encoder's own is.
    np.testing.assert_array_equal(vq.straight_through(book[index] * 1e7 + 1e8, book[index]), book[index])


def test_each_part_learns_from_its_own_terms_alone():
    params, commitment = parameters(VQ), 0.7
    _, terms, gradient = evaluate(VQ, params, commitment)
    book = np.asarray(params["own"]["codebook"])
    e = NETS.encode(params["nets"], IMAGES)[0].reshape(8, GROUPS, 2)
    index = brute_force(book, e)
    c = jnp.asarray(book[index])
    np.testing.assert_array_equal(terms["code"][0], c.reshape(8, LATENT))

    towards_means = np.zeros_like(book)
    np.add.at(towards_means, index, 2 * (book[index] - np.asarray(e)) / 8)
    assert_close(gradient["own"]["codebook"], towards_means)
    assert np.abs(towards_means).max() > 0.05

    def distortion(nets, code):
        return jnp.mean(-LIKELIHOOD.log_prob(NETS.decode(nets, code), IMAGES))

    decoder, slope = jax.jit(jax.grad(distortion, (0, 1)))(params["nets"], c.reshape(8, LATENT))
    assert_close(gradient["nets"]["decoder"], decoder["decoder"])

    def encoder_sees(nets):
        means = NETS.encode(nets, IMAGES)[0]
        return jnp.sum(slope * means) + commitment * jnp.sum(jnp.square(means - c.reshape(8, LATENT))) / 8

    encoder = jax.jit(jax.grad(encoder_sees))(params["nets"])["encoder"]
    assert_close(gradient["nets"]["encoder"], encoder)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(encoder)) > 0.05


def test_the_loss_is_the_sum_of_its_terms_and_the_prior_takes_no_gradient():
    params = parameters(VQ)
    loss, terms, gradient = evaluate(VQ, params, 0.25)
    np.testing.assert_allclose(loss, np.mean(terms["distortion"] + 1.25 * terms["rounding_error"]), rtol=1e-5)
    np.testing.assert_allclose(terms["rate"], GROUPS * math.log(CODES), rtol=1e-5)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["own"]["prior"]))
    adam = make_optimizer()
    updates, _ = adam.update(gradient, adam.init(params), params, learning_rate=1e-3)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates["own"]["prior"]))


@pytest.mark.parametrize(("index", "expected"), [([[0, 1], [2, 3]], 4), ([[2, 2], [2, 2]], 1), ([[0, 0], [3, 3]], 2)])
@pytest.mark.parametrize("devices", [1, 2])
def test_perplexity_of_known_use(index, expected, devices):
    shares = jnp.asarray(index).reshape(devices, -1, 2)
    perplexity = jax.vmap(lambda share: vq.perplexity(share, 4), axis_name=AXIS)(shares)
    np.testing.assert_allclose(perplexity, expected, rtol=1e-5)


@pytest.mark.parametrize("variant", [VQ, FSQ], ids=["vq", "fsq"])
def test_devices_agree_with_one(variant):
    params = parameters(variant)
    one, two = (evaluate(variant, params, devices=devices) for devices in (1, 2))
    assert_close((one[0], one[2]), (two[0], two[2]))
    assert one[1]["perplexity"][0] > 1.5
    np.testing.assert_allclose(two[1]["perplexity"], one[1]["perplexity"][0], rtol=1e-5)


@pytest.mark.parametrize("levels", [(3, 4, 2), (5,), (2, 2)])
def test_finite_scalars_are_all_the_evenly_spaced_values_and_no_others(levels):
    quantizer = vq.QUANTIZERS["fsq"](0, 0, levels)
    book = quantizer.codebook({})
    assert quantizer.size == len(np.unique(book, axis=0)) == math.prod(levels)
    for column, level in zip(book.T, levels, strict=True):
        np.testing.assert_allclose(np.unique(column), np.linspace(-1, 1, level), atol=1e-6)
    everything = jnp.arange(math.prod(levels))[None]
    np.testing.assert_array_equal(vq.nearest(book, book[everything]), everything)

    e = np.float32(np.random.default_rng(2).normal(scale=3, size=(500, 4, len(levels))))
    index = np.asarray(vq.nearest(book, quantizer.bound(jnp.asarray(e))))
    assert len(np.unique(index)) == math.prod(levels)
    # By rounding: whole numbers for an odd count, half a level off them for an even one.
    half = (np.array(levels) - 1) / 2
    offset = np.array([0.0 if level % 2 else 0.5 for level in levels])
    rounded = (np.round(np.tanh(np.float64(e)) * half - offset) + offset) / half
    np.testing.assert_allclose(book[index], rounded, atol=1e-6)


def test_finite_scalars_pass_the_gradient_of_tanh_and_cost_nothing():
    quantizer = vq.QUANTIZERS["fsq"](0, 0, (4, 3))
    e = jnp.asarray(np.float32(np.random.default_rng(3).normal(size=(5, 2, 2))))

    def decoded(e):
        bounded = quantizer.bound(e)
        return vq.straight_through(bounded, quantizer.codebook({})[vq.nearest(quantizer.codebook({}), bounded)])

    np.testing.assert_allclose(jax.grad(lambda e: jnp.sum(decoded(e)))(e), 1 - np.tanh(e) ** 2, rtol=1e-4)
    loss, terms, gradient = evaluate(FSQ, parameters(FSQ))
    np.testing.assert_allclose(loss, np.mean(terms["distortion"]), rtol=1e-6)
    assert terms["rounding_error"].min() > 0
    assert np.abs(gradient["nets"]["encoder"]["body"]["Dense_0"]["kernel"]).max() > 0


EDGES = {1: 0, 2: 1, 3: 1, 4: 0}
"""child: parent, of a tree of five groups."""
SIZE = 3


def simulated(count, seed=0):
    """`count` rows of a random tree-structured distribution, and its log-probability as a function of rows."""
    random = np.random.default_rng(seed)
    root = random.dirichlet(np.ones(SIZE))
    tables = {child: random.dirichlet(0.4 * np.ones(SIZE), size=SIZE) for child in EDGES}
    rows = np.zeros((count, 5), int)
    rows[:, 0] = random.choice(SIZE, count, p=root)
    for child, parent in EDGES.items():
        draw = random.uniform(size=(count, 1)) > np.cumsum(tables[child], axis=1)[rows[:, parent]]
        rows[:, child] = np.minimum(draw.sum(axis=1), SIZE - 1)

    def log_probability(rows):
        return np.log(root[rows[:, 0]]) + sum(np.log(tables[c][rows[:, p], rows[:, c]]) for c, p in EDGES.items())

    return rows, log_probability


ROWS, GENERATING = simulated(6000)
FITTED = _code_prior.chow_liu(ROWS[:3000], SIZE)
EVERY = np.array(list(itertools.product(range(SIZE), repeat=5)))


def test_chow_liu_recovers_the_tree_and_its_likelihood():
    edges = {frozenset((g, int(p))) for g, p in enumerate(FITTED["parent"]) if g != p}
    assert edges == {frozenset(edge) for edge in EDGES.items()}
    held_out = ROWS[3000:]
    fitted = np.asarray(_code_prior.log_probability(FITTED, jnp.asarray(held_out)))
    assert abs(np.mean(fitted - GENERATING(held_out))) < 0.01
    apart = sum(np.log(np.bincount(ROWS[:3000, g], minlength=SIZE) / 3000)[held_out[:, g]] for g in range(5))
    assert np.mean(fitted) > np.mean(apart) + 0.5  # the edges, not the marginals, are what was to be learned
    everything = _code_prior.log_probability(FITTED, jnp.asarray(EVERY))
    np.testing.assert_allclose(jax.nn.logsumexp(everything), 0, atol=1e-5)


def test_draws_have_the_pairwise_marginals_of_the_tree():
    count = 20_000
    rows = np.asarray(jax.jit(_code_prior.sample_codes, static_argnums=2)(FITTED, jax.random.key(4), count))
    exact = np.exp(_code_prior.log_probability(FITTED, jnp.asarray(EVERY)))
    for a, b in itertools.combinations(range(5), 2):
        pairs = np.bincount(EVERY[:, a] * SIZE + EVERY[:, b], weights=exact, minlength=SIZE**2)
        share = np.bincount(rows[:, a] * SIZE + rows[:, b], minlength=SIZE**2) / count
        assert np.all(np.abs(share - pairs) < 5 * np.sqrt(pairs / count) + 1e-4)


def test_the_tree_bears_groups_that_say_nothing_or_everything():
    columns = np.random.default_rng(5).integers(0, 4, (200, 1))
    for rows in (np.concatenate([columns, np.full((200, 2), 3)], axis=1), columns, np.tile(columns, (1, 3))):
        prior = _code_prior.chow_liu(rows, 4)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(prior))
        assert sorted(prior["order"]) == list(range(rows.shape[1]))
        assert (
            np.mean(_code_prior.log_probability(prior, jnp.asarray(rows))) > -1.5
        )  # log 4 = 1.39 for the one that varies


def test_smoothing_follows_the_counts_as_far_as_they_can_be_believed():
    behind = np.array([0.5, 0.3, 0.2, 0.0]) + 1e-3
    behind /= behind.sum()
    random = np.random.default_rng(6)
    by_chance = np.stack([random.multinomial(10, behind) for _ in range(50)])
    np.testing.assert_allclose(_code_prior.smoothed(by_chance, behind), np.tile(behind, (50, 1)), atol=0.03)
    certain = 40 * np.eye(4, dtype=int)
    assert np.all(np.diag(_code_prior.smoothed(certain, behind)) > 0.99)
    empty = _code_prior.smoothed(np.array([[30, 0, 0, 0], [0, 0, 0, 0]]), behind)
    assert np.all(empty > 0)
    np.testing.assert_allclose(empty[1], behind, rtol=1e-6)
    np.testing.assert_allclose(empty.sum(axis=1), 1, rtol=1e-6)


@partial(jax.jit, static_argnames=("variant", "count"))
def sample_prior(variant, params, key, count):
    return variant.sample_prior(NETS, params, key, count, LATENT)


@partial(jax.jit, static_argnames="variant")
def log_prior(variant, params, codes):
    return variant.log_prior(NETS, params, codes)


@jax.jit
def log_likelihoods(nets_params, codes):
    """log p(x | code) of each of IMAGES at each code."""
    decoded = NETS.decode(nets_params, codes)

    def at_every_code(image):
        return LIKELIHOOD.log_prob(decoded, jnp.broadcast_to(image[None], (len(codes), *SHAPE)))

    return jax.vmap(at_every_code)(IMAGES)


@cache
def fitted(variant, seed=0):
    """Parameters with a prior fitted to codes drawn at random, far from uniform, and those codes."""
    params = jax.tree.map(np.asarray, parameters(variant))
    size = params["own"]["prior"]["table"].shape[1]
    index = jnp.asarray(np.random.default_rng(seed).binomial(size - 1, 0.2, (300, GROUPS)))
    prior = _code_prior.chow_liu(np.asarray(index), size)
    own = {**params["own"], "prior": prior}
    draws = sample_prior(variant, {**params, "own": own}, jax.random.key(0), 300)
    return variant.fit_after_training(params, lambda: np.asarray(draws)), draws


@pytest.mark.parametrize("variant", [VQ, FSQ], ids=["vq", "fsq"])
def test_elbo_is_below_the_likelihood_under_either_prior(variant):
    for params in (parameters(variant), fitted(variant)[0]):
        size = params["own"]["prior"]["table"].shape[1]
        every = np.array(list(itertools.product(range(size), repeat=GROUPS)))
        book = params["own"].get("codebook", vq.QUANTIZERS["fsq"](0, 0, (3, 2)).codebook({}))
        codes = jnp.asarray(np.asarray(book)[every].reshape(-1, LATENT))
        prior = np.asarray(log_prior(variant, params, codes))
        np.testing.assert_allclose(logsumexp(prior), 0, atol=1e-4)
        joint = np.asarray(log_likelihoods(params["nets"], codes)) + prior[None]
        elbo, chosen = (evaluate(variant, params)[1][name][0] for name in ("elbo", "code"))
        assert np.all(elbo < logsumexp(joint, axis=1))
        # The code that was chosen is one of the sum's, and its own term is the ELBO.
        one = np.argmin(np.abs(np.asarray(codes)[None] - chosen[:, None]).sum(axis=2), axis=1)
        np.testing.assert_allclose(elbo, joint[np.arange(8), one], rtol=1e-5)


def test_a_uniform_prior_has_no_numbers_and_is_the_tree_before_it_is_fitted():
    params = parameters(UNIFORM)
    assert params["own"]["prior"] == {}
    assert UNIFORM.fit_after_training is None
    alike, tree = evaluate(UNIFORM, params), evaluate(VQ, parameters(VQ))
    np.testing.assert_allclose(alike[1]["elbo"], tree[1]["elbo"], rtol=1e-6)
    np.testing.assert_allclose(alike[1]["rate"], GROUPS * math.log(CODES), rtol=1e-6)
    assert_close(alike[2]["nets"], tree[2]["nets"], rtol=1e-6, atol=1e-7)
    draws = sample_prior(UNIFORM, params, jax.random.key(1), 5000)
    np.testing.assert_allclose(log_prior(UNIFORM, params, draws), -GROUPS * math.log(CODES), rtol=1e-6)
    np.testing.assert_array_equal(sample_prior(UNIFORM, params, jax.random.key(1), 7), draws[:7])
    index = np.asarray(vq.nearest(params["own"]["codebook"], draws.reshape(5000, GROUPS, 2)))
    for a, b in itertools.combinations(range(GROUPS), 2):
        share = np.bincount(index[:, a] * CODES + index[:, b], minlength=CODES**2) / 5000
        assert np.all(np.abs(share - 1 / CODES**2) < 5 * np.sqrt(1 / CODES**2 / 5000))


@pytest.mark.parametrize("variant", [VQ, FSQ], ids=["vq", "fsq"])
def test_settling_fits_the_prior_and_nothing_else(variant):
    params, codes = fitted(variant)
    before = parameters(variant)
    assert_close({**params["own"], "prior": 0}, {**before["own"], "prior": 0}, rtol=0, atol=0)
    shapes = partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert shapes(params["own"]) == shapes(before["own"])
    fit, start = (np.asarray(log_prior(variant, p, codes)) for p in (params, before))
    assert np.mean(fit - start) > 0.3
    few, many = (sample_prior(variant, params, jax.random.key(7), count) for count in (5, 40))
    np.testing.assert_array_equal(few, many[:5])
    with pytest.raises(UserError, match="labels"):
        variant.sample_prior(NETS, params, jax.random.key(7), 2, LATENT, np.zeros(2))


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize("variant", [VQ, FSQ], ids=["vq", "fsq"])
def test_extremes_are_finite(variant, scale):
    far = jax.tree.map(lambda leaf: scale * leaf, parameters(variant))
    loss, terms, gradient = evaluate(variant, far, 10.0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, terms, gradient)))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^latent_dim: 7 is not allowed; give a multiple of 2, config.variant.dim"):
        VQ.encoder_outputs(7)
    assert VQ.encoder_outputs(6) == 6
    with pytest.raises(UserError, match=r"^variant.codes: 15360 of them are not allowed; .* groups would have"):
        vq.make(LIKELIHOOD, quantizer="fsq", levels=(8, 8, 8, 6, 5)).encoder_outputs(10)
    many = vq.make(LIKELIHOOD, quantizer="fsq", levels=(8, 8, 8, 6, 5), prior="uniform")
    assert many.encoder_outputs(10) == 10  # nothing is kept of each pair of codes
    with pytest.raises(UserError, match=r"^prior: 'trees' is unknown.*did you mean 'tree'"):
        vq.make(LIKELIHOOD, prior="trees")
    with pytest.raises(UserError, match=r"^quantizer: 'fqs' is unknown.*did you mean 'fsq'"):
        vq.make(LIKELIHOOD, quantizer="fqs")
    for fields in (
        {"codes": 0},
        {"dim": 0},
        {"quantizer": "fsq", "levels": ()},
        {"quantizer": "fsq", "levels": (3, 1)},
    ):
        with pytest.raises(UserError, match="is not allowed"):
            vq.make(LIKELIHOOD, **fields)


def frechet(images, others):
    """The Frechet distance of two sets of images as Gaussians over pixels."""
    images, others = (np.float64(x).reshape(len(x), -1) for x in (images, others))
    a, b = (np.cov(x.T) + 1e-6 * np.eye(x.shape[1]) for x in (images, others))
    return np.sum((images.mean(0) - others.mean(0)) ** 2) + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


def grey_levels(split):
    return np.asarray(split.fetch(np.arange(split.size))) / 255


def far_from_digits(trained, prior, count=1000):
    """The Frechet distance to held-out digits of what `prior` draws."""
    own = {**trained.params["own"], "prior": prior}
    codes = trained.built.variant.sample_prior(
        trained.built.nets, {"own": own}, jax.random.key(8), count, trained.run.latent_dim
    )
    return frechet(trained.run.decode(np.asarray(codes)), grey_levels(trained.dataset.test))


QUANTIZED = {"vq": {"codes": 64, "dim": 8}, "fsq": {"levels": (4, 4, 2, 2)}}
"""64 codes each: two groups of eight latents, and four of four."""


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
@pytest.mark.parametrize("quantizer", QUANTIZED)
def test_codes_are_used_and_the_tree_draws_better_digits_than_chance(quantizer, length):
    # Two seeds of each: distances of the tree over the uniform's 0.76, 0.72 (vq) and 0.92, 0.90 (fsq) at 600 steps.
    steps, used, best = {"short": (600, 45.0, 18.0), "long": (3000, 52.0, 17.0)}[length]
    fields = {f"variant.{name}": value for name, value in QUANTIZED[quantizer].items()}
    trained = trained_digits.on_digits(steps, **{"variant.name": "vq", "variant.quantizer": quantizer, **fields})
    assert trained.test["perplexity"] > used
    assert trained.test["distortion"] < best  # the VAE's is 18.8 after 2,000 steps
    prior = trained.params["own"]["prior"]
    groups, size = prior["table"].shape[:2]
    # Fitted on training images alone, the tree says something of held-out ones.
    assert trained.test["rate"] < groups * math.log(size) - 0.1
    np.testing.assert_allclose(trained.train["rate"], groups * math.log(size), rtol=1e-4)
    tree, uniform = (far_from_digits(trained, p) for p in (prior, _code_prior.uniform_prior(groups, size)))
    assert tree < {"vq": 0.85, "fsq": 0.97}[quantizer] * uniform


@pytest.mark.slow
def test_a_codebook_that_starts_small_stays_unused(monkeypatch):
    fields = {"variant.name": "vq", "variant.codes": 64, "variant.dim": 8}
    wide = trained_digits.on_digits(1000, **fields).test["perplexity"]
    monkeypatch.setattr(vq, "SPREAD", 1 / (64 * math.sqrt(3)))  # as wide as uniform on +-1/64
    assert trained_digits.on_digits(1000, **fields).test["perplexity"] < 0.6 * wide


def test_settling_leaves_the_live_codebook_beside_its_average():
    config = parse_config(
        [f"--config={trained_digits.CONFIG}:vq", "--config.train.ema=0.9", "--config.net.hidden=(16,)"]
    )
    setup, executor = prepare(config), executors.DataParallel(executors.local_devices(1))
    state = setup.initial_state(root_key(0))
    state = state._replace(average=jax.tree.map(lambda leaf: 0.5 * leaf, state.params))
    settled = fit_after_training(setup, [config], executor.to_devices([state]), executor, [True])
    for before, after in ((state.params, settled.params), (state.average, settled.average)):
        np.testing.assert_array_equal(before["own"]["codebook"], after["own"]["codebook"])
        jax.tree.map(np.testing.assert_array_equal, before["nets"], after["nets"])
    jax.tree.map(np.testing.assert_array_equal, settled.params["own"]["prior"], settled.average["own"]["prior"])
    assert np.ptp(settled.params["own"]["prior"]["table"]) > 1


GRID = {"net.name": "grid", "net.halvings": 1, "net.width": 16, "net.depth": 1}
PLACES, SIDE = 16, 4


@pytest.mark.full
def test_codes_on_a_grid_reconstruct_better_and_their_tree_joins_neighbours(monkeypatch):
    def parse(words):
        return parse_config([word for word in words if not word.startswith("--config.net.hidden=")])

    monkeypatch.setattr(trained_digits, "parse_config", parse)
    fields = {**GRID, "variant.name": "vq", "variant.codes": 16, "variant.dim": 4, "latent_dim": 4 * PLACES}
    trained = trained_digits.on_digits(600, **fields)
    # Two seeds: distortion 2.6 and 2.4, rate 31.3 and 29.3 of 44.4, four of five joined places are neighbours.
    assert trained.test["distortion"] < 5
    np.testing.assert_allclose(trained.train["rate"], PLACES * math.log(16), rtol=1e-4)
    assert trained.test["rate"] < PLACES * math.log(16) - 8
    prior = trained.params["own"]["prior"]
    place, parent = np.arange(PLACES), np.int32(np.round(prior["parent"]))
    distance = abs(place // SIDE - parent // SIDE) + abs(place % SIDE - parent % SIDE)
    assert np.mean(distance[place != parent] == 1) > 0.6


@pytest.mark.full
@pytest.mark.parametrize("name", registry.file_names("vae_jax.models.likelihoods"))
def test_codes_on_a_grid_have_a_loss_under_every_likelihood(name):
    likelihood = likelihoods.get(name)()
    variant, shape = vq.make(likelihood, codes=CODES, dim=2, prior="uniform"), (8, 8, 3)
    nets = grid.make(shape, 2 * PLACES, likelihood.channels, likelihood.shared, halvings=1, width=4, depth=1)
    inputs = jnp.zeros((1, *shape)), jnp.zeros((1, 2 * PLACES))
    params = {"nets": jax.jit(nets.init)(root_key(0), *inputs), "own": variant.init(root_key(1), shape, 2 * PLACES)}
    x = np.float32(np.random.default_rng(0).integers(0, 2, (4, *shape)))
    batch = {"image": jnp.asarray(x), "index": np.arange(4)}
    loss, terms, gradient = loss_and_gradient(variant.loss, nets, params, batch, {"commitment": 0.25})
    assert np.isfinite(loss)
    np.testing.assert_allclose(terms["rate"], PLACES * math.log(CODES), rtol=1e-6)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient["nets"]["decoder"]):
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf != 0), path
