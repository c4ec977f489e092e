"""The ladder VAE (Sonderby et al. 2016): layers of latents, inferred downwards as they are generated.

    p(x, z_1, ..., z_L) = p(x|z_1) p(z_1|z_2) ... p(z_{L-1}|z_L) p(z_L),    p(z_L) = N(0, I)

    q(z_L|x)          = N(mean_L, var_L)                                     of the upward pass
    q(z_n|z_{n+1}, x) = N(m, v),   1/v = 1/var_n + 1/var_p,   m = v * (mean_n / var_n + mean_p / var_p)

    loss = E_q[-log p(x|z_1)] + beta * E_q[sum_n KL(q(z_n|z_{n+1}, x) || p(z_n|z_{n+1}))]
         =    distortion      + beta * (rate_1 + ... + rate_L)

The upward pass gives each layer a Gaussian of x, (mean_n, var_n), and numbers d_n for the layer above; the prior
p(z_n|z_{n+1}) = N(mean_p, var_p) is a network of z_{n+1}. q(z_n|...) is their product, each weighted by its precision:
x's word on z_n as if it were a likelihood. 1/(1/var_n + 1/var_p) is a variance; as a standard deviation it is wrong.
z_1 has the config's latents and is what decode takes; `widths` are those above it, from below, and `hidden` the
width of the two dense layers between each and the next, both ways. Without widths it is the VAE exactly.
Each KL is in closed form given the z_{n+1} drawn, so the rate is unbiased. A z_n that is given z_{n+1} but not x
costs nothing: a layer is used when its own rate is above 0. Early in training one or the other tends to be given
up, the lower one too; the paper's remedies are warm-up (config.schedule) and batch normalisation, which is left
out here, for it would couple the examples. `free_bits` nats of each latent of every layer go unpenalised
(Kingma et al. 2016, eq. 15).

The code is z_1 on the mean path: each layer's mean given the mean above it, no sample on the way.
There is no "kl": KL_1 of a latent is what it says beyond z_2, nothing for one that z_2 settles, however much that
varies, and z_1 has no N(0, I) prior to traverse by. p(z_1) is an integral over the layers above, so
`log_prior` raises UserError; `sample_with_log_ratio` takes the layers together.
The networks between layers give variances within e^-10 and e^10 (by a tanh): a prior that is sure would make the
KL infinite. z_1's of x needs no bound, for a product is never wider than the prior.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, kl, product, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks._parts import Part, dense
from vae_jax.randomness import example_normal
from vae_jax.typing import Codes, Indices, Key, Params, PerExample
from vae_jax.variants import Variant, refuse_labels
from vae_jax.variants._free_bits import rate_with_free_bits

LARGEST_LOGVAR = 10.0
Noises = list[Float[Array, "batch _"]]


class Layer(NamedTuple):
    """One layer given a z of the layer above: q(z_n|z_{n+1}, x), p(z_n|z_{n+1}) and z_n of the posterior."""

    posterior: Gaussian
    prior: Gaussian
    z: Codes


def draw(gaussian: Gaussian, noise: Codes) -> Codes:
    """mean + sigma * noise."""
    return gaussian.mean + jnp.exp(0.5 * gaussian.logvar) * noise


def between(hidden: int, outputs: int) -> Part:
    """The network from one layer to the next, either way: two dense layers, leaky as in the paper, and the outputs."""
    return dense(hidden, hidden, outputs, activation=jax.nn.leaky_relu)


def gaussian(outputs: Float[Array, "batch outputs"], width: int) -> Gaussian:
    """The Gaussian in the first 2 * `width` outputs of a network, log variances bounded smoothly."""
    logvar = outputs[:, width : 2 * width]
    return Gaussian(outputs[:, :width], LARGEST_LOGVAR * jnp.tanh(logvar / LARGEST_LOGVAR))


def prior_below(own: Params, n: int, z: Codes, hidden: int, width: int) -> Gaussian:
    """p(z_n|z_{n+1} = z) of `width` latents."""
    return gaussian(between(hidden, 2 * width).apply(own[f"down_{n}"], z), width)


def upwards(
    own: Params, bottom: Gaussian, d: Float[Array, "batch d"], widths: tuple[int, ...], hidden: tuple[int, ...]
) -> list[Gaussian]:
    """The Gaussian of x for each layer, z_1's first: `bottom`, and those above from d_1 = `d`."""
    found = [bottom]
    for n, (width, h, passed_on) in enumerate(zip(widths, hidden, (*hidden, 0)[1:], strict=True), start=2):
        outputs = between(h, 2 * width + passed_on).apply(own[f"up_{n}"], d)
        found.append(gaussian(outputs, width))
        d = outputs[:, 2 * width :]
    return found


def downwards(own: Params, of_x: list[Gaussian], noises: Noises, hidden: tuple[int, ...]) -> list[Layer]:
    """Each layer given the one above, z_1's first; `noises` are standard normal, or 0 for the mean path."""
    top = of_x[-1]
    layers = [Layer(top, standard_normal(top.mean), draw(top, noises[-1]))]
    for n in range(len(of_x) - 1, 0, -1):
        prior = prior_below(own, n, layers[0].z, hidden[n - 1], of_x[n - 1].mean.shape[-1])
        posterior = product(of_x[n - 1], prior)
        layers.insert(0, Layer(posterior, prior, draw(posterior, noises[n - 1])))
    return layers


def layer_noises(key: Key, index: Indices, widths: tuple[int, ...]) -> Noises:
    """Standard normal noise for layers of `widths`, z_1's first: the VAE's own noise for the first."""
    keys = [key, *(randomness.stream(key, "ladder/layer", n) for n in range(2, len(widths) + 1))]
    return [example_normal(key, index, width) for key, width in zip(keys, widths, strict=True)]


def no_closed_form(nets, params: Params, z: Codes) -> PerExample:
    """Raises UserError: p(z_1) is an integral over the layers above."""
    raise UserError(
        "variant: 'ladder' has no closed form of log p(z_1), an integral over the layers above; "
        "take its elbo, or a variant with one layer of latents"
    )


def make(likelihood: Likelihood, *, widths: tuple[int, ...] = (8,), hidden: tuple[int, ...] = (64,)) -> Variant:
    """The ladder VAE with layers of `widths` above z_1, networks of width `hidden` below each.

    Raises UserError unless each width has its hidden, all are whole numbers above 0, and the first hidden is even.
    """
    for field, values in {"widths": widths, "hidden": hidden}.items():
        if any(not isinstance(value, int) or value < 1 for value in values):
            raise UserError(f"{field}: {values} is not allowed; give whole numbers of at least 1")
    if len(hidden) != len(widths) or any(first % 2 for first in hidden[:1]):
        raise UserError(
            f"hidden: {hidden} is not allowed; give {len(widths)} numbers, one for each of widths, "
            "and an even one first"
        )
    features = sum(hidden[:1])

    def init(key, image_shape, latent_dim):
        own, all_widths = {}, (latent_dim, *widths)
        for n, (h, passed_on) in enumerate(zip(hidden, (*hidden, 0)[1:], strict=True), start=1):
            key, up, down = jax.random.split(key, 3)
            own[f"up_{n + 1}"] = between(h, 2 * widths[n - 1] + passed_on).init(up, jnp.zeros((1, h)))
            own[f"down_{n}"] = between(h, 2 * all_widths[n - 1]).init(down, jnp.zeros((1, all_widths[n])))
        return own

    def of_images(nets, params, image):
        mean, logvar = nets.encode(params["nets"], image)
        latents = mean.shape[-1] - features // 2
        d = jnp.concatenate([mean[:, latents:], logvar[:, latents:]], axis=-1)
        return upwards(params["own"], Gaussian(mean[:, :latents], logvar[:, :latents]), d, widths, hidden)

    def mean_path(params, of_x):
        still = [jnp.zeros_like(gaussian.mean) for gaussian in of_x]
        return downwards(params["own"], of_x, still, hidden)[0].z

    def drawn(params, of_x, batch, key):
        noises = layer_noises(key, batch["index"], tuple(gaussian.mean.shape[-1] for gaussian in of_x))
        return downwards(params["own"], of_x, noises, hidden)

    def sample_with_log_ratio(nets, params, batch, key):
        layers = drawn(params, of_images(nets, params, batch["image"]), batch, key)
        ratios = [layer.prior.log_prob(layer.z) - layer.posterior.log_prob(layer.z) for layer in layers]
        return layers[0].z, sum(ratios)

    def loss(nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        of_x = of_images(nets, params, batch["image"])
        layers = drawn(params, of_x, batch, key)
        distortion = -likelihood.log_prob(nets.decode(params["nets"], layers[0].z), batch["image"])
        kls = [kl(layer.posterior, layer.prior) for layer in layers]
        rates = {f"rate_{n}": jnp.sum(part, axis=-1) for n, part in enumerate(kls, start=1)}
        rate = sum(rates.values())
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, **rates}
        penalty = rate_with_free_bits(jnp.concatenate(kls, axis=-1), free_bits)
        return jnp.mean(distortion) + beta * penalty, {**terms, "code": mean_path(params, of_x)}

    def encode(nets, params, batch):
        return mean_path(params, of_images(nets, params, batch["image"]))

    def sample_prior(nets, params, key, count, latent_dim, labels=None):
        refuse_labels(labels)
        all_widths = (latent_dim, *widths)
        noises = layer_noises(key, jnp.arange(count), all_widths)
        z = noises[-1]
        for n in range(len(widths), 0, -1):
            z = draw(prior_below(params["own"], n, z, hidden[n - 1], all_widths[n - 1]), noises[n - 1])
        return z

    def encoder_outputs(latent_dim):
        return latent_dim + features // 2

    return Variant(
        loss,
        init,
        encoder_outputs=encoder_outputs,
        encode=encode,
        log_prior=no_closed_form if widths else None,
        sample_prior=sample_prior,
        posterior=None,
        sample_with_log_ratio=sample_with_log_ratio,
    )
