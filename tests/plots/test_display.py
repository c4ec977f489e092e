"""Images of any numbers and channels as grey or RGB."""

import numpy as np

from vae_jax.plots.display import Display, choose_display

GREY, REAL = {"data": {"binarize": "dynamic"}}, {"data": {"binarize": "real"}}


def test_grey_levels_are_shown_as_they_are():
    show = choose_display(GREY, np.zeros((2, 2, 2, 1), np.uint8))
    np.testing.assert_allclose(show(np.array([[[[0], [51], [255]]]], np.uint8)).ravel(), [0, 0.2, 1])
    np.testing.assert_array_equal(show(np.array([[[[0.25, 0.5, 1.5]]]])), np.float32([[[[0.25, 0.5, 1.5]]]]))


def test_numbers_of_any_size_are_shown_between_their_1_and_their_99_percent():
    images = np.linspace(-100, 300, 1001).reshape(7, 11, 13, 1).astype(np.float32)
    holes = images.copy()
    holes[0, 0, 0] = np.nan
    show = choose_display(REAL, images)
    assert np.isclose(show.black, -96)
    assert np.isclose(show.white, 296)
    np.testing.assert_allclose(show(np.float32([[[[-96], [100], [296]]]])).ravel(), [0, 0.5, 1], atol=1e-6)
    assert np.isfinite(choose_display(REAL, holes)(holes)).all()


def test_numbers_that_are_all_alike_or_missing_can_be_shown():
    assert choose_display(REAL, np.full((1, 2, 2, 1), 7.0)) == Display(6.0, 8.0)
    assert choose_display(REAL, np.full((1, 2, 2, 1), np.nan)) == Display()


def test_two_channels_are_red_and_green_and_of_many_the_first_three_are_shown():
    images = np.random.default_rng(0).random((3, 2, 2, 6)).astype(np.float32)
    np.testing.assert_array_equal(Display()(images), images[..., :3])
    two = Display()(images[..., :2])
    np.testing.assert_array_equal(two[..., :2], images[..., :2])
    np.testing.assert_array_equal(two[..., 2], 0)
