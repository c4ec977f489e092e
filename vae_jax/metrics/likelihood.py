"""The log-likelihood of held-out images by importance sampling (Burda et al. 2016, section 3).

    log p(x) >= E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x),    z_k ~ q(z|x)

In nats per image. A lower bound in expectation that rises with K to log p(x); how far it has come shows in
`effective`, the mean over images of (sum w)^2 / (K sum w^2): near 1/K one draw carries all the weight and the
bound is loose. `standard_error` is that of the mean over images: of the images' own differences, not of the bound's
bias. K = 5000 is the field's custom. Draws are streamed in chunks, so memory does not grow with K; draw k is a
function of (key, image, k), so a larger K goes on from the same draws. Binarised data are drawn once, as in evaluation.
Works for every variant whose codes have a density; not comparable between likelihoods of other kinds of data.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import variants
from vae_jax.metrics import Subject
from vae_jax.model import Model
from vae_jax.typing import Batch, Key, KeyArray, Params, PerExample

NEEDS = ("density",)
BY_NAME = "K passes of the decoder over every held-out image"
LEAST = {"k": 1, "images": 0}
VALUES = 2**21
"""Numbers in the decoder's output for one chunk: images x draws x pixels, 8 MiB; more leave a CPU's cache."""
DRAWS = 16
"""How many draws share one pass of the encoder, if images are so large that a chunk holds few."""


def log_weights(
    model: Model, params: Params, batch: Batch, keys: KeyArray[Array, " draw"]
) -> Float[Array, "draw batch"]:
    """log p(x|z) + log p(z) - log q(z|x) for a draw of z under each of `keys`, nats."""

    def one(key):
        code, log_ratio = variants.sample_with_log_ratio(model.variant, model.nets, params, batch, key)
        decoded = model.nets.decode(params["nets"], code)
        return model.likelihood.log_prob(decoded, batch["image"]) + log_ratio

    return jax.vmap(one)(keys)


def streamed(model: Model, k: int, at_once: int) -> Callable[[Params, Batch, Key], tuple[PerExample, PerExample]]:
    """(params, batch, key) -> log 1/K sum_k w_k and (sum w)^2 / (K sum w^2) of each image, `at_once` draws a time."""

    def chunk(params, batch, key, carry, start):
        number = start + jnp.arange(at_once)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, number)
        log_w = log_weights(model, params, batch, keys)
        log_w = jnp.where(number[:, None] < k, log_w, -jnp.inf)
        sums = (jax.nn.logsumexp(log_w, axis=0), jax.nn.logsumexp(2 * log_w, axis=0))
        return jax.tree.map(jnp.logaddexp, carry, sums), None

    def bound(params, batch, key):
        empty = jnp.full(len(batch["image"]), -jnp.inf)
        step = lambda carry, start: chunk(params, batch, key, carry, start)  # noqa: E731
        (total, square), _ = jax.lax.scan(step, (empty, empty), jnp.arange(0, k, at_once))
        return total - math.log(k), jnp.exp(2 * total - square) / k

    return bound


def compute(subject: Subject, key: Key, *, k: int = 5000, images: int = 0) -> dict[str, float]:
    """The bound with K = `k` on the first `images` of the held-out split, 0 for all of it."""
    pixels = math.prod(subject.run.image_shape)
    batch_size = min(100, max(1, VALUES // (pixels * DRAWS)))
    at_once = min(k, max(1, VALUES // (pixels * batch_size)))
    bound = jax.jit(streamed(subject.model, k, at_once))
    found = [bound(subject.run.params, batch, key) for batch in subject.held_out(batch_size, images)]
    log_p, effective = (np.concatenate(part).astype(np.float64) for part in zip(*jax.device_get(found), strict=True))
    error = log_p.std(ddof=1) / math.sqrt(len(log_p)) if len(log_p) > 1 else math.nan
    return {
        "likelihood": log_p.mean(),
        "likelihood.standard_error": error,
        "likelihood.effective": effective.mean(),
        "likelihood.images": len(log_p),
    }
