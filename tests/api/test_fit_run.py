"""A run on images of one's own, from Python: its folder, its likelihood, its words for what is wrong."""

import json
import pickle
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_folder, small_fit
from helpers.small_fit import SMALL, blobs

import vae_jax
from vae_jax import cli, data
from vae_jax.api import fit_run, image_source, trained_run
from vae_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("undrawn")

IMAGES = blobs()
LABELS = np.arange(len(IMAGES)) % 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of grey images."""
    return small_fit.fit(IMAGES, tmp_path_factory.mktemp("fit") / "run", LABELS, beta=4.0)


def make_config(images, labels=None, **keywords):
    return fit_run.make_config(images, labels, keywords)[0]


def test_the_command_line_repeats_what_fit_did(run, tmp_path):
    assert cli.train([f"--config={run.folder}/config.json", f"--workdir={tmp_path}/again"]) == 0
    assert run_folder.results(tmp_path / "again") == run_folder.results(run.folder)


def test_arrays_lie_in_the_folder_as_they_were_given(run):
    section = json.loads((run.folder / "config.json").read_text())["config"]["data"]
    assert (section["name"], section["path"]) == ("arrays", str(run.folder / "data.npz"))
    with np.load(section["path"]) as stored:
        np.testing.assert_array_equal(stored["images"], IMAGES, strict=True)
        np.testing.assert_array_equal(stored["labels"], LABELS)


def test_keywords_are_fields_of_the_config(run):
    assert run.config["variant"]["beta"] == 4.0
    assert run.config["net"]["hidden"] == (8,)
    assert (run.config["train"]["steps"], run.config["log"]["every"]) == (20, 10)


def test_the_same_call_opens_a_run_that_has_finished(run, capsys):
    again = small_fit.fit(IMAGES, run.folder, LABELS, beta=4.0)
    assert "this run has finished" in capsys.readouterr().out
    np.testing.assert_array_equal(again.sample(0, 2), run.sample(0, 2))


def test_other_images_need_another_folder(run):
    with pytest.raises(UserError, match="images: are not those in"):
        small_fit.fit(IMAGES + 1e-4, run.folder, LABELS, beta=4.0)


BLACK_AND_WHITE = IMAGES > 0.5
COINS, NEARLY, GREYS = ("bernoulli", "static"), ("bernoulli", "dynamic"), ("gaussian", "none")
FACES = np.uint8(64 + 128 * IMAGES)
"""Grey levels that no drawing of black and white is like."""


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (BLACK_AND_WHITE, COINS),
        (BLACK_AND_WHITE.astype(np.uint8), COINS),
        (BLACK_AND_WHITE.astype(np.uint8) * 255, COINS),
        (BLACK_AND_WHITE.astype(np.float64), COINS),
        (BLACK_AND_WHITE.astype(np.uint16) * 65535, COINS),
        (IMAGES, NEARLY),
        (np.uint8(IMAGES * 255), NEARLY),
        (np.uint16(IMAGES * 65535), NEARLY),
        (FACES, GREYS),
        (FACES / 255, GREYS),
        (np.stack([IMAGES] * 3, axis=-1), GREYS),
        (data.from_arrays(FACES[..., None], None, FACES[..., None], None), GREYS),
    ],
)
def test_likelihood_and_binarisation_follow_from_the_images(images, expected):
    config, _, said = fit_run.make_config(images, None, {})
    assert (config.likelihood.name, config.data.binarize) == expected
    scale = " of shared scale" if expected == GREYS else ""
    assert f"likelihood {expected[0]}{scale}, data.binarize {expected[1]}" in said


@pytest.mark.parametrize(
    ("images", "keywords", "expected"),
    [
        (IMAGES, {"likelihood": "gaussian", "sigma": 0.2}, ("gaussian", "none")),
        (IMAGES, {"likelihood": "bernoulli"}, ("bernoulli", "dynamic")),
        (IMAGES, {"binarize": "static"}, ("bernoulli", "static")),
        (BLACK_AND_WHITE, {"likelihood": "gaussian", "scale": "shared"}, ("gaussian", "none")),
        (BLACK_AND_WHITE, {"binarize": "none"}, ("bernoulli", "none")),
    ],
)
def test_what_the_caller_names_wins(images, keywords, expected):
    config = make_config(images, **keywords)
    assert (config.likelihood.name, config.data.binarize) == expected


def test_floats_of_another_range_are_read_by_it():
    config = make_config(2 * IMAGES - 1, range=(-1, 1))
    assert (config.data.range, config.likelihood.name) == ("-1 1", "bernoulli")


def test_a_config_is_taken_as_it_is():
    config = make_config("digits", beta=2)
    assert (config.data.name, config.data.binarize, config.variant.beta) == ("digits", "dynamic", 2.0)
    other = make_config(config, net="conv", **{"train.ema": 0.5})
    assert (other.net.name, other.train.ema, config.train.ema) == ("conv", 0.5, 0.0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bta": 4}, r"bta: 'bta' is unknown; known: .*; did you mean 'beta'\?"),
        ({"beta": "four"}, "beta: 'four' is not allowed; give a number"),
        ({"beta": -1}, "beta: -1.0 is not allowed"),
        ({"net": "convv"}, r"net: 'convv' is unknown; .*did you mean 'conv'\?"),
        ({"net": 3}, "net: int is not allowed; give a name"),
        ({"likelihood": "gaussian", "binarize": "static", "scale": "shared"}, "binarize: 'static' does not fit"),
        ({"train.emma": 0.9}, r"train.emma: 'train.emma' is unknown; .*did you mean 'train.ema'\?"),
        ({"train.ema": 2.0}, "train.ema: 2.0 is not allowed"),
        ({"ema": 2.0}, "ema: 2.0 is not allowed"),
        ({"batch_size": 500}, "batch_size: 500 is more than the"),
        ({"path": "x"}, "path: 'path' is unknown"),
        ({"data.path": "x"}, "data.path: 'data.path' is unknown"),
        ({"variant": "ladder", "hidden": 8}, "hidden: is net.hidden and variant.hidden; say which"),
    ],
)
def test_what_is_wrong_is_said_in_python_and_nothing_is_left(tmp_path, keywords, message):
    fields = {name: value for name, value in SMALL.items() if name not in ("hidden", "batch_size")} | keywords
    with pytest.raises(UserError, match=f"^{message}"):
        vae_jax.fit(IMAGES, workdir=tmp_path / "new" / "run", **fields)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[0, 0], None, r"images: an array of shape \(6,\) is not allowed"),
        (IMAGES * 3, None, "range: images of float32 are from .*, outside 0 to 1"),
        (IMAGES * np.nan, None, "images: the array has NaN"),
        (IMAGES, LABELS[1:], "labels: 79 of them for 80 images"),
        (IMAGES, LABELS + 0.5, "labels: 0.5 is not allowed"),
        ("digits", LABELS, "labels: go with an array of images only"),
        ("digitz", None, "config: 'digitz' is unknown"),
        (None, None, "images: NoneType is not allowed"),
    ],
)
def test_wrong_images_are_named(tmp_path, images, labels, message):
    with pytest.raises(UserError, match=f"^{message}"):
        vae_jax.fit(images, labels, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_names_of_classes_are_labels():
    names = np.array(["cat", "dog"] * 40, object)
    assert fit_run.make_config(IMAGES, names, {})[1].labels.dtype.kind == "U"


def test_a_folder_of_its_own_is_kept_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = fit_run.choose_folder(None, "run")
    assert folder.parent == tmp_path
    assert f"workdir: this run is kept in {folder}" in capsys.readouterr().out


def test_the_folder_of_a_study_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"^workdir: .* is the folder of a study"):
        vae_jax.fit(IMAGES, workdir=tmp_path)


def test_a_stopped_run_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_run, "train_in_folder", lambda *arguments, **keywords: 130)
    with pytest.raises(KeyboardInterrupt, match=r"stopped by signal 2, all is saved; .*continue_training\(\)"):
        vae_jax.fit(IMAGES, workdir=tmp_path / "run")


def test_a_model_says_what_it_is(run):
    words = repr(run)
    for part in ("beta beta=4", "arrays (6x6x1)", "mlp", "2 latents", "step 20 of 20", str(run.folder)):
        assert part in words


def test_a_model_is_pickled_with_its_folder(run):
    other = pickle.loads(pickle.dumps(run))
    assert (other.folder, other.checkpoint, repr(other)) == (run.folder, run.checkpoint, repr(run))
    np.testing.assert_array_equal(other.encode(IMAGES[..., None]), run.encode(IMAGES[..., None]))
    mean, _ = run.nets.encode(run.params["nets"], jnp.asarray(IMAGES[:3, ..., None]))
    np.testing.assert_allclose(mean, run.encode(IMAGES[:3, ..., None]), atol=1e-5)


def test_a_model_is_saved_with_its_data_and_trained_on(run, tmp_path):
    model = vae_jax.open_run(run.folder)
    model.save(tmp_path / "saved")
    assert model.folder == tmp_path / "saved"
    model = vae_jax.open_run(tmp_path / "saved")
    assert model.config["data"]["path"] == str(tmp_path / "saved/data.npz")
    assert model.continue_training(steps=30) is model
    assert (model.step, model.config["train"]["steps"], model.history[-1]["step"]) == (30, 30, 30)
    assert vae_jax.open_run(run.folder).step == 20
    with pytest.raises(UserError, match=r"^steps: 10 is not allowed; .* at least this run's 30"):
        model.continue_training(steps=10)
    with pytest.raises(UserError, match=r"^folder: .* is there already"):
        vae_jax.open_run(run.folder).save(tmp_path / "saved")


def test_a_rate_that_falls_over_all_steps_allows_no_more_of_them(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "cosine")
    record = json.loads((folder / "config.json").read_text())
    record["config"]["train"]["cosine"] = True
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"^steps: the learning rate of this run falls over all its 20"):
        vae_jax.open_run(folder).continue_training(steps=30)


def test_scores_join_those_of_the_folder(run):
    found = run.evaluate("active_units")
    assert found["active_units"] == json.loads((run.folder / "evaluation.json").read_text())["active_units"]
    assert found["elbo"] == pytest.approx(-found["distortion"] - found["rate"], abs=1e-3)
    with pytest.raises(UserError, match=r"^metrics: 'migg' is unknown; .*did you mean 'mig'"):
        run.evaluate("migg")


def test_functions_of_the_package_speak_python():
    with pytest.raises(UserError, match=r"^config: 'digitz' is unknown"):
        vae_jax.load_config("digitz")
    with pytest.raises(UserError, match=r"^runs: 'nowhere' is not a folder"):
        vae_jax.compare("nowhere")


def test_a_mapped_file_stays_where_it_is_and_its_labels_lie_in_the_folder(tmp_path):
    levels = np.uint8(np.round(255 * IMAGES))
    np.save(tmp_path / "large.npy", levels)
    mapped = np.load(tmp_path / "large.npy", mmap_mode="r")
    model = small_fit.fit(mapped, tmp_path / "run", LABELS)
    assert model.config["data"]["path"] == str(tmp_path / "large.npy")
    assert sorted(file.name for file in (tmp_path / "run").glob("*.np*")) == ["labels.npy"]
    held = small_fit.fit(levels, tmp_path / "held", LABELS)
    assert run_folder.results(tmp_path / "run") == run_folder.results(tmp_path / "held")
    model.save(tmp_path / "saved")
    saved = vae_jax.open_run(tmp_path / "saved")
    assert saved.config["data"]["labels"] == str(tmp_path / "saved/labels.npy")
    np.testing.assert_array_equal(saved.dataset.train.labels, held.dataset.train.labels)
    assert image_source.read_source(mapped[:60], None)[1].file is None  # a part would be written
    assert image_source.read_source(mapped[::-1], None)[1].file is None
    with pytest.raises(UserError, match="images: are not those in"):
        small_fit.fit(mapped, tmp_path / "run", LABELS[::-1])
