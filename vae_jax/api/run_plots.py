"""The pictures of a run in a notebook. Each is a matplotlib Figure, which shows itself as the value of a cell."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.phrases import plural
from vae_jax.plots.captions import format_fixed, picture_caption

if TYPE_CHECKING:
    from vae_jax.plots.run_figures import InlineFigure
    from vae_jax.plots.style import Heading

MOST_ROWS = 4
"""Rows of a table that are shown one by one."""

MAX_CODES = 1000
"""Held-out images that are encoded to find a typical one."""


class RunPlots:
    """The pictures of a run, drawn when you ask for them; the files in its folder are drawn once, at its end."""

    def __init__(self, run: Any):  # a TrainedRun, which makes this
        self.run = run

    def samples(
        self, rows: int = 4, columns: int = 12, key: Any = 0, labels: ArrayLike | None = None
    ) -> "InlineFigure":
        """Decoded draws from the prior.

        Args:
            rows: rows of the grid.
            columns: columns of the grid.
            key: a seed or a JAX key; another one gives other draws.
            labels: the class of each column, (columns,), if the prior depends on a label.

        Raises:
            UserError: as `sample` does. For a run on numbers of any size also if its data, which say what is black and
                white, are not there.
        """
        from vae_jax.plots import run_figures, table_plots

        classes = None if labels is None else np.tile(np.asarray(labels), rows)
        images = self.run.sample(key, rows * columns, classes)
        heading = self._heading("Decoded draws from the prior")
        if self._column_names:
            figure, (held_out, _) = run_figures.InlineFigure(), self._held_out(MAX_CODES)
            samples = (_flatten_rows(images), _flatten_rows(held_out))
            table_plots.sample_lines(figure, *samples, self._column_names, heading)
            return figure
        images = self._show(images).reshape(rows, columns, *self.run.image_shape[:2], -1)
        names = [] if labels is None else [str(label) for label in np.asarray(labels)]
        return run_figures.mosaic(images, heading, columns=names)

    def reconstructions(self, images: ArrayLike | None = None, labels: ArrayLike | None = None) -> "InlineFigure":
        """Images above their reconstructions; by default a dozen held-out images.

        Args:
            images: as `encode` takes them.
            labels: their classes, for variants that were trained with labels.

        Raises:
            UserError: as `encode` does; without `images` also if the run's data are not there.
        """
        from vae_jax.plots import run_figures, table_plots

        if images is None:
            images, labels = self._held_out(12)
        made, given = self.run.reconstruct(images, labels), np.asarray(images)
        heading = self._heading("Images and their reconstructions")
        if self._column_names:
            figure, few = run_figures.InlineFigure(), slice(0, MOST_ROWS)
            given, made = _flatten_rows(given), _flatten_rows(made)
            rows_and_errors = (given[few], made[few], made - given)
            table_plots.reconstruction_lines(figure, *rows_and_errors, self._column_names, heading)
            return figure
        rows = ("image", "reconstruction")
        return run_figures.mosaic(np.stack([self._show(given), self._show(made)]), heading, rows)

    def traversals(
        self, image: ArrayLike | None = None, label: int | None = None, latents: int = 10, limit: float = 3.0
    ) -> "InlineFigure":
        """An image decoded with one latent moved at a time, the latents with most nats first.

        Args:
            image: (height, width, channels); by default a typical held-out image.
            label: its class, for variants that were trained with labels.
            latents: how many are shown, at most.
            limit: latents move from -limit to limit; in standard deviations if the variant has no rate.

        Raises:
            UserError: as `encode` does. Without `image`, or for a run on numbers of any size, also if its data are not
                there.
        """
        from vae_jax.plots import run_figures, table_plots

        codes = self._codes(image, label)
        code = codes[np.square(codes - codes.mean(0)).sum(1).argmin()]
        steps, kl = np.linspace(-limit, limit, 11), self._nats_of_latents()
        spread = codes[:, : self.run.latent_dim].std(0) if kl is None and len(codes) > 1 else None
        weight = kl if spread is None else spread
        order = range(self.run.latent_dim) if weight is None else np.argsort(-weight)
        rows, images = [], []
        for latent in list(order)[:latents]:
            moved = np.repeat(code[None], len(steps), axis=0)
            moved[:, latent] = steps if spread is None else codes[:, latent].mean() + spread[latent] * steps
            images.append(self.run.decode(moved))
            rows.append(f"latent {latent}" + ("" if kl is None else f": {format_fixed(kl[latent], 2)} nats"))
        columns = [format_fixed(step, 1, sign=True) for step in steps]
        by = ", most KL first" if kl is not None else ", most variance first" if spread is not None else ""
        shown = f"{len(rows)} of {plural(self.run.latent_dim, 'latent')}{by}"
        heading = self._heading(f"One latent moved at a time: {shown}")
        if self._column_names:
            figure, lines = run_figures.InlineFigure(), [_flatten_rows(moved) for moved in images]
            moves, ends = dict(zip(rows, lines, strict=True)), (columns[0], columns[-1])
            table_plots.moving_lines(figure, moves, ends, self._column_names, heading)
            return figure
        return run_figures.mosaic(self._show(np.stack(images)), heading, rows, columns)

    def curves(self, *names: str) -> "InlineFigure":
        """Numbers over the steps of training, a line for each split.

        Without names it is the picture curves.png of the run's folder: the bound and its parts, the KL of each latent
        as a row of a heat map, and the learning rate.

        Args:
            names: names in the records ("elbo", "rate").

        Raises:
            UserError: for a name that no record has.
        """
        from vae_jax.plots import curve_plots, run_figures

        history = self.run.history
        if not names:
            figure, heading = run_figures.InlineFigure(), self._heading("Training")
            if not curve_plots.training(figure, history, self.run.config, heading):
                raise UserError(f"{self.run.folder}: has no records yet; let the run train")
            return figure
        missing = [name for name in names if not any(name in record for record in history)]
        if missing:
            known = sorted({name for record in history for name in record} - {"step", "split"})
            raise UserError(f"names: {missing[0]!r} is in no record; known: {', '.join(known) or 'nothing'}")
        panels = {
            name: {s: curve for s in history.splits if len((curve := _curve(history, name, s))[0])} for name in names
        }
        return run_figures.curves(panels, self._heading("Training"))

    def _heading(self, title: str) -> "Heading":
        """The title of a picture, and the line that says which run it is of, as those in its folder have it."""
        from vae_jax.plots.style import Heading

        return Heading(title, picture_caption(self.run.config, self.run.step, self.run.checkpoint, self._evaluation))

    @property
    def _evaluation(self) -> dict[str, Any]:
        """What is known of its checkpoint; nothing of one that has not ended."""
        name = "evaluation_best.json" if self.run.checkpoint == "best" else "evaluation.json"
        known = read_json(self.run.folder / name)
        return known if known.get("step") == self.run.step else {}

    @property
    def _column_names(self) -> tuple[str, ...]:
        """The names of a table's columns; none of pictures."""
        if self.run.config["data"]["binarize"] != "real":  # no data are needed to know
            return ()
        columns = self.run.dataset.columns
        return () if columns is None else columns.names

    def _show(self, images: np.ndarray) -> np.ndarray:
        """The images, of uint8 or of the model's numbers, as a figure shows them."""
        from vae_jax.plots.display import choose_display

        is_real = self.run.config["data"]["binarize"] == "real"
        return choose_display(self.run.config, self._held_out(MAX_CODES)[0] if is_real else images)(images)

    def _held_out(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(images, labels) that were not trained on, some of the validation split where there is one."""
        dataset = self.run.dataset
        split = dataset.test if dataset.validation is None else dataset.validation
        indices = data.sample_indices(split, count)
        labels = None if split.labels is None else np.asarray(split.labels)[indices]
        return np.asarray(split.fetch(indices)), labels

    def _codes(self, image: ArrayLike | None, label: int | None) -> np.ndarray:
        """The code of an image, or those of held-out ones; (n, code)."""
        if image is not None:
            return self.run.encode(np.asarray(image)[None], None if label is None else [label])
        return self.run.encode(*self._held_out(MAX_CODES))

    def _nats_of_latents(self) -> np.ndarray | None:
        """The rate of each latent as its evaluation has it; None where it has none, or has not ended."""
        kl = self._evaluation.get("kl")
        fits = isinstance(kl, list) and len(kl) == self.run.latent_dim and all(isinstance(x, (int, float)) for x in kl)
        return np.array(kl) if fits else None


def _flatten_rows(images: np.ndarray) -> np.ndarray:
    """Rows of a table as (n, columns)."""
    return images[:, 0, :, 0]


def _curve(history: Any, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which records of a split have a number, and the numbers."""
    steps, values = history.column("step", split), history.column(name, split)
    there = np.isfinite(values)
    return steps[there], values[there]
