"""Dense networks."""

from flax import linen as nn

from vae_jax.models.networks import Nets
from vae_jax.models.networks._layers import Mlp, check_fields, pair


class Flat(nn.Module):
    body: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.body(x.reshape(len(x), -1))


def make(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    hidden: tuple[int, ...] = (400,),
    activation: str = "relu",
    dtype: str = "float32",
) -> Nets:
    """Dense layers of widths `hidden` from pixels to the code, and their mirror back.

    `channels` is the likelihood's count of parameters for a channel, `shared` its count of learned
    numbers that are the same everywhere and come as last channels. Raises UserError on bad fields.
    """
    act, compute = check_fields(activation, dtype, latent_dim, hidden=hidden)
    height, width, colours = image_shape
    encoder = Flat(Mlp((*hidden, 2 * latent_dim), act, compute))
    decoder = Mlp((*reversed(hidden), height * width * colours * channels), act, compute)
    return pair(encoder, decoder, latent_dim, (height, width, colours * channels), shared)
