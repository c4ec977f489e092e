"""The beta-TCVAE (Chen et al. 2018, eq. 4): the rate is split into parts, each with its own weight.

Purpose    disentangled factors
Take it    to lower the total correlation and no other part of the rate. Try it first of this group: it trains no second
           network. The total correlation that it logs is a rough estimate from one batch.
Command    vae-jax train --config=digits_tcvae --workdir=runs/digits_tcvae

    loss = distortion + alpha * MI + beta * TC + gamma * DWKL

    MI   = E[log q(z|x) - log q(z)]              mutual information of image index and code
    TC   = E[log q(z) - sum_j log q(z_j)]        total correlation
    DWKL = E[sum_j log q(z_j) - log p(z_j)]      dimension-wise KL          (eq. 2)

q(z) = 1/N sum_n q(z|x_n) over the N images of the split that the batch is from. At alpha = beta = gamma = 1 the
parts add up to log q(z|x) - log p(z), whose expectation is the rate: the VAE, with a noisier gradient.
`estimator` says how q(z) and q(z_j), z drawn from image i of a batch of B, follow from the batch:

    mws   q(z) ~ 1/(NB) sum_n q(z|x_n)           minibatch-weighted (eq. 5, appendix C.1)
    mss   q(z) ~ sum_n W_in q(z|x_n)             minibatch-stratified (appendix C.2)
          W_ii = 1/N;  one n != i: (N - M)/(NM);  the others: 1/M;  M = B - 1

mss takes image i and M others drawn without replacement. The others must share (N - 1)/N evenly in
expectation, and (M - 1)/M + (N - M)/(NM) = 1 - 1/N: rows sum to 1 and q(z) is unbiased. Libraries that
put 1/N into column 0 of every row, not on the diagonal, are wrong: image i's own density, the largest,
then counts 1/M. mss is still biased after the logarithm: E[log q(z)] is low, so MI is high, at most log N, and TC may
come out low, even below 0 (on digits -0.10 for 0.20, batch 128, 6 latents). mws is a lower bound, log q(z) - log B at
most: its MI is high by log B to log(NB). Its TC is off by about (L - 1) log N for L latents, and not small in any
batch. But N is only a constant there and does not affect the gradient. The logged parts are the estimator's, per image;
"rate" and "elbo" take the closed-form KL, unweighted. A schedule ramps `beta`, the weight of TC alone. There are no
free bits: the loss has no closed-form KL to free them in.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vae_jax.errors import unknown_name
from vae_jax.models import collectives
from vae_jax.models.distributions import LOG_2PI, Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.typing import Codes, PerExample
from vae_jax.variants import Variant, elbo_terms

TITLE = "beta-TCVAE"
"""In the caption of a picture."""

ESTIMATORS = ("mws", "mss")


class Decomposition(NamedTuple):
    """The three parts of log q(z|x) - log p(z) at one z for each example, nats."""

    mutual_information: PerExample
    total_correlation: PerExample
    dimension_wise_kl: PerExample


def log_weights(
    estimator: str, positions: Int[Array, " share"], batch_size: int, size: int
) -> Float[Array, "share whole"]:
    """log W: the weight of each posterior of a whole batch in q(z), z from the example at each of `positions`.

    A batch of one has no others, and its weight under "mss" is 1.

    Args:
        estimator: "mws" or "mss".
        positions: where in the batch this device's examples lie.
        batch_size: B.
        size: N, at least `batch_size`.
    """
    if estimator == "mws":
        return jnp.full((len(positions), batch_size), -math.log(size * batch_size))
    others = batch_size - 1
    if not others:
        return jnp.zeros((len(positions), 1))
    # Which of the others stands for the batches without image i is arbitrary: the next one, round the batch.
    offset = (jnp.arange(batch_size)[None, :] - positions[:, None]) % batch_size
    log_w_next = math.log((size - others) / (size * others))
    return jnp.where(offset == 0, -math.log(size), jnp.where(offset == 1, log_w_next, -math.log(others)))


def decompose(
    z: Codes, positions: Int[Array, " share"], posterior: Gaussian, batch_posterior: Gaussian, estimator: str, size: int
) -> Decomposition:
    """The parts at each z (eq. 2).

    Args:
        z: one code from each Gaussian of `posterior`.
        positions: where these lie in the whole batch.
        posterior: q(z|x) of this device's examples.
        batch_posterior: q(z|x) of the whole batch.
        estimator: "mws" or "mss".
        size: N, the images of the split.
    """
    difference = z[:, None, :] - batch_posterior.mean[None, :, :]
    logvar = batch_posterior.logvar[None, :, :]
    log_q = -0.5 * (jnp.square(difference) * jnp.exp(-logvar) + logvar + LOG_2PI)
    weights = log_weights(estimator, positions, len(batch_posterior.mean), size)
    joint = jax.nn.logsumexp(weights + jnp.sum(log_q, axis=-1), axis=1)
    marginals = jnp.sum(jax.nn.logsumexp(weights[:, :, None] + log_q, axis=1), axis=-1)
    prior = standard_normal(z).log_prob(z)
    return Decomposition(posterior.log_prob(z) - joint, joint - marginals, marginals - prior)


def make(likelihood: Likelihood, *, estimator: str = "mws") -> Variant:
    """The beta-TCVAE under a pixel likelihood. Raises UserError for an unknown estimator."""
    if estimator not in ESTIMATORS:
        raise unknown_name("estimator", estimator, ESTIMATORS)

    def loss(nets, params, batch, key, step, *, alpha=1.0, beta=6.0, gamma=1.0):
        posterior, z, terms = elbo_terms(likelihood, nets, params, batch, key)
        # Each device takes its own z against the posteriors of all: the mean over devices is the whole batch's.
        batch_posterior = Gaussian(*map(collectives.all_gather, posterior))
        positions = collectives.batch_positions(len(z))
        mi, tc, dwkl = parts = decompose(z, positions, posterior, batch_posterior, estimator, batch["size"])
        return jnp.mean(terms["distortion"] + (alpha * mi + beta * tc + gamma * dwkl)), {**terms, **parts._asdict()}

    return Variant(loss)
