"""The log-likelihood of held-out images by annealed importance sampling (Neal 2001; Wu et al. 2017).

    pi_t(z) = p(z) p(x|z)^beta_t,    0 = beta_0 < ... < beta_T = 1,    z_0 ~ p(z),  z_t by HMC on pi_t from z_{t-1}

    log p(x) >= E log 1/K sum_k w_k,    log w = sum_t (beta_t - beta_{t-1}) log p(x|z_{t-1})

In nats per image. E[w] = p(x) whatever the encoder is worth, so the estimate is a lower bound in expectation, and
exceeds log p(x) by b nats with probability e^-b at most. It rises with the number of temperatures T and of chains K;
with T = 1 it is importance sampling from the prior. `effective` is (sum w)^2 / (K sum w^2), the mean over images: near
1/K one chain carries all the weight. `standard_error` is that of the mean over images, of the images' own differences.

How far the bound is from log p(x) shows on images that the model makes itself, z ~ p(z), x ~ p(x|z), by
bidirectional Monte Carlo (Grosse et al. 2015): their z is an exact draw of p(z|x), from which chains run back to the
prior with E[w] = 1/p(x).

    simulated_lower  as above,    simulated_upper = -E log 1/K sum_k w_k of the way back,    gap = upper - lower

log p(x) of the simulated images is within the gap, in expectation. That the estimate is as close for real images,
which may be less likely and harder, is a hope and no proof.

beta_t is sigmoid(8 t/T - 4), scaled to [0, 1]. Wu et al. take 10,000 temperatures, 16 chains and moves of 10 leapfrog
steps, on GPUs; the default here has a twentieth of the temperatures: raise them until the gap is small beside what is
to be told apart. Step sizes that adapt to the chain they move would cost it its invariance and the estimate its bound:
a pilot run, of 4 chains for each image at 400 temperatures, adapts one for each image and temperature towards an
acceptance of 0.65, and the chains that count are others, whose step sizes are fixed before they start. `acceptance` is
theirs. A pilot magnifies rounding: another machine gives other step sizes, a little, and another draw of the estimate.
The default takes 4 minutes of CPU time, 2 on 2 cores, for a decoder of 50-200-200-784, and in proportion to images x
chains x temperatures x leapfrog steps; a VAE trained on MNIST for 10 epochs has a gap of 0.11 nats there, and of 0.04
at 1,000 temperatures. On beta = 1 of configs/digits.py, all 300 held-out images:

    likelihood:k=5000               -22.267
    ais:images=0:temperatures=100   -22.292    gap 0.22
    ais:images=0                    -22.273    gap 0.05    standard errors, of the images, 0.20

For variants whose prior density can be differentiated by the whole code: a part that is discrete (vq, joint), a label
(conditional) or an integral over layers above (ladder) cannot. Grey levels under a Bernoulli have no density, here as
in `likelihood`, of which the same run's estimate is the same quantity: the larger of two lower bounds is the better.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from jaxtyping import Key as KeyArray

from vae_jax import variants
from vae_jax.errors import UserError
from vae_jax.metrics import Subject, _hmc
from vae_jax.model import Model
from vae_jax.randomness import example_keys
from vae_jax.typing import Codes, Images, Indices, Key, Params, Pixels

NEEDS = ("density", "prior")
BY_NAME = "thousands of gradients of the decoder for every image"
LEAST = {"chains": 1, "temperatures": 1, "leapfrog": 1, "images": 0, "simulated": 0}
VALUES = 2**19
"""Numbers in the decoder's output at once: images x chains x pixels, 2 MiB."""
SHARPNESS = 4.0
PILOT_CHAINS, PILOT_TEMPERATURES, WARM_UP = 4, 400, 50
FIRST_STEP, RATE, ACCEPTANCE = 0.5, 0.2, 0.65
HELD_OUT, SIMULATED = range(2)
PILOT, PILOT_START, START, FORWARD, REVERSE, CODES, PIXELS = range(7)
"""Purposes: each use of randomness folds its own number into the key."""

ChainKeys = KeyArray[Array, "chain"]
Positions = Float[Array, "chain latent"]
"""The code of each chain; the chains of an image are in a row."""
PerChain = Float[Array, "chain"]
PerImage = Float[Array, "image"]
Parts = Callable[[Positions], tuple[PerChain, PerChain]]
"""z -> log p(z) and log p(x|z), nats."""
Betas = Float[Array, "temperature"]
StepSizes = Float[Array, "temperature image"]


def schedule(temperatures: int) -> Betas:
    """beta_0 = 0 to beta_T = 1: T steps, short at both ends; on digits at T = 100 equal ones leave twice the gap."""
    rise = 1 / (1 + np.exp(-SHARPNESS * np.linspace(-1, 1, temperatures + 1)))
    return jnp.asarray((rise - rise[0]) / (rise[-1] - rise[0]), jnp.float32)


def at(parts: Parts, beta: Float[Array, ""]) -> _hmc.LogDensity:
    """log p(z) + beta log p(x|z)."""

    def log_density(z):
        log_prior, log_likelihood = parts(z)
        return log_prior + beta * log_likelihood

    return log_density


def moved(
    parts: Parts,
    beta: Float[Array, ""],
    keys: ChainKeys,
    number: Array,
    z: Positions,
    step_size: PerImage,
    leapfrog: int,
) -> tuple[Positions, PerChain]:
    """Move `number` of each chain, at `beta`, with the step size of its image, and how it was accepted."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
    rows = jnp.repeat(step_size, len(z) // len(step_size))
    return _hmc.transition(at(parts, beta), keys, z, rows, leapfrog)


def adapted(parts: Parts, keys: ChainKeys, z: Positions, betas: Betas, leapfrog: int, images: int) -> StepSizes:
    """Step sizes towards ACCEPTANCE of `images` and each of `betas`, from chains, as many for each image, at prior
    draws z: log eps rises by RATE (acceptance - ACCEPTANCE) with each move.
    """

    def visit(carry, inputs):
        z, log_step = carry
        number, beta = inputs
        z, acceptance = moved(parts, beta, keys, number, z, jnp.exp(log_step), leapfrog)
        log_step = log_step + RATE * (jnp.mean(acceptance.reshape(images, -1), axis=1) - ACCEPTANCE)
        return (z, log_step), log_step

    betas = jnp.concatenate([jnp.zeros(WARM_UP), betas])
    start = (z, jnp.full(images, math.log(FIRST_STEP)))
    _, log_steps = jax.lax.scan(visit, start, (jnp.arange(len(betas)), betas))
    return jnp.exp(log_steps[WARM_UP:])


def between(step_sizes: StepSizes, temperatures: int) -> Float[Array, "place image"]:
    """The step sizes of a schedule of other length: log eps linear in t/T."""
    places = jnp.linspace(0, 1, temperatures + 1), jnp.linspace(0, 1, len(step_sizes))
    return jnp.exp(jax.vmap(lambda each: jnp.interp(*places, each), 1, 1)(jnp.log(step_sizes)))


def anneal(
    parts: Parts, keys: ChainKeys, z: Positions, betas: Betas, step_sizes: StepSizes, leapfrog: int
) -> tuple[PerChain, PerChain]:
    """log w of each chain that starts at z, a draw of the target at betas[0], and its mean acceptance.

    `betas` may rise or fall. The last move counts for nothing, and makes all visits alike.
    """

    def visit(carry, inputs):
        z, log_w = carry
        number, beta, after, step_size = inputs
        log_w = log_w + (after - beta) * parts(z)[1]
        z, acceptance = moved(parts, after, keys, number, z, step_size, leapfrog)
        return (z, log_w), acceptance

    inputs = (jnp.arange(len(betas) - 1), betas[:-1], betas[1:], step_sizes[1:])
    (_, log_w), acceptance = jax.lax.scan(visit, (z, jnp.zeros(len(z))), inputs)
    return log_w, jnp.mean(acceptance, axis=0)


def parts_of(model: Model, params: Params, image: Images, chains: int) -> Parts:
    """log p(z) and log p(x|z) of codes, `chains` for each image."""
    rows = jnp.repeat(image, chains, axis=0)

    def parts(z):
        decoded = model.nets.decode(params["nets"], z)
        return variants.log_prior(model.variant, model.nets, params, z), model.likelihood.log_prob(decoded, rows)

    return parts


def chain_keys(key: Key, index: Indices, chains: int) -> ChainKeys:
    """A key for each chain of each image."""
    numbers = jnp.arange(chains)
    return jax.vmap(lambda key: example_keys(key, numbers))(example_keys(key, index)).reshape(-1)


def from_prior(model: Model, params: Params, key: Key, index: Indices, chains: int, latent_dim: int) -> Positions:
    """Draws from p(z), `chains` for each image."""
    draw = lambda key: model.variant.sample_prior(model.nets, params, key, chains, latent_dim)  # noqa: E731
    return jax.vmap(draw)(example_keys(key, index)).reshape(-1, latent_dim)


class Ways(NamedTuple):
    """Between the prior and the posterior of images, compiled; both give (image, chain) log weights and acceptances.

    `pilot(params, image, index, key) -> step sizes`, `forward(params, image, index, key, step sizes)`, and
    `reverse(..., z)` from an exact draw z of each image's posterior.
    """

    pilot: Callable[..., StepSizes]
    forward: Callable[..., tuple[Array, Array]]
    reverse: Callable[..., tuple[Array, Array]]


def ways(model: Model, latent_dim: int, chains: int, temperatures: int, leapfrog: int) -> Ways:
    """The ways of `chains` for each image over `temperatures` with moves of `leapfrog` steps."""
    betas = schedule(temperatures)

    @jax.jit
    def pilot(params, image, index, key):
        z = from_prior(model, params, jax.random.fold_in(key, PILOT_START), index, PILOT_CHAINS, latent_dim)
        keys = chain_keys(jax.random.fold_in(key, PILOT), index, PILOT_CHAINS)
        parts = parts_of(model, params, image, PILOT_CHAINS)
        step_sizes = adapted(parts, keys, z, schedule(PILOT_TEMPERATURES), leapfrog, len(image))
        return between(step_sizes, temperatures)

    @jax.jit
    def start(params, index, key):
        return from_prior(model, params, key, index, chains, latent_dim)

    @jax.jit
    def run(params, image, index, key, z, betas, step_sizes):
        keys, parts = chain_keys(key, index, chains), parts_of(model, params, image, chains)
        found = anneal(parts, keys, z, betas, step_sizes, leapfrog)
        return tuple(each.reshape(len(image), chains) for each in found)

    def forward(params, image, index, key, step_sizes):
        z = start(params, index, jax.random.fold_in(key, START))
        return run(params, image, index, jax.random.fold_in(key, FORWARD), z, betas, step_sizes)

    def reverse(params, image, index, key, step_sizes, z):
        z, back = jnp.repeat(z, chains, axis=0), slice(None, None, -1)
        return run(params, image, index, jax.random.fold_in(key, REVERSE), z, betas[back], step_sizes[back])

    return Ways(pilot, forward, reverse)


def made(
    model: Model, params: Params, key: Key, index: Indices, codes: Codes, decode: Callable[[Params, Codes], Pixels]
) -> Images:
    """The images that the model makes of `codes`: x ~ p(x|z)."""
    return model.likelihood.sample(decode(params["nets"], codes), jax.random.fold_in(key, PIXELS), index)


def joined(found: list[tuple[Array, ...]]) -> list[np.ndarray]:
    """The parts of each batch as one, float64."""
    return [np.concatenate(part).astype(np.float64) for part in zip(*jax.device_get(found), strict=True)]


def of_held_out(subject: Subject, way: Ways, key: Key, batch_size: int, images: int) -> list[np.ndarray]:
    """log w and acceptance of (image, chain), from the prior to held-out images."""
    params, found = subject.run.params, []
    for batch in subject.held_out(batch_size, images):
        these = params, batch["image"], batch["index"], key
        found.append(way.forward(*these, way.pilot(*these)))
    return joined(found)


def of_simulated(subject: Subject, way: Ways, key: Key, batch_size: int, images: int) -> list[np.ndarray]:
    """log w of (image, chain), there and back, of images of the model's own."""
    model, params, found = subject.model, subject.run.params, []
    draw = model.variant.sample_prior
    codes = draw(model.nets, params, jax.random.fold_in(key, CODES), images, subject.run.latent_dim)
    decode, starts = jax.jit(model.nets.decode), range(0, images, batch_size)
    for start in subject.watched(starts, len(starts)):
        z = codes[start : start + batch_size]
        index = jnp.arange(start, start + len(z))
        these = params, made(model, params, key, index, z, decode), index, key
        step_sizes = way.pilot(*these)
        found.append((way.forward(*these, step_sizes)[0], way.reverse(*these, step_sizes, z)[0]))
    return joined(found)


def log_mean(log_w: np.ndarray) -> np.ndarray:
    """log 1/K sum_k w_k of (image, chain). Raises UserError where it is not finite."""
    with np.errstate(invalid="ignore"):
        found = np.logaddexp.reduce(log_w, axis=1) - math.log(log_w.shape[1])
    if bad := np.sum(~np.isfinite(found)):
        raise UserError(f"ais: {bad} of {len(found)} estimates are not finite")
    return found


def compute(
    subject: Subject,
    key: Key,
    *,
    images: int = 100,
    chains: int = 16,
    temperatures: int = 500,
    leapfrog: int = 10,
    simulated: int = 50,
) -> dict[str, float]:
    """The estimate of `images` held-out images (0: all), and the gap on `simulated` ones (0: none, and no gap)."""
    batch_size = max(1, VALUES // (chains * math.prod(subject.run.image_shape)))
    way = ways(subject.model, subject.run.latent_dim, chains, temperatures, leapfrog)
    log_w, acceptance = of_held_out(subject, way, jax.random.fold_in(key, HELD_OUT), batch_size, images)
    log_p, weights = log_mean(log_w), np.exp(log_w - log_w.max(axis=1, keepdims=True))
    found = {
        "ais": log_p.mean(),
        "ais.standard_error": log_p.std(ddof=1) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.nan,
        "ais.effective": np.mean(weights.sum(axis=1) ** 2 / (chains * (weights**2).sum(axis=1))),
        "ais.acceptance": acceptance.mean(),
        "ais.images": len(log_p),
    }
    if not simulated:
        return found
    there, back = of_simulated(subject, way, jax.random.fold_in(key, SIMULATED), batch_size, simulated)
    lower, upper = log_mean(there).mean(), -log_mean(back).mean()
    return found | {"ais.simulated_lower": lower, "ais.simulated_upper": upper, "ais.gap": upper - lower}
