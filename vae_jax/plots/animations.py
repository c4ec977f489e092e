"""Latents that move, as an animated GIF that begins anew where it ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vae_jax.files import replacement
from vae_jax.plots.image_grid import make_page
from vae_jax.plots.subject import Subject
from vae_jax.plots.traversals import LIMIT, Ranges

LATENTS, FRAMES, MILLISECONDS = 5, 40, 60
"""Latents that are shown, frames of the loop, and how long each is seen."""

TILE = 1.0
"""Inches of a tile's longer side."""

SHADES = 64
"""Colours of the file."""

REACH = 0.4
"""How far to either side of its tile's middle a triangle goes, in tiles."""


def moving_latents(
    subject: Subject,
    codes: np.ndarray,
    anchors: np.ndarray,
    names: Sequence[str],
    evaluation: Mapping[str, Any],
    file: Path,
) -> None:
    """Writes a GIF: a row for each anchor, a column for each of the latents that hold most, which swings.

    A latent is at 3 sin(2 pi t): it slows down at its ends, and the last frame is followed by the first.

    Args:
        subject: the run.
        codes: of images that were not trained on.
        anchors: codes of those that are shown, (anchor, code).
        names: of the anchors.
        evaluation: what evaluation.json holds.
        file: the GIF.
    """
    ranges = Ranges.choose(codes[:, : subject.run.latent_dim], evaluation, LATENTS)
    values = LIMIT * np.sin(2 * np.pi * np.arange(FRAMES) / FRAMES)
    images = subject.show(_swing(subject, anchors, ranges, values))
    columns = [name.replace(": ", "\n") for name in ranges.names]
    heading = subject.heading(f"{ranges.title}, -{LIMIT:g} to {LIMIT:g}")
    page = make_page(images.shape[1:], heading, names, columns, marked=True, tile=TILE)
    frames = []
    for value, frame in zip(values, images, strict=True):
        places = [latent + REACH * value / LIMIT for latent in range(len(columns))]
        frames.append(Image.fromarray(page.fill(frame, [places] * len(names))))
    write_gif(frames, file)


def _swing(subject: Subject, anchors: np.ndarray, ranges: Ranges, values: np.ndarray) -> np.ndarray:
    """Images (frame, anchor, latent, height, width, channels); each value is decoded once."""
    unique, inverse = np.unique(values.round(9), return_inverse=True)
    codes = np.repeat(anchors[None, :, None], len(unique), axis=0).repeat(len(ranges.order), axis=2)
    for column, latent in enumerate(ranges.order):
        codes[:, :, column, latent] = ranges.middle[latent] + ranges.unit[latent] * unique[:, None]
    decoded = subject.run.decode(codes.reshape(-1, codes.shape[-1]))
    return decoded.reshape(*codes.shape[:3], *subject.run.image_shape)[inverse.ravel()]


def write_gif(frames: Sequence[Image.Image], file: Path) -> None:
    """Writes frames of one size as a GIF without an end, all in the same colours, so that none flickers."""
    few = np.concatenate([np.asarray(frame) for frame in frames[:: max(1, len(frames) // 4)]])
    palette = Image.fromarray(few).quantize(SHADES)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    shades = np.array(drawn[0].getpalette()).reshape(-1, 3)
    shades[np.asarray(drawn[0])[0, 0]] = 255  # the page, which a mean with its neighbours would make grey
    for frame in drawn:
        frame.putpalette(shades.ravel().tolist())
    look: dict[str, Any] = {"save_all": True, "append_images": drawn[1:], "duration": MILLISECONDS, "loop": 0}
    with replacement(file) as temporary:
        drawn[0].save(temporary, format="gif", **look)
