"""A run's decoder as plain layers and base64 weights, which assets/decode.js runs in a browser.

A layer has a kind, a shape and the activation that follows:

    dense        (inputs, outputs)
    pointwise    (pixels, inputs, outputs): the same dense layer at each pixel
    convolution  (height, width, inputs, outputs): 3x3 at stride 1
    transposed   (height, width, inputs) and (height, width, outputs): a 4x4 convolution's transpose at stride 2
    norm         (pixels, channels, groups): mean 0 and variance 1 in each group, then a scale and a bias
    keep, add    (): what `keep` was given is added to what `add` is given

Weights lie one after the other, a layer's kernel and then its bias, kernels with the inputs before the outputs and
before these the rows and columns of the window. Learned numbers that are the same everywhere (the likelihood's scale)
have no say in the expected image and stay out.

Weights are float16 where that moves no grey level by half of TOLERANCE at the codes given, and float32 otherwise.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jax.inference import TrainedModel
from vae_jax.models.networks._convolution import halvings
from vae_jax.models.networks._residual import group_count
from vae_jax.typing import Params

TOLERANCE = 1e-3
"""What a grey level in the browser may be off that of JAX."""
MAX_BYTES = 8_000_000
"""Bytes of float32 weights above which a decoder is not put into a page."""
MAX_PRODUCTS = 40_000_000
"""Multiplications for an image above which it is not: a quarter of a second in a browser."""
NOTHING = np.zeros(0, np.float32)

MEAN_KINDS = {
    "bernoulli": "sigmoid",
    "gaussian": "value",
    "laplace": "value",
    "continuous_bernoulli": "continuous",
    "discretized_logistic": "shifted",
    "logistic_mixture": "mixture",
}
"""What decode.js calls the expected grey level of each likelihood, of those with a choice of `mean` the linear one."""


def mean_kind(likelihood: Mapping[str, Any]) -> str:
    """What decode.js calls the expected grey level of a config's likelihood; one of an earlier version is linear."""
    return "sigmoid" if likelihood.get("mean") == "sigmoid" else MEAN_KINDS[likelihood["name"]]


Grid = tuple[int, int]
"""Height and width, in pixels."""


class Layer(NamedTuple):
    """One layer: its `kind` and `shape` as above, the `activation` after it, and its weights."""

    kind: str
    shape: tuple[int, ...]
    activation: str
    kernel: np.ndarray
    bias: np.ndarray


def numbered_subtrees(tree: Params, name: str) -> list[Params]:
    """The subtrees called name_0, name_1 and so on."""
    return [tree[f"{name}_{i}"] for i in range(sum(key.startswith(f"{name}_") for key in tree))]


def dense(tree: Params, activations: Sequence[str]) -> list[Layer]:
    """The layers of an `Mlp`."""
    return [
        Layer("dense", layer["kernel"].shape, activation, layer["kernel"], layer["bias"])
        for layer, activation in zip(numbered_subtrees(tree, "Dense"), activations, strict=True)
    ]


def mlp(tree: Params, activation: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The decoder of `networks.mlp`."""
    return dense(tree, [activation] * (len(numbered_subtrees(tree, "Dense")) - 1) + ["none"])


def transposed(convolution: Params, before: Grid, after: Grid, activation: str) -> Layer:
    """A `TransposedConv` from one grid of pixels to another."""
    kernel, bias = convolution["Conv_0"]["kernel"], convolution["bias"]
    inputs, outputs = len(kernel), len(bias)
    # Its windows are 2x2 blocks of 2x2 pixels (networks.convolve).
    taps = kernel.reshape(inputs, 2, 2, 2, 2, outputs).transpose(1, 3, 2, 4, 0, 5)
    return Layer("transposed", (*before, inputs, *after, outputs), activation, taps, bias)


def convolution(tree: Params, grid: Grid, activation: str = "none") -> Layer:
    """A `Conv3x3` of a grid of pixels."""
    inputs, outputs = len(tree["kernel"]) // 9, len(tree["bias"])
    return Layer("convolution", (*grid, inputs, outputs), activation, tree["kernel"], tree["bias"])


def norm(tree: Params, grid: Grid, activation: str) -> Layer:
    """A `GroupNorm` of a grid of pixels."""
    channels = len(tree["scale"])
    return Layer("norm", (math.prod(grid), channels, group_count(channels)), activation, tree["scale"], tree["bias"])


def mark(kind: str, activation: str = "none") -> Layer:
    """`keep` or `add`."""
    return Layer(kind, (), activation, NOTHING, NOTHING)


def grids(image_shape: tuple[int, int, int], times: int) -> list[Grid]:
    """Height and width from the smallest grid to the image, which is twice as large each of so many times."""
    return list(zip(*(halvings(size, times) for size in image_shape[:2]), strict=True))[::-1]


def conv(tree: Params, activation: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The decoder of `networks.conv`."""
    layers, convolutions = dense(tree["Mlp_0"], [activation] * 2), numbered_subtrees(tree, "TransposedConv")
    sizes, last = grids(image_shape, len(convolutions)), len(convolutions) - 1
    for i, each in enumerate(convolutions):
        layers.append(transposed(each, sizes[i], sizes[i + 1], "none" if i == last else activation))
    return layers


def residual_block(block: Params, size: Grid, activation: str) -> list[Layer]:
    """A `Block` of `networks.resnet`."""
    first, second = (
        [norm(block[f"GroupNorm_{k}"], size, activation), convolution(block[f"Conv3x3_{k}"], size)] for k in range(2)
    )
    return [mark("keep"), *first, *second, mark("add")]


def resnet(tree: Params, activation: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The decoder of `networks.resnet`."""
    blocks, convolutions = numbered_subtrees(tree, "Block"), numbered_subtrees(tree, "TransposedConv")
    sizes, layers = grids(image_shape, len(convolutions)), dense(tree["Mlp_0"], ["none"])
    depth = len(blocks) // len(sizes)
    for i, size in enumerate(sizes):
        for block in blocks[i * depth : (i + 1) * depth]:
            layers += residual_block(block, size, activation)
        if size != sizes[-1]:
            layers.append(transposed(convolutions[i], size, sizes[i + 1], "none"))
    return [*layers, norm(tree["GroupNorm_0"], sizes[-1], activation), convolution(tree["Conv3x3_0"], sizes[-1])]


def grid(tree: Params, activation: str, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The decoder of `networks.grid` where all numbers of a code have a place."""
    blocks, convolutions = numbered_subtrees(tree, "LocalBlock"), numbered_subtrees(tree, "TransposedConv")
    sizes, last = grids(image_shape, len(convolutions)), len(convolutions) - 1
    layers = [convolution(tree["Conv3x3_0"], sizes[0])]
    for block in blocks:
        each = block["Conv1x1_0"]
        shape, end = (math.prod(sizes[0]), *each["kernel"].shape), activation if block is blocks[-1] else "none"
        layers += [mark("keep", activation), convolution(block["Conv3x3_0"], sizes[0], activation)]
        layers += [Layer("pointwise", shape, "none", each["kernel"], each["bias"]), mark("add", end)]
    for i, each in enumerate(convolutions):
        layers.append(transposed(each, sizes[i], sizes[i + 1], "none" if i == last else activation))
    return layers


NETWORKS: dict[str, Callable[[Params, str, tuple[int, int, int]], list[Layer]]] = {
    "mlp": mlp,
    "conv": conv,
    "resnet": resnet,
    "grid": grid,
}


def products(layer: Layer) -> int:
    """The multiplications that a layer takes for an image, but for those of activations."""
    pixels = {"pointwise": layer.shape[:1], "convolution": layer.shape[:2], "transposed": layer.shape[:2]}
    return layer.kernel.size * math.prod(pixels.get(layer.kind, ()))


def decoder_layers(run: TrainedModel) -> list[Layer]:
    """The layers of a run's decoder."""
    net, tree = run.config["net"], jax.tree.map(np.asarray, run.params["nets"]["decoder"])
    return NETWORKS[net["name"]](tree, net["activation"], run.image_shape)


def missing_support(run: TrainedModel) -> str:
    """Why the browser cannot run this run's decoder; empty where it can."""
    net, likelihood = run.config["net"], run.config["likelihood"]["name"]
    if run.model.variant.wrap_networks is not None:
        return "this variant does more to decode than its network's layers"
    if net["name"] not in NETWORKS:
        return f"the network {net['name']!r} has no counterpart in the browser; {' and '.join(NETWORKS)} have"
    if net.get("gated") or net.get("norm", "none") != "none":
        return "gated and normalised layers have no counterpart in the browser"
    if net["dtype"] != "float32":
        return f"it computes in {net['dtype']}, which a browser does not"
    if run.config["data"]["binarize"] == "real":
        return "its images are numbers of any size, which the page shows as grey levels"
    if run.image_shape[-1] not in (1, 3):
        return f"its images have {run.image_shape[-1]} channels, of which the page shows three"
    if likelihood not in MEAN_KINDS:
        return f"the likelihood {likelihood!r} has no counterpart in the browser"
    count = sum(leaf.size for leaf in jax.tree.leaves(run.params["nets"]["decoder"]))
    if 4 * count > MAX_BYTES:
        size = f"its decoder has {count:,} weights, {count / 250_000:.1f} MB as float32"
        return f"{size}; a page takes up to {MAX_BYTES // 4:,}, {MAX_BYTES / 1e6:g} MB"
    if net["name"] == "grid" and run.code_dim % math.prod(grids(run.image_shape, net["halvings"])[0]):
        return "its code has numbers that have no place on the grid"
    work = sum(map(products, decoder_layers(run)))
    if work > MAX_PRODUCTS:
        return f"an image takes {work / 1e6:,.0f} million multiplications; a page takes up to {MAX_PRODUCTS / 1e6:,.0f}"
    return ""


def pack_array(array: np.ndarray, dtype: str = "float32") -> str:
    """The numbers of `array`, little-endian, in base64."""
    return base64.b64encode(np.asarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def round_to_float16(run: TrainedModel) -> TrainedModel:
    """The run with its decoder's weights as float16 has them."""
    half = jax.tree.map(lambda w: w.astype("float16").astype("float32"), run.params["nets"]["decoder"])
    params = {**run.params, "nets": {**run.params["nets"], "decoder": half}}
    return run.with_params(run.config, params, run.step)


def export_decoder(run: TrainedModel, codes: np.ndarray) -> tuple[dict[str, Any], str]:
    """The decoder of a run for the browser.

    Args:
        run: one for which `missing_support` is empty.
        codes: those whose images must look alike in float16, if weights are to be stored so.

    Returns:
        (the decoder as decode.js takes it, how its weights are stored, in words).
    """
    change = np.abs(round_to_float16(run).decode(codes) - run.decode(codes)).max()
    dtype = "float16" if change <= TOLERANCE / 2 else "float32"  # a NaN, of weights out of range, is not <=
    layers = decoder_layers(run)
    weights = np.concatenate([array.ravel() for layer in layers for array in (layer.kernel, layer.bias)])
    decoder = {
        "layers": [{"kind": layer.kind, "shape": layer.shape, "activation": layer.activation} for layer in layers],
        "weights": pack_array(weights, dtype),
        "dtype": dtype,
        "mean": mean_kind(run.config["likelihood"]),
        "parts": run.model.likelihood.channels,
    }
    return decoder, f"{weights.size * np.dtype(dtype).itemsize / 1e3:,.0f} kB of {dtype} weights"


def reference_images(run: TrainedModel, codes: np.ndarray, pixels: int = 20_000) -> dict[str, str]:
    """The first of `codes` and JAX's images of them, about `pixels` in all, for a page to compare its own with."""
    codes = codes[: max(2, min(8, pixels // math.prod(run.image_shape)))]
    with jax.default_matmul_precision("highest"):  # some accelerators' own is coarser than a browser's
        return {"codes": pack_array(codes), "images": pack_array(run.decode(codes))}
