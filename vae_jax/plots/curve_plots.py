"""How a run came to where it is: its bound and the bound's parts over steps, the KL of each latent, the learning rate.

All of it is in metrics.jsonl: a variant whose rate falls apart into latents has their KL, "kl", in every record.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vae_jax.models.learning_rates import make_schedule
from vae_jax.plots import palette, style
from vae_jax.plots.captions import format_short
from vae_jax.typing import Config

Records = Sequence[Mapping[str, Any]]

MEASURES = {"elbo": "ELBO", "bound": "bound", "distortion": "distortion", "rate": "rate", "loss": "loss"}
"""What is drawn over steps, and what it is called; the loss where there is no bound."""

BOUNDS = ("elbo", "bound")
"""Of which either stands for the loss."""

KEY: dict[str, Any] = {"fontsize": style.NAME_SIZE, "loc": "upper right", "borderaxespad": 0.3}
"""The look of a legend."""

SPLITS = ("train", "validation", "test")
"""In the order of their colours: a split has the same in every panel, whichever others there are."""

WIDE, HIGH, LEFT, BELOW, GAP = 2.7, 2.1, 0.65, 0.5, 0.3
"""Inches: of a panel, of the room for its names, and of that for its title above."""

SETTLED = 0.2
"""The share of the steps after which numbers set the limits of an axis: those of the first steps would flatten all."""

COLLAPSED = 0.01
"""Nats below which a latent holds nothing worth the name."""

MAX_ROWS, CELLS = 32, 200
"""Latents of which each has its name, and columns of the heat map."""

MAX_DOTS = 20
"""Points of a line up to which each is drawn."""


def training(figure: Figure, records: Records, config: Config, heading: style.Heading) -> bool:
    """Draws the curves of a run into an empty figure; whether there is anything to draw.

    Args:
        figure: an empty one, which gets its size.
        records: of metrics.jsonl; nats per image.
        config: the run's.
        heading: above all.
    """
    names = shown_measures(records)
    if not names:
        return False
    rates = latent_rates(records)
    columns = max(len(names), 2) if rates is not None else len(names) + 1
    rows = 1 if rates is None else 2
    width = columns * (LEFT + WIDE) + 0.35
    top = rows * (GAP + HIGH + BELOW)
    figure.set_size_inches(width, top + style.heading_inches(*heading, width - 2 * style.MARGIN))
    style.head(figure, *heading)
    places = [(LEFT + column * (LEFT + WIDE), top - GAP - HIGH) for column in range(columns)]
    last = max(record["step"] for record in records)
    for name, place in zip(names, places, strict=False):
        draw_measure(_panel(figure, place, last), records, name)
    # Beside the title, where it is over no line.
    figure.legend(*figure.axes[0].get_legend_handles_labels(), ncols=3, frameon=False, **KEY)
    if rates is None:
        draw_learning_rate(_panel(figure, places[len(names)], last), config, last)
        return True
    draw_learning_rate(_panel(figure, (places[-1][0], BELOW), last), config, last)
    wide = (columns - 1) * (LEFT + WIDE) - LEFT - 0.55  # beside it a bar of its colours
    draw_latent_rates(figure, style.place_axes(figure, LEFT, BELOW, wide, HIGH), rates)
    return True


def _panel(figure: Figure, place: tuple[float, float], last: int) -> Axes:
    axes = style.place_axes(figure, *place, WIDE, HIGH)
    axes.set_xlim(0, 1.02 * last)  # a dot at the last step is whole
    _name_steps(axes)
    return axes


def _name_steps(axes: Axes) -> None:
    """Steps along x: 2,000 and 20k."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")
    )
    axes.set_xlabel("step", fontsize=style.NAME_SIZE, color=style.INK)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=style.PANEL_SIZE, loc="left", color=style.INK)


def shown_measures(records: Records) -> list[str]:
    """What records have numbers of: the bound and its parts, or the loss where there is no bound."""
    present = [name for name in MEASURES if any(_is_number(record.get(name)) for record in records)]
    has_more = any(record.get("loss") != record.get("distortion") for record in records)
    drops_loss = set(BOUNDS) & set(present) or ("distortion" in present and not has_more)
    return [name for name in present if name != "loss" or not drops_loss]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def draw_measure(axes: Axes, records: Records, name: str) -> None:
    """A number over steps: a line for each split, with standard errors of validation; of the test split a point."""
    settled = []
    for number, split in enumerate(SPLITS):
        own = [record for record in records if record.get("split") == split and _is_number(record.get(name))]
        if not own:
            continue
        steps, values = (np.array([record[key] for record in own], float) for key in ("step", name))
        look: dict[str, Any] = {"color": palette.colour(number), "label": split, "zorder": 3 + number}
        dots = style.marker(0) if len(own) <= MAX_DOTS else ""
        if split == "test":
            axes.plot(steps[-1:], values[-1:], linestyle="", marker="D", markersize=5, clip_on=False, **look)
        else:
            axes.plot(steps, values, linewidth=1.4, marker=dots, markersize=3, **look)
        errors = np.array([record.get(f"{name}.standard_error", 0.0) for record in own], float)
        edges = np.stack([values - errors, values + errors]) if split == "validation" else values[None]
        if len(edges) == 2 and errors.any():
            axes.fill_between(steps, *edges, alpha=0.2, linewidth=0, color=look["color"])
        shown = steps >= SETTLED * max(record["step"] for record in records)
        settled.append(edges[:, shown if shown.any() else slice(None)].ravel())
    low, high = (edge(np.concatenate(settled)) for edge in (np.min, np.max))
    margin = 0.06 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _title(axes, f"{MEASURES[name]}, nats")


class LatentRates(NamedTuple):
    """The KL of each latent at each evaluation of a split, nats.

    Attributes:
        steps: of the evaluations.
        kl: (evaluation, latent).
        split: "validation", or "train" of a run that has no such split.
    """

    steps: np.ndarray
    kl: np.ndarray
    split: str


def latent_rates(records: Records) -> LatentRates | None:
    """The KL of each latent over steps, as the validation split has it; None where no record says it."""
    for split in ("validation", "train"):
        own = [record for record in records if record.get("split") == split and _is_vector(record.get("kl"))]
        own = [record for record in own if len(record["kl"]) == len(own[-1]["kl"])]
        if own:
            steps, kl = (np.array([record[key] for record in own], float) for key in ("step", "kl"))
            return LatentRates(steps, kl, split)
    return None


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def draw_latent_rates(figure: Figure, axes: Axes, rates: LatentRates) -> None:
    """A row for each latent, the one with most KL at the end on top: a dark row is a latent that holds nothing."""
    order = np.argsort(-rates.kl[-1], kind="stable")
    count, last = len(order), rates.steps[-1]
    # Columns of one width, each of the evaluation that is nearest: evaluations need not be evenly spaced.
    columns = (np.arange(CELLS) + 0.5) / CELLS * last
    nearest = np.abs(columns[:, None] - rates.steps[None]).argmin(axis=1)
    most = max(float(rates.kl.max()), 10 * COLLAPSED)  # where all have collapsed, all is dark
    picture = axes.imshow(
        rates.kl[nearest][:, order].T,
        cmap="viridis",
        norm=PowerNorm(0.5, 0, most),
        aspect="auto",
        interpolation="nearest",
        extent=(0, float(last), count - 0.5, -0.5),
    )
    rows = range(0, count, -(-count // MAX_ROWS))
    size = min(style.NAME_SIZE, 72 * HIGH / len(rows) / 1.15)
    axes.set_yticks(rows, [str(order[row]) for row in rows], fontsize=size)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("latent, by its KL at the end", fontsize=style.NAME_SIZE, color=style.INK)
    _name_steps(axes)
    active = int((rates.kl[-1] >= COLLAPSED).sum())
    _title(axes, f"KL of each latent, nats ({rates.split}): {active} of {count} hold {COLLAPSED} or more at the end")
    box, inches = axes.get_position(), figure.get_size_inches()
    bar = figure.add_axes((box.x1 + 0.1 / inches[0], box.y0, 0.12 / inches[0], box.height))
    figure.colorbar(picture, cax=bar, ticks=[0, most / 16, most / 4, most * 9 / 16, most])
    bar.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value, 2)))
    bar.tick_params(labelsize=style.NAME_SIZE - 1, color=style.FAINT, labelcolor=style.INK)
    bar.spines[:].set_visible(False)


def draw_learning_rate(axes: Axes, config: Config, last: int) -> None:
    """The learning rate over the steps so far, as the config has it."""
    train = dict(config["train"].items())
    steps, rate = np.linspace(0, last, 300), train["learning_rate"]
    values = np.full(len(steps), rate, float)
    if train.get("schedule") or train.get("cosine") or train.get("warmup_steps"):
        values = rate * np.asarray(make_schedule(**train)(jnp.asarray(steps)), float)
    axes.plot(steps, values, color=style.INK, linewidth=1.4)
    axes.set_ylim(0, 1.08 * values.max())
    most = float(values.max())
    axes.set_yticks([0, most / 2, most], [format_short(value, 3) for value in (0, most / 2, most)])
    _title(axes, f"learning rate ({train.get('optimizer', 'adam')})")
