"""The codebook of a run with discrete codes, for a page whose controls are its indices: between them lies no code."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vae_jax.inference import TrainedModel
from vae_jax.report.decoder_export import MAX_BYTES, pack_array

COMMON = 11
"""Vectors that a strip of images chooses among: those of most use in their group."""


class Codebook(NamedTuple):
    """The vectors that each group of latents is one of.

    Attributes:
        vectors: one codebook for all groups, or one for each.
        groups: how many groups the latents are cut into.
    """

    vectors: Float[np.ndarray, "books codes dim"]
    groups: int

    @classmethod
    def measure(cls, run: TrainedModel) -> "Codebook | None":
        """That of a run; None where codes are numbers."""
        discrete = run.model.variant.discrete_codes
        if discrete is None:
            return None
        groups = discrete.groups(run.latent_dim)
        same = jnp.repeat(jnp.arange(discrete.size, dtype=jnp.int32)[:, None], groups, axis=1)
        latents = np.asarray(discrete.lookup(run.params, same)[0])
        books = latents.reshape(discrete.size, groups, -1).swapaxes(0, 1)
        return cls(books[:1] if np.all(books == books[:1]) else books, groups)

    def assign(self, codes: Float[np.ndarray, "image latent"]) -> Int[np.ndarray, "image group"]:
        """Which vector each group of a code is; the nearest, where it is none."""
        from scipy.spatial import KDTree

        trees = [KDTree(vectors) for vectors in self.vectors]
        parts = codes.reshape(len(codes), self.groups, -1).swapaxes(0, 1)
        columns = [trees[group % len(trees)].query(part)[1] for group, part in enumerate(parts)]
        return np.stack(columns, axis=1).astype(np.int32)


def indices(book: Codebook, codes: np.ndarray) -> dict[str, Any]:
    """The codebook with a control for each group; none where it has more than MAX_BYTES."""
    if book.vectors.nbytes > MAX_BYTES:
        return {"codebook": {"size": 0, "dim": 1, "vectors": ""}, "sliders": []}
    _, size, dim = book.vectors.shape
    packed = {"size": size, "dim": dim, "shared": len(book.vectors) == 1, "vectors": pack_array(book.vectors)}
    use = [np.bincount(column, minlength=size) for column in book.assign(codes).T]
    sliders = [_control(group, group * dim, counts) for group, counts in enumerate(use)]
    return {"codebook": packed, "sliders": sliders}


def _control(group: int, dimension: int, counts: Int[np.ndarray, " codes"]) -> dict[str, Any]:
    """The control of one group, whose numbers begin at `dimension` of the code; `common` has what is used most."""
    common = np.argsort(-counts, kind="stable")[:COMMON].tolist()
    used = f"{np.count_nonzero(counts)} of {len(counts)} used"
    return {"dimension": dimension, "group": group, "name": f"group {group}", "detail": used, "common": common}
