"""The search whose runs are compared, and its pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.comparison.results import Comparison
from vae_jax.phrases import plural
from vae_jax.plots import search_plots
from vae_jax.plots.search_plots import SearchPlot, Slice
from vae_jax.sweeps.trial_records import SearchTrials, read_trials

FORMATS = ("png", "svg")


def read_search(comparison: Comparison) -> SearchTrials | None:
    """The trials of the search whose runs are compared; None where they are of none, or of several."""
    folders = sorted({Path(run.folder).parent for run in comparison.runs})
    searches = [trials for folder in folders if (trials := read_trials(folder))]
    if len(searches) != 1:
        return None
    names = {Path(run.folder).name: run.name for run in comparison.runs}  # other roots may stand before a name
    renamed: list[Mapping[str, Any]] = [
        {**trial, "runs": [names.get(run, run) for run in trial["runs"]]} for trial in searches[0].trials
    ]
    return searches[0]._replace(trials=renamed)


def draw_search(comparison: Comparison, out: Path) -> list[Path]:
    """Writes the pictures of the search whose runs are compared; their files, none where there is no search."""
    search = read_search(comparison)
    if search is None:
        return []
    files = [file for name in search.objectives for file in _draw_objective(search, name, comparison, out)]
    return [*files, *_draw_pareto(search, comparison, out)]


def _draw_objective(search: SearchTrials, name: str, comparison: Comparison, out: Path) -> list[Path]:
    shares = search.importances.get(name, {})
    slices = [
        Slice(field, search.params(field), search.is_log(field), search.is_choice(field), shares.get(field))
        for field in search.fields(name)
    ]
    values, best = search.values(name), search.best_so_far(name)
    plot = SearchPlot(name, search.numbers, values, best, search.objectives[name], slices)
    title = (
        f"{plural(len(values), 'trial')} of {comparison.folder}: {name} of {search.sources[name]}, "
        f"{'higher' if plot.maximize else 'lower'} is better\n"
        "line: the best so far; ring: the best; hollow: worse than the axis shows"
    )
    files = [out / f"search_{name.replace('/', '_')}.{kind}" for kind in FORMATS]
    search_plots.history_and_slices(files, plot, title)
    return files


def _draw_pareto(search: SearchTrials, comparison: Comparison, out: Path) -> list[Path]:
    """The first two objectives over one another, with the Pareto set in these two; nothing of one alone."""
    if len(search.objectives) < 2:
        return []
    names = list(search.objectives)[:2]
    points = np.array([search.values(name) for name in names]).T
    title = f"{plural(len(points), 'trial')} of {comparison.folder}; the line joins those that none beats in both"
    files = [out / f"search_pareto.{kind}" for kind in FORMATS]
    search_plots.pareto(files, names, points, np.array(search.pareto_front(names)), title)
    return files
