"""A RealNVP (Dinh et al. 2017) of the codes, by maximum likelihood: exact, and of any shape.

    log p(z) = log N(f((z - m) / s); 0, I) + log|det f'| - sum_i log s_i

m and s are mean and standard deviation of each latent; f is eight blocks of a linear map and a coupling
(vae_jax/models/coupling.py), trained by Adam; of 50 moments on the way that with the least -log p of a held-out tenth
of the codes is kept, for on few codes it soon fits them too closely. It needs two latents.
"""

import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.models.coupling import CouplingFlow
from vae_jax.randomness import stream
from vae_jax.samplers import HostCodes, Sampler, _training
from vae_jax.typing import Codes, Key, Params, PerExample

FLOW = CouplingFlow(blocks=8, hidden=(128, 128))


def negative_log_density(params: Params, codes: Codes, key: Key) -> PerExample:
    """-log p of standardised codes, nats per example; nothing is drawn."""
    return -FLOW.log_density(params, codes)


def fit(codes: HostCodes, key: Key, *, steps: int = 3000, learning_rate: float = 1e-3) -> Params:
    """The flow of these codes, by `steps` steps of Adam. Raises UserError for a single latent, and as `_training.fit`.

    Args:
        codes: (n, latent).
        key: of the network at first, the batches and the held-out tenth.
        steps: how many.
        learning_rate: at first.
    """
    latents = codes.shape[1]
    if latents < 2:
        raise UserError("sampler: 'coupling_flow' needs two latents, and this run has one; take 'gmm'")
    moments, standard = _training.standardize(codes)
    start = FLOW.init(stream(key, "init"), latents)
    return {**moments, "flow": _training.fit(negative_log_density, start, standard, key, steps, learning_rate)}


def sample(params: Params, key: Key, count: int) -> Codes:
    """`count` codes; draw i depends on key and i alone."""
    return params["mean"][None] + params["spread"][None] * FLOW.sample(params["flow"], key, count)


def log_density(params: Params, z: Codes) -> PerExample:
    """log p(z), nats per example."""
    standard = (z - params["mean"][None]) / params["spread"][None]
    return FLOW.log_density(params["flow"], standard) - jnp.sum(jnp.log(params["spread"]))


SAMPLER = Sampler(fit, sample, log_density)
