"""Images that are rendered beforehand, for a page that cannot run the decoder, and the PNG that holds images."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from vae_jax.inference import TrainedModel
from vae_jax.report.codebook import Codebook
from vae_jax.report.decoder_export import pack_array
from vae_jax.report.png import encode_png, png_address

LATENTS, STEPS, PLANE, RECONSTRUCTIONS = 10, 11, 15, 50
"""Latents moved and steps of each, points along a side of the map, reconstructions."""
MAX_RENDERED = 6_000_000
"""Numbers in all images that are rendered beforehand; larger images are shown smaller."""


def shrink_factor(image_shape: tuple[int, int, int]) -> int:
    """By what height and width are divided, so that rendered images are no more than MAX_RENDERED numbers."""
    count = RECONSTRUCTIONS + LATENTS * STEPS + PLANE**2
    factor = math.ceil(math.sqrt(count * math.prod(image_shape) / MAX_RENDERED))
    return min(factor, min(image_shape[:2]))


def shrink(images: Float[np.ndarray, "image height width channels"], factor: int) -> np.ndarray:
    """Images whose pixels are the means of factor x factor of theirs; what is over at the edges is cut off."""
    if factor == 1:
        return images
    count, height, width, channels = images.shape
    rows, columns = height // factor, width // factor
    cut = images[:, : rows * factor, : columns * factor]
    return cut.reshape(count, rows, factor, columns, factor, channels).mean(axis=(2, 4))


def rendered_images(
    run: TrainedModel, codes: np.ndarray, parts: dict[str, Any], reason: str, show: Callable
) -> dict[str, Any]:
    """Images in the place of the decoder: the first code with one part of it moved, and others.

    Args:
        run: the model.
        codes: of held-out images.
        parts: what moves a code, as `latent_controls.moving_parts` gives it.
        reason: why the page cannot decode.
        show: what makes a picture of an image.
    """
    book, planes = Codebook.measure(run), parts["planes"][:1]
    if book is None:
        sliders = [{**slider, "steps": STEPS - 1} for slider in parts["sliders"][:LATENTS]]
        moved, others = _traversals(codes[0], sliders), _points(codes[0], planes[0])
    else:  # between its vectors there is nothing to see: more reconstructions in the place of the map's points
        sliders = [{**slider, "allowed": sorted(slider["common"])} for slider in parts["sliders"][:LATENTS]]
        moved, others = _vectors(codes[0], sliders, book), codes[RECONSTRUCTIONS : RECONSTRUCTIONS + PLANE**2]
    all_codes = np.concatenate([codes[:RECONSTRUCTIONS], *moved, others]).astype(np.float32)
    what = "latents" if book is None else "groups"
    note = (
        f"Not decoded in this page: {reason}. Of {len(all_codes)} images rendered beforehand it shows the one whose "
        f"code is nearest; sliders move {len(sliders)} {what} of the first image, one at a time."
    )
    grid = {"codes": pack_array(all_codes), **image_sheet(show(run.decode(all_codes)))}
    return {**parts, "grid": grid, "note": note, "sliders": sliders, "planes": planes, "steps": PLANE - 1}


def _traversals(code: np.ndarray, sliders: list[dict[str, Any]]) -> list[np.ndarray]:
    """For each slider the code at each of its stops."""
    traversals = [np.repeat(code[None], STEPS, axis=0) for _ in sliders]
    for rows, slider in zip(traversals, sliders, strict=True):
        rows[:, slider["dimension"]] = np.linspace(slider["low"], slider["high"], STEPS)
    return traversals


def _vectors(code: np.ndarray, sliders: list[dict[str, Any]], book: Codebook) -> list[np.ndarray]:
    """For each group the code with each vector that is allowed in its place."""
    dim, moved = book.vectors.shape[-1], []
    for slider in sliders:
        rows, start = np.repeat(code[None], len(slider["allowed"]), axis=0), slider["dimension"]
        rows[:, start : start + dim] = book.vectors[slider["group"] % len(book.vectors)][slider["allowed"]]
        moved.append(rows)
    return moved


def _points(code: np.ndarray, plane: dict[str, Any]) -> np.ndarray:
    """The code moved to each point of a grid on the map."""
    directions = np.asarray(plane["directions"], np.float32)
    x, y = np.meshgrid(*(np.linspace(low, high, PLANE) for low, high in plane["extent"]))
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    origin = directions @ code - np.asarray(plane["offsets"], np.float32)
    return code[None] + (points - origin[None]) @ directions


def image_sheet(images: np.ndarray) -> dict[str, Any]:
    """Images (n, height, width, channels) in [0, 1], side by side in rows, as the address of one PNG."""
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tiles = np.zeros((rows * columns, *images.shape[1:]), np.float32)
    tiles[:n] = images
    grid = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    picture = encode_png(grid.reshape(rows * height, columns * width, channels))
    return {"images": png_address(picture), "columns": columns}
