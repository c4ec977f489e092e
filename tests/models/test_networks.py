import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.errors import UserError
from vae_jax.models import networks
from vae_jax.models.networks import _convolution, conv, mlp
from vae_jax.models.networks._convolution import TransposedConv, halvings
from vae_jax.models.networks._layers import ACTIVATIONS
from vae_jax.models.networks._parts import autoregressive

RNG = np.random.default_rng(0)
LAYOUT = ("CHWN", "HWIO", "CHWN")
WIDTHS_AND_IMAGES = list(itertools.product((2, 4), ((8, 6, 2), (7, 9, 2), (1, 5, 1))))
"""Of windows; heights, widths and how many images."""
CHANNELS = [(1, 8), (3, 5)]
"""Few to many, where blocks are shifted before the product, and the other way, where its results are after it."""
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def shapes(nets, shape, latent):
    """The shapes and dtypes of the parameters that `nets` makes, computing nothing."""
    return jax.eval_shape(nets.init, jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros((1, latent)))


def make(build, shape, latent=3, channels=1, **fields):
    """(networks, compiled; random parameters, biases too; two random images in [0, 1])."""
    nets = build(shape, latent, channels, **fields)
    params = jax.tree.map(lambda leaf: normal(*leaf.shape) / math.sqrt(leaf.shape[0]), shapes(nets, shape, latent))
    images = jnp.asarray(RNG.uniform(size=(2, *shape)), jnp.float32)
    return networks.Nets(nets.init, jax.jit(nets.encode), jax.jit(nets.decode)), params, images


def weights(params):
    """The shapes of the kernels, in the order of the layers."""
    return [leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def as_filter(kernel, width):
    """The width x width filter (height, width, in, out) that a kernel of `networks.convolve` stands for."""
    blocks = kernel.reshape(width // 2, width // 2, 2, 2, -1, kernel.shape[1])
    return blocks.transpose(0, 2, 1, 3, 4, 5).reshape(width, width, -1, kernel.shape[1])


def swap(x):
    """Images to channels first and the batch last, as convolutions have them, or back."""
    return x.transpose(3, 1, 2, 0)


def convolve(x, kernel, width):
    return jax.lax.conv_general_dilated(x, as_filter(kernel, width), (2, 2), "SAME", dimension_numbers=LAYOUT)


def convolve_transposed(y, kernel, width, size):
    filters = as_filter(kernel.T, width)
    x = jax.lax.conv_transpose(y, filters, (2, 2), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)
    return x[:, : size[0], : size[1]]


def with_gradients(layer, *operands):
    """The layer's values, and the gradients of a weighted sum of them by each operand."""

    def weighted(*operands):
        out = layer(*operands)
        weights = np.cos(np.arange(out.size, dtype=np.float32)).reshape(out.shape)
        return jnp.sum(out.astype(jnp.float32) * weights), out

    gradients, out = jax.jit(jax.grad(weighted, tuple(range(len(operands))), has_aux=True))(*operands)
    return out, *gradients


def assert_agree(ours, theirs, dtype):
    """Equal to the dtype's tolerance, relative to the largest number of each array."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0, atol=TOLERANCE[dtype] * np.abs(b).max())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("width", "images"), WIDTHS_AND_IMAGES)
def test_convolutions_and_their_gradients_are_those_of_lax(width, images, channels, dtype):
    inputs, outputs = channels
    exact = normal(inputs, *images), normal(inputs * width**2, outputs)
    ours = with_gradients(lambda x, kernel: _convolution.convolve(x, kernel, width), *(x.astype(dtype) for x in exact))
    assert_agree(ours, with_gradients(lambda x, kernel: convolve(x, kernel, width), *exact), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("width", "images"), WIDTHS_AND_IMAGES)
def test_transposed_convolutions_and_their_gradients_are_those_of_lax(width, images, channels, dtype):
    (outputs, inputs), (*size, batch) = channels, images
    exact = normal(inputs, *(-(-s // 2) for s in size), batch), normal(inputs, outputs * width**2)
    ours = with_gradients(
        lambda y, kernel: _convolution.convolve_transposed(y, kernel, width, size), *(x.astype(dtype) for x in exact)
    )
    theirs = with_gradients(lambda y, kernel: convolve_transposed(y, kernel, width, size), *exact)
    assert_agree(ours, theirs, dtype)


def reconstruction(nets, x):
    """A loss that both networks of a pair take part in."""

    def loss(params):
        mean, logvar = nets.encode(params, x)
        return jnp.mean(jnp.square(nets.decode(params, mean + jnp.exp(logvar)) - x))

    return loss


def test_no_convolution_is_compiled_and_a_population_multiplies_in_batches():
    nets = conv.make(BIG, 3, 1, hidden=8)
    one = shapes(nets, BIG, 3), jax.ShapeDtypeStruct((2, *BIG), jnp.float32)
    population = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((5, *leaf.shape), leaf.dtype), one)
    gradients = jax.vmap(lambda params, x: jax.grad(reconstruction(nets, x))(params))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(gradients)(*population))
    program = jax.jit(gradients).lower(*population).as_text()
    assert "stablehlo.convolution" not in program
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 3 * 12 - 1  # three products a layer, but for the gradient by the images
    assert all("batching_dims = [0] x [0]" in line for line in products)


def test_members_of_a_population_have_the_gradients_that_they_have_alone():
    _, params, x = make(conv.make, BIG, hidden=8)
    other = jax.tree.map(lambda leaf: 1.1 * leaf, params)
    gradient = jax.grad(reconstruction(conv.make(BIG, 3, 1, hidden=8), x))
    together = jax.jit(jax.vmap(gradient))(jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other))
    for i, alone in enumerate((params, other)):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(jax.jit(gradient)(alone)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_gradients_in_a_scan_are_those_of_steps_dispatched_one_by_one():
    nets = conv.make(BIG, 3, 1, hidden=8)
    _, params, _ = make(conv.make, BIG, hidden=8)
    images = jnp.asarray(RNG.uniform(size=(3, 2, *BIG)), jnp.float32)

    def descend(params, x):
        loss, gradient = jax.value_and_grad(reconstruction(nets, x))(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), loss

    scanned, losses = jax.jit(lambda params: jax.lax.scan(descend, params, images))(params)
    step = jax.jit(descend)
    for x, loss in zip(images, losses, strict=True):
        params, alone = step(params, x)
        np.testing.assert_allclose(alone, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_halvings_round_up():
    assert halvings(28, 4) == [28, 14, 7, 4, 2]


def test_transposed_convolutions_start_at_the_scale_of_their_input():
    layer = TransposedConv(64, (32, 32), jnp.dtype("float32"))
    x = normal(32, 16, 16, 4)
    out = jax.jit(layer.apply)(jax.jit(layer.init)(jax.random.key(0), x), x)
    np.testing.assert_allclose(out[:, 2:-2, 2:-2].std(), 1, rtol=0.1)


@pytest.mark.parametrize(("shape", "channels"), [((8, 8, 1), 1), ((5, 4, 3), 1), ((5, 4, 3), 2)])
def test_mlp_gives_codes_and_pixel_parameters(shape, channels):
    nets, params, x = make(mlp.make, shape, 3, channels, hidden=(7, 6))
    mean, logvar = nets.encode(params, x)
    assert mean.shape == logvar.shape == (2, 3)
    assert nets.decode(params, mean).shape == (2, *shape[:2], shape[2] * channels)


def test_mlp_mirrors_its_widths():
    _, params, _ = make(mlp.make, (5, 4, 1), 3, 2, hidden=(9, 8, 7))
    assert weights(params["encoder"]) == [(20, 9), (9, 8), (8, 7), (7, 6)]
    assert weights(params["decoder"]) == [(3, 7), (7, 8), (8, 9), (9, 40)]


def test_mlp_may_be_linear():
    params = shapes(mlp.make((5, 4, 1), 3, 1, hidden=()), (5, 4, 1), 3)
    assert weights(params) == [(3, 20), (20, 6)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_activates_each_layer_but_the_last(activation):
    nets, params, x = make(mlp.make, (5, 4, 1), hidden=(9, 8), activation=activation)
    layers = params["encoder"]["body"]
    layers = [layers[f"Dense_{i}"] for i in range(3)]
    h = np.asarray(x).reshape(2, -1)
    for i, layer in enumerate(layers):
        h = h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None]
        h = np.asarray(getattr(jax.nn, activation)(h)) if i < 2 else h
    np.testing.assert_allclose(np.concatenate(nets.encode(params, x), axis=1), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [mlp.make, conv.make])
def test_bfloat16_is_for_computing_and_float32_for_keeping(build):
    half, params, x = make(build, (16, 16, 1), dtype="bfloat16")
    single = build((16, 16, 1), 3, 1, dtype="float32")

    def exact(params, x, z):
        return *single.encode(params, x), single.decode(params, z)

    z = normal(2, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(half, (16, 16, 1), 3))} == {jnp.dtype("float32")}
    pairs = zip((*half.encode(params, x), half.decode(params, z)), jax.jit(exact)(params, x, z), strict=True)
    for a, b in pairs:
        assert a.dtype == jnp.float32
        assert 0 < np.abs(a - b).max() < 0.03 * np.abs(b).max()


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("colours", [1, 3])
def test_conv_fits_images_of_the_usual_sizes(size, colours):
    nets, params, x = make(conv.make, (size, size, colours), 5, 2, hidden=16)
    mean, logvar = jax.eval_shape(nets.encode, params, x)
    assert mean.shape == logvar.shape == (2, 5)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, size, size, 2 * colours)


def test_conv_fits_images_that_are_not_square():
    nets, params, x = make(conv.make, (17, 30, 3), hidden=16)
    mean, _ = jax.eval_shape(nets.encode, params, x)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, 17, 30, 3)


@pytest.mark.parametrize("colours", [1, 3])
def test_conv_at_64_pixels_has_the_layers_of_locatello_et_al(colours):
    latent = 10
    params = shapes(conv.make((64, 64, colours), latent, 1), (64, 64, colours), latent)
    encoder = [(16 * colours, 32), (16 * 32, 32), (4 * 32, 64), (4 * 64, 64), (4 * 4 * 64, 256), (256, 2 * latent)]
    dense = [(latent, 256), (256, 4 * 4 * 64)]
    transposed = [(64, 64), (64, 32), (32, 32), (32, colours)]
    assert weights(params["encoder"]) == encoder
    assert weights(params["decoder"]) == dense + [(a, 16 * b) for a, b in transposed]
    assert count(params["encoder"]) == sum((a + 1) * b for a, b in encoder)
    assert count(params["decoder"]) == sum((a + 1) * b for a, b in dense) + sum((16 * a + 1) * b for a, b in transposed)


@pytest.mark.parametrize("size", [28, 64])
def test_conv_encoder_is_the_same_network_built_from_lax(size):
    nets, params, x = make(conv.make, (size, size, 3), hidden=16)
    p, h = params["encoder"], swap(x)
    for i, kernel in enumerate((4, 4, 2, 2)):
        h = jax.nn.relu(convolve(h, p[f"Dense_{i}"]["kernel"], kernel) + p[f"Dense_{i}"]["bias"].reshape(-1, 1, 1, 1))
    p = p["Mlp_0"]
    h = jax.nn.relu(swap(h).reshape(2, -1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"][None])
    h = h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"][None]
    np.testing.assert_allclose(np.concatenate(nets.encode(params, x), axis=1), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sizes", "first"), [([28, 14, 7, 4], 2), ([64, 32, 16, 8], 4)])
def test_conv_decoder_is_the_same_network_built_from_lax(sizes, first):
    nets, params, _ = make(conv.make, (sizes[0], sizes[0], 3), hidden=16)
    p, z = params["decoder"], normal(2, 3)
    dense = p["Mlp_0"]
    h = jax.nn.relu(z @ dense["Dense_0"]["kernel"] + dense["Dense_0"]["bias"][None])
    h = (h @ dense["Dense_1"]["kernel"] + dense["Dense_1"]["bias"][None]).reshape(2, first, first, 64)
    h = swap(h)
    for i, size in enumerate(reversed(sizes)):
        layer = p[f"TransposedConv_{i}"]
        h = convolve_transposed(jax.nn.relu(h), layer["Dense_0"]["kernel"], 4, (size, size))
        h = h + layer["bias"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(nets.decode(params, z), swap(h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [mlp.make, conv.make])
def test_gradients_are_finite_and_reach_every_parameter(build):
    nets, params, x = make(build, (16, 16, 1), activation="tanh")

    gradients = jax.jit(jax.grad(reconstruction(nets, x)))(params)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("build", [mlp.make, conv.make])
def test_an_image_is_encoded_and_decoded_without_its_neighbours(build):
    nets, params, x = make(build, (16, 16, 1))
    mean, logvar = nets.encode(params, x)
    other_mean, other_logvar = nets.encode(params, x.at[0].set(0))
    np.testing.assert_allclose(other_mean[1], mean[1], atol=1e-6)
    np.testing.assert_allclose(other_logvar[1], logvar[1], atol=1e-6)
    assert np.abs(other_mean[0] - mean[0]).max() > 0.01
    np.testing.assert_allclose(nets.decode(params, mean)[1], nets.decode(params, other_mean)[1], atol=1e-6)


def test_parameters_are_a_function_of_the_key_and_no_two_layers_begin_alike():
    init = jax.jit(mlp.make((2, 2, 1), 4, 1, hidden=(4,)).init)
    first, again, other = (init(jax.random.key(seed), jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 4))) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    leaves = jax.tree.leaves(first) + jax.tree.leaves(other)
    kernels = np.concatenate([leaf.ravel() for leaf in leaves if leaf.ndim == 2])
    assert len(np.unique(kernels)) == len(kernels) == 2 * (16 + 32 + 16 + 16)


def test_encoder_and_decoder_do_not_begin_alike():
    nets = conv.make(BIG, 64, 1, hidden=4)

    @jax.jit
    def first_dense(key):
        params = nets.init(key, jnp.zeros((1, *BIG)), jnp.zeros((1, 64)))
        return [params[part]["Mlp_0"]["Dense_0"]["kernel"] for part in ("encoder", "decoder")]

    encoder, decoder = first_dense(jax.random.key(0))
    assert encoder.shape == decoder.shape
    assert np.all(encoder != decoder)


SMALL = (8, 8, 1)
BIG = (16, 16, 1)


@pytest.mark.parametrize(
    ("build", "shape", "latent", "fields", "message"),
    [
        (mlp.make, SMALL, 0, {}, r"config\.latent_dim: \[0\]"),
        (conv.make, BIG, -1, {}, r"config\.latent_dim: \[-1\]"),
        (mlp.make, SMALL, 2, {"hidden": (0,)}, r"config\.net\.hidden: \[0\]"),
        (mlp.make, SMALL, 2, {"hidden": (8, -1)}, r"config\.net\.hidden: \[8, -1\]"),
        (conv.make, BIG, 2, {"hidden": 0}, r"config\.net\.hidden: \[0\]"),
        (mlp.make, SMALL, 2, {"activation": "rellu"}, r"config\.net\.activation: .*did you mean 'relu'\?"),
        (conv.make, BIG, 2, {"activation": "tan"}, r"config\.net\.activation: .*did you mean 'tanh'\?"),
        (mlp.make, SMALL, 2, {"dtype": "float16"}, r"config\.net\.dtype: .*bfloat16"),
        (conv.make, (15, 28, 1), 2, {}, r"config\.net\.name: .*15x28 is too small"),
        (conv.make, (28, 15, 1), 2, {}, r"config\.net\.name: .*28x15 is too small"),
    ],
)
def test_a_bad_field_is_refused_in_one_line(build, shape, latent, fields, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        build(shape, latent, 1, **fields)
    assert "\n" not in str(error.value)


def test_networks_are_found_by_name_and_a_misspelt_one_by_its_nearest():
    assert networks.get("conv") is conv.make
    with pytest.raises(UserError, match=r"config\.net\.name: 'conf' .* did you mean 'conv'\?"):
        networks.get("conf")


def test_autoregressive_outputs_see_the_context_and_the_latents_before(key):
    part = autoregressive(16, 16, outputs=2)
    z, context = jax.random.normal(jax.random.key(1), (3, 5)), jax.random.normal(jax.random.key(2), (3, 4))
    params = part.init(key, z, context)
    by_z, by_context = jax.jacobian(part.apply, (1, 2))(params, z, context)
    assert part.apply(params, z, context).shape == (3, 5, 2)
    own = np.einsum("biobj->bioj", np.asarray(by_z))  # of each example by its own latents
    depends = np.abs(own).sum(axis=(0, 2)) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((5, 5), bool), -1))
    assert (np.abs(np.einsum("biobj->ioj", np.asarray(by_context))).sum(axis=(1, 2)) > 0).all()


def test_one_latent_depends_on_the_context_alone(key):
    part = autoregressive(8, outputs=1)
    z, context = jnp.ones((2, 1)), jnp.ones((2, 3))
    params = part.init(key, z, context)
    np.testing.assert_array_equal(jax.jacobian(part.apply, 1)(params, z, context), 0)
    assert np.abs(jax.jacobian(part.apply, 2)(params, z, context)).sum() > 0
