"""What a pair of networks is to all that uses one, and what none may hold."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from vae_jax.errors import UserError
from vae_jax.typing import Codes, Images, Key, Params, Pixels


class Nets(NamedTuple):
    """An encoder and a decoder.

    Attributes:
        init: (key, image, code) -> params; input widths are those of this image and this code, batches of one.
        encode: (params, x) -> (mean, log variance) of q(z | x), (batch, latent) each.
        decode: (params, z) -> the likelihood's parameters, (batch, height, width, numbers of a pixel).
    """

    init: Callable[[Key, Images, Codes], Params]
    encode: Callable[[Params, Images], tuple[Codes, Codes]]
    decode: Callable[[Params, Codes], Pixels]


COLLECTION = "batch_stats"
"""What flax calls the running means of BatchNorm."""


def refuse_collections(params: Params) -> None:
    """Raises UserError where parameters hold running means beside them, as BatchNorm keeps them."""
    if not isinstance(params, Mapping):
        return
    if COLLECTION in params:
        raise UserError(running_means(COLLECTION))
    for subtree in params.values():
        refuse_collections(subtree)


def running_means(collection: str) -> str:
    """Why a module that keeps `collection` is refused."""
    return (
        f"name: its module keeps {collection!r} beside its parameters, as BatchNorm does: an image's code would depend "
        "on its batch and on earlier steps; take GroupNorm or LayerNorm"
    )
