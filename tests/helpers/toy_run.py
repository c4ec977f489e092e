"""A run whose networks are known: an image's pixels are its code, and a code's numbers the pixels of its image."""

import jax.numpy as jnp
import numpy as np

from vae_jax.config import defaults
from vae_jax.data._factors import to_classes
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.plots.subject import Subject

SIZES = (3, 6, 40)


def render_classes(ids):
    """Images of one row whose pixels are the classes of the factors."""
    return to_classes(SIZES, ids)[:, None, :, None].astype(jnp.uint8)


class ToyRun(TrainedModel):
    """Stands in for a trained run: an image's pixels are its code."""

    def __init__(self, image_shape, labelled_prior=False, **variant):
        self.config = {
            "seed": 3,
            "latent_dim": 16,
            "net": defaults.section("net", "mlp").to_dict(),
            "data": defaults.section("data", "digits", binarize="none").to_dict(),
            "train": {"steps": 100},
            "variant": defaults.section("variant", "beta", **variant).to_dict(),
        }
        self.step, self.checkpoint = 100, "latest"
        self.image_shape, self.labelled_prior = image_shape, labelled_prior
        self.latent_dim = self.code_dim = image_shape[1]

    def encode(self, images, labels=None):
        return images.reshape(len(images), -1).astype(np.float32)

    def decode(self, codes):
        return codes.reshape(-1, *self.image_shape) / 255

    def sample(self, key, count, labels=None):
        if labels is not None and not self.labelled_prior:
            raise UserError("labels: this run's prior is the same for every label; leave them out")
        values = np.zeros(count) if labels is None else labels
        return np.broadcast_to(values.reshape(-1, 1, 1, 1), (count, *self.image_shape))


def subject_of(run, **numbers):
    return Subject.describe(run, numbers, np.zeros((1, *run.image_shape), np.uint8))
