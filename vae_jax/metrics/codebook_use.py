"""How many of a codebook's vectors are used: the perplexity of the codes of all held-out images.

Purpose    use of the latents
Shows      how many vectors of a codebook are in use, and so whether it has collapsed.
Misleads   when held-out images are few, as few images cannot use many codes; and more use is not better by itself.

    perplexity = exp(H),    H = -sum_k p_k log p_k,    p_k the share of all groups of all images whose code is k

In codes: from 1, where one stands for everything, to K, where all are used alike (van den Oord et al. 2017 log it of a
batch, and so does training here; few images cannot use many codes). `codebook_use.used` is the share of the K codes
that stand for anything at all in the held-out split, `codebook_use.dead` the share that do not; they add up to 1. All
groups of latents share one codebook and are counted together: two groups that use one code each, not the same, come out
as two. More use is not better by itself: it is the price of a low distortion, at most log K nats for each group.
"""

import jax
import numpy as np
from jaxtyping import Int

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric, _information
from vae_jax.metrics._evaluation_context import BATCH
from vae_jax.metrics._requirements import REQUIREMENTS
from vae_jax.typing import Key


def count_codes(context: EvaluationContext, images: int) -> Int[np.ndarray, " code"]:
    """How often each code is used by `images` held-out images (0: all), over all groups of latents."""
    discrete, nets = context.model.variant.discrete_codes, context.model.nets
    if discrete is None:
        raise UserError(f"variant: this metric needs {REQUIREMENTS['discrete']}")
    assign = jax.jit(lambda params, batch: discrete.assign(nets, params, batch))
    indices = [np.asarray(assign(context.run.params, batch)) for batch in context.held_out(BATCH, images)]
    return np.bincount(np.concatenate(indices).ravel(), minlength=discrete.size)


def compute(context: EvaluationContext, key: Key, *, images: int = 0) -> dict[str, float]:
    """exp(H) of the use of the codes (van den Oord et al. 2017), and the shares of codes that are used and are not.

    Args:
        context: the run and its data.
        key: not used: nothing is drawn.
        images: how many held-out images; 0 takes all.

    Raises:
        UserError: for a variant whose codes are not of a finite set.
    """
    counts = count_codes(context, images)
    used = float(np.mean(counts > 0))
    perplexity = np.exp(_information.entropy(counts.astype(np.float64)[None])).item()
    return {"codebook_use": perplexity, "codebook_use.used": used, "codebook_use.dead": 1 - used}


METRIC = Metric(compute, requires=("discrete",), unit="codes", minimum={"images": 0})
