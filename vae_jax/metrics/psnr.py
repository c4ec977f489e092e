"""The peak signal-to-noise ratio of reconstructions of held-out images.

Purpose    quality of reconstructions
Shows      how near reconstructions are to the images, pixel by pixel.
Misleads   as a measure of looks: blur scores well, a sharp edge out of place badly. On black and white images it
           compares with no other number.

    PSNR = mean over images of 10 log10(1 / MSE_i),    MSE_i = mean over pixels and channels of (x - x')^2

In decibels; the peak is 1, the range of grey levels. x is what the encoder is shown, binarised where training did that,
and x' the expected image at its code, the posterior mean as a rule, clipped to [0, 1]; 10,000 held-out images.
`psnr.pooled` is 10 log10(1 / mean MSE), one ratio of all pixels: never above the mean, and the same where all images
come out alike. Papers give either, and seldom say which. It is infinite where an image comes out exactly. A mean of
squares rewards blur: a sharp edge out of place costs twice a soft one. For black and white images it measures how sure
the decoder is of each pixel, and does not compare with a PSNR of grey images.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vae_jax.metrics import EvaluationContext, Metric
from vae_jax.metrics._reconstructions import score_images
from vae_jax.typing import Images, Key, PerExample


def mean_square(a: Images, b: Images) -> PerExample:
    """The mean square difference of each two images, over pixels and channels."""
    return jnp.mean(jnp.square(a - b), axis=(1, 2, 3))


def decibels(error: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """10 log10(1 / error), infinite for 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The mean PSNR of reconstructions, in decibels, and that of all pixels as one.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images; 0 takes all.

    Raises:
        UserError: for reconstructions that are not finite.
    """
    error = score_images(context, images, mean_square)
    return {"psnr": float(decibels(error).mean()), "psnr.pooled": decibels(error.mean(keepdims=True)).item()}


METRIC = Metric(
    compute,
    requires=("grey",),
    unit="decibels",
    higher_is_better=True,
    agreement=("binarize",),
    details={"pooled": True},
    minimum={"images": 0},
)
