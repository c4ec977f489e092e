import math

import matplotlib.colors
import pytest
from helpers.made_up_comparison import make_comparison

from vae_jax.comparison import figures
from vae_jax.comparison.comparability import run_kinds
from vae_jax.plots import palette, style
from vae_jax.report import plotly_figures


def test_rate_distortion_has_every_run_and_the_autoencoder_at_the_end():
    comparison = make_comparison(seeds=3)
    figure = plotly_figures.rate_distortion(comparison)
    dots = [trace for trace in figure["data"] if trace["mode"] == "markers" and not trace["showlegend"]]
    rated, ends = ([trace for trace in dots if trace.get("xaxis", "x") == axis] for axis in ("x", "x2"))
    placed = [pair for trace in rated for pair in zip(trace["hovertext"], trace["x"], strict=True)]
    assert {text.partition("<br>")[0]: x for text, x in placed} == {
        run.name: run.metrics["rate"] for run in comparison.runs if "rate" in run.metrics
    }
    without = [text.partition("<br>")[0] for trace in ends for text in trace["hovertext"]]
    assert without == [run.name for run in comparison.runs if "rate" not in run.metrics]
    assert figure["layout"]["xaxis2"]["ticktext"] == ["no rate"]
    assert {trace["name"]: trace["marker"]["opacity"] for trace in rated} == {
        "beta beta=1": [0.95, 0.25, 0.25],
        "beta beta=4": [0.95, 0.25, 0.25],
        "autoencoder": [],
    }
    means = next(trace for trace in figure["data"] if trace["mode"] == "lines" and trace["name"] == "beta")
    assert means["x"] == pytest.approx([6.01, 1.51])
    assert means["y"] == pytest.approx([17.1, 20.1])


def test_lines_of_equal_elbo_are_diagonals():
    lines, notes = plotly_figures._elbo_lines((0.0, 10.0), (10.0, 30.0), [20.0, 26.0])
    assert {round(x + y, 6) for line in lines for x, y in zip(line["x"], line["y"], strict=True)} == {20, 22, 24, 26}
    assert [note["text"] for note in notes if "best" in note["text"]] == ["best ELBO \N{MINUS SIGN}20"]
    assert plotly_figures._elbo_lines((0.0, 1.0), (0.0, 1.0), []) == ([], [])
    assert len(plotly_figures._elbo_lines((0.0, 10.0), (10.0, 30.0), [20.0])[0]) == 1


def test_the_score_against_strength_has_a_band_and_room_for_zero():
    figure = plotly_figures.score_by_strength(make_comparison(betas=(0.0, 1.0, 16.0), metrics=("elbo",)))
    assert figure["layout"]["xaxis"]["ticktext"] == ["0", "1", "16"]
    steps = figure["layout"]["xaxis"]["tickvals"]
    assert steps[1] - steps[0] == pytest.approx(steps[2] - steps[1])
    figure = plotly_figures.score_by_strength(make_comparison(betas=(1.0, 2.0, 4.0)))
    (band,) = (trace for trace in figure["data"] if trace.get("fill") == "toself")
    assert band["x"] == [1.0, 2.0, 4.0, 4.0, 2.0, 1.0]
    means = [group.summaries["elbo"].mean for group in make_comparison(betas=(1.0, 2.0, 4.0)).groups[:3]]
    assert band["y"] == pytest.approx([mean + 0.5 for mean in means] + [mean - 0.5 for mean in means[::-1]])


def test_groups_without_a_strength_stand_side_by_side():
    figure = plotly_figures.score_by_strength(make_comparison(betas=(1.0,))._replace(metrics=("distortion",)))
    assert figure["layout"]["xaxis"]["ticktext"] == ["beta beta=1", "autoencoder"]


def test_what_is_of_other_nats_or_far_out_leaves_room_for_the_rest():
    comparison = make_comparison(betas=(0.0, 1.0, 2.0, 4.0), autoencoder=False)
    distant = [
        run._replace(metrics=run.metrics | {"rate": 400.0}) if run.group == "beta beta=0" else run
        for run in comparison.runs
    ]
    runs = [
        run._replace(config=run.config | {"likelihood.name": "gaussian" if run.group == "beta beta=4" else "bernoulli"})
        for run in distant
    ]
    kinds = {group.name: run_kinds([run for run in runs if run.group == group.name]) for group in comparison.groups}
    groups = [group._replace(kinds=kinds[group.name]) for group in comparison.groups]
    comparison = comparison._replace(runs=runs, groups=groups, baseline="beta beta=1")
    figure = plotly_figures.rate_distortion(comparison)
    dots = [trace for trace in figure["data"] if trace["mode"] == "markers" and trace["hovertext"]]
    axes = {trace["name"]: trace.get("xaxis", "x") for trace in dots if trace["hovertext"]}
    assert axes == {"beta beta=0": "x2", "beta beta=1": "x", "beta beta=2": "x"}
    assert figure["layout"]["xaxis"]["range"][1] < 10
    assert "far out" in figure["layout"]["xaxis2"]["ticktext"][0]
    score = plotly_figures.score_by_strength(comparison)
    assert "4" not in score["layout"]["xaxis"]["ticktext"]
    assert not any(trace["name"] == "beta beta=4" for trace in score["data"])


def test_ticks_of_strengths_that_are_near_do_not_meet():
    figure = plotly_figures.score_by_strength(make_comparison(betas=(0.1, 0.185, 0.19, 1.0, 4.0, 16.0, 64.0, 128.0)))
    assert "0.185" in figure["layout"]["xaxis"]["ticktext"]
    assert "0.19" not in figure["layout"]["xaxis"]["ticktext"]


def looks_of_traces(figure):
    """The (colour, symbol) of each family in a plot of a page, from all that is drawn of it."""
    looks = {}
    for trace in figure["data"]:
        if family := trace.get("legendgroup"):
            looks.setdefault(family, set()).add((trace["marker"]["color"], trace["marker"]["symbol"]))
    return looks


@pytest.mark.parametrize("draw", ["score", "rate_distortion"])
def test_a_family_has_one_colour_and_one_symbol_in_page_and_picture(tmp_path, monkeypatch, draw):
    pages = {"score": plotly_figures.score_by_strength, "rate_distortion": plotly_figures.rate_distortion}
    comparison = make_comparison(betas=(1.0, 2.0, 4.0), metrics=("distortion", "elbo"))
    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, files: drawn.append(figure))
    getattr(figures, draw)(comparison, tmp_path)
    page = pages[draw](comparison)
    looks = looks_of_traces(page)
    assert looks == {
        "beta": {(palette.colour(0), palette.symbol(0))},
        "autoencoder": {(palette.colour(1), palette.symbol(1))},
    }
    lines = {trace["name"]: trace["line"]["color"] for trace in page["data"] if trace["mode"] == "lines"}
    assert lines["beta"] == palette.colour(0)
    (axes,) = drawn[0].axes
    (line,) = (line for line in axes.lines if line.get_label() == "beta")
    assert (line.get_color(), line.get_marker()) == (palette.colour(0), style.MARKERS[palette.symbol(0)])
    dots = {matplotlib.colors.to_hex(colour) for part in axes.collections for colour in part.get_facecolors()}
    assert dots <= {palette.colour(0), palette.colour(1)}
    (name,) = (text for text in axes.texts if text.get_text().startswith("autoencoder"))
    assert name.get_color() == palette.colour(1)


def test_strengths_stand_beside_their_means():
    figure = plotly_figures.rate_distortion(make_comparison(betas=(1.0, 4.0)))
    names = [note["text"] for note in figure["layout"]["annotations"] if "ELBO" not in note["text"]]
    assert [name for name in names if "beta" in name or name == "4"] == ["beta=1", "4"]


def test_zero_has_no_sign_in_plots():
    comparison = make_comparison(metrics=("elbo", "distortion"))
    runs = [run._replace(metrics=run.metrics | {"rate": -0.0}) for run in comparison.runs]
    comparison = comparison._replace(runs=runs, correlation=[[1.0, -0.001], [-0.001, math.nan]])
    assert plotly_figures.correlation(comparison)["data"][0]["text"] == [["1.00", "0.00"], ["0.00", ""]]
    texts = [
        text for trace in plotly_figures.rate_distortion(comparison)["data"] for text in trace.get("hovertext", ())
    ]
    assert all(text.endswith("rate 0") for text in texts)
    assert len(texts) == len(runs)
