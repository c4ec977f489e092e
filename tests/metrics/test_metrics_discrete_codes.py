"""Scores of codes of a finite set: the likelihood as a whole sum, and how the codes are used."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vae_jax import metrics, model, randomness
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import codebook_use, likelihood
from vae_jax.metrics._requests import parse_requests

LATENT, GROUPS = 6, 3
VARIANTS = {
    "vq": {"codes": 4, "dim": 2},
    "fsq": {"quantizer": "fsq", "levels": "(2, 2)"},
    "uniform": {"codes": 4, "dim": 2, "prior": "uniform"},
    "many": {"codes": 41, "dim": 2},
}


def make_context(fields, latent_dim=LATENT):
    """A run on digits that has not learned, whose prior is the tree of made-up codes."""
    settings = {"latent_dim": latent_dim, "net.hidden": "(8,)", "data.binarize": "static"}
    settings |= {f"variant.{name}": value for name, value in fields.items()}
    config = parse_config(["--config=digits:vq", *(f"--config.{name}={value}" for name, value in settings.items())])
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    nets_key, own_key = jax.random.split(randomness.root_key(0))
    params = {
        "nets": built.nets.init(nets_key, *built.variant.dummy_inputs(dataset.image_shape, latent_dim)),
        "own": built.variant.init(own_key, dataset.image_shape, latent_dim),
    }
    if built.variant.fit_after_training is not None:
        params = built.variant.fit_after_training(params, lambda: dependent_codes(built.variant, params, latent_dim))
    run = TrainedModel(config.to_dict(), dataset.image_shape, built, params, 0)
    return metrics.EvaluationContext(run, dataset)


def dependent_codes(variant, params, latent_dim):
    """Codes whose groups tell of each other."""
    discrete, random = variant.discrete_codes, np.random.default_rng(0)
    index = random.integers(0, discrete.size, (300, discrete.groups(latent_dim)))
    index[:, 1] = np.where(random.random(300) < 0.7, index[:, 0], index[:, 1])
    index[:, 2] = np.where(random.random(300) < 0.9, 0, index[:, 2])
    return np.asarray(discrete.lookup(params, jnp.asarray(index))[0])


@pytest.fixture(scope="module", params=["vq", "fsq", "uniform"])
def context(request):
    return make_context(VARIANTS[request.param])


def log_prior_of(params, index):
    """log p of one code under the tree, number by number; uniform where nothing is kept."""
    prior = params["own"]["prior"]
    if not prior:
        return -GROUPS * math.log(4)
    parent, table = np.asarray(prior["parent"], int), np.asarray(prior["table"], np.float64)
    return sum(table[group, index[parent[group]], index[group]] for group in range(GROUPS))


def brute_force(context, images):
    """log p(x) of each image: the 64 codes one by one, Bernoulli pixels in float64."""
    params, levels = context.run.params, np.array([*itertools.product((-1, 1), repeat=2)])
    book = np.asarray(params["own"].get("codebook", levels), np.float32)
    indices = [*itertools.product(range(4), repeat=GROUPS)]
    codes = np.stack([np.concatenate([book[number] for number in index]) for index in indices])
    logits = np.asarray(jax.jit(context.model.nets.decode)(params["nets"], codes), np.float64)[:, None]
    log_pixels = images[None] * logits - np.logaddexp(0, logits)
    log_prior = np.array([log_prior_of(params, index) for index in indices])
    return logsumexp(log_pixels.sum(axis=(2, 3, 4)) + log_prior[:, None], axis=0)


def test_the_likelihood_of_few_codes_is_the_sum_over_all_of_them(context):
    (batch,) = context.held_out(40, 40)
    expected = brute_force(context, np.asarray(batch["image"], np.float64))
    found = likelihood.compute(context, jax.random.key(0), images=40)
    assert found.keys() == {"likelihood", *(f"likelihood.{name}" for name in ("standard_error", "codes", "images"))}
    np.testing.assert_allclose(found["likelihood"], expected.mean(), rtol=2e-6)
    np.testing.assert_allclose(
        found["likelihood.standard_error"], expected.std(ddof=1) / len(expected) ** 0.5, rtol=1e-4
    )
    assert (found["likelihood.codes"], found["likelihood.images"]) == (4**GROUPS, 40)


def test_the_sum_is_the_same_in_chunks_and_above_the_code_of_the_encoder(context):
    (batch,) = context.held_out(20, 20)
    discrete, params = context.model.variant.discrete_codes, context.run.params
    expected = brute_force(context, np.asarray(batch["image"], np.float64))
    for chunk_size in (7, 64):  # 7 does not divide 64: what is over counts for nothing
        log_sum = jax.jit(likelihood.streamed_sum(context.model, discrete, LATENT, chunk_size))
        np.testing.assert_allclose(log_sum(params, batch), expected, rtol=3e-6)
    nearest, _ = jax.jit(likelihood.streamed_bound(context.model, 1, 1))(params, batch, jax.random.key(0))
    assert np.all(nearest < expected)


def test_of_too_many_codes_the_nearest_alone_is_taken_once():
    context = make_context(VARIANTS["many"])
    assert likelihood.MOST_CODES < 41**3
    found = likelihood.compute(context, jax.random.key(0), images=50)
    (batch,) = context.held_out(50, 50)
    run = context.run
    codes = context.model.variant.encode(context.model.nets, run.params, batch)
    decoded = context.model.nets.decode(run.params["nets"], codes)
    log_p = context.model.likelihood.log_prob(decoded, batch["image"])
    log_p += context.model.variant.log_prior(context.model.nets, run.params, codes)
    np.testing.assert_allclose(found["likelihood"], np.mean(log_p), rtol=1e-5)
    assert found["likelihood.codes"] == 1
    assert "likelihood.effective" not in found


def test_the_use_of_a_codebook_is_that_of_all_held_out_images(context):
    images = np.concatenate([batch["image"] for batch in context.held_out(300)])
    run, counts = context.run, {}
    for vector in run.encode(images).reshape(-1, 2):
        counts[tuple(vector)] = counts.get(tuple(vector), 0) + 1
    assert len(images) == 300
    assert sum(counts.values()) == 300 * GROUPS
    shares = np.array([*counts.values()]) / (300 * GROUPS)
    found = codebook_use.compute(context, jax.random.key(0))
    np.testing.assert_allclose(found["codebook_use"], np.prod(shares**-shares), rtol=1e-6)
    np.testing.assert_allclose(found["codebook_use.used"], len(counts) / 4)
    np.testing.assert_allclose(found["codebook_use.dead"], 1 - len(counts) / 4)


def test_codes_that_stand_for_nothing_are_dead():
    context = make_context({"codes": 8, "dim": 2, "prior": "uniform"})
    book = context.run.params["own"]["codebook"]
    context.run.params["own"]["codebook"] = book.at[2:].set(1e3)
    found = codebook_use.compute(context, jax.random.key(0), images=50)
    assert 1 <= found["codebook_use"] <= 2
    assert found["codebook_use.used"] <= 2 / 8
    assert found["codebook_use.used"] + found["codebook_use.dead"] == 1


def test_codes_that_are_numbers_have_no_codebook(context):
    (request,) = parse_requests("codebook_use")
    request.check(context.model, context.dataset)
    numbers = context.model._replace(variant=context.model.variant._replace(discrete_codes=None))
    with pytest.raises(UserError, match=r"--metrics=codebook_use: is not for this run; it needs a variant whose codes"):
        request.check(numbers, context.dataset)


def test_a_code_that_stands_for_one_group_of_one_image_is_used(context):
    (batch,) = context.held_out(5, 5)
    rare = batch["index"][2]

    def assign(nets, params, batch):
        return jnp.where(batch["index"][:, None] == rare, jnp.array([[0, 1, 3]]), jnp.array([[0, 1, 1]]))

    discrete = context.model.variant.discrete_codes._replace(assign=assign)
    made_up = metrics.EvaluationContext(context.run, context.dataset)
    made_up.model = context.model._replace(variant=context.model.variant._replace(discrete_codes=discrete))
    found = codebook_use.compute(made_up, jax.random.key(0), images=5)
    shares = np.array([5, 9, 1]) / 15
    np.testing.assert_allclose(found["codebook_use"], np.prod(shares**-shares), rtol=1e-6)
    assert (found["codebook_use.used"], found["codebook_use.dead"]) == (0.75, 0.25)
