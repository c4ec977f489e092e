"""Networks of two flax nnx modules that a user brings, as pure functions and held to what ours keep to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx, traverse_util
from jaxtyping import Array

from vae_jax.errors import UserError
from vae_jax.models.networks._layers import make_nets
from vae_jax.models.networks._linen import check_outputs, random_numbers
from vae_jax.models.networks._nets import Nets, running_means
from vae_jax.typing import Codes, Images, Key, Params

Build = Callable[[nnx.Rngs], nnx.Module]


@dataclass(frozen=True)
class Functional:
    """The pure functions of the modules that `build` makes, called as a linen module's are.

    The parameters are nested dicts of arrays by their names in the module; those of a list are called "0", "1" and on.
    """

    role: str
    build: Build

    def init(self, key: Key, example: Array) -> dict[str, Params]:
        """The parameters of a new module. Raises UserError where it keeps anything else."""
        module = self._module(key)
        self._check(module)
        flat = {path: variable.get_value() for path, variable in self._variables(module)}
        return {"params": traverse_util.unflatten_dict({tuple(map(str, path)): leaf for path, leaf in flat.items()})}

    def apply(self, variables: dict[str, Params], example: Array) -> Any:
        """What the module gives with these parameters."""
        graph, state = nnx.split(nnx.eval_shape(lambda: self._module(jax.random.key(0))))
        leaves = traverse_util.flatten_dict(variables["params"])
        flat = [(path, variable.replace(leaves[tuple(map(str, path))])) for path, variable in nnx.to_flat_state(state)]
        return nnx.merge(graph, nnx.from_flat_state(flat))(example)

    def _module(self, key: Key) -> nnx.Module:
        module = self.build(nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise UserError(f"name: its {self.role} is made a {type(module).__name__}; return an nnx.Module")
        return module

    def _variables(self, module: nnx.Module) -> list[tuple[tuple[Any, ...], nnx.Variable]]:
        return list(nnx.to_flat_state(nnx.state(module)))

    def _check(self, module: nnx.Module) -> None:
        for _, variable in self._variables(module):
            if isinstance(variable, nnx.RngState):
                raise UserError(random_numbers(self.role))
            if not isinstance(variable, nnx.Param):
                raise UserError(running_means(type(variable).__name__))


def from_nnx(
    encoder: Build, decoder: Build, image_shape: tuple[int, int, int], latent_dim: int, channels: int, shared: int
) -> Nets:
    """As `networks.from_nnx`."""
    for role, build in (("encoder", encoder), ("decoder", decoder)):
        if isinstance(build, nnx.Module):
            raise UserError(
                f"name: its {role} is an nnx module that is already built, and would start alike for every seed; give "
                "a function that builds it, as in lambda rngs: nnx.Linear(64, 32, rngs=rngs)"
            )
    height, width, colours = image_shape
    shape = (height, width, colours * channels)
    encode, decode = Functional("encoder", encoder), Functional("decoder", decoder)
    nets = make_nets(encode, decode, latent_dim, shape, shared)

    def init(key: Key, image: Images, code: Codes) -> Params:
        for functional, example, outputs in ((encode, image, 2 * latent_dim), (decode, code, math.prod(shape))):
            variables = jax.eval_shape(functional.init, jax.random.key(0), example)
            check_outputs(functional.role, functional, variables, example, outputs)
        return nets.init(key, image, code)

    return nets._replace(init=init)
