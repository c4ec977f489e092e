"""The network whose latents lie on a grid: what a place sees and changes, the same built from lax, and its order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import model
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.models.networks import grid

RNG = np.random.default_rng(0)
SHAPE, PLACES, EACH = (9, 12, 3), (3, 3), 2
LATENTS = 9 * EACH
LAYOUT = ("NHWC", "HWIO", "NHWC")


def build(latents=LATENTS, shape=SHAPE, code=None, **fields):
    """The networks and their parameters, for codes of `code` numbers."""
    nets = grid.make(shape, latents, 2, **{"width": 4, "depth": 1, **fields})
    init = jax.jit(lambda: nets.init(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros((1, code or latents))))
    # Biases that are not 0, so that one which is left out is missed.
    return nets, jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1 * RNG.normal(size=leaf.shape)), init())


@functools.cache
def local():
    """Networks of 18 latents on 3x3 places, compiled."""
    nets, params = build()
    return jax.jit(nets.encode), jax.jit(nets.decode), params


def same(layer, h):
    """A convolution at stride 1, 3x3 or 1x1 by its kernel's rows."""
    rows, outputs = layer["kernel"].shape
    size = 1 if rows == h.shape[-1] else 3
    kernel = layer["kernel"].reshape(size, size, h.shape[-1], outputs)
    y = jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)
    return y + layer["bias"].reshape(1, 1, 1, -1)


def down(layer, h):
    """4x4 at stride 2; rows of the kernel are (block down, block right, pixel down, pixel right, channel)."""
    kernel = layer["kernel"].reshape(2, 2, 2, 2, h.shape[-1], -1).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(4, 4, h.shape[-1], -1)
    y = jax.lax.conv_general_dilated(h, kernel, (2, 2), padding(h.shape), dimension_numbers=LAYOUT)
    return y + layer["bias"].reshape(1, 1, 1, -1)


def padding(shape):
    """One pixel before, and after as many as make whole blocks and one more."""
    return [(1, 1 + size % 2) for size in shape[1:3]]


def block(layers, h):
    inner = same(layers["Conv3x3_0"], jax.nn.relu(h))
    return h + same(layers["Conv1x1_0"], jax.nn.relu(inner))


def test_the_encoder_is_the_same_network_built_from_lax():
    encode, _, params = local()
    x = np.float32(RNG.uniform(size=(2, *SHAPE)))
    layers = params["encoder"]
    h = down(layers["Conv_1"], jax.nn.relu(down(layers["Conv_0"], x)))
    outputs = same(layers["Conv1x1_0"], jax.nn.relu(block(layers["LocalBlock_0"], h)))
    assert outputs.shape == (2, *PLACES, 2 * EACH)
    for found, expected in zip(encode(params, x), np.split(outputs, 2, axis=-1), strict=True):
        np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-4, atol=1e-5)


def changed(function, inputs, place, **at):
    """Which outputs a change of `inputs` at `place` moves."""
    other = inputs.copy()
    other[(slice(None), *place)] += 1.0
    return np.abs(np.asarray(function(other)) - np.asarray(function(inputs))).max(axis=(0, -1)) > 1e-6


def test_a_place_codes_the_pixels_around_it_and_changes_those():
    encode, _, params = local()
    x = np.float32(RNG.uniform(size=(2, *SHAPE)))
    moved = changed(lambda x: encode(params, x)[0].reshape(2, *PLACES, EACH), x, (0, 0))
    assert moved[0, 0]
    assert not moved[2].any()
    assert not moved[:, 2].any()
    large = build(latents=64 * EACH, shape=(32, 32, 1))
    z = np.float32(RNG.normal(size=(2, 8, 8, EACH)))
    moved = changed(lambda z: jax.jit(large[0].decode)(large[1], z.reshape(2, -1)), z, (0, 5))
    rows, columns = np.nonzero(moved)
    assert moved[:4, 20:24].all()
    assert rows.max() < 16
    assert columns.min() > 8


def test_latents_that_are_left_over_describe_the_whole_image():
    nets, params = build(latents=LATENTS + 3)
    x, z = np.float32(RNG.uniform(size=(2, *SHAPE))), np.float32(RNG.normal(size=(2, LATENTS + 3)))
    encode, decode = jax.jit(nets.encode), jax.jit(nets.decode)
    mean, logvar = encode(params, x)
    assert mean.shape == logvar.shape == (2, LATENTS + 3)
    other = x.copy()
    other[:, 0, 0] += 1.0
    assert np.all(np.abs(encode(params, other)[0] - mean)[:, LATENTS:] > 1e-7)
    moved = z.copy()
    moved[:, -1] += 1.0
    difference = np.abs(decode(params, moved) - decode(params, z)).max(axis=(0, 3))
    assert np.all(difference > 1e-6)


def test_gradients_are_finite_and_reach_every_parameter():
    nets, params = build(latents=LATENTS + 1, shared=1)
    x = jnp.asarray(RNG.uniform(size=(2, *SHAPE)), jnp.float32)

    @jax.jit
    def gradient(params):
        def loss(params):
            mean, logvar = nets.encode(params, x)
            return jnp.sum(jnp.square(nets.decode(params, mean))) + jnp.sum(jnp.square(logvar))

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf != 0), path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 20, 1), (32, 32, 3), (67, 45, 2)])
def test_it_fits_images_of_any_size(shape, dtype):
    places = -(-shape[0] // 4) * -(-shape[1] // 4)
    nets = grid.make(shape, 3 * places, 2, 1, width=4, depth=1, dtype=dtype)
    inputs = jnp.zeros((1, *shape)), jnp.zeros((1, 3 * places))
    params = jax.eval_shape(nets.init, jax.random.key(0), *inputs)
    mean, logvar = jax.eval_shape(nets.encode, params, jnp.zeros((2, *shape)))
    assert mean.shape == logvar.shape == (2, 3 * places)
    decoded = jax.eval_shape(nets.decode, params, mean)
    assert decoded.shape == (2, *shape[:2], 2 * shape[2] + 1)
    assert mean.dtype == decoded.dtype == jnp.float32


@pytest.mark.parametrize("name", ["beta", "conditional", "flow", "joint", "ladder", "vq", "rae"])
def test_variants_of_other_codes_have_networks_of_it(name):
    fields = {"net.name": "grid", "net.halvings": 1, "net.width": 4, "net.depth": 1, "latent_dim": 32}
    config = load_config("digits", **fields, **{"variant.name": name})
    built = model.build(config, (8, 8, 1))
    inputs = built.variant.dummy_inputs((8, 8, 1), 32)
    params = jax.eval_shape(built.nets.init, jax.random.key(0), *inputs)
    assert jax.eval_shape(built.nets.decode, params, inputs[1]).shape == (1, 8, 8, 1)


REFUSED = [
    ({"width": 0}, r"width: \[0\]"),
    ({"depth": 0}, r"depth: \[0\]"),
    ({"halvings": 0}, r"halvings: \[0\]"),
    ({"halvings": 4}, r"halvings: 4 is not allowed, 9x12 is too small; give fewer"),
    (
        {"halvings": 1},
        r"name: 'grid' has 5x6 places for 9x12 images and 18 latents are too few; give a latent_dim of 30",
    ),
    ({"activation": "rellu"}, r"activation: .*did you mean 'relu'\?"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_bad_field_is_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        grid.make(SHAPE, LATENTS, 1, **fields)
    assert "\n" not in str(error.value)
