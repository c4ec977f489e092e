"""Weak supervision by pairs that share some factors (Locatello et al. 2020): Ada-GVAE and Ada-ML-VAE.

    loss = 1/2 sum over the two images of [distortion + beta * rate], both under averaged posteriors:

    d_j  = KL(q(z_j | x_1) || q(z_j | x_2)),    tau = (max_j d_j + min_j d_j) / 2
    q~(z_j | x_i) = average(q(z_j | x_1), q(z_j | x_2))  where d_j < tau, taken to be shared;  else q(z_j | x_i)

`average` says which: "group", mean and variance each the mean of the two (Ada-GVAE; Hosoya 2019), or "product",
their product N(z; m_1, v_1) N(z; m_2, v_2) to the power 1/2, the geometric mean (Ada-ML-VAE; Bouchacourt et al.
2018). The product itself, as ML-VAE is written, has half that variance: two equal posteriors would become
another one. The geometric mean leaves them, and is what the authors of Ada-ML-VAE released.

No label says which factors a pair shares, nor how many. Data with factors give the pairs (config.data.changed
factors differ in each). Where all d_j are equal, two equal images for one, nothing is below tau and nothing
averaged. The code of an image alone is the mean of its own posterior. A posterior that has seen x_2 still gives
a lower bound on log p(x_1), so `elbo` is one, of the two images' mean; `shared` counts averaged latents.
`free_bits` nats of each latent's rate go unpenalised (Kingma et al. 2016, eq. 15).
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool

from vae_jax import randomness, registry
from vae_jax.data import Split
from vae_jax.errors import UserError
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.typing import Codes, PerExample
from vae_jax.variants import Variant
from vae_jax.variants._free_bits import rate_with_free_bits


def shared(one: Gaussian, other: Gaussian) -> Bool[Array, "batch latent"]:
    """Which latents the two posteriors are taken to share: those nearer to the nearest than to the farthest."""
    distance = distributions.kl(one, other)
    threshold = (jnp.max(distance, axis=1, keepdims=True) + jnp.min(distance, axis=1, keepdims=True)) / 2
    return distance < threshold


def group(one: Gaussian, other: Gaussian) -> Gaussian:
    """The mean of the means, and of the variances."""
    return Gaussian((one.mean + other.mean) / 2, jnp.logaddexp(one.logvar, other.logvar) - math.log(2))


def geometric(one: Gaussian, other: Gaussian) -> Gaussian:
    """The normalised geometric mean of the densities: their product at twice its variance."""
    both = distributions.product(one, other)
    return Gaussian(both.mean, both.logvar + math.log(2))


AVERAGES = {"group": group, "product": geometric}


def check(split: Split) -> None:
    """Raises UserError for data without factors: they have no pairs."""
    if split.partner is None:
        raise UserError(
            "variant.name: 'ada' learns from pairs of images that share factors, which this dataset does not "
            "know; take config.data.name=sprites or dsprites"
        )


def make(likelihood: Likelihood, *, average: str = "group") -> Variant:
    """Ada-GVAE or Ada-ML-VAE under a pixel likelihood. Raises UserError for an unknown average."""
    mix = registry.choose("average", average, AVERAGES)

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        one, other = (Gaussian(*nets.encode(params["nets"], batch[name])) for name in ("image", "pair"))
        same, mean = shared(one, other), mix(one, other)

        def bound(own: Gaussian, image, key) -> tuple[PerExample, Codes]:
            posterior = Gaussian(*(jnp.where(same, m, o) for m, o in zip(mean, own, strict=True)))
            z = posterior.sample(key, batch["index"])
            return -likelihood.log_prob(nets.decode(params["nets"], z), image), posterior.kl()

        first = bound(one, batch["image"], key)
        second = bound(other, batch["pair"], randomness.stream(key, "ada/second"))
        distortion, kl = ((a + b) / 2 for a, b in zip(first, second, strict=True))
        rate = jnp.sum(kl, axis=-1)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "kl": kl, "code": one.mean}
        terms["shared"] = jnp.sum(same, axis=-1).astype(jnp.float32)
        return jnp.mean(distortion) + beta * rate_with_free_bits(kl, free_bits), terms

    return Variant(loss, check=check)
