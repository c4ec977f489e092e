"""The structural similarity of reconstructions of held-out images (Wang et al. 2004, eq. 13).

Purpose    quality of reconstructions
Shows      how near reconstructions are to the images in local light, contrast and structure.
Misleads   on small images, whose window is cut, and on large flat areas, where a faint haze costs much and a black
           border scores for free.

    SSIM = (2 m m' + C1)(2 s_xx' + C2) / ((m^2 + m'^2 + C1)(s_x^2 + s_x'^2 + C2)),    C1 = 0.01^2,  C2 = 0.03^2

with means m, variances s^2 and the covariance s_xx' under a Gaussian window of 11x11 pixels and deviation 1.5, whose
weights sum to 1 (no correction for the count); grey levels range over 1. Averaged over the places where the whole
window fits, channels and images. In [-1, 1], 1 for the same image. x is what the encoder is shown, binarised where
training did that, and x' the expected image at its code, the posterior mean as a rule, clipped to [0, 1]; 10,000
held-out images.
Images of under 11 pixels have the window cut to the largest odd size that fits, of the same deviation; `ssim.window` is
its side, and numbers of other windows do not compare. On flat areas C2 alone dampens noise: a grey haze over a black
border costs much, and a border that is left black raises the mean of a soft picture.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric
from vae_jax.metrics._reconstructions import score_images
from vae_jax.typing import Images, Key, PerExample

WINDOW, DEVIATION = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
SMALLEST = 3
"""Side of the smallest window in which anything varies."""


def gaussian_band(side: int, window: int) -> Float[Array, "place {side}"]:
    """The weights of `window` neighbours at each place where they all fit in `side` pixels."""
    weights = np.exp(-0.5 * np.square((np.arange(window) - window // 2) / DEVIATION))
    band = np.zeros((side - window + 1, side), np.float32)
    for place, row in enumerate(band):
        row[place : place + window] = weights / weights.sum()
    return jnp.asarray(band)


def ssim(a: Images, b: Images, window: int = WINDOW) -> PerExample:
    """The structural similarity of each two images of grey levels in [0, 1] (Wang et al. 2004, eq. 13).

    Args:
        a: images.
        b: others.
        window: pixels on a side of the window, odd, at most those of an image.
    """
    rows, columns = (gaussian_band(side, window) for side in a.shape[1:3])

    def smooth(x):
        return jnp.einsum("ih,nhwc,jw->nijc", rows, x, columns, precision="highest")

    # About the middle grey: squares of numbers far from 0 would cancel.
    a, b = a - 0.5, b - 0.5
    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(jnp.square(a) + jnp.square(b)) - jnp.square(mean_a) - jnp.square(mean_b)
    covariance = smooth(a * b) - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    luminance = (2 * mean_a * mean_b + C1) / (jnp.square(mean_a) + jnp.square(mean_b) + C1)
    return jnp.mean(luminance * (2 * covariance + C2) / (variances + C2), axis=(1, 2, 3))


def largest_window(image_shape: tuple[int, int, int]) -> int:
    """The side of the window: 11, or the largest odd number that fits.

    Raises UserError for images of under 3 pixels a side.
    """
    side = min(WINDOW, *image_shape[:2])
    if side < SMALLEST:
        height, width = image_shape[:2]
        raise UserError(f"images: {height}x{width} pixels are too few for a window; give at least {SMALLEST} a side")
    return side - 1 + side % 2


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The mean structural similarity of reconstructions (Wang et al. 2004, eq. 13), in [-1, 1], and the window's side.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images; 0 takes all.

    Raises:
        UserError: for reconstructions that are not finite, and for images of under 3 pixels a side.
    """
    window = largest_window(context.run.image_shape)
    similarity = score_images(context, images, lambda a, b: ssim(a, b, window))
    return {"ssim": float(similarity.mean()), "ssim.window": window}


METRIC = Metric(compute, requires=("grey",), higher_is_better=True, agreement=("binarize",), minimum={"images": 0})
