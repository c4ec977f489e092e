"""The curves of a run: what is drawn of which records, in which panel."""

import json

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from vae_jax.config import defaults
from vae_jax.plots import curve_plots, palette, style

STEPS = (50, 200, 300, 500)
KL = np.array([[0.5, 0.2, 0.1], [0.4, 0.3, 0.01], [0.2, 0.8, 0.005], [0.1, 0.9, 0.001]])


def records(**more):
    """Those of a run of 500 steps with three latents, the third of which collapses."""
    rows = []
    for i, step in enumerate(STEPS):
        numbers = {"step": step, "elbo": -100.0 / (i + 1), "distortion": 60.0, "rate": float(KL[i].sum()), "loss": 1.0}
        rows += [numbers | {"split": "train", "kl": [9.0] * 3} | more]
        rows += [numbers | {"split": "validation", "kl": KL[i].tolist(), "elbo.standard_error": 0.5} | more]
    return [*rows, rows[-1] | {"split": "test", "elbo": -24.0}]


def drawn(rows, **train):
    figure, config = Figure(), defaults.get_config()
    config.train.update(train)
    assert curve_plots.training(figure, rows, config, style.Heading("Training", "beta-VAE"))
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_each_split_is_a_line_and_the_test_split_a_point():
    axes = drawn(records())["ELBO, nats"]
    (legend,) = axes.figure.legends
    lines = {line.get_label(): line for line in axes.lines}
    assert [line.get_color() for line in lines.values()] == [palette.colour(i) for i in range(3)]
    assert lines["train"].get_xdata().tolist() == list(STEPS)
    assert lines["train"].get_ydata() == pytest.approx([-100, -50, -100 / 3, -25])
    assert (lines["test"].get_xdata().tolist(), lines["test"].get_ydata().tolist()) == ([500], [-24])
    (band,) = axes.collections  # of validation alone, a standard error to either side
    at_end = band.get_paths()[0].vertices
    assert np.ptp(at_end[at_end[:, 0] == 500, 1]) == pytest.approx(1.0)
    # What the first steps do does not flatten the rest.
    low, high = axes.get_ylim()
    assert -55 < low < -50 < -24 < high
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation", "test"]


def test_the_kl_of_latents_is_a_heat_map_of_the_validation_split():
    (axes,) = (axes for title, axes in drawn(records()).items() if title.startswith("KL of each latent"))
    assert axes.get_title(loc="left").endswith("(validation): 2 of 3 hold 0.01 or more at the end")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "0", "2"]
    (picture,) = axes.images
    left, right, bottom, top = picture.get_extent()
    assert (left, right, bottom, top) == (0, 500, 2.5, -0.5)
    cells = np.asarray(picture.get_array())
    for step, kl in zip((120, 230, 320, 499), KL, strict=True):  # each column is of the nearest evaluation
        np.testing.assert_array_equal(cells[:, int(step / 500 * cells.shape[1])], kl[[1, 0, 2]])
    shades = picture.get_cmap()(np.linspace(0, 1, 50))[:, :3]
    assert np.all(np.diff(shades @ [0.2126, 0.7152, 0.0722]) > 0)


def test_without_a_validation_split_the_heat_map_is_of_training_and_says_so():
    rates = curve_plots.latent_rates([record for record in records() if record["split"] == "train"])
    assert (rates.split, rates.kl.shape, rates.steps.tolist()) == ("train", (4, 3), list(STEPS))


@pytest.mark.parametrize("kl", [None, [], 3.0, [None, 1.0, 2.0]])
def test_records_without_a_kl_of_each_latent_have_no_heat_map(kl):
    rows = [{name: value for name, value in row.items() if name != "kl"} for row in records()]
    assert curve_plots.latent_rates([row | {"kl": kl} for row in rows]) is None
    assert curve_plots.latent_rates(rows) is None
    titles = [f"{name}, nats" for name in ("ELBO", "distortion", "rate")]
    assert list(drawn(rows)) == [*titles, "learning rate (adam)"]


def test_the_loss_is_drawn_where_there_is_no_bound():
    rows = [{"step": 10, "split": "train", "distortion": 7.0, "loss": 7.0}]
    assert curve_plots.shown_measures(rows) == ["distortion"]
    assert curve_plots.shown_measures([rows[0] | {"loss": 8.0}]) == ["distortion", "loss"]
    assert curve_plots.shown_measures([rows[0] | {"loss": 8.0, "bound": -9.0}]) == ["bound", "distortion"]
    assert curve_plots.shown_measures([{"step": 10, "split": "train", "elbo": None}]) == []
    assert not curve_plots.training(Figure(), [], defaults.get_config(), style.Heading("Training"))


def test_the_learning_rate_is_that_of_the_config():
    (line,) = drawn(records(), warmup_steps=100, cosine=True, steps=500)["learning rate (adam)"].lines
    steps, rate = line.get_data()
    assert rate[[0, -1]] == pytest.approx([1e-3 / 101, 0], abs=1e-9)
    assert rate[steps <= 50].max() < rate[steps >= 80].max()
    (line,) = drawn(records())["learning rate (adam)"].lines
    assert set(line.get_ydata()) == {1e-3}


def test_a_run_of_one_record_and_a_number_that_never_moves_can_be_drawn():
    axes = drawn([{"step": 10, "split": "validation", "elbo": -3.0, "kl": [0.0, 0.0]}])
    low, high = axes["ELBO, nats"].get_ylim()
    assert low < -3 < high
    (heat,) = (axes[title] for title in axes if "0 of 2 hold" in title)
    shade = heat.images[0].to_rgba(heat.images[0].get_array())[0, 0, :3]
    assert np.all(shade < 0.4)  # all of them hold nothing, and all is dark


def test_names_of_panels_do_not_meet(tmp_path):
    figure = Figure()
    curve_plots.training(figure, records(), defaults.get_config(), style.Heading("Training", "beta-VAE " * 40))
    with matplotlib.rc_context(style.LITERAL_TEXT):
        figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [text.get_window_extent() for text in figure.texts]
    boxes.append(figure.legends[0].get_window_extent())
    met = [(i, j) for i, box in enumerate(boxes) for j in range(i) if box.overlaps(boxes[j])]
    assert not met
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_a_line_that_is_no_record_is_passed_over(tmp_path):
    from vae_jax.files import read_records

    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 1}) + "\nno record\n[1]\n" + json.dumps({"step": 2}) + "\n")
    assert [record["step"] for record in read_records(file)] == [1, 2]
    assert read_records(tmp_path / "none") == []
