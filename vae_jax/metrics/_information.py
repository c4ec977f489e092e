"""Entropies and mutual information in nats: of codes in bins against factors' classes, and mixtures of posteriors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vae_jax.models.distributions import LOG_2PI, Gaussian

Counts = Float[np.ndarray, "a b x y"]


def assign_bins(codes: Float[np.ndarray, "image latent"], count: int) -> Int[np.ndarray, "image latent"]:
    """Which of `count` equally wide bins, from the least to the largest value of a latent, each code is in.

    A constant latent is in one bin.
    """
    low, high = codes.min(axis=0), codes.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum(((codes - low) / width * count).astype(np.int32), count - 1)


@jax.jit
def _matches(a, b):
    return jnp.einsum("nax,nby->abxy", a, b)


def joint_counts(a: Int[np.ndarray, "image a"], b: Int[np.ndarray, "image b"], sizes: tuple[int, int]) -> Counts:
    """How often a column of `a` is x where a column of `b` is y, for all columns and x < sizes[0], y < sizes[1]."""
    one_hot = [jax.nn.one_hot(jnp.asarray(columns), size) for columns, size in zip((a, b), sizes, strict=True)]
    return np.asarray(_matches(*one_hot), np.float64)


def entropy(counts: Float[np.ndarray, "... x"]) -> Float[np.ndarray, "..."]:
    """-sum p log p over the last axis, nats, 0 log 0 being 0."""
    p = counts / counts.sum(axis=-1, keepdims=True)
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def mutual_information(counts: Counts) -> Float[np.ndarray, "a b"]:
    """I(a; b) = H(a) + H(b) - H(a, b) of each pair of columns, nats, never below 0."""
    joint = entropy(counts.reshape(*counts.shape[:2], -1))
    return np.maximum(entropy(counts.sum(axis=3)) + entropy(counts.sum(axis=2)) - joint, 0.0)


def binned_information(
    codes: Float[np.ndarray, "image latent"], classes: Int[np.ndarray, "image factor"], count: int
) -> tuple[Float[np.ndarray, "latent factor"], Float[np.ndarray, " factor"]]:
    """Mutual information of each latent, in `count` bins, with each factor, and the factors' entropies; nats."""
    counts = joint_counts(assign_bins(codes, count), classes, (count, int(classes.max()) + 1))
    return mutual_information(counts), entropy(counts[0].sum(axis=1))


def gap(scores: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, " factor"]:
    """By how much the best latent of each factor is ahead of the second; one alone, by all that it has."""
    ordered = np.sort(np.pad(scores, ((1, 0), (0, 0))), axis=0)
    return ordered[-1] - ordered[-2]


@jax.jit
def log_mixtures(
    z: Float[Array, "draw latent"], posterior: Gaussian, groups: Float[Array, "image group"]
) -> Float[Array, "latent draw group"]:
    """log 1/|g| sum_{n in g} q(z_j | x_n) at each draw's z_j: the density of each latent in each group of images.

    `groups` has 1 where an image is of a group. draws x images x latents densities, few of them at a time.
    """
    sizes = jnp.sum(groups, axis=0)

    def latent_mixtures(latent):
        z, mean, logvar = latent

        def mixtures(draw):
            log_q = -0.5 * (jnp.square(draw - mean) * jnp.exp(-logvar) + logvar + LOG_2PI)
            top = jnp.max(log_q)
            return jnp.log(jnp.exp(log_q - top) @ groups) - jnp.log(sizes) + top

        return jax.lax.map(mixtures, z, batch_size=128)

    return jax.lax.map(latent_mixtures, (z.T, posterior.mean.T, posterior.logvar.T))


@jax.jit
def log_aggregate(
    z: Float[Array, "image latent"], posterior: Gaussian
) -> tuple[Float[Array, " image"], Float[Array, " image"]]:
    """log 1/N sum_n q(z | x_n) at each image's own draw z, and the same without the image's own posterior.

    By differences and not as matrix products of squares, which cancel: where posteriors are narrow and far apart, an
    image's own density decides, and has to be right. images x images x latents of them, few images at a time.
    """
    count = len(z)

    def mixtures(draw):
        z, image = draw

        def add_latent(total, latent):
            z, mean, logvar = latent
            return total + jnp.square(z - mean) * jnp.exp(-logvar) + logvar + LOG_2PI, None

        log_q = -0.5 * jax.lax.scan(add_latent, jnp.zeros(count), (z, posterior.mean.T, posterior.logvar.T))[0]
        others = jnp.where(jnp.arange(count) == image, -jnp.inf, log_q)
        return jax.nn.logsumexp(log_q) - jnp.log(count), jax.nn.logsumexp(others) - jnp.log(count - 1)

    return jax.lax.map(mixtures, (z, jnp.arange(count)), batch_size=128)
