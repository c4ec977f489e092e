"""The log-likelihood of held-out images: by importance sampling (Burda et al. 2016, section 3), or as a sum over codes.

Purpose    fit to unseen images
Shows      how well a model fits images that it has not seen, in one number that compares across variants.
Misleads   when `effective` is near 1/K: the bound is loose, and looser for one model than for another. Numbers under
           different binarisations or likelihoods do not compare.

    log p(x) >= E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),    z_k ~ q(z|x)

In nats per image. A lower bound in expectation that rises with K to log p(x). `effective` shows how far it has come:
the mean over images of (sum w)^2 / (K sum w^2): near 1/K one draw carries all the weight and the bound is loose.
`standard_error` is that of the mean over images: it reflects differences between images, not the bound's bias. K = 5000
is the field's custom. Draws are streamed in chunks, so memory does not grow with K; draw k is a function of (key,
image, k), so a larger K continues the same draws. Binarised data are drawn once, as in evaluation. It works for every
variant whose codes have a density. It does not compare across likelihoods of different kinds of data.

If codes come from a finite set (vq), the posterior is a point and all draws are the same code: K is not used and there
is no `effective`. `codes` says how many terms were added up of

    log p(x) = log sum_c p(x|c) p(c)

Up to 65,536 codes it is all of them, each decoded once for a batch of images, and the result is log p(x) itself. With
more codes it is one term, the code nearest to the encoder's means: a lower bound, the ELBO, and nothing says how far
below log p(x) it is.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import variants
from vae_jax.metrics import EvaluationContext, Metric
from vae_jax.model import Model
from vae_jax.typing import Batch, Key, KeyArray, Params, PerExample
from vae_jax.variants import DiscreteCodes

VALUES = 2**21
"""Numbers in the decoder's output for one chunk: images x draws x pixels, 8 MiB; more leave a CPU's cache."""
DRAWS = 16
"""How many draws share one pass of the encoder, if images are so large that a chunk holds few."""

MOST_CODES = 2**16
"""Codes of a finite set that are summed over one by one."""


def log_weights(
    model: Model, params: Params, batch: Batch, keys: KeyArray[Array, " draw"]
) -> Float[Array, "draw batch"]:
    """log p(x|z) + log p(z) - log q(z|x) for a draw of z under each of `keys`, nats."""

    def log_weight(key):
        code, log_ratio = variants.sample_with_log_ratio(model.variant, model.nets, params, batch, key)
        decoded = model.nets.decode(params["nets"], code)
        return model.likelihood.log_prob(decoded, batch["image"]) + log_ratio

    return jax.vmap(log_weight)(keys)


def streamed_bound(
    model: Model, k: int, chunk_size: int
) -> Callable[[Params, Batch, Key], tuple[PerExample, PerExample]]:
    """(params, batch, key) -> the bound of each image, nats, and its effective share of the draws.

        bound = log 1/K sum_k w_k,    share = (sum w)^2 / (K sum w^2)

    Args:
        model: the model.
        k: how many draws.
        chunk_size: draws in memory at once.
    """

    def bound(params, batch, key):
        def add_chunk(sums, start):
            number = start + jnp.arange(chunk_size)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, number)
            log_w = log_weights(model, params, batch, keys)
            log_w = jnp.where(number[:, None] < k, log_w, -jnp.inf)
            chunk_sums = (jax.nn.logsumexp(log_w, axis=0), jax.nn.logsumexp(2 * log_w, axis=0))
            return jax.tree.map(jnp.logaddexp, sums, chunk_sums), None

        empty = jnp.full(len(batch["image"]), -jnp.inf)
        (total, square), _ = jax.lax.scan(add_chunk, (empty, empty), jnp.arange(0, k, chunk_size))
        return total - math.log(k), jnp.exp(2 * total - square) / k

    return bound


def count_codes(codes: DiscreteCodes, latent_dim: int) -> int:
    """How many codes of `latent_dim` latents there are."""
    return codes.size ** codes.groups(latent_dim)


def streamed_sum(
    model: Model, discrete: DiscreteCodes, latent_dim: int, chunk_size: int
) -> Callable[[Params, Batch], PerExample]:
    """(params, batch) -> log p(x) = log sum_c p(x|c) p(c) of each image, nats, over all codes of a finite set.

    Args:
        model: the model.
        discrete: its variant's codes.
        latent_dim: how many latents a code has.
        chunk_size: codes in memory at once.
    """
    count = count_codes(discrete, latent_dim)
    place = discrete.size ** np.arange(discrete.groups(latent_dim), dtype=np.int32)

    def log_sum(params, batch):
        def add_chunk(total, start):
            number = start + jnp.arange(chunk_size)
            codes, log_prior = discrete.lookup(params, number[:, None] // place[None] % discrete.size)
            decoded = model.nets.decode(params["nets"], codes)

            def log_prob(image):
                return model.likelihood.log_prob(decoded, jnp.broadcast_to(image[None], (chunk_size, *image.shape)))

            log_joint = jax.vmap(log_prob)(batch["image"]) + log_prior[None]
            log_joint = jnp.where(number[None] < count, log_joint, -jnp.inf)
            return jnp.logaddexp(total, jax.nn.logsumexp(log_joint, axis=1)), None

        empty = jnp.full(len(batch["image"]), -jnp.inf)
        return jax.lax.scan(add_chunk, empty, jnp.arange(0, count, chunk_size))[0]

    return log_sum


def _sum_or_bound(context: EvaluationContext, k: int, batch_size: int, chunk_size: int) -> tuple[Callable, int]:
    """(params, batch, key) -> what is known of each image, log p(x) or its bound first; over how many terms each."""
    model, latent_dim = context.model, context.run.latent_dim
    discrete = model.variant.discrete_codes
    if discrete is None:
        return streamed_bound(model, k, min(k, chunk_size)), k
    count = count_codes(discrete, latent_dim)
    if count > MOST_CODES:
        nearest = streamed_bound(model, 1, 1)
        return lambda params, batch, key: nearest(params, batch, key)[:1], 1
    log_sum = streamed_sum(model, discrete, latent_dim, min(count, chunk_size))
    return lambda params, batch, key: (log_sum(params, batch),), count


def compute(context: EvaluationContext, key: Key, *, k: int = 5000, images: int = 0) -> dict[str, float]:
    """The importance bound on log p(x) (Burda et al. 2016, section 3), or the sum over all codes, nats per image.

    Its standard error over images, the effective share of the draws or how many codes were summed over, and how many
    images there were, are beside it.

    Args:
        context: the run and its data.
        key: draws z.
        k: draws for each image; not used where codes are of a finite set.
        images: how many held-out images; 0 takes all.
    """
    pixels = math.prod(context.run.image_shape)
    batch_size = min(100, max(1, VALUES // (pixels * DRAWS)))
    chunk_size = max(1, VALUES // (pixels * batch_size))
    estimate, terms = _sum_or_bound(context, k, batch_size, chunk_size)
    compiled = jax.jit(estimate)
    parts = [compiled(context.run.params, batch, key) for batch in context.held_out(batch_size, images)]
    log_p, *effective = (np.concatenate(part).astype(np.float64) for part in zip(*jax.device_get(parts), strict=True))
    certainty = {"likelihood.effective": effective[0].mean()} if effective else {"likelihood.codes": terms}
    return {
        "likelihood": log_p.mean(),
        "likelihood.standard_error": log_p.std(ddof=1) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.nan,
        **certainty,
        "likelihood.images": len(log_p),
    }


METRIC = Metric(
    compute,
    requires=("density",),
    unit="nats per image",
    higher_is_better=True,
    log_density=True,
    minimum={"k": 1, "images": 0},
    expensive="K passes of the decoder over every held-out image",
)
