"""The ladder VAE (Sonderby et al. 2016): layers of latents, inferred downwards as they are generated.

Purpose    a tight bound
Take it    for a higher ELBO by latents in layers, each layer the prior of the one below. Warm the rate up, or a layer
           may collapse. The latents cannot be traversed one by one.
Command    vae-jax train --config=digits_ladder --workdir=runs/digits_ladder

    p(x, z_1, ..., z_L) = p(x|z_1) p(z_1|z_2) ... p(z_{L-1}|z_L) p(z_L),    p(z_L) = N(0, I)

    q(z_L|x)          = N(mean_L, var_L)                                     of the upward pass
    q(z_n|z_{n+1}, x) = N(m, v),   1/v = 1/var_n + 1/var_p,   m = v * (mean_n / var_n + mean_p / var_p)

    loss = E_q[-log p(x|z_1)] + beta * E_q[sum_n KL(q(z_n|z_{n+1}, x) || p(z_n|z_{n+1}))]
         =    distortion      + beta * (rate_1 + ... + rate_L)

The upward pass gives each layer a Gaussian of x, (mean_n, var_n), and numbers d_n for the layer above; the prior
p(z_n|z_{n+1}) = N(mean_p, var_p) is a network of z_{n+1}. q(z_n|...) is their product, each weighted by its precision:
x's evidence on z_n as if it were a likelihood. 1/(1/var_n + 1/var_p) is a variance; as a standard deviation it is
wrong. z_1 has the config's latents and is what decode takes; `widths` are those above it, from below, and `hidden` the
width of the two dense layers between each and the next, both ways. Without widths it is the VAE exactly. Each KL is in
closed form given the z_{n+1} drawn, so the rate is unbiased. A z_n that is given z_{n+1} but not x costs nothing: a
layer is used when its own rate is above 0. Early in training one layer or another tends to collapse, the lower one too.
The paper's remedies are warm-up (config.schedule) and batch normalisation, which is left out here because it would
couple the examples. `free_bits` nats of each latent of every layer go unpenalised (Kingma et al. 2016, eq. 15).

The code is z_1 on the mean path: each layer's mean given the mean above it, no sample on the way.
There is no "kl": KL_1 of a latent is what it carries beyond z_2, which is nothing for a latent that z_2 determines,
however much that varies; and z_1 has no N(0, I) prior to traverse by. p(z_1) is an integral over the layers above, so
`log_prior` raises UserError; `sample_with_log_ratio` takes the layers together. A tanh keeps the variances of the
networks between layers within e^-10 and e^10: a prior that is too sure would make the KL infinite. The variance of z_1
from x needs no bound, because a product is never wider than the prior.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, kl, product, standard_normal
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.models.networks._parts import Part, dense
from vae_jax.randomness import example_normal
from vae_jax.typing import Batch, Codes, Images, Indices, Key, Params, PerExample
from vae_jax.variants import Variant, refuse_labels
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "ladder VAE"
"""In the caption of a picture."""

LARGEST_LOGVAR = 10.0
Noises = list[Float[Array, "batch _"]]


class Layer(NamedTuple):
    """One layer given a z of the layer above: q(z_n|z_{n+1}, x), p(z_n|z_{n+1}) and z_n of the posterior."""

    posterior: Gaussian
    prior: Gaussian
    z: Codes


def reparameterize(gaussian: Gaussian, noise: Codes) -> Codes:
    """mean + sigma * noise."""
    return gaussian.mean + jnp.exp(0.5 * gaussian.logvar) * noise


def layer_network(hidden: int, outputs: int) -> Part:
    """The network from one layer to the next, either way: two dense layers, leaky as in the paper, and the outputs."""
    return dense(hidden, hidden, outputs, activation=jax.nn.leaky_relu)


def bounded_gaussian(outputs: Float[Array, "batch outputs"], width: int) -> Gaussian:
    """The Gaussian in the first 2 * `width` outputs of a network, log variances bounded smoothly."""
    logvar = outputs[:, width : 2 * width]
    return Gaussian(outputs[:, :width], LARGEST_LOGVAR * jnp.tanh(logvar / LARGEST_LOGVAR))


def layer_prior(own: Params, n: int, z: Codes, hidden: int, width: int) -> Gaussian:
    """p(z_n|z_{n+1} = z) of `width` latents."""
    return bounded_gaussian(layer_network(hidden, 2 * width).apply(own[f"down_{n}"], z), width)


def upwards(
    own: Params, bottom: Gaussian, d: Float[Array, "batch d"], widths: tuple[int, ...], hidden: tuple[int, ...]
) -> list[Gaussian]:
    """The Gaussian of x for each layer, z_1's first: `bottom`, and those above from d_1 = `d`."""
    gaussians = [bottom]
    for n, (width, h, d_width) in enumerate(zip(widths, hidden, (*hidden, 0)[1:], strict=True), start=2):
        outputs = layer_network(h, 2 * width + d_width).apply(own[f"up_{n}"], d)
        gaussians.append(bounded_gaussian(outputs, width))
        d = outputs[:, 2 * width :]
    return gaussians


def downwards(own: Params, gaussians: list[Gaussian], noises: Noises, hidden: tuple[int, ...]) -> list[Layer]:
    """Each layer given the one above, z_1's first.

    Args:
        gaussians: those of x for each layer, as `upwards` gives them.
        noises: standard normal, or 0 for the mean path.
    """
    top = gaussians[-1]
    layers = [Layer(top, standard_normal(top.mean), reparameterize(top, noises[-1]))]
    for n in range(len(gaussians) - 1, 0, -1):
        prior = layer_prior(own, n, layers[0].z, hidden[n - 1], gaussians[n - 1].mean.shape[-1])
        posterior = product(gaussians[n - 1], prior)
        layers.insert(0, Layer(posterior, prior, reparameterize(posterior, noises[n - 1])))
    return layers


def layer_noises(key: Key, index: Indices, widths: tuple[int, ...]) -> Noises:
    """Standard normal noise for layers of `widths`, z_1's first: the VAE's own noise for the first."""
    keys = [key, *(randomness.stream(key, "ladder/layer", n) for n in range(2, len(widths) + 1))]
    return [example_normal(key, index, width) for key, width in zip(keys, widths, strict=True)]


def no_closed_form(nets: Nets, params: Params, z: Codes) -> PerExample:
    """Raises UserError: p(z_1) is an integral over the layers above."""
    raise UserError(
        "variant: 'ladder' has no closed form for log p(z_1), an integral over the layers above; "
        "take its elbo, or a variant with one layer of latents"
    )


def check_fields(widths: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    """Raises UserError unless each width has its hidden, all are whole numbers above 0, the first hidden even."""
    for field, values in {"widths": widths, "hidden": hidden}.items():
        if any(not isinstance(value, int) or value < 1 for value in values):
            raise UserError(f"{field}: {values} is not allowed; give whole numbers of at least 1")
    if len(hidden) != len(widths) or any(first % 2 for first in hidden[:1]):
        raise UserError(
            f"hidden: {hidden} is not allowed; give {len(widths)} numbers, one for each of widths, "
            "and an even one first"
        )


@dataclass(frozen=True)
class Ladder:
    """The loss and what surrounds it, for layers of `widths` above z_1 with networks of width `hidden` below each."""

    likelihood: Likelihood
    widths: tuple[int, ...]
    hidden: tuple[int, ...]

    @property
    def features(self) -> int:
        """How many numbers d_1 has."""
        return sum(self.hidden[:1])

    def init(self, key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        """The parameters of the networks between layers."""
        own, widths = {}, (latent_dim, *self.widths)
        for n, (h, d_width) in enumerate(zip(self.hidden, (*self.hidden, 0)[1:], strict=True), start=1):
            key, up, down = jax.random.split(key, 3)
            own[f"up_{n + 1}"] = layer_network(h, 2 * widths[n] + d_width).init(up, jnp.zeros((1, h)))
            own[f"down_{n}"] = layer_network(h, 2 * widths[n - 1]).init(down, jnp.zeros((1, widths[n])))
        return own

    def encoder_outputs(self, latent_dim: int) -> int:
        """z_1's latents, and half of d_1 beside the means, half beside the log variances."""
        return latent_dim + self.features // 2

    def upward_pass(self, nets: Nets, params: Params, image: Images) -> list[Gaussian]:
        """The Gaussian of x for each layer, z_1's first."""
        mean, logvar = nets.encode(params["nets"], image)
        latents = mean.shape[-1] - self.features // 2
        d = jnp.concatenate([mean[:, latents:], logvar[:, latents:]], axis=-1)
        bottom = Gaussian(mean[:, :latents], logvar[:, :latents])
        return upwards(params["own"], bottom, d, self.widths, self.hidden)

    def mean_path(self, params: Params, gaussians: list[Gaussian]) -> Codes:
        """z_1 where each layer is at its mean given the mean above it."""
        zeros = [jnp.zeros_like(gaussian.mean) for gaussian in gaussians]
        return downwards(params["own"], gaussians, zeros, self.hidden)[0].z

    def sample_layers(self, params: Params, gaussians: list[Gaussian], batch: Batch, key: Key) -> list[Layer]:
        """One draw of all layers, z_1's first."""
        noises = layer_noises(key, batch["index"], tuple(gaussian.mean.shape[-1] for gaussian in gaussians))
        return downwards(params["own"], gaussians, noises, self.hidden)

    def loss(self, nets, params, batch, key, step, *, beta=1.0, free_bits=0.0):
        """distortion + beta * (rate_1 + ... + rate_L)."""
        gaussians = self.upward_pass(nets, params, batch["image"])
        layers = self.sample_layers(params, gaussians, batch, key)
        distortion = -self.likelihood.log_prob(nets.decode(params["nets"], layers[0].z), batch["image"])
        kls = [kl(layer.posterior, layer.prior) for layer in layers]
        rates = {f"rate_{n}": jnp.sum(layer_kl, axis=-1) for n, layer_kl in enumerate(kls, start=1)}
        rate = sum(rates.values())
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, **rates}
        terms["code"] = self.mean_path(params, gaussians)
        penalty = rate_with_free_bits(jnp.concatenate(kls, axis=-1), free_bits)
        return jnp.mean(distortion) + beta * penalty, terms

    def sample_with_log_ratio(self, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
        """One z_1 for each image, and log p(z_1, ..., z_L) - log q(z_1, ..., z_L | x)."""
        layers = self.sample_layers(params, self.upward_pass(nets, params, batch["image"]), batch, key)
        ratios = [layer.prior.log_prob(layer.z) - layer.posterior.log_prob(layer.z) for layer in layers]
        return layers[0].z, sum(ratios, jnp.zeros(()))

    def encode(self, nets: Nets, params: Params, batch: Batch) -> Codes:
        """z_1 on the mean path."""
        return self.mean_path(params, self.upward_pass(nets, params, batch["image"]))

    def sample_prior(
        self, nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
    ) -> Codes:
        """z_1 of draws of all layers, from above. Raises UserError where labels are given."""
        refuse_labels(labels)
        widths = (latent_dim, *self.widths)
        noises = layer_noises(key, jnp.arange(count), widths)
        z = noises[-1]
        for n in range(len(self.widths), 0, -1):
            z = reparameterize(layer_prior(params["own"], n, z, self.hidden[n - 1], widths[n - 1]), noises[n - 1])
        return z


def make(likelihood: Likelihood, *, widths: tuple[int, ...] = (8,), hidden: tuple[int, ...] = (64,)) -> Variant:
    """The ladder VAE with layers of `widths` above z_1, networks of width `hidden` below each.

    Raises UserError as `check_fields` does.
    """
    check_fields(widths, hidden)
    ladder = Ladder(likelihood, widths, hidden)
    return Variant(
        ladder.loss,
        ladder.init,
        ladder.encoder_outputs,
        encode=ladder.encode,
        log_prior=no_closed_form if widths else None,
        sample_prior=ladder.sample_prior,
        posterior=None,
        sample_with_log_ratio=ladder.sample_with_log_ratio,
    )
