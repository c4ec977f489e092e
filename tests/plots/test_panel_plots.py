"""Panels of measures: what is written and coloured in them."""

import matplotlib
import numpy as np
import pytest

from vae_jax.plots import panel_plots, style

COLOURS = {"a": "#0072b2", "b": "#d55e00"}
HEADING = style.Heading("Title", "which runs")


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, in their order."""
    saved = []
    monkeypatch.setattr(style, "save", lambda figure, files: saved.append(figure))
    return saved


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_strips_say_the_means_of_groups_in_their_colours(figures, tmp_path):
    values = {"a": (np.array([1.0, 2.0]), (None, None)), "b": (np.array([0.0004, 0.0006]), (0.0, 0.001))}
    panels = [panel_plots.Strip("recall", "higher is better", values)]
    panel_plots.strips(tmp_path / "x.png", panels, HEADING, COLOURS)
    (axes,) = figures[0].axes
    assert words(axes) == ["1.5", "0.001"]  # not 0.0005, which would run into the axis
    colours = [matplotlib.colors.to_hex(dots.get_facecolors()[0]) for dots in axes.collections]
    assert colours == list(COLOURS.values())
    assert axes.get_xlabel() == "higher is better"
    assert [text.get_text() for text in figures[0].texts] == ["Title", "which runs"]


def test_paths_join_the_means_of_a_family_in_order(figures, tmp_path):
    families = {
        "a": {"weak": np.array([[0.0, 1.0], [2.0, 3.0]]), "strong": np.array([[5.0, 40.0]])},
        "b": {"": np.array([[9.0, 9.0]])},
    }
    panel_plots.paths(tmp_path / "x.png", families, ("x", "y"), HEADING, COLOURS, ("data", 7.0))
    (axes,) = figures[0].axes
    line = axes.get_lines()[0]
    np.testing.assert_allclose(line.get_xydata(), [[1, 2], [5, 40]])
    assert line.get_color() == COLOURS["a"]
    assert words(axes) == ["weak", "strong", ""]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "data"]
    assert axes.get_yscale() == "log"  # from 1 to 40


def test_courses_and_clouds_keep_the_colour_of_their_group(figures, tmp_path):
    course = panel_plots.Course("b", np.array([0, 10]), np.array([[1.0, 0.5, 1.5], [2.0, 1.5, 2.5]]))
    panel_plots.over_steps(tmp_path / "x.png", {"sigma": [course]}, HEADING, COLOURS)
    assert figures[0].axes[0].get_lines()[0].get_color() == COLOURS["b"]
    cloud = panel_plots.Cloud("b", "above", "x", np.ones((3, 2)))
    panel_plots.clouds(tmp_path / "x.png", [cloud], "y", HEADING, COLOURS)
    (axes,) = figures[1].axes
    assert matplotlib.colors.to_hex(axes.collections[0].get_facecolors()[0]) == COLOURS["b"]
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("above", "x", "y")
