"""The conditional VAE (Sohn et al. 2015) of an image x given its label y: digits of the class one asks for.

    loss = E_q(z|x,y)[-log p(x|z,y)] + beta * KL(q(z|x,y) || p(z)),    p(z) = N(0, I)
         =        distortion         + beta *          rate

Encoder and decoder are told the label. The encoder sees one more image channel, a learned plane for each
class: before a dense layer that is any bias for each class, and convolutions see it too. The decoder takes
the latents and then the label as one of `classes` numbers that is 1: such a code is what stands for an
image, and what prior draws are; without `labels` draw i is of class i modulo `classes`, the classes in turn.

In the paper's letters x is what is given and y what is made. There the prior is a network's, p(z|y) in
the letters here. Here it is N(0, I) whatever the label, as the paper allows and as in Kingma et al. 2014 (model
M2 where every label is known). No image model is lost that a Gaussian p(z|y) would give: a decoder that
knows y can shift and scale z itself, at the same rate. What the label says of the image then need
not be in z, which is left with the style: hold it and change the label.

The ELBO bounds log p(x|y), another quantity than the log p(x) of the other variants: the label is known for
nothing. If classes are equally likely, log p(x) >= log p(x|y) - log(classes): subtract log 10 = 2.30 nats
from this ELBO for ten classes before holding it against another's. Trap: between images of two classes an
interpolation decodes mixtures of labels, which the decoder was never given.
`free_bits` nats of each latent's rate go unpenalised (Kingma et al. 2016, eq. 15).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models.distributions import standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Images
from vae_jax.variants import Variant, elbo_terms, gaussian_posterior
from vae_jax.variants._free_bits import rate_with_free_bits

PLANE_SCALE = 0.1
"""Standard deviation of a plane's first values: small beside pixels; at 0 its weights would have no gradient."""

Labels = Int[Array, "batch"]


def beside(z: Codes, label: Labels, classes: int) -> Float[Array, "batch code"]:
    """The code of latents and label: (batch, latent) -> (batch, latent + classes)."""
    return jnp.concatenate([z, jax.nn.one_hot(label, classes)], axis=-1)


def given(nets: Nets, planes: Float[Array, "classes height width 1"], label: Labels) -> Nets:
    """q(z | x, y) and p(x | z, y) of each example's y as functions of x and of z: the networks of a VAE."""

    def encode(params, x: Images) -> tuple[Codes, Codes]:
        return nets.encode(params, jnp.concatenate([x, planes[label]], axis=-1))

    def decode(params, z: Codes):
        return nets.decode(params, beside(z, label, len(planes)))

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


def labels_of(count: int, labels: np.ndarray | None, classes: int) -> np.ndarray:
    """The label of each draw: those given, or the classes in turn. Raises UserError for one of no class."""
    if labels is None:
        return np.arange(count) % classes
    labels = np.asarray(labels)
    unknown = labels[~np.isin(labels, np.arange(classes))]
    if len(unknown):
        raise UserError(f"labels: {unknown[0]} is not allowed; give whole numbers from 0 to {classes - 1}")
    return labels.astype(np.int32)


def make(likelihood: Likelihood, *, classes: int = 10) -> Variant:
    """The conditional VAE of labels 0 to classes - 1. Raises UserError unless there is a class."""
    if classes < 1:
        raise UserError(f"classes: {classes} is not allowed; give a whole number of at least 1")

    def init(key, image_shape, latent_dim):
        return {"planes": PLANE_SCALE * jax.random.normal(key, (classes, *image_shape[:2], 1))}

    def dummy_inputs(image_shape, latent_dim):
        height, width, colours = image_shape
        return jnp.zeros((1, height, width, colours + 1)), jnp.zeros((1, latent_dim + classes))

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        told = given(nets, params["own"]["planes"], batch["label"])
        _, _, terms = elbo_terms(likelihood, told, params, batch, key)
        return jnp.mean(terms["distortion"]) + beta * rate_with_free_bits(terms["kl"], free_bits), terms

    def encode(nets, params, batch):
        if "label" not in batch:
            raise UserError("labels: missing; a code of this run is of an image and its label, give both")
        label = batch["label"]
        mean, _ = given(nets, params["own"]["planes"], label).encode(params["nets"], batch["image"])
        # Compiled code cannot refuse a label of no class; NaN says so where another class's plane would not.
        known = (label >= 0) & (label < classes)
        return jnp.where(known[:, None], beside(mean, label, classes), jnp.nan)

    def posterior(nets, params, batch):
        return gaussian_posterior(given(nets, params["own"]["planes"], batch["label"]), params, batch)

    def sample_with_log_ratio(nets, params, batch, key):
        q = posterior(nets, params, batch)
        z = q.sample(key, batch["index"])
        return beside(z, batch["label"], classes), standard_normal(z).log_prob(z) - q.log_prob(z)

    def log_prior(nets, params, code):
        z = code[:, : code.shape[-1] - classes]
        return standard_normal(z).log_prob(z)

    def sample_prior(nets, params, key, count, latent_dim, labels=None):
        label = jnp.asarray(labels_of(count, labels, classes))
        return beside(example_normal(key, jnp.arange(count), latent_dim), label, classes)

    return Variant(
        loss,
        init=init,
        dummy_inputs=dummy_inputs,
        encode=encode,
        log_prior=log_prior,
        sample_prior=sample_prior,
        check=lambda split: check_labels(split, classes),
        posterior=posterior,
        sample_with_log_ratio=sample_with_log_ratio,
    )
