"""Inverse autoregressive flow (Kingma et al. 2016): `steps` invertible steps bend a Gaussian posterior.

Purpose    a tight bound
Take it    where a Gaussian posterior is too simple: few latents, shallow networks. With many latents and little data it
           fits the training images more closely, and unseen ones no better.
Command    vae-jax train --config=digits_flow --workdir=runs/digits_flow

    z_0 = mean + sigma * epsilon,    z_t = s_t * z_{t-1} + (1 - s_t) * m_t,    s_t = sigmoid(a_t + 2)

    log q(z_T|x) = log N(z_0; mean, sigma^2) - sum_t sum_i log s_ti
    loss = E[-log p(x|z_T)] + beta * E[log q(z_T|x) - log p(z_T)] = distortion + beta * rate

m_ti and a_ti are functions of h(x) and of the latents before i in z_{t-1}, so dz_t / dz_{t-1} is triangular with s_t on
its diagonal. Every other step runs through the latents in reverse order, so that each can come to depend on all others;
latent i of z_T is still latent i of z_0. h is `context` numbers that the encoder gives beside mean and log variance.
The 2 is the forget bias: a new flow is close to the identity, which the paper advises (1 to 2). The paper writes the
step both with a plain m and gated as here. The two are equivalent: the plain m is (1 - s) times this one. With no steps
it is the VAE with a rate of one draw.

The rate is log q - log p at the one z drawn: unbiased, below 0 for some images, and noisier than a closed
form, in the numbers and not only in the gradient. There is no "kl" for each latent: log q(z_T|x) is one number for all
latents, and what each adds to it in the flow's order is not a divergence of its marginal. So there are no free bits.
The code is the flow of the mean, epsilon = 0. That is neither the posterior's mean nor its mode: the flow is not
linear, and the mean would take many draws.

Only q(z|x) changes; the model p(x) stays the VAE's. A flow can close the gap between ELBO and log p(x), and a decoder
that trains against a closer posterior may fit better. It also fits the training images more closely than unseen ones:
on little data watch the held-out ELBO.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax.errors import UserError
from vae_jax.models.distributions import LOG_2PI, Gaussian, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.models.networks._parts import Part, autoregressive
from vae_jax.randomness import example_normal
from vae_jax.typing import Batch, Codes, Images, Key, Params, PerExample
from vae_jax.variants import Variant

TITLE = "VAE with an autoregressive flow"
"""In the caption of a picture."""

FORGET_BIAS = 2.0

Context = Float[Array, "batch context"]


def make_conditioner(hidden: tuple[int, ...]) -> Part:
    """The network of one step: (z, context) -> m and a of each latent; ELU as in the paper, so the flow is smooth."""
    return autoregressive(*hidden, outputs=2, activation=jax.nn.elu)


def flow_step(conditioner: Part, params: Params, z: Codes, context: Context) -> tuple[Codes, PerExample]:
    """s * z + (1 - s) * m and log|det| = sum_i log s_i, nats per example."""
    outputs = conditioner.apply(params, z, context)
    m, gate = outputs[:, :, 0], outputs[:, :, 1] + FORGET_BIAS
    return jax.nn.sigmoid(gate) * z + jax.nn.sigmoid(-gate) * m, jnp.sum(jax.nn.log_sigmoid(gate), axis=-1)


def transform(conditioner: Part, own: Params, z: Codes, context: Context) -> tuple[Codes, PerExample]:
    """z_T of z_0 = `z` and log|det dz_T/dz_0|, nats per example; every other step runs from the last latent back."""
    total_log_det = jnp.zeros(len(z))
    for t in range(len(own)):
        order = slice(None, None, -1 if t % 2 else 1)
        z_t, log_det = flow_step(conditioner, own[f"step_{t}"], z[:, order], context)
        z, total_log_det = z_t[:, order], total_log_det + log_det
    return z, total_log_det


def check_fields(steps: int, hidden: tuple[int, ...], context: int) -> None:
    """Raises UserError for a negative count of steps, a context that is odd or below 2, and widths below 1."""
    if not isinstance(steps, int) or steps < 0:
        raise UserError(f"steps: {steps} is not allowed; give a whole number of at least 0")
    if not isinstance(context, int) or context < 2 or context % 2:
        raise UserError(f"context: {context} is not allowed; give an even number of at least 2")
    if any(not isinstance(width, int) or width < 1 for width in hidden):
        raise UserError(f"hidden: {hidden} is not allowed; give whole numbers of at least 1")


@dataclass(frozen=True)
class Flow:
    """The loss and what surrounds it: `steps` of flow, each by `conditioner` with `context` numbers of h(x)."""

    likelihood: Likelihood
    steps: int
    conditioner: Part
    context: int

    def init(self, key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        """The parameters of each step."""
        keys = jax.random.split(key, max(self.steps, 1))
        dummy_inputs = jnp.zeros((1, latent_dim)), jnp.zeros((1, self.context))
        return {f"step_{t}": self.conditioner.init(keys[t], *dummy_inputs) for t in range(self.steps)}

    def encoder_outputs(self, latent_dim: int) -> int:
        """The latents, and half of the context beside the means, half beside the log variances."""
        return latent_dim + self.context // 2

    def start_and_context(self, nets: Nets, params: Params, image: Images) -> tuple[Gaussian, Context]:
        """q(z_0 | x), and h(x)."""
        mean, logvar = nets.encode(params["nets"], image)
        latents = mean.shape[-1] - self.context // 2
        h = jnp.concatenate([mean[:, latents:], logvar[:, latents:]], axis=-1)
        return Gaussian(mean[:, :latents], logvar[:, :latents]), h

    def sample(self, own: Params, start: Gaussian, h: Context, noise: Codes) -> tuple[Codes, PerExample]:
        """z_T of z_0 = mean + sigma * noise, and log p(z_T) - log q(z_T | x)."""
        z, log_det = transform(self.conditioner, own, start.mean + jnp.exp(0.5 * start.logvar) * noise, h)
        log_q = -0.5 * jnp.sum(jnp.square(noise) + start.logvar + LOG_2PI, axis=-1) - log_det
        return z, standard_normal(z).log_prob(z) - log_q

    def loss(self, nets, params, batch, key, step, *, beta=1.0):
        """distortion + beta * rate, the rate log q(z_T | x) - log p(z_T)."""
        start, h = self.start_and_context(nets, params, batch["image"])
        noise = example_normal(key, batch["index"], start.mean.shape[-1])
        z, log_ratio = self.sample(params["own"], start, h, noise)
        distortion, rate = -self.likelihood.log_prob(nets.decode(params["nets"], z), batch["image"]), -log_ratio
        code, _ = transform(self.conditioner, params["own"], start.mean, h)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "code": code}
        return jnp.mean(distortion) + beta * jnp.mean(rate), terms

    def encode(self, nets: Nets, params: Params, batch: Batch) -> Codes:
        """The flow of the mean of q(z_0 | x)."""
        start, h = self.start_and_context(nets, params, batch["image"])
        return transform(self.conditioner, params["own"], start.mean, h)[0]

    def sample_with_log_ratio(self, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
        """One z_T for each image, and log p(z_T) - log q(z_T | x)."""
        start, h = self.start_and_context(nets, params, batch["image"])
        noise = example_normal(key, batch["index"], start.mean.shape[-1])
        return self.sample(params["own"], start, h, noise)


def make(likelihood: Likelihood, *, steps: int = 4, hidden: tuple[int, ...] = (64,), context: int = 32) -> Variant:
    """The VAE with `steps` of inverse autoregressive flow, each a network of layers `hidden` with `context` inputs.

    Raises UserError as `check_fields` does.
    """
    check_fields(steps, hidden, context)
    flow = Flow(likelihood, steps, make_conditioner(hidden), context)
    return Variant(
        flow.loss,
        flow.init,
        flow.encoder_outputs,
        encode=flow.encode,
        posterior=None,
        sample_with_log_ratio=flow.sample_with_log_ratio,
    )
