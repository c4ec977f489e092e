"""Positions of names in a picture, so that none hides another."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

REACHES = (7.0, 14.0, 24.0, 36.0, 50.0, 66.0, 84.0)
SIDES = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""How far from its dot a name may stand, in points, and to which side, the likeliest first."""

NEAR = 12
"""Points within which a name needs no line to its dot."""


def separate(positions: Float[np.ndarray, " label"], gap: float) -> Float[np.ndarray, " label"]:
    """The rising `positions` moved apart to at least `gap`, those that collide about their middle."""
    clusters: list[list[float]] = []
    for position in positions:
        clusters.append([float(position)])
        while len(clusters) > 1 and _ends(clusters[-2], gap)[1] + gap > _ends(clusters[-1], gap)[0]:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return np.concatenate([np.empty(0), *(np.linspace(*_ends(cluster, gap), len(cluster)) for cluster in clusters)])


def _ends(cluster: Sequence[float], gap: float) -> tuple[float, float]:
    half = gap * (len(cluster) - 1) / 2
    return float(np.mean(cluster)) - half, float(np.mean(cluster)) + half


def merge_labels(
    means: Float[np.ndarray, "mean 2"], labels: Sequence[str], room: Float[np.ndarray, " 2"]
) -> list[tuple[np.ndarray, str]]:
    """The means with their labels; those that follow the first within `room` are one with it: "1, 2", "1 to 4"."""
    clusters: list[tuple[np.ndarray, list[str]]] = []
    for mean, label in zip(means, labels, strict=True):
        if clusters and np.all(np.abs(mean - clusters[-1][0]) < room):
            clusters[-1][1].append(label)
        else:
            clusters.append((mean, [label]))
    return [(mean, _joined(cluster)) for mean, cluster in clusters]


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) < 3 else f"{labels[0]} to {labels[-1]}"


def label_corners(
    positions: Float[np.ndarray, "name 2"],
    sizes: Float[np.ndarray, "name 2"],
    dots: Float[np.ndarray, "dot 2"],
    frame: Float[np.ndarray, "2 2"],
) -> tuple[Float[np.ndarray, "name 2"], list[bool]]:
    """Boxes for names beside what they name: one after the other, each hides the fewest dots and names, and is near.

    Args:
        positions: of what is named, in points, as all the others.
        sizes: of the names, width and height.
        dots: what should not be hidden.
        frame: lower left and upper right corner, which names do not leave.

    Returns:
        (lower left corners, whether each is so far from what it names that it needs a line).
    """
    boxes: list[np.ndarray] = []
    distant = []
    for position, size in zip(positions, sizes, strict=True):
        candidates = [_box(position, size, reach, np.array(side)) for reach in REACHES for side in SIDES]
        best = int(np.argmin([_cost(box, dots, boxes, frame) for box in candidates]))
        boxes.append(candidates[best])
        distant.append(REACHES[best // len(SIDES)] > NEAR)
    return np.array([box[0] for box in boxes]).reshape(-1, 2), distant


def _box(position: np.ndarray, size: np.ndarray, reach: float, side: np.ndarray) -> np.ndarray:
    corner = position + reach * side - size * (1 - side) / 2
    return np.stack([corner, corner + size])


def _cost(box: np.ndarray, dots: np.ndarray, boxes: Sequence[np.ndarray], frame: np.ndarray) -> int:
    """Hidden dots; another name counts for ten of them, and to stand out of the frame for a hundred."""
    hidden = np.all((dots > box[0] - 2) & (dots < box[1] + 2), axis=1).sum()
    overlaps = [bool(np.all((box[0] < other[1]) & (other[0] < box[1]))) for other in boxes]
    outside = bool(np.any(box[0] - 3 < frame[0]) or np.any(box[1] + 3 > frame[1]))
    return int(hidden) + 10 * sum(overlaps) + (100 if outside else 0)
