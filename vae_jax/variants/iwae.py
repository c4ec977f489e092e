"""The importance-weighted autoencoder (Burda et al. 2016, section 3): K draws an image, averaged inside the logarithm.

Purpose    a tight bound
Take it    to get closer to log p(x) than the ELBO: draws are averaged inside the logarithm. Each draw costs one
           decoding of each image, and the ELBO of one draw gets worse.
Command    vae-jax train --config=digits_iwae --workdir=runs/digits_iwae

    loss = -1/M sum_m log 1/K sum_k w_mk,    log w = log p(x|z) + log p(z) - log q(z|x),    z_mk ~ q(z|x)

K is `samples`, M is `groups`. E[w] = p(x), so by Jensen's inequality -loss is at most log p(x) in expectation. It
rises with K; where q(z|x) is the exact posterior every w is p(x), and the bound is too, for any K and any draw.
M groups average independent bounds: less noise, but no tighter. `objective` (Rainforth et al. 2018):

    miwae    MIWAE(M, K), as above. M = 1 is the IWAE, K = 1 the VAE with MK draws
    ciwae    elbo_share * ELBO + (1 - elbo_share) * MIWAE(M, K) of the same draws; 0 is miwae, 1 the VAE, and the
             paper's CIWAE has M = 1. The other objectives do not read elbo_share
    piwae    the encoder by MIWAE(M, K), the decoder by the IWAE of all MK draws: no one function has both gradients.
             The loss shows the decoder's objective, "bound" the encoder's

`estimator` says how the encoder learns. The value of the loss is the same under each, and so is the decoder's gradient,
sum_k v_k grad log p(x|z_k) in each group, v_k = w_k / sum_i w_i. The encoder's is the sum over k of

    plain    v_k grad log w_k                     by way of z_k, and of q's own parameters in log q(z_k|x), the score
    stl      v_k (d log w_k / dz_k) grad z_k      by way of z_k only: sticking the landing (Roeder et al. 2017)
    dreg     v_k^2 (d log w_k / dz_k) grad z_k    doubly reparameterised (Tucker et al. 2019)

plain and dreg have the same expectation, the gradient of the bound. So has stl at K = 1, where it equals dreg and the
score is noise of mean 0. For K > 1 the weighted score has a mean and stl is biased (Tucker et al. 2019), in ciwae
(1 - elbo_share) times as much. With more draws less of plain's encoder gradient is signal: mean over deviation goes as
sqrt(M / K) (Rainforth et al. 2018, theorem 1), while dreg's rises. Where q is the exact posterior stl and dreg are 0 at
every draw, and plain is not. All nine pairs are defined. The ELBO in ciwae is a bound of K = 1, so that under dreg each
of its draws counts 1 / MK, unsquared. In piwae the estimator acts on the encoder's MIWAE(M, K).

At M = K = 1 this is the VAE with log q(z|x) - log p(z) at the draw in place of the KL. Under the same key the draw is
beta's and so is the distortion; loss and gradient are beta's in expectation, not draw by draw.

An image costs one encoding and MK decodings. The loss has two decodings of the same codes, one for each of the two
gradients, and the compiler merges them. In the backward pass it cannot where the weights differ (dreg, piwae): that
takes a second pass through the decoder's activations, not its weights. On the network of Burda et al. this is 31% more
operations a step.

Terms: "bound" is MIWAE(M, K), whatever the objective; "distortion" is the mean over draws, "rate" the closed-form KL,
and so "elbo" is the bound of K = 1. A large K does not maximise it, so the best checkpoint is chosen by "bound".
"effective_samples" is (sum w)^2 / (K sum w^2), from 1/K, where one draw has all the weight, to 1. There is no `beta`,
for then E[w] would not be p(x), and there are no free bits, for the loss has no KL to free them in.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.randomness import example_normal
from vae_jax.typing import Images, Indices, Key, Params, PerExample, Scalar
from vae_jax.variants import Variant

TITLE = "IWAE"
"""In the caption of a picture."""

PerDraw = Float[Array, "batch draw"]
Draws = Float[Array, "batch draw latent"]
LogVariance = Float[Array, "batch 1 latent"]


def bound(log_w: PerDraw, samples: int) -> PerExample:
    """1/M sum_m log 1/K sum_k w_mk, nats per image: MIWAE(M, K) of M K draws, K = `samples` (Rainforth et al. 2018)."""
    grouped = log_w.reshape(len(log_w), -1, samples)
    return jnp.mean(jax.nn.logsumexp(grouped, axis=-1) - math.log(samples), axis=-1)


def normalized(log_w: PerDraw, samples: int) -> Float[Array, "batch group sample"]:
    """v = w / sum w within each group of `samples` draws."""
    return jax.nn.softmax(log_w.reshape(len(log_w), -1, samples), axis=-1)


def effective_samples(log_w: PerDraw, samples: int) -> PerExample:
    """(sum w)^2 / (K sum w^2), in [1/K, 1], the mean over groups of K = `samples` draws."""
    square = jnp.sum(jnp.square(normalized(log_w, samples)), axis=-1)
    return jnp.mean(1 / (samples * square), axis=-1)


Share = Scalar | float
Blend = tuple[tuple[Share, int], ...]
"""Bounds of the same draws: each one's share of the objective and how many draws it takes to a group."""


def miwae(groups: int, samples: int, elbo_share: Share) -> tuple[Blend, Blend]:
    """MIWAE(groups, samples) for decoder and encoder."""
    blend = ((1.0, samples),)
    return blend, blend


def ciwae(groups: int, samples: int, elbo_share: Share) -> tuple[Blend, Blend]:
    """The ELBO, with a share of `elbo_share`, and MIWAE(groups, samples) for decoder and encoder."""
    blend = ((elbo_share, 1), (1 - elbo_share, samples))
    return blend, blend


def piwae(groups: int, samples: int, elbo_share: Share) -> tuple[Blend, Blend]:
    """The IWAE of all draws for the decoder, MIWAE(groups, samples) for the encoder."""
    return ((1.0, groups * samples),), ((1.0, samples),)


OBJECTIVES = {"miwae": miwae, "ciwae": ciwae, "piwae": piwae}
"""(groups, samples, elbo_share) -> what the decoder and what the encoder maximise."""


def blended(log_w: PerDraw, blend: Blend) -> PerExample:
    """The objective: the sum of the bounds, each times its share."""
    return sum((share * bound(log_w, samples) for share, samples in blend), jnp.zeros(()))


def draw_weights(log_w: PerDraw, blend: Blend, power: int) -> PerDraw:
    """How much grad log w of each draw counts: v^power over the number of groups; at power 1 d objective / d log w."""

    def weights(samples: int) -> PerDraw:
        v = normalized(log_w, samples)
        return v.reshape(log_w.shape) ** power / v.shape[1]

    return sum((share * weights(samples) for share, samples in blend), jnp.zeros(()))


def log_ratio_with_score(logvar: LogVariance, noise: Draws, z: Draws) -> PerDraw:
    """log p(z) - log q(z|x) of each draw, differentiated by way of z and of q's own parameters.

    From the noise, not from z - mean, which for a narrow posterior is what rounding has left of it.
    """
    return 0.5 * jnp.sum(jnp.square(noise) + logvar - jnp.square(z), axis=-1)


def log_ratio_through_z(logvar: LogVariance, noise: Draws, z: Draws) -> PerDraw:
    """log p(z) - log q(z|x) of each draw, differentiated by way of z only."""
    fixed = stop_gradient(logvar)
    # The noise in value; seen from z, (z - mean) / sigma of a q whose parameters stand still.
    standardized = noise + jnp.exp(-0.5 * fixed) * (z - stop_gradient(z))
    return log_ratio_with_score(fixed, standardized, z)


class Estimator(NamedTuple):
    """An encoder's gradient: log p(z) - log q(z|x) as it is differentiated, and the power of each draw's v."""

    log_ratio: Callable[[LogVariance, Draws, Draws], PerDraw]
    power: int


ESTIMATORS = {
    "plain": Estimator(log_ratio_with_score, 1),
    "stl": Estimator(log_ratio_through_z, 1),
    "dreg": Estimator(log_ratio_through_z, 2),
}


def check_counts(**counts: int) -> None:
    """Raises UserError, naming the argument, unless each count is a whole number of at least 1."""
    for field, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise UserError(f"{field}: {count!r} is not allowed; give a whole number of at least 1")


def sample_draws(posterior: Gaussian, key: Key, index: Indices, draws: int) -> tuple[LogVariance, Draws, Draws]:
    """The log variance, the noise and z of `draws` draws for each example."""
    count, latents = posterior.mean.shape
    # An example's first draw is Gaussian.sample's, and more draws leave the first ones as they are.
    noise = example_normal(key, index, draws * latents).reshape(count, draws, latents)
    mean, logvar = (part[:, None, :] for part in posterior)
    return logvar, noise, mean + jnp.exp(0.5 * logvar) * noise


def distortions(likelihood: Likelihood, nets: Nets, params: Params, image: Images, z: Draws) -> PerDraw:
    """-log p(x | z) of each draw."""
    decoded = nets.decode(params["nets"], z.reshape(-1, z.shape[-1]))
    decoded = decoded.reshape(*z.shape[:2], *decoded.shape[1:])
    return -jax.vmap(likelihood.log_prob, in_axes=(1, None), out_axes=1)(decoded, image)


def make(
    likelihood: Likelihood, *, samples: int = 5, groups: int = 1, objective: str = "miwae", estimator: str = "plain"
) -> Variant:
    """The IWAE of `samples` draws in each of `groups` groups. Raises UserError for unknown names and counts below 1."""
    check_counts(samples=samples, groups=groups)
    make_blends = registry.choose("objective", objective, OBJECTIVES)
    log_ratio, power = registry.choose("estimator", estimator, ESTIMATORS)

    def loss(nets, params, batch, key, step, *, elbo_share=0.05):
        image = batch["image"]
        posterior = Gaussian(*nets.encode(params["nets"], image))
        logvar, noise, z = sample_draws(posterior, key, batch["index"], groups * samples)

        # Seen from the decoder z stands still, seen from the encoder the decoder does: each has weights of its own.
        ratio = log_ratio(logvar, noise, z)
        distortion = distortions(likelihood, nets, params, image, stop_gradient(z))
        decoder_log_w = stop_gradient(ratio) - distortion
        encoder_log_w = ratio - distortions(likelihood, nets, stop_gradient(params), image, z)
        log_w = stop_gradient(decoder_log_w)
        decoder_blend, encoder_blend = make_blends(groups, samples, elbo_share)
        weighted = draw_weights(log_w, decoder_blend, 1) * decoder_log_w
        weighted += draw_weights(log_w, encoder_blend, power) * encoder_log_w
        surrogate = jnp.sum(weighted, axis=-1)

        kl = posterior.kl()
        terms = {"distortion": jnp.mean(distortion, axis=-1), "rate": jnp.sum(kl, axis=-1), "kl": kl}
        terms |= {"elbo": -(terms["distortion"] + terms["rate"]), "code": posterior.mean}
        terms |= {"bound": bound(log_w, samples), "effective_samples": effective_samples(log_w, samples)}
        # The value is the bound's, the gradient the surrogate's.
        return -jnp.mean(blended(log_w, decoder_blend) + surrogate - stop_gradient(surrogate)), terms

    return Variant(loss)
