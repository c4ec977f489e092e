"""A RealNVP prior (Dinh et al. 2017; Xu et al. 2019): the prior is learned by invertible maps of N(0, I).

Purpose    better samples
Take it    for the same gain as `vamp` from one invertible map in place of a mixture. On few images it may fit their
           codes too closely: watch the held-out ELBO.
Command    vae-jax train --config=digits_realnvp --workdir=runs/digits_realnvp

    loss = E_q(z|x)[-log p(x|z)] + beta * E_q(z|x)[log q(z|x) - log p(z)]
    p(z) = N(f(z); 0, I) |det df/dz|

The prior that maximises the ELBO of all images is the aggregate posterior, the mean of q(z|x) over the data; f, trained
with the rest, bends N(0, I) towards it. f is `blocks` blocks of a linear map (shift, stretch, learned mixing) and an
affine coupling whose network has layers `hidden` (vae_jax/models/coupling.py has the equations). The mixing is learned
by triangular factors instead of a fixed permutation or rotation: it needs no constant beside the parameters, and it is
shift and stretch at once. All begin at the identity, so the prior begins as N(0, I). No
normalisation is taken from data: before the first step there are only the codes of an untrained encoder.

`rate` is log q(z|x) - log p(z) at the one z that is decoded, unbiased and for a single image at times below 0. It is
not a sum over latents, so no "kl" is reported, and there are no free bits. Latents have no scale of their own either: z
of size 3 is not far out here, and an unused latent need not look like N(0, 1).

A prior that fits the aggregate posterior of few training images may fit it too closely: on little data watch the
held-out ELBO. A coupling needs two latents.
"""

import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.models.coupling import CouplingFlow
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.typing import Codes, Key, Params, PerExample
from vae_jax.variants import Variant, learned_prior_terms, refuse_labels

TITLE = "VAE with a RealNVP prior"
"""In the caption of a picture."""


def encoder_outputs(latent_dim: int) -> int:
    """A mean and a log variance for each latent. Raises UserError for a single latent."""
    if latent_dim < 2:
        raise UserError(f"latent_dim: {latent_dim} is not allowed; give at least 2, as a coupling needs two")
    return latent_dim


def check_fields(blocks: int, hidden: tuple[int, ...]) -> None:
    """Raises UserError for less than one block, and for widths below 1."""
    if not isinstance(blocks, int) or blocks < 1:
        raise UserError(f"blocks: {blocks} is not allowed; give a whole number of at least 1")
    if any(not isinstance(width, int) or width < 1 for width in hidden):
        raise UserError(f"hidden: {hidden} is not allowed; give whole numbers of at least 1")


def make(likelihood: Likelihood, *, blocks: int = 8, hidden: tuple[int, ...] = (128, 128)) -> Variant:
    """The VAE with a RealNVP prior of `blocks` blocks, each with a network of layers `hidden`.

    Raises UserError as `check_fields` does.
    """
    check_fields(blocks, hidden)
    flow = CouplingFlow(blocks, tuple(hidden))

    def init(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        return flow.init(key, latent_dim)

    def log_prior(nets: Nets, params: Params, z: Codes) -> PerExample:
        """log p(z), nats per example."""
        return flow.log_density(params["own"], z)

    def sample_prior(
        nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
    ) -> Codes:
        """f^-1 of `count` draws from N(0, I); draw i depends on key and i alone. Raises UserError for labels."""
        refuse_labels(labels)
        return flow.sample(params["own"], key, count)

    def loss(nets, params, batch, key, step, *, beta=1.0):
        terms = learned_prior_terms(likelihood, log_prior, nets, params, batch, key)
        return jnp.mean(terms["distortion"] + beta * terms["rate"]), terms

    return Variant(loss, init, encoder_outputs, log_prior=log_prior, sample_prior=sample_prior)
