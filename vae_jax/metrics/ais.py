"""The log-likelihood of held-out images by annealed importance sampling (Neal 2001; Wu et al. 2017).

Purpose    fit to unseen images
Shows      the same as `likelihood`, however good the encoder is, and how far the estimate may still be off.
Misleads   when the gap is large beside the differences that you read; the gap is measured on simulated images, and real
           ones may be harder.

    pi_t(z) = p(z) p(x|z)^beta_t,    0 = beta_0 < ... < beta_T = 1,    z_0 ~ p(z),  z_t by HMC on pi_t from z_{t-1}

    log p(x) >= E log 1/K sum_k w_k,    log w = sum_t (beta_t - beta_{t-1}) log p(x|z_{t-1})

In nats per image. E[w] = p(x) however good or bad the encoder is, so the estimate is a lower bound in expectation, and
exceeds log p(x) by b nats with probability e^-b at most. It rises with the number of temperatures T and of chains K;
with T = 1 it is importance sampling from the prior. `effective` is (sum w)^2 / (K sum w^2), the mean over images: near
1/K one chain carries all the weight. `standard_error` is that of the mean over images, from the differences between
images.

Images that the model makes itself, z ~ p(z), x ~ p(x|z), show how far the bound is from log p(x), by bidirectional
Monte Carlo (Grosse et al. 2015): their z is an exact draw of p(z|x), and chains run from it back to the prior with
E[w] = 1/p(x).

    simulated_lower  as above,    simulated_upper = -E log 1/K sum_k w_k of the way back,    gap = upper - lower

log p(x) of the simulated images is within the gap, in expectation. Nothing proves that the estimate is as close for
real images, which may be less likely and harder.

beta_t is sigmoid(8 t/T - 4), scaled to [0, 1]. Wu et al. take 10,000 temperatures, 16 chains and moves of 10 leapfrog
steps, on GPUs; the default here has a twentieth of the temperatures: raise them until the gap is small beside the
differences that you compare. Step sizes that adapt to their own chain would break the chain's invariance and with it
the bound. So a pilot run of 4 chains for each image at 400 temperatures adapts a step size for each image and
temperature, towards an acceptance of 0.65. The chains that count are others and start with these step sizes fixed;
`acceptance` is theirs. A pilot magnifies rounding: on another machine the step sizes differ a little, and so does the
draw of the estimate. The default takes 4 minutes of CPU time, 2 minutes on 2 cores, for a decoder of 50-200-200-784;
time is in proportion to images x chains x temperatures x leapfrog steps. A VAE trained on MNIST for 10 epochs has a gap
of 0.11 nats at the default, and of 0.04 at 1,000 temperatures. On beta = 1 of configs/digits.py with data.validation=0,
all 300 test images:

    likelihood:k=5000               -22.267
    ais:images=0:temperatures=100   -22.292    gap 0.22
    ais:images=0                    -22.273    gap 0.05    standard errors, of the images, 0.20

The prior's density must be differentiable by the whole code. That excludes codes with a discrete part (vq, joint) or a
label (conditional), and a prior that is an integral over layers above (ladder). Grey levels under a Bernoulli have no
density, here as in `likelihood`. Both metrics estimate the same quantity for a run: the larger of the two lower bounds
is the better one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import variants
from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric, _annealing
from vae_jax.model import Model
from vae_jax.randomness import example_keys, stream
from vae_jax.typing import Codes, Images, Indices, Key, Params, Pixels

VALUES = 2**19
"""Numbers in the decoder's output at once: images x chains x pixels, 2 MiB."""
PILOT_CHAINS, PILOT_TEMPERATURES = 4, 400

PerImageChain = Float[Array, "image chain"]


def joint_density(model: Model, params: Params, image: Images, chains: int) -> _annealing.Joint:
    """log p(z) and log p(x|z) of codes, `chains` for each image."""
    rows = jnp.repeat(image, chains, axis=0)

    def joint(z):
        decoded = model.nets.decode(params["nets"], z)
        return variants.log_prior(model.variant, model.nets, params, z), model.likelihood.log_prob(decoded, rows)

    return joint


def chain_keys(key: Key, index: Indices, chains: int) -> _annealing.ChainKeys:
    """A key for each chain of each image."""
    numbers = jnp.arange(chains)
    return jax.vmap(lambda key: example_keys(key, numbers))(example_keys(key, index)).reshape(-1)


def sample_starts(
    model: Model, params: Params, key: Key, index: Indices, chains: int, latent_dim: int
) -> _annealing.Positions:
    """Draws from p(z), `chains` for each image."""

    def sample(key):
        return model.variant.sample_prior(model.nets, params, key, chains, latent_dim)

    return jax.vmap(sample)(example_keys(key, index)).reshape(-1, latent_dim)


@dataclass(frozen=True, eq=False)
class Annealing:
    """Chains between the prior and the posterior of images.

    Attributes:
        model: the model.
        latent_dim: its number of latents.
        chains: for each image.
        temperatures: steps from the prior to the posterior.
        leapfrog: steps in a move.
    """

    model: Model
    latent_dim: int
    chains: int
    temperatures: int
    leapfrog: int

    @partial(jax.jit, static_argnums=0)
    def pilot(self, params: Params, image: Images, index: Indices, key: Key) -> _annealing.StepSizes:
        """Step sizes for each image and temperature, from chains that count for nothing."""
        z = sample_starts(self.model, params, stream(key, "ais/pilot_start"), index, PILOT_CHAINS, self.latent_dim)
        keys = chain_keys(stream(key, "ais/pilot"), index, PILOT_CHAINS)
        joint = joint_density(self.model, params, image, PILOT_CHAINS)
        step_sizes = _annealing.adapt_step_sizes(
            joint, keys, z, _annealing.schedule(PILOT_TEMPERATURES), self.leapfrog, len(image)
        )
        return _annealing.resample(step_sizes, self.temperatures)

    def forward(
        self, params: Params, image: Images, index: Indices, key: Key, step_sizes: _annealing.StepSizes
    ) -> tuple[PerImageChain, PerImageChain]:
        """log w of chains from the prior to each image's posterior, and their acceptances."""
        z = self._sample_starts(params, index, stream(key, "ais/start"))
        betas = _annealing.schedule(self.temperatures)
        return self._anneal(params, image, index, stream(key, "ais/forward"), z, betas, step_sizes)

    def reverse(
        self, params: Params, image: Images, index: Indices, key: Key, step_sizes: _annealing.StepSizes, z: Codes
    ) -> tuple[PerImageChain, PerImageChain]:
        """log w of chains from z, an exact draw of each image's posterior, back to the prior, and their acceptances."""
        z, betas = jnp.repeat(z, self.chains, axis=0), _annealing.schedule(self.temperatures)
        return self._anneal(params, image, index, stream(key, "ais/reverse"), z, betas[::-1], step_sizes[::-1])

    @partial(jax.jit, static_argnums=0)
    def _sample_starts(self, params, index, key):
        return sample_starts(self.model, params, key, index, self.chains, self.latent_dim)

    @partial(jax.jit, static_argnums=0)
    def _anneal(self, params, image, index, key, z, betas, step_sizes):
        keys = chain_keys(key, index, self.chains)
        joint = joint_density(self.model, params, image, self.chains)
        log_w, acceptance = _annealing.anneal(joint, keys, z, betas, step_sizes, self.leapfrog)
        return log_w.reshape(len(image), self.chains), acceptance.reshape(len(image), self.chains)


def make_images(
    model: Model, params: Params, key: Key, index: Indices, codes: Codes, decode: Callable[[Params, Codes], Pixels]
) -> Images:
    """The images that the model makes of `codes`: x ~ p(x|z)."""
    return model.likelihood.sample(decode(params["nets"], codes), stream(key, "ais/pixels"), index)


def concatenate(batches: Sequence[tuple[Array, ...]]) -> list[np.ndarray]:
    """The parts of each batch as one, float64."""
    return [np.concatenate(part).astype(np.float64) for part in zip(*jax.device_get(batches), strict=True)]


def anneal_held_out(
    context: EvaluationContext, annealing: Annealing, key: Key, batch_size: int, images: int
) -> list[np.ndarray]:
    """log w and acceptance of (image, chain), from the prior to held-out images."""
    params, batches = context.run.params, []
    for batch in context.held_out(batch_size, images):
        step_sizes = annealing.pilot(params, batch["image"], batch["index"], key)
        batches.append(annealing.forward(params, batch["image"], batch["index"], key, step_sizes))
    return concatenate(batches)


def anneal_simulated(
    context: EvaluationContext, annealing: Annealing, key: Key, batch_size: int, images: int
) -> list[np.ndarray]:
    """log w of (image, chain), forward and back, of images of the model's own."""
    model, params, batches = context.model, context.run.params, []
    codes_key = stream(key, "ais/codes")
    codes = model.variant.sample_prior(model.nets, params, codes_key, images, context.run.latent_dim)
    decode, starts = jax.jit(model.nets.decode), range(0, images, batch_size)
    for start in context.progress(starts, len(starts)):
        z = codes[start : start + batch_size]
        index = jnp.arange(start, start + len(z))
        image = make_images(model, params, key, index, z, decode)
        step_sizes = annealing.pilot(params, image, index, key)
        forward, _ = annealing.forward(params, image, index, key, step_sizes)
        reverse, _ = annealing.reverse(params, image, index, key, step_sizes, z)
        batches.append((forward, reverse))
    return concatenate(batches)


def log_mean(log_w: np.ndarray) -> np.ndarray:
    """log 1/K sum_k w_k of (image, chain). Raises UserError where it is not finite."""
    with np.errstate(invalid="ignore"):
        estimates = np.logaddexp.reduce(log_w, axis=1) - math.log(log_w.shape[1])
    if broken := np.sum(~np.isfinite(estimates)):
        raise UserError(f"ais: {broken} of {len(estimates)} estimates are not finite")
    return estimates


def compute(
    context: EvaluationContext,
    key: Key,
    *,
    images: int = 100,
    chains: int = 16,
    temperatures: int = 500,
    leapfrog: int = 10,
    simulated: int = 50,
) -> dict[str, float]:
    """log p(x) by annealed importance sampling (Neal 2001; Wu et al. 2017), nats per image: a lower bound.

    How far apart it and an upper bound are on images of the model's own is beside it (Grosse et al. 2015).

    Args:
        context: the run and its data.
        key: the randomness.
        images: how many held-out images; 0 takes all.
        chains: for each image.
        temperatures: steps from the prior to the posterior.
        leapfrog: steps in a move.
        simulated: how many images of the model's own; 0 makes none, and no gap.

    Raises:
        UserError: where an estimate is not finite.
    """
    batch_size = max(1, VALUES // (chains * math.prod(context.run.image_shape)))
    annealing = Annealing(context.model, context.run.latent_dim, chains, temperatures, leapfrog)
    log_w, acceptance = anneal_held_out(context, annealing, stream(key, "ais/held_out"), batch_size, images)
    log_p, weights = log_mean(log_w), np.exp(log_w - log_w.max(axis=1, keepdims=True))
    scores = {
        "ais": log_p.mean(),
        "ais.standard_error": log_p.std(ddof=1) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.nan,
        "ais.effective": np.mean(weights.sum(axis=1) ** 2 / (chains * (weights**2).sum(axis=1))),
        "ais.acceptance": acceptance.mean(),
        "ais.images": len(log_p),
    }
    if not simulated:
        return scores
    forward, reverse = anneal_simulated(context, annealing, stream(key, "ais/simulated"), batch_size, simulated)
    lower, upper = log_mean(forward).mean(), -log_mean(reverse).mean()
    return scores | {"ais.simulated_lower": lower, "ais.simulated_upper": upper, "ais.gap": upper - lower}


METRIC = Metric(
    compute,
    requires=("density", "prior"),
    unit="nats per image",
    higher_is_better=True,
    details={"gap": False},
    log_density=True,
    minimum={"chains": 1, "temperatures": 1, "leapfrog": 1, "images": 0, "simulated": 0},
    expensive="thousands of gradients of the decoder for every image",
)
