import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import networks
from vae_jax.registry import UserError

RNG = np.random.default_rng(0)
LAYOUT = ("NHWC", "HWIO", "NHWC")
KERNELS_AND_SIZES = list(itertools.product((2, 4), ((8, 6), (7, 9))))


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


def as_filter(matrix, kernel):
    """The kernel x kernel filter (height, width, in, out) that a matrix on `patches` stands for."""
    blocks = matrix.reshape(kernel // 2, kernel // 2, 2, 2, -1, matrix.shape[1])
    return blocks.transpose(0, 2, 1, 3, 4, 5).reshape(kernel, kernel, -1, matrix.shape[1])


def convolve(x, matrix, kernel):
    return jax.lax.conv_general_dilated(x, as_filter(matrix, kernel), (2, 2), "SAME", dimension_numbers=LAYOUT)


def convolve_transposed(y, matrix, kernel, size):
    """The transposed convolution of lax; `matrix` as `overlap_add` takes its windows: (in, kernel^2 * out)."""
    filters = as_filter(matrix.T, kernel)
    x = jax.lax.conv_transpose(y, filters, (2, 2), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)
    return x[:, : size[0], : size[1]]


@pytest.mark.parametrize(("kernel", "size"), KERNELS_AND_SIZES)
def test_patches_times_a_matrix_is_a_strided_convolution(kernel, size):
    x, matrix = normal(2, *size, 3), normal(3 * kernel**2, 5)
    product = jax.jit(lambda x: networks.patches(x, kernel) @ matrix)(x)
    np.testing.assert_allclose(product, convolve(x, matrix, kernel), atol=2e-5)


@pytest.mark.parametrize(("kernel", "size"), KERNELS_AND_SIZES)
def test_overlap_add_is_the_transpose_of_patches(kernel, size):
    x = normal(2, *size, 3)
    y = normal(*jax.eval_shape(lambda x: networks.patches(x, kernel), x).shape)
    transpose = jax.jit(jax.linear_transpose(lambda x: networks.patches(x, kernel), x))
    added = jax.jit(lambda y: networks.overlap_add(y, kernel, size))(y)
    np.testing.assert_allclose(added, transpose(y)[0], atol=1e-5)


@pytest.mark.parametrize(("kernel", "size"), KERNELS_AND_SIZES)
def test_overlap_add_is_a_transposed_convolution(kernel, size):
    y, matrix = normal(2, *(-(-s // 2) for s in size), 5), normal(5, 3 * kernel**2)
    expected = convolve_transposed(y, matrix, kernel, size)
    added = jax.jit(lambda y: networks.overlap_add(y @ matrix, kernel, size))(y)
    np.testing.assert_allclose(added, expected, atol=2e-5)


def test_halvings_round_up():
    assert networks.halvings(28, 4) == [28, 14, 7, 4, 2]


def test_transposed_convolutions_start_at_the_scale_of_their_input():
    layer = networks.TransposedConv(64, (32, 32), jnp.dtype("float32"))
    x = normal(4, 16, 16, 32)
    out = jax.jit(layer.apply)(jax.jit(layer.init)(jax.random.key(0), x), x)
    np.testing.assert_allclose(out[:, 2:-2, 2:-2].std(), 1, rtol=0.1)


@pytest.mark.parametrize(("shape", "channels"), [((8, 8, 1), 1), ((5, 4, 3), 1), ((5, 4, 3), 2)])
def test_mlp_gives_codes_and_pixel_parameters(shape, channels):
    nets, params, x = make(networks.mlp, shape, 3, channels, hidden=(7, 6))
    mean, logvar = nets.encode(params, x)
    assert mean.shape == logvar.shape == (2, 3)
    assert nets.decode(params, mean).shape == (2, *shape[:2], shape[2] * channels)


def test_mlp_mirrors_its_widths():
    _, params, _ = make(networks.mlp, (5, 4, 1), 3, 2, hidden=(9, 8, 7))
    assert weights(params["encoder"]) == [(20, 9), (9, 8), (8, 7), (7, 6)]
    assert weights(params["decoder"]) == [(3, 7), (7, 8), (8, 9), (9, 40)]


def test_mlp_may_be_linear():
    params = shapes(networks.mlp((5, 4, 1), 3, 1, hidden=()), (5, 4, 1), 3)
    assert weights(params) == [(3, 20), (20, 6)]


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_mlp_activates_each_layer_but_the_last(activation):
    nets, params, x = make(networks.mlp, (5, 4, 1), hidden=(9, 8), activation=activation)
    layers = params["encoder"]["body"]
    layers = [layers[f"Dense_{i}"] for i in range(3)]
    h = np.asarray(x).reshape(2, -1)
    for i, layer in enumerate(layers):
        h = h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None]
        h = np.asarray(getattr(jax.nn, activation)(h)) if i < 2 else h
    np.testing.assert_allclose(np.concatenate(nets.encode(params, x), axis=1), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [networks.mlp, networks.conv])
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
    nets, params, x = make(networks.conv, (size, size, colours), 5, 2, hidden=16)
    mean, logvar = jax.eval_shape(nets.encode, params, x)
    assert mean.shape == logvar.shape == (2, 5)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, size, size, 2 * colours)


def test_conv_fits_images_that_are_not_square():
    nets, params, x = make(networks.conv, (17, 30, 3), hidden=16)
    mean, _ = jax.eval_shape(nets.encode, params, x)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, 17, 30, 3)


@pytest.mark.parametrize("colours", [1, 3])
def test_conv_at_64_pixels_has_the_layers_of_locatello_et_al(colours):
    latent = 10
    params = shapes(networks.conv((64, 64, colours), latent, 1), (64, 64, colours), latent)
    encoder = [(16 * colours, 32), (16 * 32, 32), (4 * 32, 64), (4 * 64, 64), (4 * 4 * 64, 256), (256, 2 * latent)]
    dense = [(latent, 256), (256, 4 * 4 * 64)]
    transposed = [(64, 64), (64, 32), (32, 32), (32, colours)]
    assert weights(params["encoder"]) == encoder
    assert weights(params["decoder"]) == dense + [(a, 16 * b) for a, b in transposed]
    assert count(params["encoder"]) == sum((a + 1) * b for a, b in encoder)
    assert count(params["decoder"]) == sum((a + 1) * b for a, b in dense) + sum((16 * a + 1) * b for a, b in transposed)


@pytest.mark.parametrize("size", [28, 64])
def test_conv_encoder_is_the_same_network_built_from_lax(size):
    nets, params, x = make(networks.conv, (size, size, 3), hidden=16)
    p, h = params["encoder"], x
    for i, kernel in enumerate((4, 4, 2, 2)):
        h = jax.nn.relu(convolve(h, p[f"Dense_{i}"]["kernel"], kernel) + p[f"Dense_{i}"]["bias"][None, None, None])
    p = p["Mlp_0"]
    h = jax.nn.relu(h.reshape(2, -1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"][None])
    h = h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"][None]
    np.testing.assert_allclose(np.concatenate(nets.encode(params, x), axis=1), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sizes", "first"), [([28, 14, 7, 4], 2), ([64, 32, 16, 8], 4)])
def test_conv_decoder_is_the_same_network_built_from_lax(sizes, first):
    nets, params, _ = make(networks.conv, (sizes[0], sizes[0], 3), hidden=16)
    p, z = params["decoder"], normal(2, 3)
    dense = p["Mlp_0"]
    h = jax.nn.relu(z @ dense["Dense_0"]["kernel"] + dense["Dense_0"]["bias"][None])
    h = (h @ dense["Dense_1"]["kernel"] + dense["Dense_1"]["bias"][None]).reshape(2, first, first, 64)
    for i, size in enumerate(reversed(sizes)):
        layer = p[f"TransposedConv_{i}"]
        h = convolve_transposed(jax.nn.relu(h), layer["Dense_0"]["kernel"], 4, (size, size))
        h = h + layer["bias"][None, None, None]
    np.testing.assert_allclose(nets.decode(params, z), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [networks.mlp, networks.conv])
def test_gradients_are_finite_and_reach_every_parameter(build):
    nets, params, x = make(build, (16, 16, 1), activation="tanh")

    def loss(params):
        mean, logvar = nets.encode(params, x)
        return jnp.mean(jnp.square(nets.decode(params, mean + jnp.exp(logvar)) - x))

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("build", [networks.mlp, networks.conv])
def test_an_image_is_encoded_and_decoded_without_its_neighbours(build):
    nets, params, x = make(build, (16, 16, 1))
    mean, logvar = nets.encode(params, x)
    other_mean, other_logvar = nets.encode(params, x.at[0].set(0))
    np.testing.assert_allclose(other_mean[1], mean[1], atol=1e-6)
    np.testing.assert_allclose(other_logvar[1], logvar[1], atol=1e-6)
    assert np.abs(other_mean[0] - mean[0]).max() > 0.01
    np.testing.assert_allclose(nets.decode(params, mean)[1], nets.decode(params, other_mean)[1], atol=1e-6)


def test_parameters_are_a_function_of_the_key_and_no_two_layers_begin_alike():
    init = jax.jit(networks.mlp((2, 2, 1), 4, 1, hidden=(4,)).init)
    first, again, other = (init(jax.random.key(seed), jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 4))) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    leaves = jax.tree.leaves(first) + jax.tree.leaves(other)
    kernels = np.concatenate([leaf.ravel() for leaf in leaves if leaf.ndim == 2])
    assert len(np.unique(kernels)) == len(kernels) == 2 * (16 + 32 + 16 + 16)


def test_encoder_and_decoder_do_not_begin_alike():
    nets = networks.conv(BIG, 64, 1, hidden=4)

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
        (networks.mlp, SMALL, 0, {}, r"config\.latent_dim: \[0\]"),
        (networks.conv, BIG, -1, {}, r"config\.latent_dim: \[-1\]"),
        (networks.mlp, SMALL, 2, {"hidden": (0,)}, r"config\.net\.hidden: \[0\]"),
        (networks.mlp, SMALL, 2, {"hidden": (8, -1)}, r"config\.net\.hidden: \[8, -1\]"),
        (networks.conv, BIG, 2, {"hidden": 0}, r"config\.net\.hidden: \[0\]"),
        (networks.mlp, SMALL, 2, {"activation": "rellu"}, r"config\.net\.activation: .*did you mean 'relu'\?"),
        (networks.conv, BIG, 2, {"activation": "tan"}, r"config\.net\.activation: .*did you mean 'tanh'\?"),
        (networks.mlp, SMALL, 2, {"dtype": "float16"}, r"config\.net\.dtype: .*bfloat16"),
        (networks.conv, (15, 28, 1), 2, {}, r"config\.net\.name: .*15x28 is too small"),
        (networks.conv, (28, 15, 1), 2, {}, r"config\.net\.name: .*28x15 is too small"),
    ],
)
def test_a_bad_field_is_refused_in_one_line(build, shape, latent, fields, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        build(shape, latent, 1, **fields)
    assert "\n" not in str(error.value)


def test_networks_are_found_by_name_and_a_misspelt_one_by_its_nearest():
    assert networks.get("conv") is networks.conv
    with pytest.raises(UserError, match=r"config\.net\.name: 'conf' .* did you mean 'conv'\?"):
        networks.get("conf")


def test_autoregressive_outputs_see_the_context_and_the_latents_before(key):
    part = networks.autoregressive(16, 16, outputs=2)
    z, context = jax.random.normal(jax.random.key(1), (3, 5)), jax.random.normal(jax.random.key(2), (3, 4))
    params = part.init(key, z, context)
    by_z, by_context = jax.jacobian(part.apply, (1, 2))(params, z, context)
    assert part.apply(params, z, context).shape == (3, 5, 2)
    own = np.einsum("biobj->bioj", np.asarray(by_z))  # of each example by its own latents
    depends = np.abs(own).sum(axis=(0, 2)) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((5, 5), bool), -1))
    assert (np.abs(np.einsum("biobj->ioj", np.asarray(by_context))).sum(axis=(1, 2)) > 0).all()


def test_one_latent_depends_on_the_context_alone(key):
    part = networks.autoregressive(8, outputs=1)
    z, context = jnp.ones((2, 1)), jnp.ones((2, 3))
    params = part.init(key, z, context)
    np.testing.assert_array_equal(jax.jacobian(part.apply, 1)(params, z, context), 0)
    assert np.abs(jax.jacobian(part.apply, 2)(params, z, context)).sum() > 0
