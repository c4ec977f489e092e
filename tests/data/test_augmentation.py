"""Images mirrored and moved inside the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import _augmentation
from vae_jax.errors import UserError
from vae_jax.randomness import root_key

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 5, 7, 3), dtype=np.uint8)
INDEX = np.arange(64)


def augment(flip, shift, seed=0, images=IMAGES, index=INDEX):
    function = jax.jit(_augmentation.augmentation(flip, shift))
    return np.asarray(function(jnp.asarray(images), root_key(seed), jnp.asarray(index)))


def moved(image, down, right):
    """The image moved, its edge repeated, pixel by pixel."""
    height, width, _ = image.shape
    rows, columns = np.clip(np.arange(height) - down, 0, height - 1), np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows][:, columns]


def moves(largest, images=IMAGES, seed=0):
    """How far each image was moved, found by trying all there can be; exactly one is right."""
    found = []
    for image, result in zip(images, augment(False, largest, seed, images), strict=True):
        reach = range(-largest, largest + 1)
        fitting = [(u, v) for u in reach for v in reach if (moved(image, u, v) == result).all()]
        assert len(fitting) == 1
        found += fitting
    return found


def test_without_a_flip_or_a_shift_images_stay_as_they_are():
    np.testing.assert_array_equal(augment(False, 0), IMAGES)


def test_half_of_the_images_are_mirrored_and_the_rest_untouched():
    mirrored = np.array(
        [(result == image[:, ::-1]).all() for image, result in zip(IMAGES, augment(True, 0), strict=True)]
    )
    untouched = (augment(True, 0) == IMAGES).all(axis=(1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 20 < mirrored.sum() < 44  # of 64; beyond by chance once in 500
    many = augment(True, 0, images=np.repeat(IMAGES[:1], 4000, 0), index=np.arange(4000))
    assert abs((many == IMAGES[0]).all(axis=(1, 2, 3)).mean() - 0.5) < 0.03  # four standard deviations


def test_images_are_moved_by_every_whole_number_of_pixels_alike_often():
    images = np.repeat(IMAGES[:1], 900, 0)
    function = _augmentation.augmentation(False, 1)
    results = np.asarray(function(jnp.asarray(images), root_key(3), jnp.arange(900)))
    counts = {
        (u, v): int((results == moved(IMAGES[0], u, v)).all(axis=(1, 2, 3)).sum())
        for u in (-1, 0, 1)
        for v in (-1, 0, 1)
    }
    assert sum(counts.values()) == 900
    assert min(counts.values()) > 60  # 100 expected; four standard deviations
    assert max(counts.values()) < 140


def test_edges_are_repeated_where_an_image_is_moved_away():
    found = moves(2)
    assert {abs(u) for u, _ in found} == {abs(v) for _, v in found} == {0, 1, 2}
    assert len(set(found)) > 15  # of 25: up and left follow from noise of their own


def test_an_image_is_made_by_the_key_and_its_own_index_alone():
    """The same on one device and on several, and anew at every step."""
    both = augment(True, 2)
    order = np.random.default_rng(1).permutation(64)[:16]
    np.testing.assert_array_equal(augment(True, 2, images=IMAGES[order], index=order), both[order])
    assert (augment(True, 2, seed=1) != both).any()
    assert both.dtype == np.uint8


def test_flips_and_shifts_are_drawn_apart():
    """Mirrored or not, an image is moved every way alike often."""
    results = augment(True, 1, seed=4, images=np.repeat(IMAGES[:1], 1800, 0), index=np.arange(1800))
    counts = [
        (results == moved(image, u, v)).all(axis=(1, 2, 3)).sum()
        for image in (IMAGES[0], IMAGES[0][:, ::-1])
        for u in (-1, 0, 1)
        for v in (-1, 0, 1)
    ]
    assert sum(counts) == 1800
    assert min(counts) > 60  # 100 expected; four standard deviations
    assert max(counts) < 140


def test_a_negative_shift_is_refused():
    with pytest.raises(UserError, match=r"\Ashift: -1 is not allowed; give a number of pixels, or 0 for none\Z"):
        _augmentation.augmentation(False, -1)


def test_what_no_image_can_take_is_refused():
    _augmentation.check_augmentation(True, 4, (5, 7, 1), False)
    _augmentation.check_augmentation(False, 0, (5, 7, 1), True)
    with pytest.raises(UserError, match=r"\Ashift: 5 is not allowed for images of 5 pixels; give 0 to 4\Z"):
        _augmentation.check_augmentation(False, 5, (5, 7, 1), False)
    for flip, shift, named in ((True, 2, "flip: True"), (False, 2, "shift: 2")):
        with pytest.raises(UserError, match=rf"\A{named} is not allowed for images whose factors are known"):
            _augmentation.check_augmentation(flip, shift, (5, 7, 1), True)
