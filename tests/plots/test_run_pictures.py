"""What a run's pictures show: the spread of the data, the run that they are of, and names that can be read."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from jax.tree_util import Partial
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vae_jax import data
from vae_jax.config import defaults
from vae_jax.data._factors import Factors, to_classes
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.plots import captions, image_grid, latent_plots, palette, run_pictures, spread, style

SIZES = (3, 6, 40)


def render_classes(ids):
    """Images of one row whose pixels are the classes of the factors."""
    return to_classes(SIZES, ids)[:, None, :, None].astype(jnp.uint8)


class Run(TrainedModel):
    """Stands in for a trained run: an image's pixels are its code."""

    def __init__(self, image_shape, labelled_prior=False, **variant):
        self.config = {
            "seed": 3,
            "data": {"binarize": "none"},
            "train": {"steps": 100},
            "variant": defaults.section("variant", "beta", **variant).to_dict(),
        }
        self.step, self.checkpoint = 100, "latest"
        self.image_shape, self.labelled_prior = image_shape, labelled_prior
        self.latent_dim = self.code_dim = image_shape[1]

    def encode(self, images, labels=None):
        return images.reshape(len(images), -1).astype(np.float32)

    def decode(self, codes):
        return codes.reshape(-1, *self.image_shape) / 255

    def sample(self, key, count, labels=None):
        if labels is not None and not self.labelled_prior:
            raise UserError("labels: this run's prior is the same for every label; leave them out")
        values = np.zeros(count) if labels is None else labels
        return np.broadcast_to(values.reshape(-1, 1, 1, 1), (count, *self.image_shape))


@pytest.fixture
def grids(monkeypatch):
    """What every grid of images is given, by the name of its file."""
    given = {}

    def keep(file, images, title, rows=(), columns=()):
        given[file.stem] = {"images": images, "title": title, "rows": list(rows), "columns": list(columns)}

    def keep_codes(file, codes, labels, title, axis_names, origin=(0, 0)):
        given[file.stem] = {"title": title, "codes": codes, "origin": origin}

    monkeypatch.setattr(run_pictures, "image_grid", keep)
    monkeypatch.setattr(latent_plots, "scatter_codes", keep_codes)
    return given


def labelled_images(labels):
    """Two pixels an image, of which the first is its label."""
    images = np.zeros((len(labels), 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = labels
    return images


def test_the_images_of_a_grid_of_factors_differ_in_every_factor(grids, tmp_path):
    dataset = data.from_factors(Factors(("shape", "scale", "x"), SIZES, Partial(render_classes)), "random 0.5", 1)
    run_pictures.draw(Run((1, 3, 1)), dataset, {"kl": [1.0, 0.5, 0.0]}, tmp_path)
    shown = np.round(255 * grids["reconstructions"]["images"][0, :, 0, :, 0])
    assert [len(set(column)) for column in shown.T] == [3, 6, 16]
    ends = np.round(255 * grids["interpolations"]["images"][:, [0, -1], 0, :, 0]).reshape(-1, 3)
    assert [len(set(column)) for column in ends.T] == [3, 6, 12]
    still = 255 * grids["traversals"]["images"][1, 0, 0, :, 0]  # another latent than the first is moved
    assert np.abs(still[[0, 2]] - [1, 19.5]).max() < 5  # in the middle of the grid and not in its corner


def test_a_factor_that_hardly_moves_is_seen_to_move():
    rare, common = np.zeros(1000, int), np.arange(1000) % 50
    rare[700] = 1
    first = data.Split(render_classes, None, 1000)
    common[700] = common[spread.spread_positions(first, np.arange(1000), 1)[0]]  # nothing else is new in it
    split = data.Split(render_classes, None, 1000, lambda indices: jnp.stack([rare, common], 1)[indices])
    positions = spread.spread_positions(split, np.arange(1000), 4)
    assert 700 in positions
    assert len(set(common[positions])) > 1
    np.testing.assert_array_equal(positions, spread.spread_positions(split, np.arange(1000), 4))


def test_every_label_is_shown_however_rare(grids, tmp_path):
    labels = np.sort(np.arange(6000) % 9)
    common = data.sample_indices(data.from_arrays(*[labelled_images(labels), labels] * 2).test, run_pictures.MAX_CODES)
    labels[np.setdiff1d(np.arange(6000), common)[0]] = 200
    dataset = data.from_arrays(labelled_images(labels), labels, labelled_images(labels), labels)
    run_pictures.draw(Run((1, 2, 1)), dataset, {"kl": [1.0, 0.5]}, tmp_path)
    shown = np.round(255 * grids["reconstructions"]["images"][0, :, 0, 0, 0])
    assert set(shown) == {*range(9), 200}
    # Where there is room for some alone, each is another.
    positions = spread.spread_positions(dataset.test, np.arange(6000), 5)
    assert len(set(labels[positions])) == 5


def test_draws_are_of_classes_that_occur_and_columns_say_which(grids, tmp_path):
    labels = np.array([4, 0, 3, 3])
    run_pictures.samples(Run((1, 2, 1), labelled_prior=True), labels, tmp_path / "samples.png")
    given = grids["samples"]
    assert set(given["columns"]) == {"0", "3", "4"}
    np.testing.assert_array_equal(given["images"][:, :, 0, 0, 0], np.tile(np.array(given["columns"], int), (8, 1)))
    run_pictures.samples(Run((1, 2, 1)), labels, tmp_path / "samples.png")
    assert grids["samples"]["columns"] == []
    assert len(set(run_pictures.column_classes(np.arange(47)))) == run_pictures.COLUMNS


def test_every_title_says_which_run_it_is_of(grids, tmp_path):
    labels = np.arange(30) % 3
    dataset = data.from_arrays(labelled_images(labels), labels, labelled_images(labels), labels)
    files = run_pictures.draw(Run((1, 2, 1), beta=4.0), dataset, {"kl": [1.0, 0.5]}, tmp_path)
    assert [file.stem for file in files] == list(grids)
    assert {given["title"].partition("\n")[2] for given in grids.values()} == {"beta beta=4, seed 3, last step"}
    earlier = Run((1, 2, 1))
    earlier.step = 40
    run_pictures.traversals(earlier, np.ones((4, 2), np.float32), {"kl": [1.0, 0.5]}, tmp_path / "traversals.png")
    assert grids["traversals"]["title"].endswith("\nbeta, seed 3, latest checkpoint, step 40 of 100")
    assert captions.run_caption(Run((1, 2, 1)).config) == "beta, seed 3"
    extinct = {"seed": 0, "variant": {"name": "no_such.variant", "gamma": 2.0}}
    assert captions.run_caption(extinct) == "no_such.variant gamma=2, seed 0"


def test_a_plane_of_two_latents_keeps_the_rest_of_a_code(grids, tmp_path):
    run = Run((1, 5, 1))
    run.latent_dim = 2  # and a label of three classes
    run_pictures.manifold(run, np.array([9, 9, 0, 1, 0], np.float32), tmp_path / "manifold.png")
    codes = 255 * grids["manifold"]["images"].reshape(20, 20, 5)
    assert len({*codes[0, :, 0]}) == len({*codes[:, 0, 1]}) == 20
    np.testing.assert_allclose(codes[:, :, 2:], np.broadcast_to([0, 1, 0], (20, 20, 3)), atol=1e-5)


def test_numbers_that_round_to_zero_have_no_sign(grids, tmp_path):
    codes = np.ones((4, 2), np.float32)
    run_pictures.traversals(Run((1, 2, 1)), codes, {"kl": [-1e-4, 0.5]}, tmp_path / "traversals.png")
    assert grids["traversals"]["rows"] == ["latent 1: 0.50 nats", "latent 0: 0.00 nats"]
    assert grids["traversals"]["columns"][4:7] == ["-0.6", "0.0", "+0.6"]
    assert captions.format_short(-0.0) == "0"
    assert captions.unsigned_zero("-0.0%") == "0.0%"
    assert captions.unsigned_zero("-0.01") == "-0.01"


@pytest.fixture
def saved(monkeypatch):
    """The figures that would be written."""
    figures = []

    def save(figure, file, **options):
        figures.append(figure)
        file.touch()

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures around the grids that are written."""
    figures, draw = [], image_grid._draw

    def record(figure):
        figures.append(figure)
        return draw(figure)

    monkeypatch.setattr(image_grid, "_draw", record)
    return figures


def boxes(texts, renderer):
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


@pytest.mark.parametrize("shape", [(1, 42, 1), (42, 1, 1), (28, 28, 1), (2, 2, 3)])
@pytest.mark.parametrize("columns", [1, 11])
def test_names_and_title_of_a_grid_can_be_read(tmp_path, drawn, shape, columns):
    rows = [f"latent {i}: 0.50 nats" for i in range(10)]
    title = "The latent plane, decoded at the prior's quantiles\n" + "a_run_of_a_long_name_" * 5
    names = [f"{step:+.1f}" for step in range(columns)]
    image_grid.image_grid(tmp_path / "grid.png", np.zeros((10, columns, *shape)), title, rows, names)
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes,) = figure.axes
    texts = boxes([*axes.get_yticklabels(), *axes.get_xticklabels(), axes.title, axes._left_title], renderer)
    assert len(texts) == 10 + columns + 1
    assert not any(first.overlaps(second) for i, first in enumerate(texts) for second in texts[:i])
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height for box in texts)
    assert figure.get_figheight() < 12
    words = axes._left_title.get_text().split("\n")
    assert words[0] in (
        "The latent plane, decoded at the prior's quantiles",
        "The latent plane, decoded at the prior's",
    )


@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (70, 64)])
def test_each_tile_of_a_grid_is_beside_its_names(tmp_path, drawn, shape):
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3))
    images = np.broadcast_to(colours[:, :, None, None] / 255, (3, 4, *shape, 3))
    file = tmp_path / "grid.png"
    image_grid.image_grid(file, images, "Colours", rows=["a", "b", "c"], columns=["1", "2", "3", "4"])
    with Image.open(file) as picture:
        pixels = np.asarray(picture)
    (axes,) = drawn[0].axes
    places = axes.transData.transform([(x, y) for y in axes.get_yticks() for x in axes.get_xticks()])
    for (x, y), colour in zip(places, colours.reshape(-1, 3), strict=True):
        np.testing.assert_array_equal(pixels[len(pixels) - round(y), round(x)], colour)
    # Each of them covers what its place has room for, and nothing beyond the axes.
    inches = axes.get_window_extent().size / drawn[0].dpi
    assert sum(np.all(pixels == colour, axis=2).sum() for colour in colours.reshape(-1, 3)) > 0.8 * np.prod(
        150 * inches
    )
    assert np.all(pixels[:, -5:] == 255)
    assert np.all(pixels[:5] == 255)


@pytest.mark.parametrize("labels", [[0, 1, 2, 255], [7, 3], list(range(0, 300, 25)), list(range(47))])
def test_each_label_has_its_colour_and_the_key_its_name(tmp_path, saved, labels):
    codes = np.random.default_rng(0).normal(size=(len(labels), 2))
    latent_plots.scatter_codes(tmp_path / "x.png", codes, np.array(labels), "Codes", ("latent 0", "latent 1"))
    axes, bar = saved[0].axes
    FigureCanvasAgg(saved[0]).draw()
    (points,) = axes.collections
    assert len({tuple(colour) for colour in points.get_facecolors()}) == len(labels)
    names = [text.get_text() for text in bar.get_yticklabels()]
    assert {names[0], names[-1]} == {str(min(labels)), str(max(labels))}
    assert len(labels) > latent_plots.MAX_TICKS or names == [str(label) for label in sorted(labels)]
    latent_plots.posterior_ellipses(tmp_path / "y.png", {"a": (codes, 0 * codes + 1)}, np.array(labels), "Clouds")
    colours = saved[1].axes[0].collections[0].get_facecolors()
    assert len({tuple(colour) for colour in colours}) == len(labels)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_collapsed_run_does_not_fill_the_picture_of_its_codes(tmp_path, saved, shift):
    codes = np.zeros((30, 5), np.float32)
    codes[:, :2] = 1e-3 * np.random.default_rng(0).normal(size=(30, 2)) + [shift, 0]
    run_pictures.latent_map(Run((1, 5, 1)), codes, None, tmp_path / "latents.png")
    (axes,) = saved[0].axes
    (circle,) = axes.patches
    assert circle.get_radius() == 2
    assert np.hypot(*circle.get_center()) == pytest.approx(shift, abs=1e-2)
    assert np.ptp(axes.get_xlim()) > 4
    assert np.ptp(axes.get_ylim()) > 4


def test_pictures_and_pages_have_one_palette():
    assert style.MARKERS.keys() == set(palette.SYMBOLS)
    looks = {(palette.colour(number), palette.symbol(number)) for number in range(32)}
    assert len(looks) == 32
    assert all(matplotlib.colors.is_color_like(colour) for colour in palette.label_colours(200))
