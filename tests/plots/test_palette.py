"""The palette to eyes that lack a cone: how far apart its colours are, by CIE Lab."""

import itertools

import numpy as np
import pytest

from vae_jax.plots import palette

# Of linear RGB, severity 1 (Machado, Oliveira & Fernandes 2009, table 1).
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)


def linear(colour):
    """Linear RGB of "#rrggbb"."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


NORMAL = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def lab(colour, seen=NORMAL):
    """CIE Lab of a colour as an eye sees it that mixes linear RGB so."""
    t = np.array(XYZ) @ np.clip(np.array(seen) @ linear(colour), 0, 1) / np.array(WHITE)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_distance_is_that_of_cie():
    np.testing.assert_allclose(lab("#ffffff"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.05)
    assert np.linalg.norm(lab("#ff0000", DEUTERANOPIA) - lab("#00ff00", DEUTERANOPIA)) < 0.5 * np.linalg.norm(
        lab("#ff0000") - lab("#00ff00")
    )


@pytest.mark.parametrize("seen", [NORMAL, DEUTERANOPIA, PROTANOPIA], ids=["all", "deuteranopia", "protanopia"])
def test_colours_are_told_apart_by_eyes_of_every_kind(seen):
    """2.3 is a just noticeable difference; six colours or fewer, which most pictures have, are further apart."""
    for colours, least in ((palette.COLOURS[:6], 15), (palette.LABEL_COLOURS, 12)):
        distances = {
            pair: np.linalg.norm(lab(pair[0], seen) - lab(pair[1], seen)) for pair in itertools.combinations(colours, 2)
        }
        closest = min(distances, key=distances.get)
        assert distances[closest] > least, (closest, distances[closest])


def test_a_ramp_rises_in_lightness():
    lightness = [lab(colour)[0] for colour in palette.ramp_colours(20)]
    assert all(np.diff(lightness) > 0)
