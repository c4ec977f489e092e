"""The records of a run as a table, and its pictures in a notebook."""

import numpy as np
import pytest
from helpers import small_fit
from helpers.small_fit import blobs
from matplotlib.figure import Figure

from vae_jax.api.history import History
from vae_jax.api.run_plots import RunPlots
from vae_jax.config import defaults
from vae_jax.errors import UserError

RECORDS = History(
    [
        {"step": 10, "split": "train", "loss": 3.0, "elbo": -2.5, "kl": [1.0, 2.0]},
        {"step": 10, "split": "validation", "loss": 4.0, "elbo": -3.5},
        {"step": 20, "split": "train", "loss": 2.0, "elbo": None},
        {"step": 20, "split": "test", "loss": 5.0},
    ]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of grey images."""
    return small_fit.fit(blobs(), tmp_path_factory.mktemp("fit") / "run")


def test_columns_and_splits():
    assert RECORDS.splits == ("train", "validation", "test")
    np.testing.assert_array_equal(RECORDS.column("loss", "train"), [3, 2])
    np.testing.assert_array_equal(RECORDS.column("elbo"), [-2.5, -3.5, np.nan, np.nan])
    np.testing.assert_array_equal(RECORDS.column("kl", "train"), [np.nan, np.nan])


def test_a_table_in_a_terminal_and_in_a_notebook():
    assert repr(RECORDS).splitlines() == [
        "step       split  loss   elbo",
        "  10       train  3.00  -2.50",
        "  10  validation  4.00  -3.50",
        "  20       train  2.00       ",
        "  20        test  5.00       ",
    ]
    assert "<td>validation</td><td>4.00</td>" in RECORDS._repr_html_()
    assert repr(History([])) == "no records"


def test_a_long_table_is_cut_in_the_middle():
    lines = repr(History({"step": i, "loss": float(i)} for i in range(100))).splitlines()
    assert (len(lines), lines[1].split(), lines[6].split(), lines[-1].split()) == (
        12,
        ["0", "0.00"],
        ["...", "..."],
        ["99", "99.00"],
    )


def test_the_history_of_a_run_has_every_record(run):
    assert [record["step"] for record in run.history.select("train")] == [10, 20]
    assert len(run.history.splits) > 1


@pytest.mark.parametrize("draw", ["samples", "reconstructions", "traversals", "curves"])
def test_pictures_show_themselves(run, draw):
    figure = getattr(run.plot, draw)()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    caption = figure.texts[1].get_text()
    assert caption.startswith("beta-VAE, beta=1 \N{MIDDLE DOT} ")
    assert " seed 0 \N{MIDDLE DOT} test ELBO -" in caption


def test_curves_draw_every_split_that_has_records(tmp_path):
    class Run:
        history, config, folder = RECORDS, defaults.get_config().to_dict(), tmp_path
        step, checkpoint = 3, "latest"

    figure = RunPlots(Run()).curves("loss")
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"train": [3, 2], "validation": [4], "test": [5]}
    with pytest.raises(UserError, match=r"^names: 'rate' is in no record; known: elbo, kl, loss"):
        RunPlots(Run()).curves("rate")


def test_curves_without_names_are_those_of_the_folder(run):
    titles = [axes.get_title(loc="left") for axes in run.plot.curves().axes]
    assert titles[:3] == [f"{name}, nats" for name in ("ELBO", "distortion", "rate")]
    assert titles[3].startswith("learning rate")
    assert titles[4].startswith("KL of each latent")
    assert (run.folder / "pictures" / "curves.png").exists()

    class Run:
        history, config, folder = History(), run.config, run.folder
        step, checkpoint = 3, "latest"

    with pytest.raises(UserError, match="has no records yet"):
        RunPlots(Run()).curves()


def test_a_traversal_moves_one_latent_and_leaves_the_others(run):
    image = blobs()[0, ..., None]
    axes = run.plot.traversals(image, limit=2.0).axes[0]
    drawn = axes.images[0].get_array()
    for row, name in enumerate(axes.get_yticklabels()):
        code = run.encode(image[None])
        code[0, int(name.get_text().split()[1].rstrip(":"))] = 2.0
        top = row * 7  # of a tile, with the pixel between two
        np.testing.assert_allclose(drawn[top : top + 6, -6:, 0], run.decode(code)[0, ..., 0], atol=1e-6)
    assert len(axes.get_yticklabels()) == run.latent_dim
