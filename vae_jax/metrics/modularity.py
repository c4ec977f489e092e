"""Modularity (Ridgeway & Mozer 2018, section 3): does each latent know of one factor alone?

Purpose    disentanglement, where factors are known
Shows      whether each latent knows of one factor alone.
Misleads   read alone: independent codes that know nothing score 0.68 on sprites. Read it beside `explicitness`.

    modularity = mean over latents of 1 - sum_{k != k*} I(z_j; v_k)^2 / (I(z_j; v_k*)^2 (K - 1)),    k* the best known

As Locatello et al. 2019 measure it: 10,000 images, posterior means, each latent cut into 20 equally wide bins.
In [0, 1]; 1 where no latent knows of a second factor, 0 where each knows of all alike. Independent codes do not come
near 0: their mutual informations are noise of unequal size (0.68 on sprites). It does not say whether factors are found
at all, or by how many latents: explicitness and completeness do. Information is not divided by the factor's entropy, so
a factor of few values can never weigh as much as one of many. A constant latent knows of nothing and is left out;
disentanglement_lib counts it as 0, which calls a latent that is not used an entangled one. NaN where none is left.
"""

import numpy as np
from jaxtyping import Float

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.typing import Key


def modularity(information: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, " latent"]:
    """The modularity of each latent from its information on each factor; NaN for one without any."""
    square = np.square(information)
    largest = square.max(axis=1)
    others = square.sum(axis=1) - largest
    return 1 - others / np.where(largest > 0, largest * (information.shape[1] - 1), np.nan)


def compute(context: EvaluationContext, key: Key, *, points: int = 10_000, bins: int = 20) -> dict[str, float]:
    """Modularity (Ridgeway & Mozer 2018, section 3): the mean over latents that know of anything, and each one's.

    Args:
        context: the run and its data.
        key: draws the images.
        points: images to draw.
        bins: equally wide bins into which each latent is cut.

    Raises:
        UserError: where one factor alone varies.
    """
    factor_codes = context.factor_codes
    if len(factor_codes.names) < 2:
        raise UserError("factors: only one factor varies, so there is no second one to compare with")
    scores = modularity(_information.binned_information(*factor_codes.draw(key, points), bins)[0])
    known = scores[~np.isnan(scores)]
    return itemize("modularity", known.mean() if len(known) else np.nan, map(str, range(len(scores))), scores)


METRIC = Metric(
    compute, requires=("factors",), higher_is_better=True, details={"*": True}, minimum={"points": 2, "bins": 2}
)
