"""Where names go in a picture so that none hides another."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

REACHES = (7.0, 14.0, 24.0, 36.0, 50.0, 66.0, 84.0)
SIDES = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""How far from its dot a name may stand, in points, and to which side, the likeliest first."""

NEAR = 12
"""Points within which a name needs no line to its dot."""


def spread(places: Float[np.ndarray, " place"], gap: float) -> Float[np.ndarray, " place"]:
    """The rising `places` moved apart to at least `gap`, those that meet about their middle."""
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([float(place)])
        while len(clusters) > 1 and _ends(clusters[-2], gap)[1] + gap > _ends(clusters[-1], gap)[0]:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return np.concatenate([np.empty(0), *(np.linspace(*_ends(of, gap), len(of)) for of in clusters)])


def _ends(places: Sequence[float], gap: float) -> tuple[float, float]:
    half = gap * (len(places) - 1) / 2
    return float(np.mean(places)) - half, float(np.mean(places)) + half


def merged(
    means: Float[np.ndarray, "mean 2"], labels: Sequence[str], room: Float[np.ndarray, "2"]
) -> list[tuple[np.ndarray, str]]:
    """The means with their labels; those that follow the first within `room` are one with it: "1, 2", "1 to 4"."""
    clusters: list[tuple[np.ndarray, list[str]]] = []
    for mean, label in zip(means, labels, strict=True):
        if clusters and np.all(np.abs(mean - clusters[-1][0]) < room):
            clusters[-1][1].append(label)
        else:
            clusters.append((mean, [label]))
    return [(mean, ", ".join(of) if len(of) < 3 else f"{of[0]} to {of[-1]}") for mean, of in clusters]


def beside(
    named: Float[np.ndarray, "name 2"],
    sizes: Float[np.ndarray, "name 2"],
    dots: Float[np.ndarray, "dot 2"],
    frame: Float[np.ndarray, "2 2"],
) -> tuple[Float[np.ndarray, "name 2"], list[bool]]:
    """(lower left corners of boxes of `sizes`, whether each is far from what it names), all in points.

    One after the other, each takes the place that hides the fewest dots and names, and of those the nearest.
    """
    taken: list[np.ndarray] = []
    far = []
    for place, size in zip(named, sizes, strict=True):
        boxes = [_box(place, size, reach, np.array(side)) for reach in REACHES for side in SIDES]
        best = int(np.argmin([_cost(box, dots, taken, frame) for box in boxes]))
        taken.append(boxes[best])
        far.append(REACHES[best // len(SIDES)] > NEAR)
    return np.array([box[0] for box in taken]).reshape(-1, 2), far


def _box(place: np.ndarray, size: np.ndarray, reach: float, side: np.ndarray) -> np.ndarray:
    corner = place + reach * side - size * (1 - side) / 2
    return np.stack([corner, corner + size])


def _cost(box: np.ndarray, dots: np.ndarray, taken: Sequence[np.ndarray], frame: np.ndarray) -> int:
    """Hidden dots; another name counts for ten of them, and to stand out of the frame for a hundred."""
    hidden = np.all((dots > box[0] - 2) & (dots < box[1] + 2), axis=1).sum()
    names = sum(bool(np.all((box[0] < other[1]) & (other[0] < box[1]))) for other in taken)
    return int(hidden) + 10 * names + 100 * bool(np.any(box[0] - 3 < frame[0]) or np.any(box[1] + 3 > frame[1]))
