"""The plot with which a report begins: every group against the baseline."""

from collections.abc import Mapping

from vae_jax.comparison.ranking import ranked_groups
from vae_jax.comparison.results import Comparison, Difference, Group
from vae_jax.metrics import unit
from vae_jax.plots import palette
from vae_jax.report import plotly_traces, sentences
from vae_jax.report.plotly_traces import GREY, Figure

MOST_GROUPS = 40
"""Groups in the forest plot, the best first."""

VERDICT_COLOURS = {"better": palette.colour(2), "higher": palette.colour(2), "worse": palette.colour(1)}
VERDICT_COLOURS |= {"lower": palette.colour(1)}

ROW_HEIGHT = 26
"""Of a group in the forest plot, in pixels."""


def forest(comparison: Comparison) -> Figure | None:
    """Every group's difference from the baseline in the score of choice, with its interval; the best on top."""
    score = comparison.metrics[0]
    differences = {difference.group: difference for difference in comparison.differences if difference.metric == score}
    groups = [group for group in ranked_groups(comparison) if _has_place(group, comparison, differences)]
    if len(groups) < 2:
        return None
    shown = groups[:MOST_GROUPS]
    if all(group.name != comparison.baseline for group in shown):
        shown = [*shown[:-1], *(group for group in groups if group.name == comparison.baseline)]
    rows = list(enumerate(reversed(shown)))
    traces = [_forest_row(row, group, differences.get(group.name)) for row, group in rows]
    title = ", ".join(filter(None, [f"difference in {score}", unit(score)]))
    labels = [f"{group.name} (baseline)" if group.name == comparison.baseline else group.name for _, group in rows]
    ticks = {"tickvals": [row for row, _ in rows], "ticktext": list(map(plotly_traces.escaped, labels))}
    y = plotly_traces.axis("", range=[-0.6, len(rows) - 0.4], **ticks)
    x = plotly_traces.axis(title) | {"zeroline": True, "zerolinecolor": GREY}
    return plotly_traces.figure(traces, x, y, names=0, height=110 + ROW_HEIGHT * len(shown))


def _has_place(group: Group, comparison: Comparison, differences: Mapping[str, Difference]) -> bool:
    difference = differences.get(group.name)
    return group.name == comparison.baseline or (difference is not None and difference.pairs > 0)


def _forest_row(row: int, group: Group, difference: Difference | None) -> Figure:
    """A dot and its interval: filled where the verdict is sure, hollow where it is not; the baseline is a line at 0."""
    mean = 0.0 if difference is None else difference.mean
    verdict = "" if difference is None else difference.verdict
    colour = VERDICT_COLOURS.get(verdict, GREY)
    if difference is None:
        hover = f"{group.name}: the baseline"
    else:
        hover = f"{sentences.verdict(difference)} {sentences.evidence(difference)}"
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [row],
        "marker": {
            "color": colour,
            "symbol": "circle" if verdict in VERDICT_COLOURS else "circle-open",
            "size": 9 if difference is not None else 1,
        },
        "hovertext": [plotly_traces.escaped(hover)],
        "hoverinfo": "text",
        "showlegend": False,
    }
    if difference is not None and plotly_traces.is_finite(difference.low) and plotly_traces.is_finite(difference.high):
        reach = {"array": [difference.high - mean], "arrayminus": [mean - difference.low], "symmetric": False}
        trace["error_x"] = {**reach, "color": colour, "thickness": 1.6, "width": 4}
    return trace


def most_of(groups: int, most: int) -> str:
    """What a caption says where not all groups are drawn."""
    return f" The best {most} of {groups:,} groups." if groups > most else ""
