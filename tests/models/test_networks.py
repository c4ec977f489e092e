import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import network_page
from vae_jax.errors import UserError
from vae_jax.models import networks
from vae_jax.models.networks import _convolution, _residual, conv, from_linen, mlp, resnet
from vae_jax.models.networks._convolution import TransposedConv, halvings
from vae_jax.models.networks._layers import ACTIVATIONS
from vae_jax.models.networks._parts import autoregressive

RNG = np.random.default_rng(0)
LAYOUT = ("CHWN", "HWIO", "CHWN")
WIDTHS_AND_IMAGES = list(itertools.product((2, 4), ((8, 6, 2), (7, 9, 2), (1, 5, 1))))
"""Of windows; heights, widths and how many images."""
CHANNELS = [(1, 8), (3, 5)]
"""Few to many, where blocks are shifted before the product, and the other way, where its results are after it."""
SMALL, BIG = (8, 8, 1), (16, 16, 1)
SMALL_RESNET = functools.partial(resnet.make, widths=(4, 8), depth=1)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def shapes(nets, shape, latent):
    """The shapes and dtypes of the parameters that `nets` makes, computing nothing."""
    return jax.eval_shape(nets.init, jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros((1, latent)))


def make(build, shape, latent=3, channels=1, **fields):
    """(networks, compiled; random parameters, biases too; two random images in [0, 1])."""
    nets = build(shape, latent, channels, **fields)
    params = jax.tree.map(
        lambda leaf: normal(*leaf.shape) / np.float32(leaf.shape[0] ** 0.5), shapes(nets, shape, latent)
    )
    images = RNG.uniform(size=(2, *shape)).astype(np.float32)
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

    gradients, out = jax.grad(weighted, tuple(range(len(operands))), has_aux=True)(*operands)
    return out, *gradients


def assert_agree(ours, theirs, dtype):
    """Equal to the dtype's tolerance, relative to the largest number of each array."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0, atol=TOLERANCE[dtype] * np.abs(b).max())


CASES = [(width, images, channels) for (width, images), channels in itertools.product(WIDTHS_AND_IMAGES, CHANNELS)]


@functools.cache
def operands(case, transposed):
    """Images and a kernel."""
    width, (*size, batch), (few, many) = case
    if transposed:
        return normal(many, *(-(-s // 2) for s in size), batch), normal(many, few * width**2)
    return normal(few, *size, batch), normal(few * width**2, many)


def layer(case, transposed, ours):
    width, (*size, _), _ = case
    if transposed:
        function = _convolution.convolve_transposed if ours else convolve_transposed
        return lambda y, kernel: function(y, kernel, width, size)
    function = {True: _convolution.convolve, False: convolve, "windows": _convolution.convolve_windows}[ours]
    return lambda x, kernel: function(x, kernel, width)


@functools.cache
def results(transposed, dtype, ours=True):
    """Values and gradients of every case, as one program: of our convolutions on this device, or of XLA's own."""

    def all_cases(pairs):
        return [with_gradients(layer(case, transposed, ours), *pair) for case, pair in zip(CASES, pairs, strict=True)]

    pairs = [[x.astype(dtype) for x in operands(case, transposed)] for case in CASES]
    return dict(zip(CASES, jax.jit(all_cases)(pairs), strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("width", "images"), WIDTHS_AND_IMAGES)
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_and_their_gradients_are_those_of_lax(width, images, channels, dtype, transposed):
    case, exact = (width, images, channels), results(transposed, "float32", ours=False)
    assert_agree(results(transposed, dtype)[case], exact[case], dtype)


def reconstruction(nets, x):
    """A loss that both networks of a pair take part in."""

    def loss(params):
        mean, logvar = nets.encode(params, x)
        return jnp.mean(jnp.square(nets.decode(params, mean + jnp.exp(logvar)) - x))

    return loss


@pytest.mark.parametrize("case", CASES)
def test_what_a_cpu_multiplies_is_what_other_devices_convolve(case):
    assert_agree(results(False, "float32")[case], results(False, "float32", "windows")[case], "float32")


def test_what_a_cpu_multiplies_at_stride_1_is_what_other_devices_convolve():
    layers = (_convolution.multiply_3x3, _convolution.convolve_3x3_windows)
    x, kernel = normal(8, 5, 6, 2), normal(72, 4)
    assert_agree(*(jax.jit(functools.partial(with_gradients, layer))(x, kernel) for layer in layers), "float32")


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("make_nets", [conv.make, SMALL_RESNET])
def test_accelerators_convolve(make_nets, platform):
    nets = make_nets(BIG, 3, 1)
    one = shapes(nets, BIG, 3), jax.ShapeDtypeStruct((2, *BIG), jnp.float32)
    traced = jax.jit(lambda params, x: jax.grad(reconstruction(nets, x))(params)).trace(*one)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    convolutions = program.count("stablehlo.convolution")
    assert (
        convolutions == 23 if make_nets is conv.make else convolutions > 0
    )  # three a layer, less the images' gradient
    assert program.count("stablehlo.dot_general") <= 3 * 4  # of the dense layers, two in each network


def test_no_convolution_is_compiled_on_a_cpu_where_a_population_multiplies_in_batches():
    nets = conv.make(BIG, 3, 1, hidden=8)
    one = shapes(nets, BIG, 3), jax.ShapeDtypeStruct((2, *BIG), jnp.float32)
    population = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((5, *leaf.shape), leaf.dtype), one)
    gradients = jax.vmap(lambda params, x: jax.grad(reconstruction(nets, x))(params))
    program = jax.jit(gradients).lower(*population).as_text()
    assert "stablehlo.convolution" not in program
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 3 * 12 - 1  # three products a layer, but for the gradient by the images
    assert all("batching_dims = [0] x [0]" in line for line in products)


@functools.cache
def tiny_conv():
    """(networks; random parameters; (parameters, images) -> loss and gradients, compiled once for all tests)."""
    _, params, _ = make(conv.make, BIG, hidden=8)
    nets = conv.make(BIG, 3, 1, hidden=8, activation="tanh")
    return nets, params, jax.jit(lambda params, x: jax.value_and_grad(reconstruction(nets, x))(params))


@functools.cache
def scanned_population():
    """Two members trained together by one program for a step on each batch.

    Returns (their first parameters, the batches, the losses and gradients of each step, their last parameters).
    """
    nets, params, _ = tiny_conv()
    members = jax.tree.map(lambda leaf: np.stack([leaf, np.float32(1.1) * leaf]), params)
    batches = RNG.uniform(size=(3, 2, *BIG)).astype(np.float32)

    def descend(params, x):
        loss, gradients = jax.value_and_grad(reconstruction(nets, x))(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), (loss, gradients)

    train = jax.jit(lambda members, batches: jax.lax.scan(jax.vmap(descend, (0, None)), members, batches))
    last, (losses, gradients) = jax.tree.map(np.asarray, train(members, batches))
    return members, batches, losses, gradients, last


@pytest.mark.full
def test_members_of_a_population_have_the_gradients_that_they_have_alone():
    members, batches, _, gradients, _ = scanned_population()
    for i in range(2):
        _, alone = tiny_conv()[2](jax.tree.map(lambda leaf, i=i: leaf[i], members), batches[0])
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[0, i], b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_gradients_in_a_scan_are_those_of_steps_dispatched_one_by_one():
    members, batches, losses, _, last = scanned_population()
    params = jax.tree.map(lambda leaf: leaf[0], members)
    for x, loss in zip(batches, losses[:, 0], strict=True):
        alone, gradients = tiny_conv()[2](params, x)
        params = jax.tree.map(lambda p, g: p - np.float32(0.1) * np.asarray(g), params, gradients)
        np.testing.assert_allclose(alone, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-6)


def test_halvings_round_up():
    assert halvings(28, 4) == [28, 14, 7, 4, 2]


def test_transposed_convolutions_start_at_the_scale_of_their_input():
    layer, x = TransposedConv(64, (32, 32), jnp.dtype("float32")), normal(32, 16, 16, 4)

    @jax.jit
    def first_outputs(key):
        params = _convolution.name_convolutions(layer.init(key, x)["params"])
        return layer.apply({"params": params}, x)

    np.testing.assert_allclose(first_outputs(jax.random.key(0))[:, 2:-2, 2:-2].std(), 1, rtol=0.1)


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


@functools.cache
def activated():
    """For each activation, what a dense encoder gives and what its layers give by hand; one program."""
    nets = {name: mlp.make((5, 4, 1), 3, 1, hidden=(9, 8), activation=name) for name in ACTIVATIONS}
    _, params, x = make(mlp.make, (5, 4, 1), hidden=(9, 8))

    def by_hand(activation):
        layers = [params["encoder"]["body"][f"Dense_{i}"] for i in range(3)]
        h = x.reshape(2, -1)
        for i, layer in enumerate(layers):
            h = h @ layer["kernel"] + layer["bias"][None]
            h = getattr(jax.nn, activation)(h) if i < 2 else h
        return h

    def both(params, x):
        return {name: (jnp.concatenate(pair.encode(params, x), axis=1), by_hand(name)) for name, pair in nets.items()}

    return jax.jit(both)(params, x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_activates_each_layer_but_the_last(activation):
    outputs, by_hand = activated()[activation]
    np.testing.assert_allclose(outputs, by_hand, rtol=1e-4, atol=1e-5)
    others = [name for name in ACTIVATIONS if name != activation]
    assert all(np.abs(outputs - activated()[name][0]).max() > 1e-4 for name in others)


@functools.cache
def outputs_of(build):
    """(float32 networks' outputs for two images, for the same with another first image, bfloat16's outputs)."""
    single, params, x = make(build, BIG)
    half = build(BIG, 3, 1, dtype="bfloat16")
    z = normal(2, 3)

    def outputs(images):
        codes = single.encode(params, images)
        return {"codes": codes, "decoded": single.decode(params, codes[0]), "images": single.decode(params, z)}

    other = np.concatenate([np.zeros_like(x[:1]), x[1:]])
    rounded = {"codes": jax.jit(half.encode)(params, x), "images": jax.jit(half.decode)(params, z)}
    return outputs(x), outputs(other), rounded


BUILDS = {"mlp": mlp.make, "conv": conv.make, "resnet": SMALL_RESNET}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_bfloat16_is_for_computing_and_float32_for_keeping(build):
    half = build(BIG, 3, 1, dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(half, BIG, 3))} == {jnp.dtype("float32")}
    exact, _, rounded = outputs_of(build)
    for a, b in zip((*rounded["codes"], rounded["images"]), (*exact["codes"], exact["images"]), strict=True):
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


def encoder_of_lax(params, x):
    h = swap(x)
    for i, width in enumerate((4, 4, 2, 2)):
        layer = params[f"Conv_{i}"]
        h = jax.nn.relu(convolve(h, layer["kernel"], width) + layer["bias"].reshape(-1, 1, 1, 1))
    first, last = (params["Mlp_0"][f"Dense_{i}"] for i in range(2))
    h = jax.nn.relu(swap(h).reshape(2, -1) @ first["kernel"] + first["bias"][None])
    return h @ last["kernel"] + last["bias"][None]


def decoder_of_lax(params, z, sizes, grid):
    first, last = (params["Mlp_0"][f"Dense_{i}"] for i in range(2))
    h = jax.nn.relu(z @ first["kernel"] + first["bias"][None])
    h = swap((h @ last["kernel"] + last["bias"][None]).reshape(2, grid, grid, 64))
    for i, size in enumerate(reversed(sizes)):
        layer = params[f"TransposedConv_{i}"]
        h = convolve_transposed(jax.nn.relu(h), layer["Conv_0"]["kernel"], 4, (size, size))
        h = h + layer["bias"].reshape(-1, 1, 1, 1)
    return swap(h)


@functools.cache
def ours_and_laxs(sizes, grid):
    """(ours, by XLA's own convolutions) of the encoder, and of the decoder; one program."""
    nets, params, x = make(conv.make, (sizes[0], sizes[0], 3), hidden=16)

    @jax.jit
    def both(params, x, z):
        encoded = jnp.concatenate(nets.encode(params, x), axis=1), encoder_of_lax(params["encoder"], x)
        return encoded, (nets.decode(params, z), decoder_of_lax(params["decoder"], z, sizes, grid))

    return both(params, x, normal(2, 3))


SIZES_AND_GRIDS = [((28, 14, 7, 4), 2), ((64, 32, 16, 8), 4)]


@pytest.mark.parametrize(("sizes", "grid"), SIZES_AND_GRIDS)
def test_conv_encoder_is_the_same_network_built_from_lax(sizes, grid):
    (ours, laxs), _ = ours_and_laxs(sizes, grid)
    np.testing.assert_allclose(ours, laxs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sizes", "grid"), SIZES_AND_GRIDS)
def test_conv_decoder_is_the_same_network_built_from_lax(sizes, grid):
    _, (ours, laxs) = ours_and_laxs(sizes, grid)
    np.testing.assert_allclose(ours, laxs, rtol=1e-4, atol=1e-5)


@functools.cache
def tiny_mlp():
    """As `tiny_conv`, dense."""
    _, params, _ = make(mlp.make, BIG, hidden=(8,))
    nets = mlp.make(BIG, 3, 1, hidden=(8,), activation="tanh")
    return nets, params, jax.jit(lambda params, x: jax.value_and_grad(reconstruction(nets, x))(params))


@functools.cache
def tiny_gated_mlp():
    """With gates and norms."""
    fields = {"hidden": (8, 7), "norm": "layer", "gated": True}
    nets, params = mlp.make(BIG, 3, 1, **fields), make(mlp.make, BIG, **fields)[1]
    return nets, params, jax.jit(lambda params, x: jax.value_and_grad(reconstruction(nets, x))(params))


@functools.cache
def tiny_resnet():
    """As `tiny_conv`, of residual blocks."""
    nets, params = SMALL_RESNET(BIG, 3, 1), make(SMALL_RESNET, BIG)[1]
    return nets, params, jax.jit(lambda params, x: jax.value_and_grad(reconstruction(nets, x))(params))


@pytest.mark.parametrize("tiny", [tiny_mlp, tiny_gated_mlp, tiny_conv, tiny_resnet])
def test_gradients_are_finite_and_reach_every_parameter(tiny):
    _, params, gradient = tiny()
    _, gradients = gradient(params, RNG.uniform(size=(2, *BIG)).astype(np.float32))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf != 0), path


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_an_image_is_encoded_and_decoded_without_its_neighbours(build):
    first, second, _ = outputs_of(build)
    for codes, other_codes in zip(first["codes"], second["codes"], strict=True):
        np.testing.assert_allclose(other_codes[1], codes[1], atol=1e-6)
    assert np.abs(second["codes"][0][0] - first["codes"][0][0]).max() > 0.01
    np.testing.assert_allclose(first["decoded"][1], second["decoded"][1], atol=1e-6)


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


@pytest.mark.parametrize(
    ("build", "shape", "latent", "fields", "message"),
    [
        (mlp.make, SMALL, 0, {}, r"latent_dim: \[0\]"),
        (conv.make, BIG, -1, {}, r"latent_dim: \[-1\]"),
        (mlp.make, SMALL, 2, {"hidden": (0,)}, r"hidden: \[0\]"),
        (mlp.make, SMALL, 2, {"hidden": (8, -1)}, r"hidden: \[8, -1\]"),
        (conv.make, BIG, 2, {"hidden": 0}, r"hidden: \[0\]"),
        (mlp.make, SMALL, 2, {"activation": "rellu"}, r"activation: .*did you mean 'relu'\?"),
        (conv.make, BIG, 2, {"activation": "tan"}, r"activation: .*did you mean 'tanh'\?"),
        (mlp.make, SMALL, 2, {"dtype": "float16"}, r"dtype: .*bfloat16"),
        (mlp.make, SMALL, 2, {"norm": "batch"}, r"norm: 'batch' is unknown; known: layer, none"),
        (mlp.make, SMALL, 2, {"init": "glorott"}, r"init: .*did you mean 'glorot'\?"),
        (resnet.make, BIG, 2, {"widths": ()}, r"widths: \(\) is not allowed; give the channels of one scale"),
        (resnet.make, BIG, 2, {"widths": (8, 0)}, r"widths: \[8, 0\]"),
        (resnet.make, BIG, 2, {"depth": 0}, r"depth: \[0\]"),
        (resnet.make, (28, 7, 1), 2, {}, r"widths: \(64, 128, 256\) halves an image 2 times and 28x7 is too small"),
        (conv.make, (15, 28, 1), 2, {}, r"name: .*15x28 is too small"),
        (conv.make, (28, 15, 1), 2, {}, r"name: .*28x15 is too small"),
    ],
)
def test_a_bad_field_is_refused_in_one_line(build, shape, latent, fields, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        build(shape, latent, 1, **fields)
    assert "\n" not in str(error.value)


def test_networks_are_found_by_name_and_a_misspelt_one_by_its_nearest():
    assert networks.get("conv") is conv.make
    with pytest.raises(UserError, match=r"^name: 'conf' .* did you mean 'conv'\?"):
        networks.get("conf")


def test_autoregressive_outputs_see_the_context_and_the_latents_before(key):
    part, z, context = autoregressive(16, 16, outputs=2), normal(3, 5), normal(3, 4)

    @jax.jit
    def outputs_and_slopes(key, z, context):
        params = part.init(key, z, context)
        return part.apply(params, z, context), jax.jacobian(part.apply, (1, 2))(params, z, context)

    outputs, (by_z, by_context) = outputs_and_slopes(key, z, context)
    assert outputs.shape == (3, 5, 2)
    slopes = np.einsum("biobj->bioj", np.asarray(by_z))  # of each example by its own latents
    depends = np.abs(slopes).sum(axis=(0, 2)) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((5, 5), bool), -1))
    assert (np.abs(np.einsum("biobj->ioj", np.asarray(by_context))).sum(axis=(1, 2)) > 0).all()


def test_one_latent_depends_on_the_context_alone(key):
    part, z, context = autoregressive(8, outputs=1), np.ones((2, 1), np.float32), np.ones((2, 3), np.float32)
    slopes = jax.jit(lambda *inputs: jax.jacobian(part.apply, (1, 2))(part.init(*inputs), *inputs[1:]))
    by_z, by_context = slopes(key, z, context)
    np.testing.assert_array_equal(by_z, 0)
    assert np.abs(by_context).sum() > 0


def by_hand(params, x):
    """A gated encoder with layer norm, layer by layer."""
    h = x.reshape(len(x), -1)
    for i in range(2):
        dense, gate, norm = (params[f"{name}_{i}"] for name in ("Dense", "Gate", "LayerNorm"))
        y = h @ dense["kernel"] + dense["bias"]
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6)
        y = y * norm["scale"] + norm["bias"]
        h = y / (1 + np.exp(-(h @ gate["kernel"] + gate["bias"])))
    return h @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]


def test_a_gated_layer_with_a_norm_is_what_its_equation_says():
    nets, params, x = make(mlp.make, (5, 4, 1), hidden=(9, 8), norm="layer", gated=True)
    outputs = np.concatenate(nets.encode(params, x), axis=1)
    np.testing.assert_allclose(outputs, by_hand(params["encoder"]["body"], x), rtol=1e-4, atol=1e-5)


def test_kernels_begin_as_lecun_or_glorot_say():
    def kernel(**fields):
        init = jax.jit(mlp.make(BIG, 50, 1, hidden=(), **fields).init)
        params = init(jax.random.key(0), jnp.zeros((1, *BIG)), jnp.zeros((1, 50)))
        return np.asarray(params["decoder"]["Dense_0"]["kernel"])

    lecun, glorot = kernel(), kernel(init="glorot")
    np.testing.assert_array_equal(lecun, kernel(init="lecun"))
    np.testing.assert_allclose(lecun.var(), 1 / 50, rtol=0.05)
    np.testing.assert_allclose(glorot.var(), 2 / (50 + 256), rtol=0.05)
    assert np.abs(glorot).max() <= np.sqrt(6 / (50 + 256))  # uniform


def test_a_gradient_keeps_no_windows_of_a_3x3_convolution():
    x, kernel = normal(8, 5, 6, 2), normal(72, 4)
    kept = jax.eval_shape(lambda *operands: jax.vjp(_convolution.multiply_3x3, *operands)[1], x, kernel)
    assert count(kept) <= x.size + kernel.size
    ours, alone = (
        jax.jit(functools.partial(with_gradients, layer))
        .lower(x, kernel)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for layer in (_convolution.convolve_3x3, _convolution.multiply_3x3)
    )
    assert ours == alone  # nothing is kept for the formulation of other devices


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 16), (128, 32), (256, 32), (4, 1), (8, 2), (12, 2), (9, 1), (1, 1)]
)
def test_groups_are_equal_and_of_four_channels_at_least(channels, groups):
    assert _residual.group_count(channels) == groups
    assert channels % groups == 0


def block_of_lax(params, x):
    """A residual block by XLA's own convolution and flax's own group norm, channels last."""
    h = x
    for i in range(2):
        norm = nn.GroupNorm(num_groups=_residual.group_count(x.shape[-1]))
        h = jax.nn.silu(norm.apply({"params": params[f"GroupNorm_{i}"]}, h))
        h = in_place_of_lax(params[f"Conv3x3_{i}"], h)
    return x + h


def in_place_of_lax(params, x):
    kernel = params["kernel"].reshape(3, 3, x.shape[-1], -1)
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    return y + params["bias"].reshape(1, 1, 1, -1)


def residual_encoder_of_lax(params, x):
    h = block_of_lax(params["Block_0"], in_place_of_lax(params["Conv3x3_0"], x))
    down = params["Conv_0"]
    h = swap(convolve(swap(h), down["kernel"], 4) + down["bias"].reshape(-1, 1, 1, 1))
    h = block_of_lax(params["Block_1"], h)
    h = jax.nn.silu(nn.GroupNorm(num_groups=2).apply({"params": params["GroupNorm_0"]}, h))
    last = params["Mlp_0"]["Dense_0"]
    return h.reshape(len(x), -1) @ last["kernel"] + last["bias"][None]


def residual_decoder_of_lax(params, z, size):
    first = params["Mlp_0"]["Dense_0"]
    h = (z @ first["kernel"] + first["bias"][None]).reshape(len(z), *(-(-s // 2) for s in size), 8)
    h = block_of_lax(params["Block_0"], h)
    up = params["TransposedConv_0"]
    h = swap(convolve_transposed(swap(h), up["Conv_0"]["kernel"], 4, size) + up["bias"].reshape(-1, 1, 1, 1))
    h = block_of_lax(params["Block_1"], h)
    h = jax.nn.silu(nn.GroupNorm(num_groups=1).apply({"params": params["GroupNorm_0"]}, h))
    return in_place_of_lax(params["Conv3x3_0"], h)


def test_resnet_is_the_same_network_built_from_lax():
    shape = (9, 12, 3)
    nets, params, x = make(SMALL_RESNET, shape, channels=2)
    z = normal(2, 3)
    laxs = jax.jit(lambda params, x: residual_encoder_of_lax(params["encoder"], x))(params, x)
    np.testing.assert_allclose(np.concatenate(nets.encode(params, x), axis=1), laxs, rtol=1e-4, atol=1e-5)
    laxs = jax.jit(lambda params, z: residual_decoder_of_lax(params["decoder"], z, shape[:2]))(params, z)
    np.testing.assert_allclose(nets.decode(params, z), laxs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 20, 1), (32, 32, 3), (64, 64, 3), (128, 128, 3), (67, 45, 2)])
def test_resnet_fits_images_of_the_usual_and_of_odd_sizes(shape):
    nets, latent = resnet.make(shape, 5, 2, 1, widths=(4, 8, 16, 8), depth=1), 5
    params = shapes(nets, shape, latent)
    mean, logvar = jax.eval_shape(nets.encode, params, jnp.zeros((2, *shape)))
    assert mean.shape == logvar.shape == (2, latent)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, *shape[:2], 2 * shape[2] + 1)


def test_resnet_members_have_the_gradients_that_they_have_alone_and_compile_no_convolution_on_a_cpu():
    nets, params, gradient = tiny_resnet()
    members = jax.tree.map(lambda leaf: np.stack([leaf, np.float32(1.1) * leaf]), params)
    x = RNG.uniform(size=(2, *BIG)).astype(np.float32)
    together = jax.vmap(lambda params, x: jax.value_and_grad(reconstruction(nets, x))(params), (0, None))
    assert "stablehlo.convolution" not in jax.jit(together).lower(members, x).as_text()
    losses, gradients = jax.jit(together)(members, x)
    for i in range(2):
        loss, alone = gradient(jax.tree.map(lambda leaf, i=i: leaf[i], members), x)
        np.testing.assert_allclose(losses[i], loss, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_the_page_of_networks_says_what_the_code_says():
    text = network_page.PAGE.read_text()
    expected = network_page.generate()
    assert text.partition(network_page.KEPT)[0] == expected, "run: python -m experiments.network_page"
    total = count(shapes(mlp.make((28, 28, 1), 16, 1), (28, 28, 1), 16))
    assert f"| all | | {total:,} |" in expected.partition("## mlp")[2].partition("## resnet")[0]


class Own(nn.Module):
    """An encoder or a decoder of the user's own, with a layer that networks may or may not have."""

    outputs: int
    layer: nn.Module | None = None

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        return nn.Dense(self.outputs)(x if self.layer is None else self.layer(x))


OUTPUTS = {"encoder": 6, "decoder": 64}


def own_nets(role="encoder", layer=None, outputs=0):
    """Networks for SMALL images and three latents, one of them with `layer`, or of other `outputs`."""
    modules = {name: Own(count) for name, count in OUTPUTS.items()}
    modules[role] = Own(outputs or OUTPUTS[role], layer)
    return from_linen(modules["encoder"], modules["decoder"], SMALL, 3, 1)


@pytest.mark.parametrize(
    "layer", [None, nn.LayerNorm(), nn.GroupNorm(num_groups=2), nn.Dropout(0.5, deterministic=True)]
)
def test_networks_of_two_linen_modules_are_networks(layer):
    nets = own_nets(layer=layer)
    params = shapes(nets, SMALL, 3)
    mean, logvar = jax.eval_shape(nets.encode, params, jnp.zeros((2, *SMALL)))
    assert mean.shape == logvar.shape == (2, 3)
    assert jax.eval_shape(nets.decode, params, mean).shape == (2, *SMALL)


@pytest.mark.parametrize("role", OUTPUTS)
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm(use_running_average=False), r"its module keeps 'batch_stats' .* take GroupNorm or LayerNorm"),
        (nn.BatchNorm(use_running_average=True), r"its module keeps 'batch_stats' .* take GroupNorm or LayerNorm"),
        (nn.BatchNorm(), r"its module keeps 'batch_stats' .* take GroupNorm or LayerNorm"),
        (nn.Dropout(0.5), r"asks for random numbers, as Dropout does, .* leave Dropout out"),
        (nn.Dropout(0.5, deterministic=False), r"asks for random numbers, as Dropout does, .* leave Dropout out"),
    ],
)
def test_what_depends_on_the_batch_or_draws_noise_is_refused_with_what_to_use(role, layer, message):
    with pytest.raises(UserError, match=f"^name: .*{message}") as error:
        shapes(own_nets(role, layer), SMALL, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("role", "needed"), OUTPUTS.items())
def test_another_number_of_outputs_is_refused(role, needed):
    with pytest.raises(UserError, match=f"^name: its {role} gives 7 numbers for an example, and {needed} are needed"):
        shapes(own_nets(role, outputs=7), SMALL, 3)


def test_running_means_are_refused_in_parameters_of_any_make():
    networks.refuse_collections({"encoder": {"params": {"kernel": np.ones(1)}}, "decoder": [np.ones(1)]})
    with pytest.raises(UserError, match=r"^name: its module keeps 'batch_stats'"):
        networks.refuse_collections({"encoder": {"params": {}, "batch_stats": {"mean": np.ones(1)}}})
