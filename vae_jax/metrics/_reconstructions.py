"""Held-out images beside what becomes of them: encoded and decoded again."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext
from vae_jax.metrics._evaluation_context import BATCH
from vae_jax.typing import Batch, Images, Params, PerExample


def reconstructions(context: EvaluationContext, images: int) -> Iterator[tuple[Images, Images]]:
    """`images` held-out images (0: all) as the encoder is shown them, and their reconstructions, batch by batch.

    A reconstruction is the expected image at the code that stands for an image, the posterior mean as a rule, clipped
    to [0, 1]. Raises UserError where one is not finite.
    """
    nets, variant, likelihood = context.model.nets, context.model.variant, context.model.likelihood

    @jax.jit
    def reconstruct(params: Params, batch: Batch) -> tuple[Images, Array]:
        expected = likelihood.mean(nets.decode(params["nets"], variant.encode(nets, params, batch)))
        broken = jnp.sum(~jnp.all(jnp.isfinite(expected), axis=(1, 2, 3)))
        return jnp.clip(expected, 0.0, 1.0), broken

    for batch in context.held_out(BATCH, images):
        expected, broken = reconstruct(context.run.params, batch)
        if broken:
            raise UserError(f"images: {int(broken)} of {len(expected)} reconstructions are not finite")
        yield batch["image"], expected


def score_images(context: EvaluationContext, images: int, score: Callable[[Images, Images], PerExample]) -> np.ndarray:
    """`score(image, reconstruction)` of each of `images` held-out images (0: all)."""
    compiled = jax.jit(score)
    parts = [compiled(*pair) for pair in reconstructions(context, images)]
    return np.concatenate(jax.device_get(parts)).astype(np.float64)
