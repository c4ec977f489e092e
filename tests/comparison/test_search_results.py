"""Pictures and the page of a search: what is drawn where, and that dots and rows lead to runs."""

import json
import re

import numpy as np
import pytest
from helpers.made_up_comparison import make_comparison, write_report

from vae_jax.comparison import search_results
from vae_jax.plots import search_plots
from vae_jax.report import search_section
from vae_jax.sweeps.trial_records import read_trials

ELBOS = [-30.0, -26.0, -27.0, -25.0, -400.0]


@pytest.fixture
def searched(tmp_path):
    """A comparison of five runs of a search, whose last trial is far worse than the others."""
    comparison = make_comparison(betas=(0.5, 1.0, 2.0, 4.0, 8.0), seeds=1, autoencoder=False, folder=str(tmp_path))
    trials = [
        {
            "number": i + (i > 1),  # the third has failed
            "state": "COMPLETE",
            "values": {"elbo": elbo, "rate": float(i % 3)},
            "standard_errors": {},
            "params": {"variant.beta": beta, "net.hidden": [8, 8] if i % 2 else [16]},
            "intermediate": {},
            "runs": [comparison.groups[i].runs[0]],
        }
        for i, (elbo, beta) in enumerate(zip(ELBOS, (0.5, 1.0, 2.0, 4.0, 8.0), strict=True))
    ]
    record = {
        "objectives": {"elbo": "maximize", "rate": "minimize"},
        "sources": {"elbo": "the validation split", "rate": "the validation split"},
        "space": {"net.hidden": "choice((16,), (8, 8))", "variant.beta": "log_uniform(0.1, 10)"},
        "importances": {"elbo": {"variant.beta": 0.75, "net.hidden": 0.25}},
        "trials": [*trials[:2], {**trials[0], "number": 2, "state": "FAIL", "values": {}}, *trials[2:]],
    }
    (tmp_path / "trials.json").write_text(json.dumps(record))
    return comparison


def test_the_records_of_a_search_are_read_in_order(searched, tmp_path):
    trials = read_trials(tmp_path)
    assert trials.values("elbo") == ELBOS  # without the one that failed
    assert trials.best_so_far("elbo") == [-30, -26, -26, -25, -25]
    assert trials.best_so_far("rate") == [0, 0, 0, 0, 0]
    assert trials.fields("elbo") == ["variant.beta", "net.hidden"]  # the most important first
    assert trials.params("net.hidden") == ["(16,)", "(8, 8)", "(16,)", "(8, 8)", "(16,)"]
    assert trials.pareto_front() == [False, False, False, True, False]
    assert trials.ranked()[0]["number"] == 4
    for damaged in ("{", "[]", '{"trials": 3}', '{"objectives": {}, "space": {}, "importances": {}, "trials": []}'):
        (tmp_path / "trials.json").write_text(damaged)
        assert read_trials(tmp_path) is None
    assert search_section.section(searched) is None


def test_pictures_of_a_search_show_every_trial(searched, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(search_plots.style, "save", lambda figure, files: figures.update({files[0].name: figure}))
    files = search_results.draw_search(searched, tmp_path)
    assert [file.name for file in files if file.suffix == ".png"] == [
        "search_elbo.png",
        "search_rate.png",
        "search_pareto.png",
    ]
    history, beta, hidden = figures["search_elbo.png"].axes
    assert beta.get_xlabel() == "variant.beta  (75% of the variance)"
    assert beta.get_xscale() == "log"
    assert [label.get_text() for label in hidden.get_xticklabels()] == ["(16,)", "(8, 8)"]
    shown, clipped = (np.asarray(dots.get_offsets()) for dots in history.collections)
    assert shown.tolist() == [[0, -30], [1, -26], [3, -27], [4, -25]]
    assert clipped.tolist() == [[5, -30]]  # at the end of the axis, which it would have stretched
    line = history.lines[0]
    assert list(line.get_ydata()) == [-30, -26, -26, -25, -25]
    (ring,) = beta.lines
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([4.0], [-25.0])
    assert beta.get_ylim() == history.get_ylim()
    (front,) = figures["search_pareto.png"].axes[0].lines
    assert front.get_xydata().tolist() == [[-25.0, 0.0]]


def test_dots_and_rows_of_the_report_lead_to_runs(searched, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed; the extra 'compare' brings it")
    page = write_report(tmp_path, searched).read_text()
    drawn = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page)[1])
    names = [group.runs[0] for group in searched.groups]
    assert drawn["search_history_0"]["data"][1]["customdata"] == names
    assert drawn["search_history_0"]["data"][1]["x"] == [0, 1, 3, 4, 5]
    assert drawn["search_slices_0"]["data"][0]["x"] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert drawn["search_slices_0"]["layout"]["xaxis"]["type"] == "log"
    for name in names:
        assert f'<a href="#run-{name}">' in page
        assert f'<tr id="run-{name}"' in page
    assert page.index(">Search</h2>") < page.index(">Verdicts</h2>")
    for name in drawn:
        assert f'id="{name}"' in page
    assert "What elbo varies with, by fANOVA over the trials: variant.beta 75%, net.hidden 25%." in page
