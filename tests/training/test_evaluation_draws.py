"""What an evaluation draws is the same for every run; how sure its bounds are is said beside them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_run

from vae_jax import randomness
from vae_jax.config.parse import parse_config
from vae_jax.inference import TrainedModel
from vae_jax.metrics import EvaluationContext
from vae_jax.model import load_data
from vae_jax.training.evaluation import make_evaluation, standard_errors
from vae_jax.training.executors import DataParallel, MemberParallel, combine_metrics, local_devices
from vae_jax.training.setup import make_setup
from vae_jax.training.step import fetch_fn
from vae_jax.variants import elbo_terms

pytestmark = pytest.mark.usefixtures("share_programs")

DRAWS = 5


def digits_setup(**fields):
    """The smallest run's config, data and model, with fields set."""
    config = parse_config(small_run.small_words(**fields))
    return make_setup(config, load_data(config.data))


def held_out_numbers(setup, params, seeds=(0,), devices=1):
    """The test numbers of the same weights in runs of these seeds."""
    chosen = local_devices()[:devices]
    executor = DataParallel(chosen) if len(seeds) == 1 else MemberParallel(chosen)
    configs = [{**setup.config.to_dict(), "seed": seed} for seed in seeds]
    evaluation = make_evaluation(setup, configs, setup.dataset.test, executor)
    return evaluation(*executor.to_devices([(params, jnp.int32(60))] * len(seeds)))[: len(seeds)]


@pytest.fixture(scope="module")
def weights():
    """Weights of the smallest run before its first step."""
    return jax.device_get(digits_setup().initial_state(randomness.root_key(3)).params)


def test_the_seed_of_a_run_does_not_decide_what_it_is_held_against(weights):
    setup = digits_setup()
    together = held_out_numbers(setup, weights, seeds=(0, 4), devices=2)
    alone = [*held_out_numbers(setup, weights, seeds=(0,)), *held_out_numbers(setup, weights, seeds=(7,))]
    assert {numbers["elbo"] for numbers in together + alone} == {alone[0]["elbo"]}


def test_metrics_read_the_same_bits_whatever_the_seed(weights):
    setup = digits_setup()
    images = []
    for seed in (0, 5):
        config = {**setup.config.to_dict(), "seed": seed}
        run = TrainedModel(config, setup.dataset.image_shape, setup.model, weights, 60)
        images.append(np.asarray(next(EvaluationContext(run, setup.dataset).held_out(40))["image"]))
    np.testing.assert_array_equal(*images)
    assert set(np.unique(images[0])) == {0.0, 1.0}


def per_image_bounds(setup, params):
    """The ELBO of each test image under each draw, one evaluation of a single draw at a time."""
    step_key = randomness.stream(randomness.evaluation_key(), "evaluation")
    noise = randomness.stream(step_key, "noise")
    keys = [noise, *(randomness.stream(noise, "evaluation/draw", n) for n in range(1, DRAWS))]
    split, model = jax.device_put(setup.dataset.test), setup.model
    index = jnp.arange(split.size)
    batch = fetch_fn(setup.config)(split)(index, index, randomness.stream(step_key, "binarize"))
    terms = [elbo_terms(model.likelihood, model.nets, params, batch, key)[2] for key in keys]
    return np.stack([each["elbo"] for each in terms]).astype(np.float64)


@pytest.mark.parametrize("devices", [1, 4])
def test_bounds_have_the_errors_of_their_images_and_draws(weights, devices):
    values = per_image_bounds(digits_setup(), weights)
    (one,) = held_out_numbers(digits_setup(), weights, devices=devices)
    np.testing.assert_allclose(one["elbo"], values[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(one["elbo.standard_error"], values[0].std(ddof=1) / np.sqrt(300), rtol=1e-4)
    assert "elbo.draw_error" not in one

    fields = {"evaluation.draws": DRAWS, "evaluation.batch_size": 70}  # with a ragged last batch
    (many,) = held_out_numbers(digits_setup(**fields), weights, devices=devices)
    np.testing.assert_allclose(many["elbo"], values.mean(), rtol=1e-6)
    of_images = values.mean(axis=0).std(ddof=1) / np.sqrt(300)
    np.testing.assert_allclose(many["elbo.standard_error"], of_images, rtol=1e-4)
    of_draws = np.sqrt(values.var(axis=0, ddof=1).mean() / (DRAWS * 300))
    np.testing.assert_allclose(many["elbo.draw_error"], of_draws, rtol=1e-4)


def test_one_image_and_numbers_beyond_float32_have_no_error():
    assert standard_errors({"elbo_variance": 4.0, "elbo_draw_variance": 8.0}, images=1, draws=2) == {
        "elbo.draw_error": 2
    }
    assert standard_errors({"elbo_variance": np.inf}, images=10, draws=1) == {}


def test_variances_of_batches_far_apart_are_those_of_all_their_examples():
    rng = np.random.default_rng(0)
    batches = [rng.normal(mean, 2.0, (size, 1)) for mean, size in ((-900.0, 8), (100.0, 3))]
    rows = [
        {"elbo": b.mean(), "elbo_variance": b.var(), "code_mean": b.mean(0), "code_variance": b.var(0)} for b in batches
    ]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    combined = combine_metrics(stacked, np.array([8, 3]))
    np.testing.assert_allclose(combined["elbo_variance"], np.concatenate(batches).var())
    np.testing.assert_allclose(combined["code_variance"], np.concatenate(batches).var(axis=0))


def test_errors_stand_beside_the_numbers_of_a_run(tmp_path, capsys):
    assert small_run.train_small(tmp_path / "run", **{"evaluation.draws": 2, "log.pictures": False}) == 0
    numbers = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert {"elbo.standard_error", "elbo.draw_error", "validation.elbo.standard_error"} <= numbers.keys()
    assert f"{numbers['elbo']:.3f} ± {numbers['elbo.standard_error']:.3f}" in capsys.readouterr().out
