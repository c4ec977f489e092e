"""What is drawn of data whose factors are known, and the GIF of latents that move."""

import matplotlib
import numpy as np
import pytest
from helpers.toy_run import SIZES, ToyRun, render_classes, subject_of
from jax.tree_util import Partial
from matplotlib.figure import Figure
from PIL import Image

from vae_jax import data
from vae_jax.data._factors import Factors
from vae_jax.metrics import mig
from vae_jax.plots import animations, factor_pictures, palette, run_pictures

FACTORS = Factors(("shape", "scale", "x"), SIZES, Partial(render_classes), nuisance=("x",))


@pytest.fixture(scope="module")
def knowledge():
    """Of 600 images: latent 0 is the scale, latent 1 half of the time the shape, latent 2 nothing."""
    rng = np.random.default_rng(0)
    classes = np.stack([rng.integers(size, size=600) for size in SIZES], axis=1)
    codes = rng.normal(size=(600, 4))
    codes[:, 0] = classes[:, 1]
    codes[:300, 1] = classes[:300, 0]
    return factor_pictures.FactorInformation.measure(FACTORS, codes, classes)


@pytest.fixture
def saved(monkeypatch):
    """The figures that would be written."""
    figures = []

    def save(figure, file, **options):
        figures.append(figure)
        file.touch()

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def test_the_gaps_are_those_of_the_metric(knowledge):
    assert knowledge.names == ["shape", "scale"]  # nuisance factors are not scored
    np.testing.assert_allclose(knowledge.gaps, mig.gaps(knowledge.codes, knowledge.classes, factor_pictures.BINS))
    assert knowledge.shares[0, 1] == pytest.approx(1, abs=1e-5)
    assert knowledge.gaps[1] > 0.9
    still = np.zeros((5, 3), int)
    assert factor_pictures.FactorInformation.measure(FACTORS, np.zeros((5, 2)), still) is None


def test_the_matrix_has_a_number_for_each_latent_and_factor(knowledge, saved, tmp_path):
    order = [3, 0, 2, 1]
    factor_pictures.information_matrix(subject_of(ToyRun((1, 4, 1)), elbo=-1.0), knowledge, order, tmp_path / "x.png")
    (figure,) = saved
    (axes,) = figure.axes
    (picture,) = axes.images
    np.testing.assert_allclose(picture.get_array(), knowledge.shares[order])
    assert picture.get_clim() == (0, 1)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(cells) == 8
    assert cells[1, 1] == "1.00"
    assert cells[0, 3] == f"{knowledge.shares[1, 0]:.2f}"
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"latent {i}" for i in order]
    assert [text.get_text().split("\n")[1] for text in axes.get_xticklabels()] == [
        f"gap {gap:.2f}" for gap in knowledge.gaps
    ]
    title, caption = (text.get_text() for text in figure.texts)
    assert f"MIG {knowledge.gaps.mean():.3f}, modularity 0." in title
    assert "600 test images, 20 bins" in title
    assert caption.startswith("beta-VAE")
    few = factor_pictures._matrix_title(subject_of(ToyRun((1, 4, 1))), knowledge, 2)
    assert few.endswith("2 of 4 latents")


def test_each_factor_has_the_two_latents_that_know_most_of_it(knowledge, saved, tmp_path):
    factor_pictures.factor_planes(subject_of(ToyRun((1, 4, 1))), knowledge, tmp_path / "x.png")
    panels = saved[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["shape: 3 values", "scale: 6 values"]
    assert panels[0].get_xlabel().startswith("latent 1, ")
    assert panels[1].get_xlabel() == "latent 0, I/H 1.00"
    (points,) = panels[1].collections
    places = np.asarray(points.get_offsets())[:, 0].round().astype(int)
    shades = np.array([matplotlib.colors.to_rgb(colour) for colour in palette.ramp_colours(6)])
    np.testing.assert_allclose(points.get_facecolors()[:, :3], shades[places])
    assert all(axes.patches[0].get_radius() == 2 for axes in panels)


def test_one_factor_changes_in_each_row(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(
        factor_pictures, "image_grid", lambda file, *shown: given.update(zip("itrcsm", shown, strict=True))
    )
    factor_pictures.along_factors(subject_of(ToyRun((1, 3, 1))), FACTORS, np.array([1, 5, 20]), tmp_path / "x.png")
    images = np.round(255 * given["i"][:, :, 0, :, 0]).astype(int)
    assert images.shape == (6, 10, 3)
    np.testing.assert_array_equal(images[0, :3], [[shape, 5, 20] for shape in range(3)])
    assert np.all(images[0, 3:] == 255)  # there are no more shapes
    np.testing.assert_array_equal(images[2, :6, 1], range(6))
    np.testing.assert_array_equal(images[4, :, :2], [[1, 5]] * 10)
    assert images[4, given["m"][4][0]].tolist() == [1, 5, 20]
    np.testing.assert_array_equal(images[1::2], images[::2])  # a toy's reconstruction is its image
    assert given["r"][::2] == ["shape (3 values)", "scale (6 values)", "x (40 values)"]


def test_values_are_spread_and_hold_the_image_s_own():
    assert factor_pictures.spread_values(3, 1) == [0, 1, 2]
    values = factor_pictures.spread_values(32, 17)
    assert len(values) == factor_pictures.MAX_VALUES
    assert (values[0], values[-1], 17 in values) == (0, 31, True)
    assert values == sorted(set(values))


def test_a_run_on_factors_has_all_of_its_pictures(tmp_path):
    dataset = data.from_factors(FACTORS, "random 0.5", 1)
    files = run_pictures.draw(ToyRun((1, 3, 1)), dataset, {"kl": [1.0, 0.5, 0.0]}, tmp_path)
    names = [file.stem for file in files]
    assert names[-3:] == ["factor_latents", "factor_information", "factor_reconstructions"]
    assert {file.name for file in tmp_path.iterdir()} == {*(f"{name}.png" for name in names), "traversals.gif"}
    assert all(file.suffix == ".png" for file in files)


def test_latents_swing_and_the_loop_closes(tmp_path):
    codes = np.full((4, 7), 128, np.float32)
    codes[:, 0] = [0, 64, 128, 255]
    file = tmp_path / "moves.gif"
    run = ToyRun((1, 7, 1))
    kl = {"kl": [0.1, 0.2, 9.0, 0.3, 0.4, 0.5, 0.6]}
    decoded = []
    run.decode = lambda codes: decoded.append(codes) or (codes.reshape(-1, 1, 7, 1) + 3) / 6
    animations.moving_latents(subject_of(run), codes, codes[:2], ["typical", "other"], kl, file)
    (moved,) = decoded
    frames = moved.reshape(-1, 2, 5, 7)  # value, anchor, latent
    assert len(frames) == animations.FRAMES // 2 + 1  # each value is decoded once
    np.testing.assert_allclose(frames[[0, -1], 1, 0, 2], [-3, 3], atol=1e-5)  # the first column: most KL
    assert set(frames[:, :, 0, 3].ravel()) == {128}
    with Image.open(file) as picture:
        assert picture.info["loop"] == 0
        shades = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            # Frames that are the same are one that is seen for longer.
            seen = picture.info["duration"] // animations.MILLISECONDS
            shades += [np.asarray(picture.convert("RGB"))] * seen
    assert len(shades) == animations.FRAMES
    assert np.all(shades[0][0, 0] == 255)
    marks = [np.nonzero(np.all(np.abs(frame.astype(int) - (213, 94, 0)) < 30, axis=2))[1].mean() for frame in shades]
    steps = np.diff([*marks, marks[0]])  # from the last frame back to the first too
    assert np.abs(steps).max() < 1.3 * np.sort(np.abs(steps))[-4]
    assert marks[10] - marks[0] == pytest.approx(marks[0] - marks[30], abs=2)
