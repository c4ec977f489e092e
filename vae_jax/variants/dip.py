"""DIP-VAE, types I and II (Kumar et al. 2018, eq. 6 and 7): the codes' covariance is pulled towards the identity.

Purpose    disentangled factors
Take it    for uncorrelated latents by a cheap penalty on covariances. Latents that are uncorrelated may still depend on
           one another.
Command    vae-jax train --config=digits_dip --workdir=runs/digits_dip

    loss = distortion + beta * rate + lambda_od * sum_{i != j} S_ij^2 + lambda_d * sum_i (S_ii - 1)^2

    type I     S = Cov_x[mean(x)]
    type II    S = Cov_x[mean(x)] + E_x[diag(sigma^2(x))] = Cov_q(z)[z], by the law of total covariance

With both lambdas zero it is the beta-VAE. Covariances are over the whole batch, divided by its size and not by one
less: the covariance of its empirical distribution, finite for a batch of one. sigma^2 is exp(logvar). Some libraries
take exp(2 logvar), or the diagonal of the batch x latent matrix: other quantities. The square of a batch's covariance
exceeds the data's by about S_ii S_jj / batch for each pair: a floor that only larger batches lower. The defaults are of
type I; type II goes with lambda_d = lambda_od (Locatello et al. 2019). The penalties are logged without their weights.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.models import collectives
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.typing import Codes, Scalar
from vae_jax.variants import Variant, elbo_terms
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "DIP-VAE"
"""In the caption of a picture."""


def empirical_covariance(codes: Codes) -> Float[Array, "latent latent"]:
    """E[(z - E z)(z - E z)^T] over the examples; centred first, E[z z^T] - E[z] E[z]^T cancels far from 0."""
    centred = codes - jnp.mean(codes, axis=0, keepdims=True)
    return jnp.matmul(centred.T, centred, precision=jax.lax.Precision.HIGHEST) / len(codes)


def mean_covariance(posterior: Gaussian) -> Float[Array, "latent latent"]:
    """Cov_x[mean] over the examples."""
    return empirical_covariance(posterior.mean)


def aggregate_covariance(posterior: Gaussian) -> Float[Array, "latent latent"]:
    """Cov_q(z)[z] = Cov_x[mean] + E_x[diag(sigma^2)], q(z) the mean of q(z|x) over the examples (eq. 5)."""
    return mean_covariance(posterior) + jnp.diag(jnp.mean(jnp.exp(posterior.logvar), axis=0))


KINDS = {"I": mean_covariance, "II": aggregate_covariance}


def penalties(s: Float[Array, "latent latent"]) -> tuple[Scalar, Scalar]:
    """sum_{i != j} S_ij^2, each pair counted twice as in the paper, and sum_i (S_ii - 1)^2."""
    diagonal = jnp.diag(s)
    return jnp.sum(jnp.square(s - jnp.diag(diagonal))), jnp.sum(jnp.square(diagonal - 1))


def make(likelihood: Likelihood, *, kind: str = "I") -> Variant:
    """DIP-VAE of type `kind`, "I" or "II", under a pixel likelihood. Raises UserError for another."""
    covariance = registry.choose("kind", kind, KINDS)

    def loss(nets, params, batch, key, step, *, lambda_od=10.0, lambda_d=100.0, beta=1.0, free_bits=0.0):
        posterior, _, terms = elbo_terms(likelihood, nets, params, batch, key)
        batch_posterior = Gaussian(*map(collectives.all_gather, posterior))
        off_diagonal, diagonal = penalties(covariance(batch_posterior))
        terms |= {"covariance_off_diagonal": off_diagonal, "covariance_diagonal": diagonal}
        beta_vae = jnp.mean(terms["distortion"]) + beta * rate_with_free_bits(terms["kl"], free_bits)
        return beta_vae + lambda_od * off_diagonal + lambda_d * diagonal, terms

    return Variant(loss)
