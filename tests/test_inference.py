import copy
import inspect
import json
import logging
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vae_jax
from vae_jax import cli, variants
from vae_jax.aggregate_codes import posterior_draws
from vae_jax.data import _arrays
from vae_jax.errors import UserError
from vae_jax.inference import CompiledFunction, TrainedModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of a two-latent VAE, short but real."""
    workdir = tmp_path_factory.mktemp("run")
    options = {
        "train.steps": 600, "evaluation.every": 200, "checkpoint.every": 200, "train.learning_rate": 3e-3,
        "latent_dim": 2, "net.hidden": "(64,)", "parallel.devices": 1,
    }  # fmt: skip
    words = [f"--config.{name}={value}" for name, value in options.items()]
    assert cli.train(["--config=configs/digits.py", f"--workdir={workdir}", *words]) == 0
    return workdir


@pytest.fixture(scope="module")
def run(folder):
    return vae_jax.open_run(folder)


@pytest.fixture(scope="module")
def images():
    from vae_jax.data import digits

    return digits.load().test.fetch(np.arange(40))


def test_a_run_leaves_its_folder_whole(folder):
    names = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "pictures", "evaluation.json"}
    names.add("evaluation_best.json")
    assert {file.name for file in folder.iterdir()} == names
    pictures = {"reconstructions", "samples", "interpolations", "traversals", "latents", "manifold", "curves"}
    assert {file.stem for file in (folder / "pictures").iterdir()} == pictures
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["step"] == 600
    np.testing.assert_allclose(evaluation["elbo"], -evaluation["distortion"] - evaluation["rate"], rtol=1e-5)
    np.testing.assert_allclose(evaluation["bits_per_dim"], -evaluation["elbo"] / 64 / np.log(2))


def test_metrics_hold_train_and_validation_numbers(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validations = [record for record in records if record["split"] == "validation"]
    assert [record["step"] for record in validations] == [200, 400, 600]
    assert validations[-1]["elbo"] > validations[0]["elbo"] - 1
    wanted = {"loss", "elbo", "distortion", "rate", "active_units", "kl"}
    assert all(wanted <= record.keys() for record in records)
    assert len(records[-1]["kl"]) == 2
    trains = [record for record in records if record["split"] == "train"]
    assert {"steps_per_second", "images_per_second", "seconds"} <= trains[-1].keys()


def test_codes_and_images_have_their_shapes(run, images):
    codes = run.encode(images)
    assert codes.shape == (40, 2)
    assert codes.dtype == np.float32
    for found, count in (
        (run.decode(codes), 40),
        (run.reconstruct(images), 40),
        (run.sample(jax.random.key(0), 5), 5),
        (run.interpolate(images[0], images[1], 7), 7),
        (run.traverse(images[0], 1), 11),
    ):
        assert isinstance(found, np.ndarray)
        assert found.shape == (count, 8, 8, 1)
        assert 0 <= found.min() <= found.max() <= 1


def test_a_trained_model_knows_its_digits(run, images):
    error = np.square(run.reconstruct(images) - images / 255).mean()
    assert error < 0.7 * np.square(images / 255 - (images / 255).mean(0)).mean()


def test_interpolations_end_at_the_reconstructions(run, images):
    line = run.interpolate(images[0], images[1], 5)
    np.testing.assert_allclose(line[[0, -1]], run.reconstruct(images[:2]), atol=1e-5)


def test_traversals_move_one_latent(run, images):
    codes = np.repeat(run.encode(images[:1]), 2, axis=0)
    codes[:, 1] = [-2, 2]
    np.testing.assert_allclose(run.traverse(images[0], 1, np.array([-2, 2])), run.decode(codes), atol=1e-5)


def test_any_batch_size_gives_the_same_and_compiles_a_few_times(run, images, monkeypatch):
    many = np.tile(images, (20, 1, 1, 1))[:700]
    whole = run.encode(many)
    for n in (1, 2, 3, 15, 16, 17, 255, 300):
        np.testing.assert_allclose(run.encode(many[:n]), whole[:n], atol=1e-5)
    assert run.encode(many[:0]).shape == (0, 2)
    traced = []

    @jax.jit
    def identity(params, rows):
        traced.append(len(rows))
        return rows

    call = CompiledFunction(identity)
    for n in range(1, 600, 7):
        np.testing.assert_array_equal(call(None, np.arange(n)), np.arange(n))
    assert traced == [1, 16, 256]


def test_grey_levels_are_bytes_or_floats(run, images):
    np.testing.assert_allclose(run.encode(images), run.encode(images / 255), atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 28, 28, 1), np.uint8), r"images: shape \(3, 28, 28, 1\) is not allowed; give \(n, 8, 8, 1\)"),
        (np.zeros((8, 8, 1), np.uint8), r"images: shape \(8, 8, 1\)"),
        (np.zeros((3, 8, 8, 1), np.int64), "images: dtype int64"),
        (np.full((3, 8, 8, 1), 7.0), "images: values from 7 to 7"),
        (np.full((3, 8, 8, 1), 1.00011), r"images: values from 1\.00011 to 1\.00011; give uint8"),
        (np.full((3, 8, 8, 1), -np.inf), "images: values from -inf to -inf"),
        (np.full((3, 8, 8, 1), np.nan), "images: 192 of 192 values are NaN"),
        (np.full((3, 8, 8, 1), "a"), "images: dtype <U1 is not allowed"),
        ([[1], [1, 2]], "images: list is not allowed"),
    ],
)
def test_images_that_do_not_fit_are_refused(run, bad, message):
    with refused(message):
        run.encode(bad)


def refused(match):
    """A UserError of one line that begins with `match`."""
    return pytest.raises(UserError, match=rf"\A{match}.*\Z")


def untyped(method):
    """A method as a person calls it, without the types that these tests check."""
    return inspect.unwrap(getattr(vae_jax.inference.TrainedModel, method))


def test_codes_and_latents_that_do_not_fit_are_refused(run, images):
    with refused(r"codes: shape \(3, 5\) is not allowed; give \(n, 2\)"):
        run.decode(np.zeros((3, 5)))
    for value in (np.nan, np.inf, 1e300):
        with refused("codes: 1 of 2 values are NaN or infinite"):
            run.decode(np.array([[0, value]]))
    with refused("codes: <U1 is not allowed"):
        run.decode(np.array([["a", "b"]]))
    for latent in (2, -1, 1.0, True):
        with refused(f"latent: {latent} is not allowed; this run has latents 0 to 1"):
            untyped("traverse")(run, images[0], latent)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (
            "sample",
            ("zero", 4),
            r"key: 'zero' is not allowed; give one key, as jax\.random\.key\(0\), or a seed from 0",
        ),
        ("sample", (-1, 4), "key: -1 is not allowed"),
        ("sample", (2**32, 4), "key: 4294967296 is not allowed"),
        ("sample", (0.5, 4), "key: 0.5 is not allowed"),
        ("sample", (None, 4), "key: None is not allowed"),
        ("sample", (np.zeros(3), 4), "key: 'ndarray' is not allowed"),
        ("sample", (0, -1), "n: -1 is not allowed; give a whole number of at least 0"),
        ("sample", (0, 2.5), "n: 2.5 is not allowed"),
        ("sample", (0, "4"), "n: '4' is not allowed"),
        ("sample", (0, 4, [1, 2]), "labels: 2 of them for 4 draws; give one for each draw"),
        ("sample", (0, 2, ["a", "b"]), "labels: <U1 is not allowed; give one whole number for each draw"),
        ("sample", (0, 2, [1, 2]), "labels: this run's prior is the same for every label"),
        ("encode", (np.zeros((2, 8, 8, 1)), np.eye(2)), r"labels: shape \(2, 2\) is not allowed; .*one-hot"),
        ("encode", (np.zeros((2, 8, 8, 1)), [0.5, 1]), "labels: 0.5 is not allowed"),
        (
            "interpolate",
            (np.zeros((8, 8, 1)), np.zeros((8, 8)), 3),
            r"b: shape \(8, 8\) is not allowed; give \(8, 8, 1\)",
        ),
        ("interpolate", (np.zeros((1, 8, 8, 1)), np.zeros((8, 8, 1))), r"a: shape \(1, 8, 8, 1\) is not allowed"),
        ("interpolate", (np.zeros((8, 8, 1)), np.full((8, 8, 1), 2.0)), "b: values from 2 to 2"),
        ("interpolate", (np.zeros((8, 8, 1)), np.zeros((8, 8, 1)), 0), "n: 0 is not allowed; give .* at least 1"),
        ("interpolate", (np.zeros((8, 8, 1)), np.zeros((8, 8, 1)), 3, [1]), "labels: 1 of them for 2 images"),
        ("traverse", (np.zeros((8, 8)), 0), r"x: shape \(8, 8\) is not allowed; give \(8, 8, 1\)"),
        ("traverse", (np.zeros((8, 8, 1)), 0, np.zeros((2, 2))), r"values: shape \(2, 2\) is not allowed"),
        ("traverse", (np.zeros((8, 8, 1)), 0, [np.nan]), "values: 1 of 1 values are NaN"),
        ("traverse", (np.zeros((8, 8, 1)), 0, None, "seven"), "label: <U5 is not allowed"),
    ],
)
def test_what_a_method_cannot_take_is_refused_in_a_line_that_names_it(run, method, arguments, message):
    with refused(message):
        untyped(method)(run, *arguments)


def test_a_seed_is_as_good_as_its_key(run):
    draws = run.sample(jax.random.key(7), 3)
    for key in (7, np.int64(7), jax.random.PRNGKey(7)):
        np.testing.assert_array_equal(untyped("sample")(run, key, np.int64(3)), draws)
    of_another_kind = [run.sample(jax.random.key(seed, impl="rbg"), 3) for seed in (7, 8)]
    assert np.abs(of_another_kind[0] - of_another_kind[1]).max() > 0.01


def test_a_sampler_is_fitted_to_the_codes_once_and_drawn_from(folder):
    run = vae_jax.open_run(folder)
    draws = run.sample(3, 5, sampler="gmm")
    fitted = run.samplers["gmm"]
    np.testing.assert_array_equal(draws, run.decode(fitted.sample(jax.random.key(3), 5)))
    np.testing.assert_array_equal(run.sample(3, 5), run.sample(3, 5, sampler="prior"))
    assert np.abs(draws - run.sample(3, 5)).max() > 0.01
    codes = posterior_draws(run.model, run.params, run.dataset.train, run.config)
    log_p = fitted.sampler.log_density(fitted.params, jnp.asarray(codes))
    standard = variants.log_prior(run.model.variant, run.nets, run.params, jnp.asarray(codes))
    assert np.mean(log_p) > np.mean(standard)
    run.sample(4, 1, sampler="gmm")
    assert run.samplers == {"gmm": fitted}
    again = vae_jax.open_run(folder)
    np.testing.assert_array_equal(again.sample(3, 5, sampler="gmm"), draws)
    assert run.with_params(run.config, run.params, 7).samplers == {}
    with refused("sampler: 'gm' is unknown; .*mean 'gmm'"):
        run.sample(3, 5, sampler="gm")
    with refused("labels: the sampler 'gmm' is the same for every label"):
        run.sample(3, 2, [0, 1], sampler="gmm")
    with refused(r"sampler: 'two_stage' is not fitted yet; call fit_sampler\('two_stage', dataset\.train\)"):
        TrainedModel.sample(run, 3, 5, sampler="two_stage")


def test_rounding_beyond_the_range_is_clipped(run, images):
    grey = np.float64(images[:2] > 100)
    np.testing.assert_array_equal(run.encode(grey * 1.0001 - 0.00005), run.encode(grey))
    np.testing.assert_array_equal(run.encode(np.float16(grey)), run.encode(grey))


def test_black_and_white_images_are_bools(run, images, caplog):
    mask = images[:2] > 100
    np.testing.assert_array_equal(run.encode(mask), run.encode(np.float32(mask)))
    _arrays.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        run.encode(np.uint8(mask))
        run.encode(np.uint8(mask) * 2)
    assert [record.getMessage() for record in caplog.records] == [
        "images: uint8 of 0 and 1 alone is almost black; for black and white give bool, or 0 and 255"
    ]


def test_no_images_give_no_images(run, images):
    none = images[:0]
    assert run.encode(none).shape == (0, 2)
    empty = (
        run.reconstruct(none),
        run.decode(np.zeros((0, 2))),
        run.sample(0, 0),
        run.traverse(images[0], 0, []),
    )
    assert [(array.shape, array.dtype) for array in empty] == [((0, 8, 8, 1), np.float32)] * 4


def test_a_run_can_be_pickled_and_copied_to_the_same_bits(run, images):
    pictures, codes = run.sample(3, 2), run.encode(images[:2])
    for other in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run), pickle.loads(pickle.dumps(run.with_params(
        run.config, jax.tree.map(jnp.asarray, run.params), run.step
    )))):  # fmt: skip
        assert (other.config, other.image_shape, other.step) == (run.config, run.image_shape, run.step)
        np.testing.assert_array_equal(other.sample(3, 2), pictures)
        np.testing.assert_array_equal(other.encode(images[:2]), codes)


def test_a_copy_and_a_run_of_other_weights_share_what_is_compiled(run):
    zeros = jax.tree.map(np.zeros_like, run.params)
    for other in (copy.copy(run), run.with_params(run.config, zeros, 0)):
        assert other._decode is run._decode
    assert run.with_params(run.config, zeros, 0).params is zeros
    assert run.params is not zeros


def test_the_best_checkpoint_can_be_evaluated(folder, capsys):
    assert cli.evaluate([f"--workdir={folder}", "--checkpoint=best"]) == 0
    best = json.loads((folder / "evaluation_best.json").read_text())
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {record["step"]: record["elbo"] for record in records if record["split"] == "test"}
    assert best["step"] == max(scores, key=scores.get)
    np.testing.assert_allclose(best["elbo"], scores[best["step"]], rtol=1e-6)
    for name in ("evaluation_best.json", "pictures_best"):
        assert name in {file.name for file in folder.iterdir()}


def test_a_config_of_another_version_is_refused(tmp_path, folder):
    saved = json.loads((folder / "config.json").read_text())
    saved["config"]["variant"]["gone"] = 1.0
    for text in ("[1]", "no json", json.dumps(saved)):
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="is not a config of this version"):
            vae_jax.open_run(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path, folder):
    with pytest.raises(UserError, match=r"no run here \(no config.json\)"):
        vae_jax.open_run(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError, match="no checkpoint here"):
        vae_jax.open_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no checkpoint here"):
        vae_jax.open_run(tmp_path)
    with pytest.raises(UserError, match="checkpoint: 'newest' is unknown"):
        vae_jax.open_run(folder, "newest")
