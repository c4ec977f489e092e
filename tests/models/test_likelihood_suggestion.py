"""Which likelihood suits images, and the line that says that one does not."""

import numpy as np
import pytest
import scipy.stats

from vae_jax.models import likelihoods
from vae_jax.models.likelihoods._suggestion import mismatch, pixel_entropy, suggested_fields

RNG = np.random.default_rng(0)


def images(low, high, channels=1):
    return RNG.integers(low, high, (6, 8, 8, channels), dtype=np.uint8)


BLACK_WHITE = 255 * images(0, 2)
DIGITS = np.where(RNG.uniform(size=BLACK_WHITE.shape) < 0.2, images(0, 256), BLACK_WHITE)
FACES, COLOURS = images(60, 200), images(0, 256, 3)


def test_the_entropy_of_a_pixel_is_scipys_coin():
    x = FACES.ravel() / 255
    expected = np.mean(scipy.stats.bernoulli.entropy(x)) / np.log(2)
    np.testing.assert_allclose(pixel_entropy(FACES), expected, rtol=1e-9)
    assert pixel_entropy(BLACK_WHITE) == 0


def line(name, binarize, shown, **fields):
    return mismatch(name, likelihoods.get(name)(**fields), binarize, lambda: shown)


@pytest.mark.parametrize(
    ("name", "binarize", "shown", "says"),
    [
        ("bernoulli", "dynamic", DIGITS, ""),
        ("bernoulli", "none", BLACK_WHITE, ""),
        ("bernoulli", "static", FACES, ""),  # a threshold is asked for by name
        ("bernoulli", "none", FACES, "is a cross-entropy, so that what is logged as elbo bounds no log p(x)"),
        ("bernoulli", "none", COLOURS, "is a cross-entropy"),
        ("bernoulli", "dynamic", COLOURS, "'dynamic' leaves each colour of a pixel on or off"),
        ("bernoulli", "static", COLOURS, "'static' leaves each colour of a pixel on or off"),
        ("bernoulli", "dynamic", FACES, "mostly noise, 0.9"),
        ("continuous_bernoulli", "none", FACES, ""),
        ("continuous_bernoulli", "none", BLACK_WHITE, "is a density of grey levels, and these images are black and"),
        ("discretized_logistic", "none", BLACK_WHITE, ""),
        ("gaussian", "none", COLOURS, ""),
    ],
)
def test_what_does_not_suit_is_said_in_a_line(name, binarize, shown, says):
    said = line(name, binarize, shown)
    assert says in said
    assert bool(says) == bool(said)
    assert "\n" not in said


def test_a_learned_scale_has_no_bound_on_black_and_white():
    assert "black and white" in line("gaussian", "none", BLACK_WHITE, scale="shared")
    assert not line("gaussian", "none", BLACK_WHITE)  # the squared error, of a fixed sigma


@pytest.mark.parametrize("shown", [BLACK_WHITE, DIGITS, FACES, COLOURS])
def test_what_is_suggested_is_no_mismatch_itself(shown):
    fields = suggested_fields(shown)
    name, binarize = fields.pop("likelihood.name"), fields.pop("data.binarize")
    own = {field.removeprefix("likelihood."): value for field, value in fields.items()}
    assert binarize in likelihoods.get(name)(**own).binarize
    assert not line(name, binarize, shown, **own)


def test_the_line_ends_in_what_suits():
    assert line("bernoulli", "none", FACES).endswith(
        "what suits these images: --config.data.binarize=none --config.likelihood.name=gaussian "
        "--config.likelihood.scale=shared"
    )


def test_images_are_not_asked_for_where_they_decide_nothing():
    def never():
        raise AssertionError

    assert not mismatch("gaussian", likelihoods.get("gaussian")(), "none", never)
