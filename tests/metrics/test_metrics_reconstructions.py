"""How alike images and their reconstructions are, against scikit-image and sums written out."""

import jax
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vae_jax import data, metrics, model, randomness
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.metrics import psnr, ssim
from vae_jax.metrics._requests import parse_requests
from vae_jax.training.step import initial_state

RANDOM = np.random.default_rng(0)


def untrained(*words):
    """A model of digits before its first step, whose codes and reconstructions differ all the same."""
    config = parse_config(["--config=digits", "--config.net.hidden=(8,)", *words])
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    params = jax.jit(lambda: initial_state(built, config, dataset.image_shape))().params
    run = TrainedModel(config.to_dict(), dataset.image_shape, built, params, 0)
    return metrics.EvaluationContext(run, dataset)


@pytest.fixture(scope="module", params=["dynamic", "none"])
def context(request):
    likelihood = ["--config.likelihood.name=gaussian"] if request.param == "none" else []
    return untrained(f"--config.data.binarize={request.param}", *likelihood)


def shown_and_reconstructed(context):
    """40 held-out images as the encoder is shown them, and their reconstructions by the run's own functions."""
    (batch,) = context.held_out(40, 40)
    images = np.asarray(batch["image"])
    return images, np.clip(context.run.decode(context.run.encode(images)), 0, 1)


def test_psnr_is_that_of_scikit_image(context):
    images, reconstructed = shown_and_reconstructed(context)
    assert (np.unique(images).size == 2) == (context.run.config["data"]["binarize"] == "dynamic")
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(images, reconstructed, strict=True)]
    found = psnr.compute(context, jax.random.key(0), images=40)
    np.testing.assert_allclose(found["psnr"], np.mean(expected), rtol=1e-5)
    pooled = peak_signal_noise_ratio(images, reconstructed, data_range=1)
    np.testing.assert_allclose(found["psnr.pooled"], pooled, rtol=1e-5)
    assert found["psnr"] > found["psnr.pooled"]


def test_decibels_by_hand():
    np.testing.assert_allclose(psnr.decibels(np.array([1, 0.1, 1e-3, 0])), [0, 10, 30, np.inf])


@pytest.mark.parametrize(("height", "width", "channels"), [(11, 11, 1), (16, 24, 1), (20, 13, 3)])
def test_ssim_is_that_of_scikit_image(height, width, channels):
    images = RANDOM.random((4, height, width, channels), np.float32)
    images[1], images[2, :, ::2] = 0, 1  # a flat one, and one of stripes
    others = np.clip(images + 0.2 * RANDOM.normal(size=images.shape), 0, 1).astype(np.float32)
    others[3] = 1 - images[3]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = [
        structural_similarity(a, b, channel_axis=-1, **settings)
        for a, b in zip(np.float64(images), np.float64(others), strict=True)
    ]
    np.testing.assert_allclose(jax.jit(ssim.ssim)(images, others), expected, atol=2e-5)
    assert expected[3] < 0 < expected[0]
    np.testing.assert_allclose(jax.jit(ssim.ssim)(images, images), 1, atol=1e-5)


def written_out(a, b, window):
    """The mean similarity of two grey images, place by place."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    scores = []
    for i, j in np.ndindex(a.shape[0] - window + 1, a.shape[1] - window + 1):
        x, y = (image[i : i + window, j : j + window] for image in (a, b))
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        variance_x, variance_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
        top = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
        scores.append(top / ((mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4)))
    return np.mean(scores)


def test_small_images_have_a_smaller_window(context):
    images, reconstructed = shown_and_reconstructed(context)
    pairs = zip(np.float64(images[..., 0]), np.float64(reconstructed[..., 0]), strict=True)
    found = ssim.compute(context, jax.random.key(0), images=40)
    np.testing.assert_allclose(found["ssim"], np.mean([written_out(a, b, 7) for a, b in pairs]), atol=2e-5)
    assert found["ssim.window"] == 7
    assert [ssim.largest_window((side, 40, 1)) for side in (3, 4, 9, 10, 11, 12, 64)] == [3, 3, 9, 9, 11, 11, 11]
    with pytest.raises(UserError, match=r"images: 1x40 pixels are too few for a window; give at least 3 a side"):
        ssim.largest_window((1, 40, 1))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_numbers_of_any_size_are_no_grey_levels(name, context):
    (request,) = parse_requests(name)
    request.check(context.model, context.dataset)
    images = RANDOM.normal(size=(20, 8, 8, 1)).astype(np.float32)
    unbounded = data.from_arrays(images, None, images, None)
    with pytest.raises(UserError, match=rf"--metrics={name}: is not for this run; it needs images of grey levels"):
        request.check(context.model, unbounded)


def test_reconstructions_that_are_not_finite_are_refused(context):
    broken = metrics.EvaluationContext(context.run.with_params(context.run.config, nan_of(context), 0), context.dataset)
    with pytest.raises(UserError, match="images: 40 of 40 reconstructions are not finite"):
        psnr.compute(broken, randomness.root_key(0), images=40)


def nan_of(context):
    return jax.tree.map(lambda leaf: leaf * np.nan, context.run.params)
