"""Draws from the aggregate posterior, the mean of q(z|x) over training images: what a decoder has learned to decode."""

from collections.abc import Callable

import jax
import numpy as np

from vae_jax import data, variants
from vae_jax.data import Split
from vae_jax.data._splits import read_batch, sparing_split
from vae_jax.errors import UserError
from vae_jax.model import Model
from vae_jax.randomness import root_key, stream
from vae_jax.samplers import HostCodes
from vae_jax.typing import Batch, Codes, Config, Key, Params

MOST_CODES = 60_000
"""Training images that are encoded."""
BATCH = 500


def posterior_draws(model: Model, params: Params, split: Split, config: Config) -> HostCodes:
    """z ~ q(z|x), one draw for each image of a split, of at most MOST_CODES; the codes where they are points.

    Draws and not means: means are less spread than what is decoded in training, by the posteriors' own variance, which
    for a latent that tells nothing is all of it.

    Args:
        model: the model.
        params: its weights.
        split: training images, binarised where the config says so by a draw of their own.
        config: the run's.

    Raises:
        UserError: for codes that are no plain numbers for a density to be fitted to, or not finite.
    """
    variant = model.variant
    if variant.sample_with_log_ratio is not None and variant.log_prior is not None:
        raise UserError(
            f"sampler: the codes of variant.name={config['variant']['name']!r} have a part that is discrete, a label "
            "or several layers; take 'prior'"
        )
    key, spare = stream(root_key(config["seed"]), "fit"), sparing_split(split)
    indices = data.sample_indices(split, MOST_CODES)
    draw = _compile(model, config["data"]["binarize"])
    codes = []
    for start in range(0, len(indices), BATCH):
        chunk = indices[start : start + BATCH].astype(np.int32)
        padded = np.resize(chunk, min(BATCH, len(indices)))  # one size, compiled once
        codes.append(np.asarray(draw(params, *read_batch(spare, padded), padded, key))[: len(chunk)])
    drawn = np.concatenate(codes).astype(np.float32)
    if unusable := int((~np.isfinite(drawn)).any(axis=1).sum()):
        raise UserError(f"sampler: the codes of {unusable} of {len(drawn)} training images are not finite")
    return drawn


def _compile(model: Model, binarize: str) -> Callable[..., Codes]:
    def draw(params, split, indices, index, key):
        batch = data.make_batch(split, data.binarizer(binarize), indices, index, key)
        return _draw(model, params, batch, stream(key, "codes"))

    return jax.jit(draw)


def _draw(model: Model, params: Params, batch: Batch, key: Key) -> Codes:
    """One code for each image."""
    variant = model.variant
    if variant.posterior is not None or variant.sample_with_log_ratio is not None:
        return variants.sample_with_log_ratio(variant, model.nets, params, batch, key)[0]
    return variant.encode(model.nets, params, batch)
