"""How many latents a model uses (Burda et al. 2016, section 5.2).

    active units = #{j : Var_x(E[z_j | x]) > 0.01}

From 0 to the number of latents. Of 10,000 held-out images; it needs no factors. Each latent's variance is beside it.
The bar is in units of the prior's variance: it means nothing for codes of another scale (a VQ-VAE's, say), and a latent
whose posterior has collapsed to a mean that still moves a little is not counted.
"""

import numpy as np

from vae_jax.metrics import Subject, named
from vae_jax.typing import Key

NEEDS = ()
LEAST = {"images": 0}


def compute(subject: Subject, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The count over `images` held-out images (0: all), and the variance of each latent's mean."""
    variance = np.var(subject.codes(images).astype(np.float64), axis=0)
    return named("active_units", count_active_units(variance), map(str, range(len(variance))), variance)


def count_active_units(code_variance: np.ndarray) -> int:
    """How many latents have Cov_x(E_q[z|x]) > 0.01 (Burda et al. 2016, section 5.2)."""
    return int(np.sum(np.asarray(code_variance) > 0.01))
