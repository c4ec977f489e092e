import io

import numpy as np
import pytest
from helpers.small_run import train_small
from PIL import Image

import vae_jax
from vae_jax import model
from vae_jax.comparison import analyse
from vae_jax.comparison.load_runs import load_runs
from vae_jax.report import group_pictures
from vae_jax.report.group_pictures import SHOWN

pytestmark = pytest.mark.full

RUNS = {
    "vae": {},
    "strong": {"variant.beta": 4.0},
    "plain": {"variant.name": "autoencoder"},
    "grey": {"data.name": "sprites", "data.validation": 0, "evaluation.batch_size": 20},
}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """Of two betas of one program, an autoencoder, and a run of other data, of ten steps each."""
    folder = tmp_path_factory.mktemp("study")
    for name, fields in RUNS.items():
        short = {"train.steps": 10, "log.pictures": False, "evaluation.every": 10, "checkpoint.every": 10} | fields
        assert train_small(folder / name, **short) == 0
    runs, skipped = load_runs([folder])
    return analyse.compare_runs(str(folder), "vae-jax compare", runs, skipped)


def tiles(picture):
    """The images of a row, 8 x 8, as grey levels in [0, 1]."""
    pixels = np.asarray(Image.open(io.BytesIO(picture))) / 255
    return np.stack(np.split(pixels, SHOWN, axis=1))


def test_every_group_decodes_the_same_images_and_draws(comparison):
    pictures = group_pictures.group_pictures(comparison)
    folders = {run.name: run.folder for run in comparison.runs}
    opened = {row.run: vae_jax.open_run(folders[row.run]) for row in pictures.rows}
    assert set(opened) == {"vae", "strong", "plain"}
    (omitted,) = pictures.omitted
    assert omitted.endswith("(of other data)")
    dataset = model.load_data(opened["vae"].config["data"])
    test = np.asarray(dataset.test.fetch(np.arange(dataset.test.size)))[..., 0] / 255
    originals = tiles(pictures.originals)
    numbers = [int(np.abs(test - image).max(axis=(1, 2)).argmin()) for image in originals]
    np.testing.assert_allclose(test[numbers], originals, atol=1e-6)
    assert len(set(np.asarray(dataset.test.labels)[numbers])) == 10
    images = np.asarray(dataset.test.fetch(np.array(numbers)))
    for row in pictures.rows:
        run = opened[row.run]
        reconstructions, draws, line = map(tiles, row.pictures)
        np.testing.assert_allclose(reconstructions, run.reconstruct(images)[..., 0], atol=0.6 / 255)
        np.testing.assert_allclose(line[[0, -1]], reconstructions[:2], atol=1.1 / 255)
        assert np.ptp(draws, axis=0).max() > 2 / 255
    by_run = {row.run: row.pictures for row in pictures.rows}
    assert by_run["vae"][0] != by_run["strong"][0]


def test_the_section_names_every_row_and_what_is_missing(comparison):
    pictures = group_pictures.group_pictures(comparison)
    section = str(group_pictures.section(pictures))
    assert "at its last step" in section
    assert "at its step of best validation" in str(group_pictures.section(pictures._replace(checkpoint="best")))
    for group in comparison.groups:
        assert section.count(f"<figcaption>{group.name}</figcaption>") in (0, 3)
    assert section.count("<figcaption>held-out images</figcaption>") == 1
    assert "(of other data)" in section


def test_rows_that_a_page_has_no_room_for_are_named(comparison, monkeypatch):
    whole = group_pictures.group_pictures(comparison)
    first = sum(map(len, whole.rows[0].pictures))
    monkeypatch.setattr(group_pictures, "MAX_BYTES", first)
    pictures = group_pictures.group_pictures(comparison)
    assert pictures.rows == whole.rows[:1]
    assert [f"{row.group} (no room in the page)" for row in whole.rows[1:]] == pictures.omitted[-len(whole.rows) + 1 :]


def test_why_nothing_is_shown_is_said_where_no_run_can_be_opened(comparison, tmp_path):
    runs = [run._replace(folder=str(tmp_path / run.name)) for run in comparison.runs]
    pictures = group_pictures.group_pictures(comparison._replace(runs=runs))
    assert pictures.rows == []
    section = str(group_pictures.section(pictures))
    assert section.startswith('<p class="quiet">Not shown: ')
    assert section.count("no run here") == len(comparison.groups)
    unfinished = [run._replace(status="failed") for run in comparison.runs]
    assert group_pictures.group_pictures(comparison._replace(runs=unfinished)) is None
    assert group_pictures.section(None) is None
