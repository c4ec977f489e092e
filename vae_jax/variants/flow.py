"""Inverse autoregressive flow (Kingma et al. 2016): `steps` invertible steps bend a Gaussian posterior.

    z_0 = mean + sigma * epsilon,    z_t = s_t * z_{t-1} + (1 - s_t) * m_t,    s_t = sigmoid(a_t + 2)

    log q(z_T|x) = log N(z_0; mean, sigma^2) - sum_t sum_i log s_ti
    loss = E[-log p(x|z_T)] + beta * E[log q(z_T|x) - log p(z_T)] = distortion + beta * rate

m_ti and a_ti are functions of h(x) and of the latents before i in z_{t-1}, so dz_t / dz_{t-1} is triangular with s_t
on its diagonal. The latents' order turns round with each step, undone after it: latent i of z_T is latent i of
z_0, and each can come to depend on all others. h is `context` numbers that the encoder gives beside mean and log
variance. The 2 is the forget bias: a new flow is close to the identity, which the paper advises (1 to 2).
The paper writes the step with m plain and gated as here; they say the same, an m that is
divided by 1 - s. With no steps it is the VAE with a rate of one draw.

The rate is log q - log p at the one z drawn: unbiased, below 0 for some images, and noisier than a closed
form, in the numbers and not only in the gradient. There is no "kl" of each latent: log q(z_T|x) is one
number of all latents, and what each adds to it in the flow's order is no divergence of its marginal. So there
are no free bits. The code is the flow of the mean, epsilon = 0. That is not the posterior's mean, nor
its mode: the flow is not linear, and the mean would take many draws.

Only q(z|x) changes, the model p(x) stays the VAE's: a flow can close the gap between ELBO and log p(x), and a
decoder that trains against a closer posterior may fit better. It also fits the training images more closely
than unseen ones; on little data the held-out ELBO tells.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax.errors import UserError
from vae_jax.models.distributions import LOG_2PI, Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks._parts import Part, autoregressive
from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Params, PerExample
from vae_jax.variants import Variant

FORGET_BIAS = 2.0

Context = Float[Array, "batch context"]


def conditioner(hidden: tuple[int, ...]) -> Part:
    """The network of one step: (z, context) -> m and a of each latent; ELU as in the paper, so the flow is smooth."""
    return autoregressive(*hidden, outputs=2, activation=jax.nn.elu)


def step(part: Part, params: Params, z: Codes, context: Context) -> tuple[Codes, PerExample]:
    """s * z + (1 - s) * m and log|det| = sum_i log s_i, nats per example."""
    outputs = part.apply(params, z, context)
    m, gate = outputs[:, :, 0], outputs[:, :, 1] + FORGET_BIAS
    return jax.nn.sigmoid(gate) * z + jax.nn.sigmoid(-gate) * m, jnp.sum(jax.nn.log_sigmoid(gate), axis=-1)


def transform(part: Part, own: Params, z: Codes, context: Context) -> tuple[Codes, PerExample]:
    """z_T of z_0 = `z` and log|det dz_T/dz_0|, nats per example; every other step runs from the last latent back."""
    whole = jnp.zeros(len(z))
    for t in range(len(own)):
        turn = slice(None, None, -1 if t % 2 else 1)
        turned, log_det = step(part, own[f"step_{t}"], z[:, turn], context)
        z, whole = turned[:, turn], whole + log_det
    return z, whole


def make(likelihood: Likelihood, *, steps: int = 4, hidden: tuple[int, ...] = (64,), context: int = 32) -> Variant:
    """The VAE with `steps` of inverse autoregressive flow, each a network of layers `hidden` with `context` inputs.

    Raises UserError for a negative count of steps, a context that is odd or below 2, and widths below 1.
    """
    if not isinstance(steps, int) or steps < 0:
        raise UserError(f"steps: {steps} is not allowed; give a whole number of at least 0")
    if not isinstance(context, int) or context < 2 or context % 2:
        raise UserError(f"context: {context} is not allowed; give an even number of at least 2")
    if any(not isinstance(width, int) or width < 1 for width in hidden):
        raise UserError(f"hidden: {hidden} is not allowed; give whole numbers of at least 1")
    part = conditioner(hidden)

    def init(key, image_shape, latent_dim):
        keys = jax.random.split(key, max(steps, 1))
        example = jnp.zeros((1, latent_dim)), jnp.zeros((1, context))
        return {f"step_{t}": part.init(keys[t], *example) for t in range(steps)}

    def start_and_context(nets, params, image):
        mean, logvar = nets.encode(params["nets"], image)
        latents = mean.shape[-1] - context // 2
        h = jnp.concatenate([mean[:, latents:], logvar[:, latents:]], axis=-1)
        return Gaussian(mean[:, :latents], logvar[:, :latents]), h

    def flow(params, start, h, batch, key):
        noise = example_normal(key, batch["index"], start.mean.shape[-1])
        z, log_det = transform(part, params["own"], start.mean + jnp.exp(0.5 * start.logvar) * noise, h)
        log_q = -0.5 * jnp.sum(jnp.square(noise) + start.logvar + LOG_2PI, axis=-1) - log_det
        return z, standard_normal(z).log_prob(z) - log_q

    def sample_with_log_ratio(nets, params, batch, key):
        return flow(params, *start_and_context(nets, params, batch["image"]), batch, key)

    def loss(nets, params, batch, key, step, *, beta=1.0):
        start, h = start_and_context(nets, params, batch["image"])
        z, log_ratio = flow(params, start, h, batch, key)
        distortion, rate = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"]), -log_ratio
        code, _ = transform(part, params["own"], start.mean, h)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "code": code}
        return jnp.mean(distortion) + beta * jnp.mean(rate), terms

    def encode(nets, params, batch):
        start, h = start_and_context(nets, params, batch["image"])
        return transform(part, params["own"], start.mean, h)[0]

    def encoder_outputs(latent_dim):
        return latent_dim + context // 2

    return Variant(
        loss,
        init,
        encoder_outputs,
        encode=encode,
        posterior=None,
        sample_with_log_ratio=sample_with_log_ratio,
    )
