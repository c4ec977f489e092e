"""How many latents a model uses (Burda et al. 2016, section 5.2).

Purpose    use of the latents
Shows      how many latents a model uses at all.
Misleads   when codes do not have the scale of N(0, 1), as with `vq`, `rae` or a learned prior; and it does not say how
           much a latent carries.

    active units = #{j : Var_x(E[z_j | x]) > 0.01}

From 0 to the number of latents, over 10,000 held-out images; it needs no factors. Each latent's variance is beside it.
The threshold is in units of the prior's variance: it means nothing for codes of another scale (a VQ-VAE's, say), and a
latent whose posterior has collapsed to a mean that still moves a little is not counted.
"""

import numpy as np

from vae_jax.metrics import EvaluationContext, Metric, itemize
from vae_jax.typing import Key

THRESHOLD = 0.01


def count_active_units(code_variance: np.ndarray) -> int:
    """How many latents have Var_x(E[z_j | x]) > 0.01 (Burda et al. 2016, section 5.2)."""
    return int(np.sum(np.asarray(code_variance) > THRESHOLD))


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The number of active units (Burda et al. 2016, section 5.2), and the variance of each latent's mean.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images the variance is over; 0 takes all.
    """
    variance = np.var(context.codes(images).astype(np.float64), axis=0)
    return itemize("active_units", count_active_units(variance), map(str, range(len(variance))), variance)


METRIC = Metric(compute, unit="latents", minimum={"images": 0})
