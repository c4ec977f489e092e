"""The mutual information gap as Chen et al. 2018 (eq. 6) define it: of samples of z, under the aggregate posterior.

Purpose    disentanglement, where factors are known
Shows      the same gap with the posterior's noise counted in: what noise hides is not information.
Misleads   when posteriors are narrow, as it is then too high; and beside tables of `mig`, which most papers report.

    MIG = mean over factors of (I(z_1st; v) - I(z_2nd; v)) / H(v)
    I(z_j; v) = E_{q(z_j, v)} [log q(z_j | v) - log q(z_j)],    q(z_j | v) = mean of q(z_j | x_n) over images of v

In [0, 1] but for noise. z is drawn from the posterior, so what its noise hides does not count: it is lower than
metrics/mig.py, which cuts posterior means into bins and which most tables report. Chen et al. take all images of the
grid as the mixture, 7 billion densities a latent for 10,000 draws. Here the mixture is of 10,000 of them, drawn without
replacement, with one draw of z from each: exact if these images were the whole data set. Compared with the grid's, the
mixture of a value's few images is lumpy, and what the lumps give away counts as information. So it is too high, by up
to H(v) once posteriors are narrower than the range of the means over the images of a value. If `images` is the size of
the grid, it is the paper's own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax.data._factors import to_classes
from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.models.distributions import Gaussian
from vae_jax.typing import Key


def sampled_information(
    posterior: Gaussian, classes: Int[np.ndarray, "image factor"], key: Key
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " factor"]]:
    """I(z_j; v_k) over these images, one draw of z from each, and H(v_k); nats."""
    values = [np.unique(column, return_inverse=True)[1] for column in classes.T]
    starts = 1 + np.cumsum([0, *(column.max() + 1 for column in values)])
    groups = np.zeros((len(classes), starts[-1]), np.float32)
    groups[:, 0] = 1  # all images, then those of each value of each factor
    members = np.stack([start + column for start, column in zip(starts[:-1], values, strict=True)], axis=1)
    np.put_along_axis(groups, members, 1, axis=1)
    z = posterior.sample(key, jnp.arange(len(classes)))
    log_q = np.asarray(_information.log_mixtures(z, posterior, jnp.asarray(groups)), np.float64)
    log_q_given_value = np.take_along_axis(log_q, members[None], axis=2)
    entropies = np.array([_information.entropy(np.bincount(column)[None].astype(float))[0] for column in values])
    return np.maximum((log_q_given_value - log_q[:, :, :1]).mean(axis=1), 0.0), entropies


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """The mutual information gap of Chen et al. 2018 (eq. 6): the mean over factors, and each one's.

    Args:
        context: the run and its data.
        key: draws the images and z.
        images: how many images of the grid the mixture is of; all where it has no more.
    """
    grid, (images_key, noise_key) = context.grid, jax.random.split(key)
    ids = np.asarray(jax.random.choice(images_key, grid.size, (min(images, grid.size),), replace=False))
    classes = np.asarray(to_classes(grid.sizes, jnp.asarray(ids)))
    varying = [i for i, size in enumerate(grid.sizes) if size > 1 and grid.names[i] not in grid.nuisance]
    information, entropies = sampled_information(context.posterior_at(ids), classes[:, varying], noise_key)
    gaps = _information.gap(information) / np.where(entropies > 0, entropies, np.nan)
    return itemize("mig_sampled", gaps.mean(), [grid.names[i] for i in varying], gaps)


METRIC = Metric(
    compute, requires=("factors", "posterior"), higher_is_better=True, details={"*": True}, minimum={"images": 2}
)
