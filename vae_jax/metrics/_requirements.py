"""What a metric may need of a model and its data beside the codes."""

from collections.abc import Iterable

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset
from vae_jax.model import Model

REQUIREMENTS = {
    "factors": "a dataset with factors (sprites, scenes, dsprites, shapes3d, smallnorb, cars3d)",
    "grey": "images of grey levels or colours, which config.data.binarize=real are not",
    "label": "a dataset with labels",
    "classes": "a dataset with labels or factors",
    "density": "a variant whose codes have a density",
    "posterior": "a variant whose posterior is a diagonal Gaussian",
    "prior": "a variant whose prior has a density that is differentiable by the whole code",
    "discrete": "a variant whose codes come from a finite set (vq)",
    "models": "several models of one dataset: vae-jax udr scores those of a study",
}


def missing_requirement(requires: Iterable[str], model: Model, dataset: Dataset) -> str:
    """The first of `requires` that the model and its data do not have, in words; empty where they have them all."""
    variant, labels, factors = (model.variant, dataset.train.labels is not None, dataset.factors is not None)
    fulfilled = {
        "factors": factors,
        "grey": data.image_dtype("test", dataset.test) is np.uint8,
        "label": labels,
        "classes": labels or factors,
        "density": variant.posterior is not None or variant.sample_with_log_ratio is not None,
        "posterior": variant.posterior is not None,
        # Without a draw of its own a code is the posterior's latents, and log_prior their density.
        "prior": variant.sample_with_log_ratio is None or variant.log_prior is None,
        "discrete": variant.discrete_codes is not None,
        "models": False,
    }
    return next((REQUIREMENTS[requirement] for requirement in requires if not fulfilled[requirement]), "")
