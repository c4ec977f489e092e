"""Networks of two flax linen modules that a user brings, held to what ours keep to."""

import math
from typing import Any

import jax
from flax import linen as nn
from flax.errors import InvalidRngError

from vae_jax.errors import UserError
from vae_jax.models.networks._layers import make_nets
from vae_jax.models.networks._nets import Nets, running_means
from vae_jax.typing import Codes, Images, Key, Params


def from_linen(
    encoder: nn.Module,
    decoder: nn.Module,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int,
) -> Nets:
    """As `networks.from_linen`."""
    height, width, colours = image_shape
    shape = (height, width, colours * channels)
    nets = make_nets(encoder, decoder, latent_dim, shape, shared)

    def init(key: Key, image: Images, code: Codes) -> Params:
        check_module("encoder", encoder, image, 2 * latent_dim)
        check_module("decoder", decoder, code, math.prod(shape))
        return nets.init(key, image, code)

    return nets._replace(init=init)


def check_module(role: str, module: nn.Module, example: jax.Array, outputs: int) -> None:
    """Raises UserError unless a module keeps parameters alone, asks for no random numbers, and gives `outputs`."""
    variables = _variables(role, module, example)
    others = variables.keys() - {"params"}
    if others:
        raise UserError(running_means(min(others)))
    check_outputs(role, module, variables, example, outputs)


def check_outputs(role: str, module: Any, variables: dict[str, Any], example: jax.Array, outputs: int) -> None:
    """Raises UserError unless a module with these variables gives `outputs` numbers for an example."""
    count = _count_outputs(role, module, variables, example)
    if count != outputs:
        raise UserError(f"name: its {role} gives {count:,} numbers for an example, and {outputs:,} are needed")


def _variables(role: str, module: nn.Module, example: jax.Array) -> dict[str, Any]:
    """The shapes of what a module keeps."""
    try:
        return dict(jax.eval_shape(module.init, jax.random.key(0), example))
    except ValueError as error:  # BatchNorm and Dropout that have not been told whether they train
        if "use_running_average" in str(error):
            raise UserError(running_means("batch_stats")) from None
        if "deterministic" in str(error):
            raise UserError(random_numbers(role)) from None
        raise


def _count_outputs(role: str, module: Any, variables: dict[str, Any], example: jax.Array) -> int:
    try:
        return jax.eval_shape(module.apply, variables, example).size // len(example)
    except InvalidRngError:
        raise UserError(random_numbers(role)) from None


def random_numbers(role: str) -> str:
    """Why a module that draws is refused."""
    return (
        f"name: its {role} asks for random numbers, as Dropout does, and a network has none: the step draws the noise; "
        "leave Dropout out (variant.noise of 'autoencoder', or train.weight_decay, in its place), or give the noise as "
        "an input"
    )
