"""Weak supervision by pairs that share some factors (Locatello et al. 2020): Ada-GVAE and Ada-ML-VAE.

Purpose    disentangled factors
Take it    where images come in pairs that share some factors, and no label says which. Not for single images. Its ELBO
           is for pairs and compares with no other variant's: compare the metric `likelihood`.
Command    vae-jax train --config=sprites:ada --workdir=runs/sprites_ada

    loss = 1/2 sum over the two images of [distortion + beta * rate], both under averaged posteriors:

    d_j  = KL(q(z_j | x_1) || q(z_j | x_2)),    tau = (max_j d_j + min_j d_j) / 2
    q~(z_j | x_i) = average(q(z_j | x_1), q(z_j | x_2))  where d_j < tau, taken to be shared;  else q(z_j | x_i)

`average` is "group" or "product". "group" averages the means and the variances (Ada-GVAE; Hosoya 2019). "product" is
N(z; m_1, v_1) N(z; m_2, v_2) to the power 1/2, the geometric mean (Ada-ML-VAE; Bouchacourt et al. 2018). The product
itself, as ML-VAE is written, has half that variance: two equal posteriors would become a narrower one. The geometric
mean leaves them as they are, and the authors of Ada-ML-VAE released it.

No label says which factors a pair shares, nor how many. Data with factors give the pairs (config.data.changed factors
differ in each). Where all d_j are equal, as for two equal images, nothing is below tau and nothing is averaged. The
code of a single image is the mean of its own posterior. A posterior that has seen x_2 still gives a lower bound on log
p(x_1), so `elbo` is one of the two images' mean, log p(x)/2 + log p(x')/2. The x' of a held-out x is any image of the
grid, training images among them: this ELBO and its parts are never compared with those of another variant. The metrics
`likelihood` and `ais` take images alone, and compare. `shared` counts averaged latents. `free_bits` nats of each
latent's rate go unpenalised (Kingma et al. 2016, eq. 15).
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
from vae_jax.typing import Codes, Images, Key, PerExample
from vae_jax.variants import Variant
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "Ada-VAE"
"""In the caption of a picture."""


def shared_latents(first: Gaussian, second: Gaussian) -> Bool[Array, "batch latent"]:
    """Which latents two posteriors are taken to share: those nearer to the nearest than to the farthest."""
    divergence = distributions.kl(first, second)
    threshold = (jnp.max(divergence, axis=1, keepdims=True) + jnp.min(divergence, axis=1, keepdims=True)) / 2
    return divergence < threshold


def group_average(first: Gaussian, second: Gaussian) -> Gaussian:
    """The mean of the means, and of the variances."""
    return Gaussian((first.mean + second.mean) / 2, jnp.logaddexp(first.logvar, second.logvar) - math.log(2))


def product_average(first: Gaussian, second: Gaussian) -> Gaussian:
    """The normalised geometric mean of the densities: their product at twice its variance."""
    product = distributions.product(first, second)
    return Gaussian(product.mean, product.logvar + math.log(2))


AVERAGES = {"group": group_average, "product": product_average}


def check(split: Split) -> None:
    """Raises UserError for data without factors: they have no pairs."""
    if split.partner is None:
        raise UserError(
            "variant.name: 'ada' learns from pairs of images that share factors, and this dataset has no "
            "known factors; take config.data.name=sprites or dsprites"
        )


def make(likelihood: Likelihood, *, average: str = "group") -> Variant:
    """Ada-GVAE or Ada-ML-VAE under a pixel likelihood. Raises UserError for an unknown average."""
    average_posterior = registry.choose("average", average, AVERAGES)

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        first, second = (Gaussian(*nets.encode(params["nets"], batch[name])) for name in ("image", "pair"))
        shared, average = shared_latents(first, second), average_posterior(first, second)

        def distortion_and_kl(posterior: Gaussian, image: Images, key: Key) -> tuple[PerExample, Codes]:
            posterior = Gaussian(*(jnp.where(shared, a, q) for a, q in zip(average, posterior, strict=True)))
            z = posterior.sample(key, batch["index"])
            return -likelihood.log_prob(nets.decode(params["nets"], z), image), posterior.kl()

        distortion_1, kl_1 = distortion_and_kl(first, batch["image"], key)
        distortion_2, kl_2 = distortion_and_kl(second, batch["pair"], randomness.stream(key, "ada/second"))
        distortion, kl = (distortion_1 + distortion_2) / 2, (kl_1 + kl_2) / 2
        rate = jnp.sum(kl, axis=-1)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "kl": kl, "code": first.mean}
        terms["shared"] = jnp.sum(shared, axis=-1).astype(jnp.float32)
        return jnp.mean(distortion) + beta * rate_with_free_bits(kl, free_bits), terms

    return Variant(loss, check=check, bounds="log p(x)/2 + log p(x')/2")
