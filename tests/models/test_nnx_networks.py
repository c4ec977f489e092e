"""Networks of flax nnx modules: pure functions of a plain tree, alone and as members; and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vae_jax.errors import UserError
from vae_jax.models.networks import from_nnx

SHAPE, LATENT, PIXELS = (4, 4, 1), 3, 16
OUTPUTS = {"encoder": 2 * LATENT, "decoder": 2 * PIXELS}
INPUTS = {"encoder": PIXELS, "decoder": LATENT}
CODE = jnp.zeros((1, LATENT))
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(5, *SHAPE)), jnp.float32)


class Own(nnx.Module):
    """Two dense layers, and between them one that networks may or may not have."""

    def __init__(self, inputs, outputs, layer, rngs):
        self.first = nnx.Linear(inputs, 8, rngs=rngs)
        self.layer = layer(rngs) if layer else None
        self.second = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.first(x.reshape(len(x), -1)))
        return self.second(h if self.layer is None else self.layer(h))


def own_nets(role="", layer=None, outputs=0, shared=0):
    """Networks with `layer` or `outputs` in the one of this role."""

    def build(name):
        mine = name == role
        return lambda rngs: Own(INPUTS[name], (mine and outputs) or OUTPUTS[name], layer if mine else None, rngs)

    return from_nnx(build("encoder"), build("decoder"), SHAPE, LATENT, 2, shared)


def parameters(nets, seed=0):
    return jax.jit(nets.init)(jax.random.key(seed), IMAGES[:1], CODE)


def norm(rngs):
    return nnx.LayerNorm(8, rngs=rngs)


@functools.cache
def shared_net():
    nets = own_nets("encoder", norm, shared=1)
    return nets, parameters(nets)


def test_parameters_are_a_plain_tree_by_name():
    _, params = shared_net()
    assert params.keys() == {"encoder", "decoder", "shared"}
    assert params["encoder"]["first"]["kernel"].shape == (PIXELS, 8)
    assert set(params["encoder"]) == {"first", "layer", "second"}
    assert all(type(node) is dict for node in (params, params["encoder"], params["encoder"]["first"]))
    assert np.all(params["encoder"]["first"]["kernel"][:LATENT] != params["decoder"]["first"]["kernel"])


def test_what_it_gives_is_the_modules_own_with_these_parameters():
    nets, params = shared_net()
    module = Own(PIXELS, 2 * LATENT, norm, nnx.Rngs(7))
    nnx.update(module, params["encoder"])
    mean, logvar = jax.jit(nets.encode)(params, IMAGES)
    np.testing.assert_allclose(np.concatenate([mean, logvar], axis=1), module(IMAGES), rtol=1e-4, atol=1e-6)
    assert jax.jit(nets.decode)(params, mean).shape == (5, 4, 4, 3)


def test_members_of_a_population_have_the_gradients_that_they_have_alone():
    nets, params = shared_net()
    other = parameters(nets, 1)

    def gradient(params):
        def loss(params):
            mean, logvar = nets.encode(params, IMAGES)
            return jnp.sum(jnp.square(nets.decode(params, mean) - 1)) + jnp.sum(jnp.square(logvar))

        return jax.grad(loss)(params)

    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    together, alone = jax.jit(jax.vmap(gradient))(members), jax.jit(gradient)
    for i, member in enumerate((params, other)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(alone(member)):
            assert np.any(leaf != 0), path
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4), together, alone(member)
        )


REFUSED = {
    "batch norm": (
        lambda rngs: nnx.BatchNorm(8, rngs=rngs),
        r"keeps 'BatchStat' beside its .*take GroupNorm or LayerN",
    ),
    "dropout": (
        lambda rngs: nnx.Dropout(0.5, rngs=rngs),
        r"asks for random numbers, as Dropout does.*leave Dropout out",
    ),
}


@pytest.mark.parametrize("role", OUTPUTS)
@pytest.mark.parametrize(("layer", "message"), REFUSED.values(), ids=REFUSED)
def test_what_depends_on_the_batch_or_draws_noise_is_refused_with_what_to_use(role, layer, message):
    with pytest.raises(UserError, match=f"^name: .*{message}") as error:
        parameters(own_nets(role, layer))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("role", "needed"), OUTPUTS.items())
def test_another_number_of_outputs_is_refused(role, needed):
    with pytest.raises(UserError, match=f"^name: its {role} gives 5 numbers for an example, and {needed} are needed"):
        parameters(own_nets(role, outputs=5))


def test_a_module_that_is_made_already_is_refused_and_so_is_what_is_none():
    made = Own(PIXELS, 2 * LATENT, None, nnx.Rngs(0))
    with pytest.raises(UserError, match=r"^name: its encoder is an nnx module that is already built.*lambda rngs"):
        from_nnx(made, lambda rngs: made, SHAPE, LATENT, 1)
    nets = from_nnx(lambda rngs: jnp.tanh, lambda rngs: made, SHAPE, LATENT, 1)
    with pytest.raises(UserError, match=r"^name: its encoder is made a .*; return an nnx.Module"):
        parameters(nets)
