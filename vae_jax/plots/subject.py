"""What pictures are of: a run, how its images are shown, and the line that says which run it is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vae_jax.inference import TrainedModel
from vae_jax.plots.captions import picture_caption
from vae_jax.plots.display import Display, choose_display
from vae_jax.plots.style import Heading


class Subject(NamedTuple):
    """A run as its pictures show it.

    Attributes:
        run: the model.
        caption: which run it is, in one line.
        show: how its images are shown.
        split: what the images are that it was not trained on: "test", "validation".
        noun: what it is trained on: images, or the rows of a table.
    """

    run: TrainedModel
    caption: str
    show: Display = Display()
    split: str = "test"
    noun: str = "images"

    @classmethod
    def describe(
        cls,
        run: TrainedModel,
        numbers: Mapping[str, Any],
        images: np.ndarray,
        split: str = "test",
        noun: str = "images",
    ) -> "Subject":
        """Of a run, its numbers on a split and images of it."""
        caption = picture_caption(run.config, run.step, run.checkpoint, numbers, split)
        return cls(run, caption, choose_display(run.config, images), split, noun)

    def heading(self, title: str) -> Heading:
        """What stands above a picture of this title."""
        return Heading(title, self.caption)
