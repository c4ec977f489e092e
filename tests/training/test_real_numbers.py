"""Runs on numbers of any size: tables with holes, images of floats and of many channels, from data to the page."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.run_folder import results
from helpers.small_fit import fit
from helpers.small_run import train_small

import vae_jax
from vae_jax import cli, data
from vae_jax.errors import UserError

RNG = np.random.default_rng(2)
LATENT = RNG.normal(size=(200, 2))
ROWS = np.concatenate([LATENT, LATENT @ RNG.normal(size=(2, 4)) + 0.1 * RNG.normal(size=(200, 4))], axis=1) * 7 + 100
HOLES = np.where(RNG.random(ROWS.shape) < 0.1, np.nan, ROWS)
KINDS = (LATENT[:, 0] > 0).astype(int)
REAL = {"data.binarize": "real", "likelihood.name": "gaussian", "likelihood.mean": "linear"}


UNDRAWN = {"log.pictures": False}
EVERY = {"log.every": 500, "evaluation.every": 1000, "checkpoint.every": 1000}


@pytest.fixture(scope="module")
def rows_run(tmp_path_factory):
    """A run on a table with holes, trained from Python."""
    return fit(HOLES, tmp_path_factory.mktemp("rows") / "run", KINDS, steps=2000, hidden=(32,), dispatch=500, **EVERY)


def test_a_table_with_holes_trains_and_is_better_than_knowing_each_column_alone(rows_run):
    assert rows_run.config["data"]["name"] == "table"
    assert rows_run.config["likelihood"]["mean"] == "linear"
    test = json.loads((rows_run.folder / "evaluation.json").read_text())
    images = rows_run.dataset.test.fetch(np.arange(rows_run.dataset.test.size))
    present = np.isfinite(images).sum() / len(images)
    assert test["elbo"] > -0.5 * present * (1 + np.log(2 * np.pi))  # N(0, 1) for each column of unit variance


def test_what_is_missing_is_filled_by_what_the_row_says(rows_run):
    whole = rows_run.dataset.columns.standardize(ROWS)
    hidden = whole.copy()
    hidden[:, 0, 4] = np.nan
    filled = rows_run.reconstruct(hidden)[:, 0, 4]
    truth = whole[:, 0, 4, 0]
    assert np.mean((filled[:, 0] - truth) ** 2) < 0.5 * np.mean(truth**2)
    in_units = rows_run.dataset.columns.restore(rows_run.reconstruct(hidden))
    assert abs(in_units[:, 4].mean() - ROWS[:, 4].mean()) < ROWS[:, 4].std()


def test_the_command_line_opens_measures_compares_and_explores_a_table(rows_run, capsys):
    folder = rows_run.folder
    assert {file.stem for file in (folder / "pictures").iterdir()} == {
        *("reconstructions", "samples", "interpolations", "traversals", "latents", "curves"),
    }
    opened = vae_jax.open_run(folder)
    scores = opened.evaluate("likelihood:k=200")
    assert scores["elbo"] < scores["likelihood:k=200"] < scores["elbo"] + 5
    assert cli.compare([f"--runs={folder.parent}", f"--out={folder.parent / 'report'}"]) == 0
    assert cli.explore([f"--workdir={folder}"]) == 0
    page = (folder / "explore.html").read_text()
    assert "numbers of any size" in page
    assert "columns from left to right: 0, 1, 2, 3, 4, 5." in page
    for figure in (opened.plot.samples(), opened.plot.reconstructions(), opened.plot.traversals()):
        assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == list("012345")
    with pytest.raises(UserError, match="images of grey levels"):
        opened.evaluate("samples")
    capsys.readouterr()


FLOATS = (RNG.normal(size=(120, 5, 4, 6)) * [[[1, 10, 1, 1, 1, 1]]]).astype(np.float32)
FLOATS[3, 2, 1, 0] = np.nan


def test_float_images_of_six_channels_train_the_same_from_the_host_and_are_pictured(tmp_path):
    np.save(tmp_path / "set.npy", FLOATS)
    named = REAL | {"data.name": "arrays", "data.path": tmp_path / "set.npy", "train.steps": 20}
    assert train_small(tmp_path / "device", **named, **UNDRAWN, **{"parallel.images": "device"}) == 0
    assert train_small(tmp_path / "host", **named, **{"parallel.images": "host"}) == 0
    assert results(tmp_path / "host") == results(tmp_path / "device")
    run = vae_jax.open_run(tmp_path / "host")
    assert run.image_shape == (5, 4, 6)
    given = run.dataset.train.fetch(np.arange(run.dataset.train.size))
    assert np.abs(np.nan_to_num(given)).max() > 10
    assert (tmp_path / "host" / "pictures" / "samples.png").stat().st_size > 0
    assert np.isfinite(run.encode(FLOATS[:5])).all()
    infinite = np.where(np.arange(120).reshape(1, 5, 4, 6) == 7, np.inf, 0)
    with pytest.raises(UserError, match=r"^images: 1 of 120 values are infinite"):
        run.encode(infinite)


def test_fit_takes_float_images_where_they_are_said_to_be_numbers(tmp_path):
    run = fit(FLOATS, tmp_path / "floats", binarize="real", **UNDRAWN)
    assert run.config["data"]["binarize"] == "real"
    assert run.config["likelihood"]["scale"] == "shared"
    assert vae_jax.open_run(tmp_path / "floats").sample(0, 2).shape == (2, 5, 4, 6)


def test_a_dataset_of_floats_is_known_by_its_dtype(tmp_path):
    images = FLOATS[..., :1]
    dataset = data.from_arrays(images[:100], None, images[100:], None)
    assert fit(dataset, tmp_path / "run", **UNDRAWN).config["data"]["binarize"] == "real"


def test_grey_levels_and_numbers_are_not_taken_for_one_another(tmp_path):
    np.save(tmp_path / "set.npy", FLOATS[10:, ..., :1])
    named = {"data.name": "arrays", "data.path": tmp_path / "set.npy", "train.batch_size": 16}
    with pytest.raises(UserError, match=r"^config\.data\.range: images of float32 are from"):
        vae_jax.train(vae_jax.load_config("digits", **named), tmp_path / "run")
    with pytest.raises(UserError, match=r"^config\.data\.binarize: 'real' is for numbers of any size, .* give none"):
        vae_jax.train(vae_jax.load_config("digits", **REAL), tmp_path / "run")
    with pytest.raises(UserError, match=r"^config\.data\.binarize: 'real' is not allowed; the pseudo-inputs"):
        vae_jax.train(vae_jax.load_config("digits:vamp", **REAL | named), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_networks_of_pictures_are_refused_for_a_table(tmp_path):
    with pytest.raises(UserError, match=r"^net: 'conv' is for pictures, and columns of a table have no neighbours"):
        fit(ROWS, tmp_path / "run", net="conv", hidden=4)
    assert not (tmp_path / "run").exists()


def test_a_step_on_numbers_is_the_step_on_what_is_present():
    """Two holes, and two numbers whose likelihood is taken out by hand, have the same gradient."""
    from vae_jax import model
    from vae_jax.config.parse import load_config

    config = load_config("table", **{"net.hidden": (4,), "variant.name": "autoencoder", "data.path": "unread.csv"})
    built = model.build(config, (1, 6, 1))
    rows = jnp.asarray(FLOATS[:2, :1, 0], jnp.float32)[..., None]
    params = {"nets": built.nets.init(jax.random.key(0), jnp.zeros((1, 1, 6, 1)), jnp.zeros((1, 4))), "own": {}}
    hole = jnp.asarray([True, False, False, False, True, False])[None, None, :, None]

    def with_holes(params):
        batch = {"image": jnp.where(hole, jnp.nan, rows), "index": jnp.arange(2)}
        return built.variant.loss(built.nets, params, batch, jax.random.key(1), jnp.int32(0))[0]

    def by_hand(params):
        filled = jnp.where(hole, 0.0, rows)
        decoded = built.nets.decode(params["nets"], built.nets.encode(params["nets"], filled)[0])
        mean, log_s = decoded[..., :1], decoded[..., 1:]
        log_s = jnp.log(0.1) + log_s
        log_s = jnp.log(1e-3) + jax.nn.softplus(log_s - jnp.log(1e-3))
        density = -0.5 * ((rows - mean) / jnp.exp(log_s)) ** 2 - log_s - 0.5 * jnp.log(2 * jnp.pi)
        return -jnp.sum(density * (1 - hole.astype(jnp.float32))) / 2

    np.testing.assert_allclose(with_holes(params), by_hand(params), rtol=1e-5)
    near = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(near, jax.grad(with_holes)(params), jax.grad(by_hand)(params))
