"""Images of any numbers and channels as a picture can show them: grey or RGB, in [0, 1]."""

import dataclasses

import numpy as np
from jaxtyping import Num

from vae_jax.typing import Config

SHARES = (1, 99)
"""Percent of the numbers of any size that are below what is shown black, and white."""


@dataclasses.dataclass(frozen=True)
class Display:
    """(x - black) / (white - black), in up to three channels.

    Two channels are red and green, of more than three the first three are red, green and blue.

    Attributes:
        black: the value that is shown black.
        white: the value that is shown white.
    """

    black: float = 0.0
    white: float = 1.0

    def __call__(self, images: Num[np.ndarray, "*batch channels"]) -> Num[np.ndarray, "*batch shown"]:
        """The images, of uint8 or of the model's numbers, in [0, 1] but for what is beyond black and white."""
        grey = images / np.float32(255) if images.dtype == np.uint8 else images
        scaled = (np.nan_to_num(grey) - self.black) / (self.white - self.black)
        return _as_colours(np.asarray(scaled, np.float32))


def _as_colours(images: np.ndarray) -> np.ndarray:
    channels = images.shape[-1]
    if channels in (1, 3):
        return images
    if channels == 2:
        return np.concatenate([images, np.zeros_like(images[..., :1])], axis=-1)
    return images[..., :3]


def choose_display(config: Config, images: np.ndarray) -> Display:
    """How images of a run are shown: grey levels as they are, numbers of any size between their 1% and their 99%.

    Args:
        config: the run's.
        images: some of its data.
    """
    if config["data"]["binarize"] != "real":
        return Display()
    present = images[np.isfinite(images)]
    if not present.size:
        return Display()
    black, white = map(float, np.percentile(present, SHARES))
    return Display(black, white) if white > black else Display(black - 1, black + 1)
