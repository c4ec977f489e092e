"""The regularised autoencoder (Ghosh et al. 2020): no noise, a smooth decoder, and a density fitted afterwards.

Purpose    sharp reconstructions
Take it    for an autoencoder that can generate: no noise in training, a smooth decoder, and a mixture fitted to the
           codes afterwards. It has no ELBO, so compare it by its samples.
Command    vae-jax train --config=digits_rae --workdir=runs/digits_rae

    loss = distortion + beta_z * |z|^2 / 2 + lambda_reg * R(decoder),    z = the encoder's mean

`regularizer` says what R is:

    none        0;  with beta_z = 0 too this is the autoencoder
    l2          sum of the squares of the decoder's kernels
    gradient    |J|_F^2 = sum of squares of d mean(x | z)_i / d z_j, for each example
    spectral    0, and each kernel of the decoder is divided by its largest singular value, always:
                what is trained is what is evaluated and sampled from

J is of the expected image and not of the decoder's raw outputs, so it is the slope of what is seen, whatever the
likelihood's parameters are. |J|_F^2 = E_v |J v|^2 for v of independent signs, one v an example (Hutchinson 1990), by
one forward derivative. The gradient of the summed outputs, which reverse mode gives when no vector is named, is J^T 1:
pixels that move against each other cancel in it. The paper's released code differentiates the sum of squared outputs.
That gives 2 J^T y, y the expected image: another quantity again, in which dark pixels are free.

The kernels of this project's convolutions are matrices from windows to channels or back, and are divided as
such, like those of Miyato et al. 2018; the map of overlapping windows may stretch by up to twice that. Biases
are left alone. Singular values are found by ITERATIONS steps of power iteration from a fixed vector at each call,
which keeps no state between steps; the estimate is low by a percent or so where the two largest are close, as in a
random matrix, and so a norm may be that much above 1. Under a Bernoulli likelihood such a decoder needs codes far from
0 to be sure of a pixel, and beta_z holds them back: keep it small.

Codes are points: no rate and no ELBO. After the last step a mixture of `components` Gaussians with full covariances is
fitted to the codes of the training images ("ex-post density estimation"), and samples are drawn from it. Until then the
prior is N(0, I).

The paper's code takes means where this code sums: of the squared error over D pixels, and of z^2 over latents. Its
weights b and l, with a gaussian distortion of sigma, are beta_z = b D / (sigma^2 latents) and lambda_reg = l D / (2
sigma^2) here, for l2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.randomness import example_keys
from vae_jax.samplers import gmm
from vae_jax.typing import Codes, Images, Key, Params, PerExample, Scalar
from vae_jax.variants import Variant, refuse_labels

TITLE = "RAE"
"""In the caption of a picture."""

ITERATIONS = 50
"""Of the power iteration, at each call of the decoder."""
SMALLEST_NORM = 1e-12
"""A kernel of smaller norm, one of zeros, is not blown up to norm 1."""

Decode = Callable[[Codes], Images]


class Regularizer(NamedTuple):
    """What a regulariser adds to the loss, and to the networks.

    Attributes:
        penalty: (decoder's params, code -> expected image, z, key, index) -> one number per example.
        wrap_networks: the networks that it is for; None for those that the config builds.
    """

    penalty: Callable[[Params, Decode, Codes, Key, Array], PerExample]
    wrap_networks: Callable[[Nets], Nets] | None = None


def is_kernel(path: tuple) -> bool:
    """Whether a leaf of a tree of parameters is the matrix of a layer."""
    return path[-1] == jax.tree_util.DictKey("kernel")


def kernels(params: Params) -> list[Float[Array, "rows columns"]]:
    """The matrices of a network's layers."""
    return [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if is_kernel(path)]


def no_penalty(decoder: Params, decode: Decode, z: Codes, key: Key, index: Array) -> PerExample:
    """0 for each example."""
    return jnp.zeros(len(z))


def l2(decoder: Params, decode: Decode, z: Codes, key: Key, index: Array) -> PerExample:
    """sum of w^2 over the decoder's kernels, biases left out; the same for each example."""
    return jnp.full(len(z), sum(jnp.sum(jnp.square(kernel)) for kernel in kernels(decoder)))


def gradient(decoder: Params, decode: Decode, z: Codes, key: Key, index: Array) -> PerExample:
    """|J v|^2, J the Jacobian of `decode` at each code and v random signs: |J|_F^2 in expectation."""

    def random_signs(key: Key) -> Array:
        # jax.random.rademacher would draw from a probability of JAX's default dtype.
        return 2 * jax.random.bernoulli(key, jnp.float32(0.5), z.shape[1:]).astype(z.dtype) - 1

    signs = jax.vmap(random_signs)(example_keys(key, index))
    _, slope = jax.jvp(decode, (z,), (signs,))
    return jnp.sum(jnp.square(slope), axis=(1, 2, 3))


def unit(vector: Float[Array, " size"]) -> Float[Array, " size"]:
    """The vector at length 1; 0 stays 0."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)


def spectral_norm(kernel: Float[Array, "rows columns"]) -> Scalar:
    """The largest singular value u^T W v and, u and v held, its gradient u v^T (Miyato et al. 2018)."""
    fixed = jax.lax.stop_gradient(kernel)
    wide = fixed if fixed.shape[0] <= fixed.shape[1] else fixed.T
    gram = jnp.matmul(wide, wide.T, precision=jax.lax.Precision.HIGHEST)
    start = np.random.default_rng(0).normal(size=len(gram)).astype(np.float32)
    u = jax.lax.fori_loop(0, ITERATIONS, lambda _, u: unit(gram @ u), jnp.asarray(start))
    v = unit(wide.T @ u)
    return u @ kernel @ v if wide is fixed else v @ kernel @ u


def normalized(params: Params) -> Params:
    """The parameters with each kernel divided by its largest singular value."""

    def divide(path, leaf):
        return leaf / jnp.maximum(spectral_norm(leaf), SMALLEST_NORM) if is_kernel(path) else leaf

    return jax.tree_util.tree_map_with_path(divide, params)


def with_unit_norms(nets: Nets) -> Nets:
    """The networks, with a decoder whose kernels have largest singular value 1."""

    def decode(params, z):
        return nets.decode({**params, "decoder": normalized(params["decoder"])}, z)

    return nets._replace(decode=decode)


REGULARIZERS = {
    "none": Regularizer(no_penalty),
    "l2": Regularizer(l2),
    "gradient": Regularizer(gradient),
    "spectral": Regularizer(no_penalty, with_unit_norms),
}


def mixture_log_prior(nets: Nets, params: Params, z: Codes) -> PerExample:
    """log p(z) of the mixture, nats per example."""
    return gmm.mixture_log_density(params["own"], z)


def sample_mixture(
    nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
) -> Codes:
    """`count` draws of the mixture; draw i depends on key and i alone. Raises UserError where labels are given."""
    refuse_labels(labels)
    return gmm.mixture_draws(params["own"], key, count)


def make(likelihood: Likelihood, *, regularizer: str = "l2", components: int = 10) -> Variant:
    """The regularised autoencoder under a pixel likelihood. Raises UserError for an unknown regulariser.

    Also where the mixture would have no component.
    """
    penalty, wrap_networks = registry.choose("regularizer", regularizer, REGULARIZERS)
    if components < 1:
        raise UserError(f"components: {components} is not allowed; give at least 1")

    def check(split):
        if split.size < components:
            raise UserError(
                f"variant.components: {components} is not allowed; give at most {split.size}, a split's images"
            )

    def init(key, image_shape, latent_dim):
        return gmm.standard_mixture(components, latent_dim)

    def loss(nets, params, batch, key, step, *, beta_z=1e-2, lambda_reg=1e-2):
        z, _ = nets.encode(params["nets"], batch["image"])

        def expected_image(z):
            return likelihood.mean(nets.decode(params["nets"], z))

        distortion = -likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
        energy = 0.5 * jnp.sum(jnp.square(z), axis=-1)
        roughness = penalty(params["nets"]["decoder"], expected_image, z, key, batch["index"])
        terms = {"distortion": distortion, "code": z, "code_energy": energy, "regularizer": roughness}
        return jnp.mean(distortion + beta_z * energy + lambda_reg * roughness), terms

    def fit_after_training(params, codes):
        return {**params, "own": gmm.fitted_mixture(codes(), components)}

    return Variant(
        loss,
        init,
        wrap_networks=wrap_networks,
        log_prior=mixture_log_prior,
        sample_prior=sample_mixture,
        fit_after_training=fit_after_training,
        check=check,
        posterior=None,
        bounds="",
    )
