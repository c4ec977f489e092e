"""Codes and posteriors in the plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from vae_jax.plots import palette, style
from vae_jax.plots.captions import Real

MAX_TICKS = 20
"""Labels up to which each has a line in the legend; of more as many have a tick at a colour bar, evenly spaced."""


SIDE, LEFT, BOTTOM, GAP, BAR = 4.6, 0.75, 0.6, 0.15, 0.18
"""Inches: of a side of the plane, of the margins for its names, between it and a key, and of a colour bar's width."""


class Plane(NamedTuple):
    """Codes as points (n, 2), what x and y are, and the place of the code 0."""

    points: np.ndarray
    axis_names: tuple[str, str]
    origin: tuple[float, float] = (0.0, 0.0)


def main_plane(codes: np.ndarray) -> Plane:
    """Codes (n, latent) in the plane: two latents as they are, more along their two principal axes.

    The axes say which share of the codes' variance they hold.
    """
    if codes.shape[1] == 2:
        return Plane(codes, ("latent 0", "latent 1"))
    mean = codes.mean(0)
    _, spreads, axes = np.linalg.svd(codes - mean, full_matrices=False)
    shares = np.pad(np.square(spreads) / max(float(np.square(spreads).sum()), 1e-30), (0, 2))
    width = ((0, 0), (0, max(0, 2 - len(axes))))
    places = [np.pad(points @ axes[:2].T, width) for points in (codes - mean, -mean[None])]
    names = [f"{word} principal axis: {shares[i]:.0%} of the variance" for i, word in enumerate(("first", "second"))]
    return Plane(places[0], (names[0], names[1]), (float(places[1][0, 0]), float(places[1][0, 1])))


def scatter_codes(file: Path, plane: Plane, labels: np.ndarray | None, heading: style.Heading) -> None:
    """Codes as points, coloured by label where there are labels, to the scale of N(0, I).

    Args:
        file: the picture, a PNG.
        plane: where the points are.
        labels: one for each, or None.
        heading: above it.
    """
    key = 0.0 if labels is None else 1.0
    width = LEFT + SIDE + GAP + key + 0.3
    figure = Figure(figsize=(width, BOTTOM + SIDE + 0.28 + style.heading_inches(*heading, width - 0.2)))
    style.head(figure, *heading)
    axes = style.place_axes(figure, LEFT, BOTTOM, SIDE, SIDE)
    if labels is None:
        draw_points(axes, plane.points, [palette.COLOURS[0]] * len(plane.points))
    else:
        ranks, names = label_ranks(labels)
        colours = palette.label_colours(len(names))
        draw_points(axes, plane.points, [colours[rank] for rank in ranks])
        add_key(figure, axes, colours, names)
    frame_plane(axes, plane)
    axes.set_xlabel(plane.axis_names[0], fontsize=style.NAME_SIZE, color=style.INK)
    axes.set_ylabel(plane.axis_names[1], fontsize=style.NAME_SIZE, color=style.INK)
    axes.set_title("dashed: N(0, I), 2 sd", fontsize=style.CAPTION_SIZE, loc="right", color=style.QUIET, pad=4)
    style.write_png(figure, file)


def draw_points(axes: Axes, points: np.ndarray, colours: Sequence[str]) -> None:
    """Points (n, 2), each of its colour, the smaller the more there are; in no order, so that no label hides others."""
    size = float(np.clip(8000 / len(points), 3, 24))
    order = np.random.default_rng(0).permutation(len(points))
    shades = to_rgba_array(colours)[order]
    axes.scatter(points[order, 0], points[order, 1], s=size, linewidths=0, alpha=0.75, color=shades)


def frame_plane(axes: Axes, plane: Plane) -> None:
    """The prior's circle, and limits of one scale that hold it and all points."""
    axes.add_patch(prior_circle(plane.origin))
    origin = np.array(plane.origin)
    corners = np.stack([origin - 2, origin + 2])
    low, high = (edge(np.concatenate([plane.points, corners]), axis=0) for edge in (np.min, np.max))
    reach = 1.04 * (high - low).max() / 2
    x, y = (low + high) / 2
    axes.set_xlim(x - reach, x + reach)
    axes.set_ylim(y - reach, y + reach)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.set_aspect("equal")


def add_key(figure: Figure, axes: Axes, colours: Sequence[str], names: Sequence[str], title: str = "label") -> None:
    """A legend of the labels beside the axes; of more than fit a bar of their colours."""
    if len(names) <= MAX_TICKS:
        dots: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5}
        handles = [Line2D([], [], color=shade, label=name, **dots) for shade, name in zip(colours, names, strict=True)]
        look: dict[str, Any] = {"fontsize": style.NAME_SIZE, "title_fontsize": style.NAME_SIZE, "frameon": False}
        axes.legend(handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), **look)
        return
    box, inches = axes.get_position(), figure.get_size_inches()
    bar = figure.add_axes((box.x1 + GAP / inches[0], box.y0, BAR / inches[0], box.height))
    scale = ScalarMappable(Normalize(-0.5, len(names) - 0.5), ListedColormap(colours))
    ticks = np.unique(np.linspace(0, len(names) - 1, MAX_TICKS).round().astype(int))
    figure.colorbar(scale, cax=bar, label=title).set_ticks(ticks.tolist(), labels=[names[tick] for tick in ticks])
    bar.tick_params(labelsize=style.NAME_SIZE)


def prior_circle(origin: Sequence[Real], label: str = "") -> Circle:
    """Two standard deviations of N(0, I) about the place of the code 0."""
    look: dict[str, Any] = {"edgecolor": style.INK, "linestyle": "--", "linewidth": 0.9, "zorder": 5}
    return Circle((float(origin[0]), float(origin[1])), 2, fill=False, label=label, **look)


def label_ranks(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(each label's rank among those that occur, what these are called)."""
    names, ranks = np.unique(labels, return_inverse=True)
    return ranks, [str(name) for name in names]


def posterior_ellipses(
    file: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], labels: np.ndarray, heading: style.Heading
) -> None:
    """Gaussians in the plane, means and sigmas (n, 2), as ellipses coloured by label; the prior's 2 sd dashed."""
    figure, grid = style.panel_axes(len(panels), heading.title, height=2.3, width=2.1, caption=heading.caption)
    ranks, names = label_ranks(labels)
    palette_colours = palette.label_colours(len(names))
    colours = to_rgba_array([palette_colours[rank] for rank in ranks])
    for axes, (name, (means, sigmas)) in zip(grid, panels.items(), strict=True):
        ellipses = EllipseCollection(
            2 * sigmas[:, 0],
            2 * sigmas[:, 1],
            np.zeros(len(means)),
            units="xy",
            offsets=means,
            transOffset=axes.transData,
            facecolors=colours,
            edgecolors=colours,
            alpha=0.22,
            linewidths=0.4,
        )
        axes.add_collection(ellipses)
        axes.scatter(means[:, 0], means[:, 1], s=3, color=colours, linewidths=0)
        axes.add_patch(prior_circle((0, 0)))
        reach = max(2.4, 1.05 * float(np.abs(np.concatenate([means - sigmas, means + sigmas])).max()))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)
    add_key(figure, grid[-1], palette_colours, names)
    style.save(figure, [file])
