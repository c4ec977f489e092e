"""dSprites drawn anew: white squares, ellipses and hearts, rendered from their index inside the step.

The geometry is that of the published images (Matthey et al. 2017), found by fitting it to them: pixel for pixel
the same squares, ellipses and hearts but for a few pixels of the edge. Two things differ. There is no factor
colour, which has one value there. And the 40 orientations are 40 different angles, 2 pi k / 40, where the
published ones reach from 0 to 2 pi inclusive, so that the last repeats the first.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.data._factors import Factors, check_resolution, check_sizes, to_classes
from vae_jax.errors import UserError
from vae_jax.typing import Bytes, Indices

Points = Float[Array, "batch height width"]
Inside = Bool[Array, "batch height width"]
NAMES = ("shape", "scale", "orientation", "x", "y")
SQUARE = 0.15
"""Half a side, at scale 1 and in images' widths, as all lengths here."""
ELLIPSE = (0.2, 0.1125)
HEART = (0.15, 0.0103125, -0.021875)
"""Half a width; the unit of the curve's height; how far its origin lies above the centre."""


def square(a: Points, b: Points) -> Inside:
    """Whether the points (a right, b down) of the sprite's own frame are in the square."""
    return jnp.maximum(jnp.abs(a), jnp.abs(b)) <= SQUARE


def ellipse(a: Points, b: Points) -> Inside:
    """Whether the points are in the ellipse."""
    return jnp.square(a / ELLIPSE[0]) + jnp.square(b / ELLIPSE[1]) <= 1


def heart(a: Points, b: Points) -> Inside:
    """Whether the points are in the heart x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.

    With c = |cos t| its halves above and below are y = 4 - 2c^2 - 8c^4 +- (19c - 8c^3).
    """
    half_width, unit, up = HEART
    cosine = jnp.sqrt(jnp.maximum(1 - jnp.cbrt(jnp.square(a / half_width)), 0.0))
    squared = jnp.square(cosine)
    y = (up - b) / unit
    return (jnp.abs(a) <= half_width) & (jnp.abs(y - 4 + 2 * squared + 8 * squared**2) <= cosine * (19 - 8 * squared))


def _fraction(classes: Float[Array, "batch 1 1"], size: int) -> Float[Array, "batch 1 1"]:
    """Classes spread over [0, 1], both ends included; 1/2 where there is one."""
    return classes / (size - 1) if size > 1 else jnp.full_like(classes, 0.5)


# Compiled even where it is called alone, else each of its operations is by itself.
@partial(jax.jit, static_argnums=(0, 1))
def render(sizes: tuple[int, ...], resolution: int, ids: Indices) -> Bytes:
    """The images of `ids`, (batch, resolution, resolution, 1), 255 where the pixel's centre is in the sprite."""
    classes = to_classes(sizes, ids).astype(jnp.float32)[:, :, None, None]  # float32 whatever JAX's flags say
    shape, angle = classes[:, 0], classes[:, 2] * (2 * jnp.pi / sizes[2])
    scale = 0.5 + 0.5 * _fraction(classes[:, 1], sizes[1])
    centre_x, centre_y = (0.25 + 0.5 * _fraction(classes[:, i], sizes[i]) for i in (3, 4))
    grid = (jnp.arange(resolution, dtype=jnp.float32) + 0.5) / resolution
    x, y = grid[None, None, :] - centre_x, grid[None, :, None] - centre_y
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    a, b = (cosine * x - sine * y) / scale, (sine * x + cosine * y) / scale
    inside = jnp.where(shape == 0, square(a, b), jnp.where(shape == 1, ellipse(a, b), heart(a, b)))
    return (255 * inside[..., None]).astype(jnp.uint8)


def load(
    *,
    sizes: tuple[int, ...] = (3, 6, 40, 32, 32),
    resolution: int = 64,
    split: str = "random 0.1",
    changed: int = 1,
) -> Dataset:
    """dSprites drawn anew: 737,280 images unless `sizes` says otherwise.

    Args:
        sizes: how many shapes (at most 3), scales, orientations, columns and rows.
        resolution: of the images, in pixels.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: naming the argument that cannot be.
    """
    if len(sizes) != len(NAMES) or not all(size >= 1 for size in sizes) or sizes[0] > 3:
        raise UserError(
            f"sizes: {sizes} is not allowed; give five counts of at least 1, for {', '.join(NAMES)}, "
            "of shapes at most 3"
        )
    check_sizes(sizes)
    check_resolution(resolution, 8)
    recipe = f"sprites {tuple(sizes)} {resolution}"
    grid = Factors(
        NAMES, sizes, Partial(partial(render, tuple(sizes), resolution)), recipe=recipe, categorical=("shape",)
    )
    return data.from_factors(grid, split, changed)
