"""The VQ-VAE (van den Oord et al. 2017, eq. 3): each group of latents is one vector of a finite codebook.

Purpose    discrete codes
Take it    for codes that are whole numbers: to compress, or as tokens for another model. Nothing in the loss limits the
           rate: on the digits the ELBO is at best a nat below the VAE's.
Command    vae-jax train --config=digits_vq --workdir=runs/digits_vq

    loss = distortion + |sg(e) - c|^2 + commitment * |e - sg(c)|^2,    distortion = -log p(x | z)
    e = the encoder's means, cut into groups of `dim`;  c = the codebook's vector nearest to each group's e
    z = c, with the gradient of e:  z = sg(c) + e - sg(e),             sg(.) has no gradient

The distortion trains the decoder, and the encoder as if its output were not rounded. The second term trains the
codebook alone (no moving averages), the third the encoder alone. Squares are summed over the latents, as the distortion
is over pixels. The paper averages both over the groups: its commitment of 0.25 is 0.25 / groups here, against a sum of
log-probabilities. Its released code averages over latents too, and takes a mean square over the D pixels divided by the
data's variance v: times D/2 that is a gaussian distortion with sigma^2 = v, and D / (2 latents) times the two terms.
Adam ignores the weight of the second term, which is the codebook's whole gradient.

`quantizer` "fsq" (Mentzer et al. 2024) has no codebook to learn and neither of the two terms: e goes through tanh, and
each number is rounded to the nearest of `levels` evenly spaced values in [-1, 1]. So `dim` is len(levels) and there are
prod(levels) codes; "vq" has `codes` of them, one codebook for all groups. For an even count the values stand half a
level off 0, none on it. The paper moves the argument of tanh so that 0 becomes a value, and takes tan for the inverse
of tanh; with two levels no such shift is finite. The layers before and after take up the difference.

The posterior is a point among codes, so its entropy is 0, the rate is -log p(code) and

    elbo = -(distortion + rate) = log p(x | z) + log p(code) <= log p(x) = log sum_code p(x | code) p(code)

The ELBO is one term of the sum, that of the code nearest to e, and no number of draws brings it nearer to log p(x). The
metric `likelihood` takes the whole sum where there are at most 65,536 codes, K^groups, and that one term otherwise.

p(code) is uniform, its rate groups * log K, until the last step; then a tree is fitted to the training images'
codes: p(code) = prod_g p(code_g | code_parent(g)), of all trees the one of largest likelihood (Chow & Liu 1968).
The tree stands for the paper's autoregressive prior, and samples are drawn from it. So the held-out rate and ELBO of
the last step are better than those before. The loss has no gradient of the rate. The prior is groups * K^2 numbers,
three times that with Adam's moments: keep K in the hundreds. For more codes, `prior` "uniform" stays uniform to the end
and keeps no numbers.

Codes may lie on a grid, as the paper's do: `net.name` "grid" is its convolutions, 8x8 places for 32 pixels and 7x7 for
28, and a `latent_dim` of places * dim gives each place one code. The tree then joins places that depend on each other,
neighbours as a rule. Under any other network groups have no place.

    vae-jax train --config=mnist:vq --config.data.path=FOLDER --config.net.name=grid --config.latent_dim=196

With `--config.net.width=32 --config.net.depth=1 --config.train.steps=1000 --config.train.learning_rate=2e-3` as well,
trained on all 60,000 images, it has a held-out distortion of 36.3 nats and a rate of 121.0 under the tree, 203.8 under
the uniform prior (49 log 64). 38 of the tree's 48 pairs are neighbours.

"perplexity" is exp of the entropy of the batch's use of the codes, all groups together: K at most, 1 at least. A code
that is nearest to nothing has no gradient. So a codebook that starts far smaller than the encoder's means will be is
left behind by them. Started uniform on +-1/K, as is common, it had a perplexity of 23 after 1,000 steps on digits;
started standard normal, 57 (64 codes of 8 numbers).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.models import collectives
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.typing import Batch, Codes, Key, Params, PerExample, Scalar
from vae_jax.variants import DiscreteCodes, Index, Variant, refuse_labels
from vae_jax.variants._code_prior import PRIORS, Prior

TITLE = "VQ-VAE"
"""In the caption of a picture."""

Codebook = Float[Array, "codes dim"]
Vectors = Float[Array, "batch groups dim"]

SPREAD = 1.0
"""Standard deviation of the codebook at the start: between the encoder's means there, 0.2, and trained, 1.5 to 2."""
CHUNK = 256
"""Images whose codes are compared with the codebook at a time."""


def square_error(a: Vectors, b: Vectors) -> PerExample:
    """|a - b|^2, summed over groups and their numbers."""
    return jnp.sum(jnp.square(a - b), axis=(1, 2))


@dataclass(frozen=True)
class LearnedCodebook:
    """`size` vectors that are trained: the VQ-VAE's own."""

    size: int
    dim: int
    dim_source: ClassVar[str] = "config.variant.dim"

    def init(self, key: Key) -> Params:
        """A standard normal codebook."""
        return {"codebook": SPREAD * jax.random.normal(key, (self.size, self.dim), jnp.float32)}

    def codebook(self, own: Params) -> Codebook:
        """The vectors that are trained."""
        return jnp.asarray(own["codebook"])

    def bound(self, e: Vectors) -> Vectors:
        """The encoder's means as they are."""
        return e

    def penalty(self, e: Vectors, c: Vectors, commitment: Scalar) -> PerExample:
        """|sg(e) - c|^2 + commitment * |e - sg(c)|^2."""
        sg = jax.lax.stop_gradient
        return square_error(sg(e), c) + commitment * square_error(e, sg(c))


@dataclass(frozen=True)
class ScalarLevels:
    """Each number rounded to evenly spaced values in [-1, 1], `levels` of them: nothing is trained (FSQ)."""

    levels: tuple[int, ...]
    dim_source: ClassVar[str] = "the number of config.variant.levels"

    @property
    def size(self) -> int:
        """All combinations of levels."""
        return math.prod(self.levels)

    @property
    def dim(self) -> int:
        """A number for each count of levels."""
        return len(self.levels)

    def init(self, key: Key) -> Params:
        """Nothing is trained."""
        return {}

    def codebook(self, own: Params) -> Codebook:
        """All combinations of levels, the last number's fastest."""
        axes = np.meshgrid(*(np.linspace(-1, 1, level, dtype=np.float32) for level in self.levels), indexing="ij")
        return jnp.asarray(np.stack(axes, axis=-1).reshape(-1, self.dim))

    def bound(self, e: Vectors) -> Vectors:
        """The encoder's means through tanh."""
        return jnp.tanh(e)

    def penalty(self, e: Vectors, c: Vectors, commitment: Scalar) -> PerExample:
        """0 for each example."""
        return jnp.zeros(len(e))


Quantizer = LearnedCodebook | ScalarLevels
"""A finite set of `size` vectors of `dim` numbers; `dim_source` is the field that `dim` is from, for a message.

`init(key)` gives its parameters and `codebook(own)` the vectors; `bound(e)` is what is rounded, and
`penalty(e, c, commitment)` what rounding it to c adds to the loss of an example.
"""


def learned_codebook(codes: int, dim: int, levels: tuple[int, ...]) -> Quantizer:
    """`codes` vectors of `dim` numbers. Raises UserError for counts below 1."""
    for field, value in (("codes", codes), ("dim", dim)):
        if value < 1:
            raise UserError(f"{field}: {value} is not allowed; give at least 1")
    return LearnedCodebook(codes, dim)


def scalar_levels(codes: int, dim: int, levels: tuple[int, ...]) -> Quantizer:
    """All combinations of `levels`. Raises UserError for counts below 2."""
    if not levels or min(levels) < 2:
        raise UserError(f"levels: {levels} is not allowed; give whole numbers of at least 2")
    return ScalarLevels(levels)


QUANTIZERS = {"vq": learned_codebook, "fsq": scalar_levels}


def nearest(codebook: Codebook, e: Vectors) -> Index:
    """Which vector of the codebook is nearest to each of `e`; the first, if several are."""
    # By differences: |e|^2 + |c|^2 - 2ec would cancel far from 0. Codes last, where vectorised loops run.
    difference = e[:, :, :, None] - codebook.T[None, None]
    return jnp.argmin(jnp.sum(jnp.square(difference), axis=2), axis=2)


def to_latents(vectors: Vectors) -> Codes:
    """(batch, group, number) -> (batch, latent)."""
    return vectors.reshape(len(vectors), -1)


def straight_through(e: Vectors, c: Vectors) -> Vectors:
    """c itself, to the bit, with the gradient of e."""
    return jax.lax.stop_gradient(c) + (e - jax.lax.stop_gradient(e))


def perplexity(index: Index, size: int) -> Scalar:
    """exp(H) of the use of `size` codes over the whole batch and all groups."""
    use = jnp.mean(jax.nn.one_hot(index, size), axis=1)
    share = jnp.mean(collectives.all_gather(use), axis=0)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))


@dataclass(frozen=True)
class VectorQuantized:
    """The loss and what surrounds it, for codes of one quantizer."""

    likelihood: Likelihood
    quantizer: Quantizer
    prior: Prior

    def to_groups(self, latents: Codes) -> Vectors:
        """(batch, latent) -> (batch, group, number)."""
        return latents.reshape(len(latents), -1, self.quantizer.dim)

    def init(self, key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        """The quantizer's parameters, and the prior's."""
        return {**self.quantizer.init(key), "prior": self.prior.init(self.groups(latent_dim))}

    def encoder_outputs(self, latent_dim: int) -> int:
        """The latents. Raises UserError where they are no whole groups, and for a prior that would be too large."""
        dim = self.quantizer.dim
        if latent_dim % dim:
            raise UserError(
                f"latent_dim: {latent_dim} is not allowed; give a multiple of {dim}, {self.quantizer.dim_source}"
            )
        self.prior.check(self.groups(latent_dim))
        return latent_dim

    def quantize(self, nets: Nets, params: Params, batch: Batch) -> tuple[Vectors, Index, Vectors]:
        """e, which vector of the codebook is nearest to it in each group, and that vector, c."""
        e = self.quantizer.bound(self.to_groups(nets.encode(params["nets"], batch["image"])[0]))
        codebook = self.quantizer.codebook(params["own"])
        index = nearest(codebook, e)
        return e, index, codebook[index]

    def loss(self, nets, params, batch, key, step, *, commitment=0.25):
        """distortion + |sg(e) - c|^2 + commitment * |e - sg(c)|^2."""
        e, index, c = self.quantize(nets, params, batch)
        z = to_latents(straight_through(e, c))
        distortion = -self.likelihood.log_prob(nets.decode(params["nets"], z), batch["image"])
        rate = -self.prior.log_probability(jax.lax.stop_gradient(params["own"]["prior"]), index)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "code": to_latents(c)}
        terms |= {"rounding_error": square_error(e, c), "perplexity": perplexity(index, self.quantizer.size)}
        return jnp.mean(distortion + self.quantizer.penalty(e, c, commitment)), terms

    def encode(self, nets: Nets, params: Params, batch: Batch) -> Codes:
        """c of each image."""
        return to_latents(self.quantize(nets, params, batch)[2])

    def sample_with_log_ratio(self, nets: Nets, params: Params, batch: Batch, key: Key) -> tuple[Codes, PerExample]:
        """c of each image, and log p(code), for the posterior is sure of it."""
        return self.lookup(params, self.assign(nets, params, batch))

    def groups(self, latent_dim: int) -> int:
        """How many groups the latents are cut into."""
        return latent_dim // self.quantizer.dim

    def assign(self, nets: Nets, params: Params, batch: Batch) -> Index:
        """Which vector of the codebook stands for each group of each image."""
        return self.quantize(nets, params, batch)[1]

    def lookup(self, params: Params, index: Index) -> tuple[Codes, PerExample]:
        """The codes of these vectors, and log p(code)."""
        codes = to_latents(self.quantizer.codebook(params["own"])[index])
        return codes, self.prior.log_probability(params["own"]["prior"], index)

    def log_prior(self, nets: Nets, params: Params, z: Codes) -> PerExample:
        """log p(code) of the vectors nearest to `z`, nats per example."""
        index = nearest(self.quantizer.codebook(params["own"]), self.to_groups(z))
        return self.prior.log_probability(params["own"]["prior"], index)

    def sample_prior(
        self, nets: Nets, params: Params, key: Key, count: int, latent_dim: int, labels: np.ndarray | None = None
    ) -> Codes:
        """Vectors of codes drawn from the prior. Raises UserError where labels are given."""
        refuse_labels(labels)
        index = self.prior.sample(params["own"]["prior"], key, count, self.groups(latent_dim))
        return self.quantizer.codebook(params["own"])[index].reshape(count, latent_dim)

    def fit_after_training(self, params: Params, codes: Callable[[], np.ndarray]) -> Params:
        """The parameters with the tree of largest likelihood for the codes of the training images as prior."""
        vectors = self.to_groups(jnp.asarray(codes()))
        codebook = self.quantizer.codebook(params["own"])
        chunks = (vectors[start : start + CHUNK] for start in range(0, len(vectors), CHUNK))
        index = np.concatenate([nearest(codebook, chunk) for chunk in chunks])
        return {**params, "own": {**params["own"], "prior": self.prior.fit(index)}}


def make(
    likelihood: Likelihood,
    *,
    quantizer: str = "vq",
    codes: int = 64,
    dim: int = 4,
    levels: tuple[int, ...] = (4, 4, 2, 2),
    prior: str = "tree",
) -> Variant:
    """The VQ-VAE under a pixel likelihood.

    Raises UserError for an unknown quantizer or prior and for counts that cannot be.
    """
    quantize = registry.choose("quantizer", quantizer, QUANTIZERS)(codes, dim, levels)
    vq = VectorQuantized(likelihood, quantize, registry.choose("prior", prior, PRIORS)(quantize.size))
    return Variant(
        vq.loss,
        vq.init,
        vq.encoder_outputs,
        encode=vq.encode,
        log_prior=vq.log_prior,
        sample_prior=vq.sample_prior,
        fit_after_training=vq.fit_after_training if vq.prior.fits else None,
        posterior=None,
        sample_with_log_ratio=vq.sample_with_log_ratio,
        discrete_codes=DiscreteCodes(quantize.size, vq.groups, vq.assign, vq.lookup),
    )
