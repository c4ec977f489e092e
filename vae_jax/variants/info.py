"""InfoVAE with the maximum mean discrepancy (Zhao et al. 2019): MMD-VAE and WAE-MMD are special cases.

Purpose    sharp reconstructions
Take it    for codes that keep their information about an image and yet match the prior in aggregate. The rate costs
           nothing here: do not judge it by the ELBO, and take the last checkpoint, not the best.
Command    vae-jax train --config=digits_info --workdir=runs/digits_info

    loss = distortion + beta * rate + lambda_mmd * MMD^2(q(z), p(z)),    q(z) = E_x q(z|x),  p(z) = N(0, I)

In the paper's letters, E_q[log p(x|z)] - (1 - alpha) KL(q(z|x) || p(z)) - (alpha + lambda - 1) D(q(z), p(z)):
beta = 1 - alpha, lambda_mmd = alpha + lambda - 1 and D is MMD^2. Here both weights are free and non-negative.

    beta   lambda_mmd   kernel   deterministic
    1      0            -        no               VAE (alpha = 0, lambda = 1)
    beta   0            -        no               beta-VAE (alpha = 1 - beta = 1 - lambda)
    0      lambda       rbf      no               MMD-VAE (alpha = 1, any lambda); the defaults
    0      lambda       imq      yes or no        WAE-MMD (Tolstikhin et al. 2018, algorithm 2)
    beta   lambda_mmd   either   no               InfoVAE

WAE's cost is the squared error c = |x - G(z)|^2, which is distortion * 2 sigma^2 up to a constant under the
gaussian likelihood: its lambda is 2 sigma^2 * lambda_mmd. Its experiments encode to points, which is `deterministic`: z
is the mean, and a rate is in the loss only if beta > 0. No rate and no ELBO are reported, because a point posterior has
neither. With beta = 0 and noise only MMD constrains sigma.

With u = |z - z'|^2 / (2 latents s), the kernel is the mean over s in `scales` of

    rbf    exp(-u),         the Gaussian kernel of variance latents * s
    imq    1 / (1 + u)      = C / (C + |z - z'|^2),  C = 2 latents s  (Tolstikhin et al. 2018, section 4)

2 latents is E|z - z'|^2 of two draws from the prior, so s = 1 is the prior's own width. WAE's released code adds up the
kernels of these seven scales. With their mean MMD^2 is at most 2, and lambda_mmd does not depend on how many there are:
seven times WAE's lambda is its weight here.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import randomness, registry
from vae_jax.errors import UserError
from vae_jax.models import collectives
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Scalar
from vae_jax.variants import Variant
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "InfoVAE"
"""In the caption of a picture."""

Kernel = Callable[[Codes, Float[Array, "codes latent"]], Float[Array, "batch codes"]]


def gaussian_profile(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """exp(-u), the Gaussian kernel."""
    return jnp.exp(-u)


def inverse_multiquadric(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 / (1 + u)."""
    return 1 / (1 + u)


KERNELS = {"rbf": gaussian_profile, "imq": inverse_multiquadric}


def mean_kernel(name: str, scales: tuple[float, ...]) -> Kernel:
    """k(z, z') for all pairs of two sets of codes: the mean of kernel `name` over `scales`."""
    profile = KERNELS[name]

    def kernel(a, b):
        # By differences: |a|^2 + |b|^2 - 2ab would cancel for codes far from 0.
        square = jnp.sum(jnp.square(a[:, None] - b[None]), axis=-1)
        return sum(profile(square / (2 * a.shape[-1] * scale)) for scale in scales) / len(scales)

    return kernel


def mmd(kernel: Kernel, x: Codes, y: Codes) -> Scalar:
    """MMD^2 of two samples of n codes each, without bias, so at times below 0 (Gretton et al. 2012, eq. 3).

    1/(n(n-1)) sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] - 2/n^2 sum_ij k(x_i, y_j). A sample of one has
    no pairs and says nothing of its distribution: 0.
    """
    n = len(x)
    if n == 1:
        return jnp.zeros(())
    pairs = 1 - jnp.eye(n)
    within = jnp.sum(pairs * (kernel(x, x) + kernel(y, y))) / (n * (n - 1))
    return within - 2 * jnp.mean(kernel(x, y))


def make(
    likelihood: Likelihood,
    *,
    kernel: str = "rbf",
    scales: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    deterministic: bool = False,
) -> Variant:
    """InfoVAE under a pixel likelihood. Raises UserError for an unknown kernel and for scales not above 0."""
    registry.choose("kernel", kernel, KERNELS)
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise UserError(f"scales: {scales} is not allowed; give positive numbers")
    pair_kernel = mean_kernel(kernel, scales)

    def loss(nets, params, batch, key, step, *, beta=0.0, lambda_mmd=1000.0, free_bits=0.0):
        posterior = Gaussian(*nets.encode(params["nets"], batch["image"]))
        z = posterior.mean if deterministic else posterior.sample(key, batch["index"])
        distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
        kl = posterior.kl()
        prior = example_normal(randomness.stream(key, "info/prior"), batch["index"], z.shape[-1])
        discrepancy = mmd(pair_kernel, collectives.all_gather(z), collectives.all_gather(prior))
        terms = {"distortion": distortion, "code": posterior.mean, "mmd": discrepancy}
        if not deterministic:
            rate = jnp.sum(kl, axis=-1)
            terms |= {"elbo": -(distortion + rate), "rate": rate, "kl": kl}
        beta_vae = jnp.mean(distortion) + beta * rate_with_free_bits(kl, free_bits)
        return beta_vae + lambda_mmd * discrepancy, terms

    if deterministic:
        return Variant(loss, posterior=None, bounds="")
    return Variant(loss)
