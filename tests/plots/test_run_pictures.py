"""What a run's pictures show: the spread of the data, the run that they are of, and names that can be read."""

import importlib

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from helpers.toy_run import SIZES, ToyRun, render_classes, subject_of
from jax.tree_util import Partial
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vae_jax import data, registry, variants
from vae_jax.config import defaults
from vae_jax.data._factors import Factors
from vae_jax.plots import (
    captions,
    factor_pictures,
    image_grid,
    latent_plots,
    palette,
    run_pictures,
    spread,
    style,
    traversals,
)


@pytest.fixture
def grids(monkeypatch):
    """What every grid of images is given, by the name of its file."""
    given = {}

    def keep(file, images, title, rows=(), columns=(), caption="", marks=()):
        given[file.stem] = {"images": images, "title": title, "caption": caption, "marks": marks}
        given[file.stem] |= {"rows": list(rows), "columns": list(columns)}

    def keep_codes(file, plane, labels, heading):
        given[file.stem] = {"title": heading.title, "caption": heading.caption, "plane": plane}

    for module in (run_pictures, traversals, factor_pictures):
        monkeypatch.setattr(module, "image_grid", keep)
    monkeypatch.setattr(latent_plots, "scatter_codes", keep_codes)
    return given


def labelled_images(labels):
    """Two pixels an image, of which the first is its label."""
    images = np.zeros((len(labels), 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = labels
    return images


def test_the_images_of_a_grid_of_factors_differ_in_every_factor(grids, tmp_path):
    dataset = data.from_factors(Factors(("shape", "scale", "x"), SIZES, Partial(render_classes)), "random 0.5", 1)
    run_pictures.draw(ToyRun((1, 3, 1)), dataset, {"kl": [1.0, 0.5, 0.0]}, tmp_path)
    shown = np.round(255 * grids["reconstructions"]["images"][0, :, 0, :, 0])
    assert [len(set(column)) for column in shown.T] == [3, 6, 16]
    ends = np.round(255 * grids["interpolations"]["images"][:, [0, -1], 0, :, 0]).reshape(-1, 3)
    assert [len(set(column)) for column in ends.T] == [3, 6, 12]
    still = 255 * grids["traversals"]["images"][2, 0, 0, :, 0]  # another latent than the first is moved
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
    run_pictures.draw(ToyRun((1, 2, 1)), dataset, {"kl": [1.0, 0.5]}, tmp_path)
    shown = np.round(255 * grids["reconstructions"]["images"][0, :, 0, 0, 0])
    assert set(shown) == {*range(9), 200}
    # Where there is room for some alone, each is another.
    positions = spread.spread_positions(dataset.test, np.arange(6000), 5)
    assert len(set(labels[positions])) == 5


def test_draws_are_of_classes_that_occur_and_columns_say_which(grids, tmp_path):
    labels = np.array([4, 0, 3, 3])
    run_pictures.samples(subject_of(ToyRun((1, 2, 1), labelled_prior=True)), labels, tmp_path / "samples.png")
    given = grids["samples"]
    assert given["title"].endswith("below each column the label asked for")
    assert set(given["columns"]) == {"0", "3", "4"}
    np.testing.assert_array_equal(given["images"][:, :, 0, 0, 0], np.tile(np.array(given["columns"], int), (8, 1)))
    run_pictures.samples(subject_of(ToyRun((1, 2, 1))), labels, tmp_path / "samples.png")
    assert grids["samples"]["columns"] == []
    assert len(set(run_pictures.column_classes(np.arange(47)))) == run_pictures.COLUMNS


def test_every_picture_says_which_run_it_is_of(grids, tmp_path):
    labels = np.arange(30) % 3
    dataset = data.from_arrays(labelled_images(labels), labels, labelled_images(labels), labels)
    numbers = {"kl": [1.0, 0.5], "elbo": -23.308, "elbo.standard_error": 0.247}
    files = run_pictures.draw(ToyRun((1, 2, 1), beta=4.0), dataset, numbers, tmp_path)
    assert [file.stem for file in files] == list(grids)
    (caption,) = {given["caption"] for given in grids.values()}
    parts = ["beta-VAE, beta=4", "digits", "seed 3", "test ELBO -23.31 \N{PLUS-MINUS SIGN} 0.25 nats"]
    assert caption.split(" \N{MIDDLE DOT} ") == [*parts, "last checkpoint, step 100", "binarize=none"]
    run_pictures.draw_step(ToyRun((1, 2, 1)), dataset._replace(validation=dataset.test), numbers, tmp_path / "step")
    assert "validation ELBO -23.31" in grids["samples"]["caption"]
    assert grids["reconstructions"]["title"].startswith("Validation images")


def test_a_caption_says_what_is_set_apart_and_which_checkpoint():
    earlier = ToyRun((1, 2, 1)).config | {
        "latent_dim": 10,
        "net": defaults.section("net", "conv", hidden=(64,)).to_dict(),
    }
    earlier["data"] = defaults.section("data", "arrays", path="runs/faces.npz").to_dict()
    caption = captions.picture_caption(earlier, 40, "best", {"elbo": float("nan"), "distortion": 7.0}, "validation")
    assert caption.split(" \N{MIDDLE DOT} ") == [
        *("beta-VAE, beta=1", "arrays (faces.npz)", "seed 3", "best checkpoint, step 40 of 100"),
        "latent_dim=10, net=conv, hidden=[64]",
    ]
    assert " distortion 7.00 nats" in captions.picture_caption(earlier, 40, "best", {"distortion": 7.0})
    extinct = {"seed": 0, "variant": {"name": "no_such.variant", "gamma": 2.0}}
    assert captions.run_caption(extinct) == "no_such.variant gamma=2, seed 0"
    assert captions.variant_title(extinct) == "no_such.variant, gamma=2"
    for name in registry.file_names(variants.__name__):  # every variant says what papers call it
        assert (
            captions.variant_title({"variant": {"name": name}})
            == importlib.import_module(f"{variants.__name__}.{name}").TITLE
        )


@pytest.mark.parametrize("inches", [0.5, 1.0, 100.0])
def test_a_line_that_is_too_long_is_cut_at_its_end(inches):
    text = "beta-VAE, beta=4 \N{MIDDLE DOT} digits"
    line = style.cut_text(text, inches, style.CAPTION_SIZE)
    assert style.text_width(line, style.CAPTION_SIZE) <= inches
    assert line == text if inches > 3 else text.startswith(line[:-1]) and line[-1] == style.ELLIPSIS
    longer = text[: len(line)] + style.ELLIPSIS
    assert line == text or style.text_width(longer, style.CAPTION_SIZE) > inches


def test_a_line_between_two_images_has_them_at_its_ends_and_says_how_far_it_is(grids, tmp_path):
    images = labelled_images([0, 100, 200, 30])
    codes, labels = images.reshape(4, 2).astype(np.float32), np.array([5, 6, 7, 8])
    run_pictures.interpolations(
        subject_of(ToyRun((1, 2, 1))), 255 - images, codes, tmp_path / "interpolations.png", labels
    )
    given = grids["interpolations"]
    assert given["columns"] == ["image a", "t = 0.0", *(f"0.{t}" for t in range(1, 10)), "1.0", "image b"]
    assert given["rows"] == ["5 to 6", "7 to 8"]
    first = 255 * given["images"][0, :, 0, 0, 0]
    np.testing.assert_allclose(first, [255, *np.linspace(0, 100, 11), 155], atol=1e-3)
    assert run_pictures._pairs(1) == [(0, 0)]
    assert run_pictures._pairs(3) == [(0, 1), (2, 0)]


def test_a_plane_of_two_latents_keeps_the_rest_of_a_code(grids, tmp_path):
    run = ToyRun((1, 5, 1))
    run.latent_dim = 2  # and a label of three classes
    run_pictures.manifold(subject_of(run), np.array([9, 9, 0, 1, 0], np.float32), tmp_path / "manifold.png")
    codes = 255 * grids["manifold"]["images"].reshape(20, 20, 5)
    assert grids["manifold"]["rows"][0] == grids["manifold"]["columns"][-1] == captions.format_fixed(codes[0, -1, 0], 1)
    assert len({*codes[0, :, 0]}) == len({*codes[:, 0, 1]}) == 20
    np.testing.assert_allclose(codes[:, :, 2:], np.broadcast_to([0, 1, 0], (20, 20, 3)), atol=1e-5)


def test_numbers_that_round_to_zero_have_no_sign():
    moves = traversals.moved_latents(subject_of(ToyRun((1, 2, 1))), np.eye(2), np.eye(2), {"kl": [-1e-4, 0.5]}, 11)
    assert moves.rows == ["latent 1: 0.50 nats", "latent 0: 0.00 nats"]
    assert moves.columns[4:7] == ["-0.6", "0", "+0.6"]
    assert captions.format_short(-0.0) == "0"
    assert captions.unsigned_zero("-0.0%") == "0.0%"
    assert captions.unsigned_zero("-0.01") == "-0.01"


def test_latents_are_moved_in_the_order_of_their_kl_about_each_anchor(grids, tmp_path):
    run, kl = ToyRun((1, 12, 1)), np.arange(12)[::-1] / 10
    anchors = np.zeros((2, 12), np.float32)
    anchors[0, :2], anchors[1, 0] = (1, -1.5), 9
    subject = subject_of(run)
    moves = traversals.moved_latents(subject, anchors, anchors, {"kl": kl})
    assert moves.rows[:2] == ["latent 0: 1.10 nats", "latent 1: 1.00 nats"]
    assert "10 of 12 latents, most KL first" in moves.title
    np.testing.assert_allclose(255 * moves.images[0, 1, :, 0, :2, 0], [[1, value] for value in range(-3, 4)], atol=1e-4)
    originals = np.full((2, 1, 12, 1), 200, np.uint8)
    traversals.traversals(subject, moves, originals, ["typical", "other"], tmp_path / "traversals.png")
    given = grids["traversals"]
    assert given["images"].shape[:2] == (11, 15)
    assert " ".join(given["columns"]) == "-3 -2 -1 0\ntypical +1 +2 +3  -3 -2 -1 0\nother +1 +2 +3"
    np.testing.assert_allclose(255 * given["images"][0, [3, 11]], 200, rtol=1e-5)
    # Columns count from 0: -3 is the first, so that 1 is the fifth, and a value that no column is near has no mark.
    assert given["marks"][:3] == [[], [4.0], [1.5, 11.0]]


def test_without_a_kl_latents_are_moved_by_their_own_spread():
    codes = np.random.default_rng(0).normal(size=(100, 3)) * [1, 0, 5] + [0, 2, 10]
    moves = traversals.moved_latents(subject_of(ToyRun((1, 3, 1))), codes, codes[:1], {}, 3)
    assert [name.partition(":")[0] for name in moves.rows] == ["latent 2", "latent 0", "latent 1"]
    mean, deviation = codes[:, 2].mean(), codes[:, 2].std()
    np.testing.assert_allclose(255 * moves.images[0, 0, :, 0, 2, 0], mean + deviation * np.array([-3, 0, 3]), rtol=1e-4)
    assert moves.own[0, 0] == pytest.approx(1 + (codes[0, 2] - mean) / deviation / 3, rel=1e-4)
    assert "standard deviations: 3 latents, most variance first" in moves.title


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
    caption = "a run of many fields that are set apart, " * 9
    image_grid.image_grid(tmp_path / "grid.png", np.zeros((10, columns, *shape)), title, rows, names, caption)
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = boxes(figure.texts, renderer)
    assert len(texts) == 10 + columns + 2
    assert not any(first.overlaps(second) for i, first in enumerate(texts) for second in texts[:i])
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height for box in texts)
    assert figure.get_figheight() < 12
    words = figure.texts[0].get_text().split("\n")
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
    width, height = drawn[0].bbox.size
    place = {text.get_text(): text.get_position() for text in drawn[0].texts}
    places = [(width * place[column][0], height * place[row][1]) for row in "abc" for column in "1234"]
    for (x, y), colour in zip(places, colours.reshape(-1, 3), strict=True):
        np.testing.assert_array_equal(pixels[len(pixels) - round(y), round(x)], colour)
    # Together they cover what is between the outermost of their middles and as much around as half a tile.
    x, y = np.array(places).T
    covered = sum(np.all(pixels == colour, axis=2).sum() for colour in colours.reshape(-1, 3))
    assert covered > 0.8 * np.ptp(x) * 4 / 3 * np.ptp(y) * 3 / 2
    assert np.all(pixels[:, -5:] == 255)
    assert np.all(pixels[:5] == 255)


def test_a_mark_points_to_its_place_below_its_row(tmp_path, drawn):
    file = tmp_path / "grid.png"
    images = np.zeros((2, 3, 8, 8, 1))
    image_grid.image_grid(file, images, "Marks", ["a", "b"], ["0", "1", "2"], marks=[[], [0.5]])
    with Image.open(file) as picture:
        pixels = np.asarray(picture)
    down, across = np.nonzero(np.all(pixels == image_grid.MARK, axis=2))
    place = {text.get_text(): text.get_position() for text in drawn[0].texts}
    width, height = drawn[0].bbox.size
    assert across.mean() == pytest.approx(width * (place["0"][0] + place["1"][0]) / 2, abs=1.5)
    assert height * (1 - place["b"][1]) < down.min()  # below the middle of its row, and its tip is above its base
    assert np.ptp(across[down == down.min()]) < np.ptp(across[down == down.max()])


LABELS = [[0, 1, 2, 255], [7, 3], list(range(0, 300, 25)), list(range(47))]


@pytest.mark.parametrize("labels", LABELS)
def test_each_label_has_its_colour_and_the_key_its_name(tmp_path, saved, labels):
    codes = np.random.default_rng(0).normal(size=(len(labels), 2))
    plane = latent_plots.main_plane(codes)
    latent_plots.scatter_codes(tmp_path / "x.png", plane, np.array(labels), style.Heading("Codes"))
    axes, *bars = saved[0].axes
    (points,) = axes.collections
    colours = {
        tuple(place): tuple(colour[:3])
        for place, colour in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    assert len(set(colours.values())) == len(labels)
    assert bool(bars) == (len(labels) > latent_plots.MAX_TICKS)
    if bars:
        names = [text.get_text() for text in bars[0].get_yticklabels()]
        assert (names[0], names[-1]) == (str(min(labels)), str(max(labels)))
    else:
        legend = axes.get_legend()
        shown = {
            text.get_text(): matplotlib.colors.to_rgb(line.get_color())
            for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
        }
        assert shown == {str(label): pytest.approx(colours[tuple(codes[i])]) for i, label in enumerate(labels)}
    latent_plots.posterior_ellipses(
        tmp_path / "y.png", {"a": (codes, 0 * codes + 1)}, np.array(labels), style.Heading("Clouds", "which run")
    )
    colours = saved[1].axes[0].collections[0].get_facecolors()
    assert len({tuple(colour) for colour in colours}) == len(labels)


def test_the_axes_of_a_plane_say_how_much_of_the_variance_they_hold():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4000, 5)) * [0.1, 4, 0.1, 3, 0.1]
    plane = latent_plots.main_plane(codes)
    assert plane.axis_names == (
        "first principal axis: 64% of the variance",
        "second principal axis: 36% of the variance",
    )
    assert plane.points.var(axis=0) == pytest.approx([16, 9], rel=0.1)
    assert latent_plots.main_plane(np.zeros((3, 1))).points.shape == (3, 2)
    assert "0%" in latent_plots.main_plane(np.zeros((3, 4))).axis_names[0]


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_collapsed_run_does_not_fill_the_picture_of_its_codes(tmp_path, saved, shift):
    codes = np.zeros((30, 5), np.float32)
    codes[:, :2] = 1e-3 * np.random.default_rng(0).normal(size=(30, 2)) + [shift, 0]
    run_pictures.latent_map(subject_of(ToyRun((1, 5, 1))), codes, None, tmp_path / "latents.png")
    (axes,) = saved[0].axes
    (circle,) = axes.patches
    assert circle.get_radius() == 2
    middle, (left, right), (low, high) = circle.get_center(), axes.get_xlim(), axes.get_ylim()
    assert np.hypot(*middle) == pytest.approx(shift, abs=1e-2)
    assert left < middle[0] - 2 < middle[0] + 2 < right
    assert low < middle[1] - 2 < middle[1] + 2 < high
    assert left < 0 < right


def test_pictures_and_pages_have_one_palette():
    assert style.MARKERS.keys() == set(palette.SYMBOLS)
    looks = {(palette.colour(number), palette.symbol(number)) for number in range(32)}
    assert len(looks) == 32
    assert all(matplotlib.colors.is_color_like(colour) for colour in palette.label_colours(200))
    assert len(set(palette.label_colours(10))) == 10
    # What has an order grows lighter with it.
    shades = np.array([matplotlib.colors.to_rgb(colour) for colour in palette.ramp_colours(30)])
    assert np.all(np.diff(shades @ [0.2126, 0.7152, 0.0722]) > 0)
