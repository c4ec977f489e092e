"""The mutual information gap: how much more the best latent knows of a factor than the next best does.

    MIG = mean over factors of (I(z_1st; v) - I(z_2nd; v)) / H(v)

As Locatello et al. 2019 measure it: 10,000 images, posterior means, each latent cut into 20 equally wide bins. In
[0, 1]; 1 where each factor has one latent to itself and no bin holds two of its values: the 32 places of sprites, in 20
bins, allow 0.85 at most. Chen et al. 2018 (eq. 6), who gave the score its name, take another quantity, samples of z and
the aggregate posterior: metrics/mig_sampled.py. The bins favour codes that fill their range evenly, a far outlier
costs resolution, and finite counts leave some (bins - 1)(values - 1) / (2 images) nats of information between what is
independent. With a single latent there is no second and the gap is its own.
"""

import numpy as np
from jaxtyping import Float, Int

from vae_jax.metrics import Subject, _information, named
from vae_jax.typing import Key

NEEDS = ("factors",)
LEAST = {"points": 2, "bins": 2}


def gaps(
    codes: Float[np.ndarray, "image latent"], classes: Int[np.ndarray, "image factor"], bins: int
) -> Float[np.ndarray, " factor"]:
    """(I_1st - I_2nd) / H of each factor; NaN for one of a single value, which nothing can know."""
    known, entropy = _information.informative(codes, classes, bins)
    return _information.gap(known) / np.where(entropy > 0, entropy, np.nan)


def compute(subject: Subject, key: Key, *, points: int = 10_000, bins: int = 20) -> dict[str, float]:
    """The gap, averaged over factors and of each."""
    each = gaps(*subject.coded.draw(key, points), bins)
    return named("mig", each.mean(), subject.coded.names, each)
