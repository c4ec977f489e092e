"""Shapes3D drawn anew: one object in a room, in colour, rendered from its index inside the step.

The factors, their order and their counts are those of Shapes3D (Burgess & Kim 2018): hues of floor, walls and object,
the object's scale and shape, and where the camera stands, from -30 to 30 degrees around the object; 480,000 images of
64x64x3. Geometry, light and colours are our own: scores on the two sets are not to be compared.

A pixel is one ray through its centre, so edges are hard. The room's planes are met in closed form, the object by
marching: a body is all within a radius of its core (box, upright cylinder, point or segment), and d, the distance to
it, and its normal come from the core's nearest point. Bodies are convex, so d is convex along a ray, and a step of
-d / d' (Newton's) never passes the surface: seven do what takes plain sphere tracing, which steps by d, about sixty.

The light of a lamp follows Lambert's law, on top of ambient light. Shadows are soft: a point of the room is as dark as
the place half a unit from it towards the lamp is near the object. Surfaces do not colour one another, so a hue
changes its own surface's pixels alone.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.data._factors import Factors, check_resolution, check_sizes, to_classes
from vae_jax.errors import UserError
from vae_jax.typing import Bytes, Indices

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SHAPES = ("cube", "cylinder", "sphere", "capsule")
CORES = np.asarray([(0.598, 0.598, 0.002), (0.598, 0.648, 0.002), (0.0, 0.0, 0.75), (0.0, 0.45, 0.45)], np.float32)
"""Of each shape at scale 1: its core's half width and half height, and the radius around the core.

Cube and cylinder have edges round by far less than a pixel, so that a normal is one everywhere.
"""
SCALES = (0.75, 1.25)
ANGLES = (-30.0, 30.0)
"""Of the camera around the object's axis, in degrees."""
CAMERA = (4.0, 2.3)
"""From the object's axis, and above the floor."""
AIM = 0.7
"""The height on the object's axis that is in the middle of the image."""
HALF_VIEW = 0.45
"""Half an image's width at a distance of 1."""
ROOM = (2.2, 2.0)
"""From the object's axis to the walls at the sides and to the one behind; they have no upper end."""
LAMP = (-1.2, -2.0, 3.6)
AMBIENT = 0.45
SHADOW = (0.5, 0.4)
"""How far towards the lamp a point looks for the object, and the distance from it there at which shadow ends."""
STEPS = 7
"""Twenty change no pixel in a thousand images by more than round-off."""
HIT_DISTANCE = 5e-4
"""The distance from the surface at which a ray has met it: a hundredth of a pixel."""
TINY = 1e-6

Rays = Float[Array, "#batch #pixel"]
Vector = tuple[Rays, Rays, Rays]
"""x right, y ahead, z up; the origin is where the object stands on the floor, seen along y at angle 0."""
Hits = Bool[Array, "batch pixel"]


class Body(NamedTuple):
    """The object of each image: half width, half height, radius and middle of its core; whether that is a cylinder."""

    core: tuple[Rays, Rays, Rays, Rays]
    upright: Bool[Array, "batch 1"]


def directions(resolution: int) -> Float[np.ndarray, "3 pixel"]:
    """The unit vectors of a camera's rays at angle 0, row by row."""
    centres = HALF_VIEW * ((2 * np.arange(resolution) + 1) / resolution - 1)
    down, right = (grid.ravel() for grid in np.meshgrid(centres, centres, indexing="ij"))
    tilt = math.atan2(CAMERA[1] - AIM, CAMERA[0])
    rays = [right, math.cos(tilt) - math.sin(tilt) * down, -math.sin(tilt) - math.cos(tilt) * down]
    return np.asarray(rays / np.linalg.norm(rays, axis=0), np.float32)


def vector(components: Iterable[Rays]) -> Vector:
    """The vector of these three components."""
    x, y, z = components
    return x, y, z


def dot(a: Vector, b: Vector) -> Rays:
    """The inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def points_along(start: Vector, direction: Vector, distance: Rays | float) -> Vector:
    """The points at `distance` from `start`."""
    return vector(a + distance * b for a, b in zip(start, direction, strict=True))


def distance_to_body(body: Body, point: Vector) -> tuple[Rays, Vector, Rays]:
    """(distance from the body, vector from the core's nearest point, its length), for points outside the core."""
    half, rise, radius, middle = body.core
    x, y, z = point[0], point[1], point[2] - middle
    outside = jnp.maximum(1 - half / jnp.maximum(jnp.sqrt(x * x + y * y), TINY), 0.0)
    offset = (
        jnp.where(body.upright, x * outside, x - jnp.clip(x, -half, half)),
        jnp.where(body.upright, y * outside, y - jnp.clip(y, -half, half)),
        z - jnp.clip(z, -rise, rise),
    )
    length = jnp.sqrt(dot(offset, offset))
    return length - radius, offset, length


def march_to_body(body: Body, eye: Vector, ray: Vector) -> tuple[Rays, Hits, Vector]:
    """(distance along the ray, whether it meets the body, the normal there)."""
    t = jnp.zeros_like(ray[0])
    for _ in range(STEPS):
        distance, offset, length = distance_to_body(body, points_along(eye, ray, t))
        # d' = offset . ray / length; a ray on which d grows is past the body and stays where it is.
        slope = -dot(offset, ray)
        t = t + jnp.where(slope > 0, distance * length / jnp.maximum(slope, TINY), 0.0)
    distance, offset, length = distance_to_body(body, points_along(eye, ray, t))
    return t, distance < HIT_DISTANCE, vector(a / length for a in offset)


def intersect_room(eye: Vector, ray: Vector) -> tuple[Rays, Hits, Vector]:
    """(distance along the ray to the room, whether it meets the floor there, the normal into the room)."""
    side, back = ROOM
    side_normal = -jnp.sign(ray[0])
    to_floor = eye[2] / jnp.maximum(-ray[2], TINY)
    to_side = (side + side_normal * eye[0]) / jnp.maximum(jnp.abs(ray[0]), TINY)
    to_back = (back - eye[1]) / ray[1]
    to_wall = jnp.minimum(to_side, to_back)
    on_floor, on_side = to_floor < to_wall, to_side < to_back
    normal = (
        jnp.where(~on_floor & on_side, side_normal, 0.0),
        jnp.where(on_floor | on_side, 0.0, -1.0),
        jnp.where(on_floor, 1.0, 0.0),
    )
    return jnp.minimum(to_floor, to_wall), on_floor, normal


def reflected_light(body: Body, point: Vector, normal: Vector, on_object: Hits) -> Rays:
    """How much light each point reflects, of 1."""
    lamp = vector(a - b for a, b in zip(LAMP, point, strict=True))
    lamp_distance = jnp.sqrt(dot(lamp, lamp))
    lambert = jnp.maximum(dot(normal, lamp) / lamp_distance, 0.0)
    reach, end = SHADOW
    distance, _, _ = distance_to_body(body, points_along(point, lamp, reach / lamp_distance))
    lit = jnp.where(on_object, 1.0, jnp.clip(distance / end, 0.0, 1.0))
    return AMBIENT * (0.5 + 0.5 * lit) + (1 - AMBIENT) * lit * lambert


def spread_values(size: int, low: float, high: float) -> Float[np.ndarray, " value"]:
    """A factor's values, evenly over an interval with both its ends; one alone in the middle."""
    return np.linspace(low, high, size) if size > 1 else np.full(1, (low + high) / 2)


def hues(size: int) -> Float[np.ndarray, "value 3"]:
    """Colours evenly spread over the largest circle around grey, of which red is the first."""
    turn = np.arange(size)[:, None] / size - np.arange(3)[None] / 3
    return np.asarray(0.5 + 0.5 * np.cos(2 * np.pi * turn), np.float32)


def bodies(scales: int) -> Float[np.ndarray, "scale shape 4"]:
    """Half width, half height, radius and the middle's height."""
    cores = np.concatenate([CORES, CORES[:, 1:2] + CORES[:, 2:]], axis=1)
    return np.asarray(spread_values(scales, *SCALES)[:, None, None] * cores[None], np.float32)


def cameras(angles: int) -> Float[np.ndarray, "angle 4"]:
    """Cosine and sine of the angle, x and y of the eye."""
    angle = np.radians(spread_values(angles, *ANGLES))
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(np.stack([cosine, sine, CAMERA[0] * sine, -CAMERA[0] * cosine], axis=1), np.float32)


# Compiled even where it is called alone, and values of factors from tables: so it is the same arithmetic everywhere.
@partial(jax.jit, static_argnums=(0, 1))
def render(sizes: tuple[int, ...], resolution: int, ids: Indices) -> Bytes:
    """The images of `ids`, (batch, resolution, resolution, 3)."""
    *hue_classes, scale, shape, orientation = to_classes(sizes, ids).T
    half, rise, radius, middle = jnp.asarray(bodies(sizes[3]))[scale, shape].T[..., None]
    body = Body((half, rise, radius, middle), (shape == SHAPES.index("cylinder"))[:, None])
    cosine, sine, x, y = jnp.asarray(cameras(sizes[5]))[orientation].T[..., None]
    right, ahead, up = jnp.asarray(directions(resolution))[:, None, :]
    ray = cosine * right - sine * ahead, sine * right + cosine * ahead, up
    eye = x, y, jnp.full_like(x, CAMERA[1])

    to_body, on_object, body_normal = march_to_body(body, eye, ray)
    to_room, on_floor, room_normal = intersect_room(eye, ray)
    point = points_along(eye, ray, jnp.where(on_object, to_body, to_room))
    normal = vector(jnp.where(on_object, a, b) for a, b in zip(body_normal, room_normal, strict=True))
    light = reflected_light(body, point, normal, on_object)

    floor, wall, thing = (
        jnp.asarray(hues(size))[classes][:, None] for size, classes in zip(sizes[:3], hue_classes, strict=True)
    )
    colour = jnp.where(on_object[..., None], thing, jnp.where(on_floor[..., None], floor, wall))
    levels = (255 * light[..., None] * colour + 0.5).astype(jnp.uint8)
    return levels.reshape(len(ids), resolution, resolution, 3)


def load(
    *,
    sizes: tuple[int, ...] = (10, 10, 10, 8, 4, 15),
    resolution: int = 64,
    split: str = "random 0.1",
    changed: int = 1,
) -> Dataset:
    """Shapes3D drawn anew: 480,000 images unless `sizes` says otherwise.

    Args:
        sizes: how many hues of floor, of wall and of object, scales, shapes (at most 4) and angles.
        resolution: of the images, in pixels.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: naming the argument that cannot be.
    """
    if len(sizes) != len(NAMES) or not all(size >= 1 for size in sizes) or sizes[4] > len(SHAPES):
        raise UserError(
            f"sizes: {sizes} is not allowed; give six counts of at least 1, for {', '.join(NAMES)}, "
            f"of shapes at most {len(SHAPES)}"
        )
    check_sizes(sizes)
    check_resolution(resolution, 16)
    recipe = f"scenes {tuple(sizes)} {resolution}"
    grid = Factors(NAMES, sizes, Partial(partial(render, sizes, resolution)), recipe=recipe, categorical=("shape",))
    return data.from_factors(grid, split, changed)
