"""Names that stand apart."""

import numpy as np
import pytest

from vae_jax.plots import label_positions


def test_places_that_meet_are_moved_apart_about_their_middle():
    positions = label_positions.separate(np.array([0.0, 1.0, 1.2, 1.4, 9.0]), 1.0)
    assert np.all(np.diff(positions) >= 1 - 1e-9)
    assert positions[:4] == pytest.approx(np.arange(4) - 1.5 + 0.9)  # all four meet, about their mean
    assert positions[4] == 9
    assert label_positions.separate(np.array([2.0, 5.0]), 1.0).tolist() == [2, 5]
    assert label_positions.separate(np.array([]), 1.0).tolist() == []


def test_means_that_fall_together_share_a_name():
    means = np.array([[0, 0], [0.1, 0], [3, 0], [6, 0], [6, 0.1], [6.1, 0.1]], float)
    names = label_positions.merge_labels(means, "abcdef", np.array([0.5, 0.5]))
    assert [(mean.tolist(), label) for mean, label in names] == [([0, 0], "a, b"), ([3, 0], "c"), ([6, 0], "d to f")]


def test_boxes_avoid_dots_and_one_another_and_stay_inside():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 300, 20))
    positions = np.stack([x, 200 - 0.5 * x], axis=1)  # a crowded diagonal
    sizes = np.tile([30.0, 10.0], (20, 1))
    frame = np.array([[-10.0, -10.0], [400.0, 300.0]])
    corners, distant = label_positions.label_corners(positions, sizes, positions, frame)
    ends = corners + sizes
    for i in range(20):
        assert not np.any(np.all((positions > corners[i]) & (positions < ends[i]), axis=1))
        assert not any(np.all((corners[i] < ends[j]) & (corners[j] < ends[i])) for j in range(i))
    assert np.all(corners >= frame[0])
    assert np.all(ends <= frame[1])
    gaps = np.maximum(np.maximum(corners - positions, positions - ends), 0).max(axis=1)
    assert distant == (gaps > label_positions.NEAR).tolist()
    assert not distant[0]


def test_a_name_alone_is_beside_its_dot():
    position = np.array([[50.0, 50.0]])
    corners, distant = label_positions.label_corners(
        position, np.array([[20.0, 10.0]]), position, np.array([[0.0, 0.0], [100.0, 100.0]])
    )
    assert (corners.tolist(), distant) == ([[57, 57]], [False])
