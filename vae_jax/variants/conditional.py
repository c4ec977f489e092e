"""The conditional VAE (Sohn et al. 2015) of an image x given its label y: digits of a class that you choose.

Purpose    labels
Take it    where images have labels, to draw a class that you choose, or to have codes of style alone. Its ELBO bounds
           log p(x|y) and compares with no log p(x).
Command    vae-jax train --config=digits_conditional --workdir=runs/digits_conditional

    loss = E_q(z|x,y)[-log p(x|z,y)] + beta * KL(q(z|x,y) || p(z)),    p(z) = N(0, I)
         =        distortion         + beta *          rate

Encoder and decoder get the label. The encoder sees it as one more image channel, a learned plane for each class: before
a dense layer such a plane acts as a bias for each class, and convolutions see it too. The decoder gets the latents and
then the label, one-hot in `classes` numbers. Such a code stands for an image, and the prior draws such codes; without
`labels` draw i is of class i modulo `classes`, the classes in turn.

The paper's x is the condition and its y the output. Its prior is a network, p(z|y) in the letters used here. Here the
prior is N(0, I) whatever the label, as the paper allows and as in Kingma et al. 2014 (model M2 where every label is
known). This loses no image model that a Gaussian p(z|y) would give: a decoder that knows y can shift and scale z
itself, at the same rate. So z need not hold what the label says of the image, and is left with the style: hold z and
change the label.

The ELBO bounds log p(x|y), another quantity than the log p(x) of the other variants: the label costs nothing. If
classes are equally likely, log p(x) >= log p(x|y) - log(classes): for ten classes, subtract log 10 = 2.30 nats from
this ELBO before you compare it with another variant's. Trap: an interpolation between images of two classes decodes
mixtures of labels, which the decoder has never seen. `free_bits` nats of each latent's rate go unpenalised (Kingma et
al. 2016, eq. 15).
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.randomness import example_normal
from vae_jax.typing import Batch, Codes, Images, Key, Params, PerExample, Pixels
from vae_jax.variants import Variant, elbo_terms, gaussian_posterior
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "conditional VAE"
"""In the caption of a picture."""

PLANE_SCALE = 0.1
"""Standard deviation of a plane's first values: small beside pixels; at 0 its weights would have no gradient."""

Labels = Int[Array, "batch"]


def with_label(z: Codes, label: Labels, classes: int) -> Float[Array, "batch code"]:
    """The code of latents and label: (batch, latent) -> (batch, latent + classes)."""
    return jnp.concatenate([z, jax.nn.one_hot(label, classes)], axis=-1)


def condition(nets: Nets, planes: Float[Array, "classes height width 1"], label: Labels) -> Nets:
    """q(z | x, y) and p(x | z, y) of each example's y as functions of x and of z: the networks of a VAE."""

    def encode(params: Params, x: Images) -> tuple[Codes, Codes]:
        return nets.encode(params, jnp.concatenate([x, planes[label]], axis=-1))

    def decode(params: Params, z: Codes) -> Pixels:
        return nets.decode(params, with_label(z, label, len(planes)))

    return nets._replace(encode=encode, decode=decode)


def check_labels(split: Split, classes: int) -> None:
    """Raises UserError unless every image of `split` has a label from 0 to classes - 1."""
    if split.labels is None:
        raise UserError(
            "variant.name: 'conditional' needs labels, and the images of config.data.name have none; "
            "take another variant or other data"
        )
    labels = np.asarray(split.labels)
    if labels.min() < 0:
        raise UserError(f"data.name: its labels start at {labels.min()}; 'conditional' needs them from 0 on")
    if labels.max() >= classes:
        raise UserError(
            f"variant.classes: {classes} is not allowed, the labels go up to {labels.max()}; give {labels.max() + 1}"
        )


def draw_labels(count: int, labels: np.ndarray | None, classes: int) -> np.ndarray:
    """The label of each draw: `labels`, or the classes in turn. Raises UserError for a label of no class."""
    if labels is None:
        return np.arange(count) % classes
    labels = np.asarray(labels)
    unknown = labels[~np.isin(labels, np.arange(classes))]
    if len(unknown):
        raise UserError(f"labels: {unknown[0]} is not allowed; give whole numbers from 0 to {classes - 1}")
    return labels.astype(np.int32)


@dataclass(frozen=True)
class Conditional:
    """The loss and what surrounds it, for labels 0 to `classes` - 1."""

    likelihood: Likelihood
    classes: int

    def init(self, key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        """One plane for each class."""
        return {"planes": PLANE_SCALE * jax.random.normal(key, (self.classes, *image_shape[:2], 1), jnp.float32)}

    def dummy_inputs(self, image_shape: tuple[int, int, int], latent_dim: int) -> tuple[Images, Codes]:
        """An image with a plane, and latents with a label."""
        height, width, colours = image_shape
        return jnp.zeros((1, height, width, colours + 1)), jnp.zeros((1, latent_dim + self.classes))

    def loss(self, nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        """distortion + beta * rate."""
        conditioned = condition(nets, params["own"]["planes"], batch["label"])
        _, _, terms = elbo_terms(self.likelihood, conditioned, params, batch, key)
        return jnp.mean(terms["distortion"]) + beta * rate_with_free_bits(terms["kl"], free_bits), terms

    def posterior(self, nets: Nets, params: Params, batch: Batch) -> Gaussian:
        """q(z | x, y)."""
        return gaussian_posterior(condition(nets, params["own"]["planes"], batch["label"]), params, batch)

    def encode(self, nets: Nets, params: Params, batch: Batch) -> Codes:
        """The mean of q(z | x, y), and y; NaN for a label of no class. Raises UserError where there are no labels."""
        if "label" not in batch:
            raise UserError("labels: missing; a code of this run comes from an image and its label, give both")
        label = batch["label"]
        mean = self.posterior(nets, params, batch).mean
        # Compiled code cannot refuse a label of no class; NaN says so where another class's plane would not.
        known = (label >= 0) & (label < self.classes)
        return jnp.where(known[:, None], with_label(mean, label, self.classes), jnp.nan)

    def sample_with_log_ratio(self, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
        """One code for each image, and log p(z) - log q(z | x, y)."""
        posterior = self.posterior(nets, params, batch)
        z = posterior.sample(key, batch["index"])
        return with_label(z, batch["label"], self.classes), standard_normal(z).log_prob(z) - posterior.log_prob(z)

    def log_prior(self, nets: Nets, params: Params, code: Codes) -> PerExample:
        """log N(z; 0, I) of a code's latents."""
        z = code[:, : code.shape[-1] - self.classes]
        return standard_normal(z).log_prob(z)

    def sample_prior(
        self, nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
    ) -> Codes:
        """z ~ N(0, I), and the label of each: `labels`, or the classes in turn."""
        label = jnp.asarray(draw_labels(count, labels, self.classes))
        return with_label(example_normal(key, jnp.arange(count), latent_dim), label, self.classes)


def make(likelihood: Likelihood, *, classes: int = 10) -> Variant:
    """The conditional VAE of labels 0 to classes - 1. Raises UserError unless there is a class."""
    if classes < 1:
        raise UserError(f"classes: {classes} is not allowed; give a whole number of at least 1")
    conditional = Conditional(likelihood, classes)
    return Variant(
        conditional.loss,
        init=conditional.init,
        dummy_inputs=conditional.dummy_inputs,
        encode=conditional.encode,
        log_prior=conditional.log_prior,
        sample_prior=conditional.sample_prior,
        check=partial(check_labels, classes=classes),
        posterior=conditional.posterior,
        sample_with_log_ratio=conditional.sample_with_log_ratio,
        bounds="log p(x|y)",
        density="log p(x|y)",
    )
