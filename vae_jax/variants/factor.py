"""FactorVAE (Kim & Mnih 2018, eq. 2): the codes' total correlation is penalised, and an adversary estimates it.

Purpose    disentangled factors
Take it    to lower the total correlation by an adversary, which sees dependence of any shape. It trains a second
           network, and the adversary's estimate lags behind the codes.
Command    vae-jax train --config=digits_factor --workdir=runs/digits_factor

    loss = distortion + beta * rate + gamma * TC                                  the adversary D held fixed
         + 1/2 E[-log P(joint | z)] + 1/2 E[-log P(permuted | z')]                the codes held fixed

    TC = E_q(z)[log q(z) - sum_j log q(z_j)] ~ E_q(z)[D_joint(z) - D_permuted(z)]

D tells z ~ q(z) from z' ~ prod_j q(z_j) by two logits, and P is their softmax: for the best D the difference of the
logits is the log density ratio. z' is a batch of codes in which each latent has an order of its own. One scalar serves
both players: the first line's gradient is stopped at D and the second's at the codes, so each is trained by its own
line alone. With gamma = 0 the networks have the gradient of the beta-VAE, and with beta = 1 as well that of the VAE.
The scalar then is theirs plus the adversary's loss, log 2 where D cannot tell the two apart.

The paper's algorithm 2 takes z' from a second batch. Here z' comes from the same images by a second draw of
epsilon. The adversary's loss is a mean over z plus a mean over z', and no term holds both: however the two
depend on one another, it has the same expectation and so has its gradient. All that matters is that z' by itself is
right. Half a batch for each would be the algorithm to the letter. But it takes half of the VAE's images away, and if
data come in an order, as test sets may, D could tell the halves apart by it. What must not be shared is the gradient:
through z', or through the second line's z, the encoder would help its opponent. By chance, two latents of one z' come
from the same image about once in a batch, so TC is read slightly low. The permutation is of the whole batch and depends
on the key alone: each device computes the same one and takes its share.

D's estimate is as good as D. It lags behind the codes: with gamma > 0 it tends to 0, accuracy to 1/2, well
before the TC of q(z) does, and it may come out below 0. The adversary has its own Adam (b1 0.5, b2 0.9). The paper's
has 6 layers of 1000 at a rate of 1e-4, some ninety times the default's cost. On fixed codes of 8x8 digits, whose true
TC is 0.43, smaller ones found in 3,000 steps

    depth x width   rate   TC      loss
    2 x 64          1e-3   0.26    0.632
    3 x 128         1e-3   0.33    0.621    the default
    3 x 256         1e-4   0.27    0.626
    3 x 256         1e-3   0.33    0.622
    4 x 512         3e-4   0.33    0.621

At 1e-4 the default D trails codes that move: gamma = 10 left the digits' TC at 0.34 of 0.38 after 4,000
steps, where 1e-3 left 0.15. On larger images, with more steps, take the paper's three numbers.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models import collectives
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks._parts import dense
from vae_jax.typing import Batch, Codes, Key, Params, PerExample
from vae_jax.variants import Variant, elbo_terms
from vae_jax.variants._free_bits import rate_with_free_bits

TITLE = "FactorVAE"
"""In the caption of a picture."""


def permute_latents(key: Key, codes: Codes) -> Codes:
    """Codes of the batch's product of marginals: each latent in an order of its own (Kim & Mnih 2018, algorithm 1)."""
    return jax.random.permutation(key, codes, axis=0, independent=True)


class AdversaryScores(NamedTuple):
    """How well the adversary tells joint codes from permuted ones."""

    loss: PerExample
    accuracy: PerExample


def adversary_scores(joint: PerExample, permuted: PerExample) -> AdversaryScores:
    """Cross-entropy and accuracy, half of each from either kind.

    Args:
        joint: log odds of "joint", the difference of the two logits, at codes of q(z).
        permuted: the same at codes of prod_j q(z_j).
    """
    loss = 0.5 * (jax.nn.softplus(-joint) + jax.nn.softplus(permuted))
    return AdversaryScores(loss, 0.5 * (joint > 0) + 0.5 * (permuted <= 0))


def make(likelihood: Likelihood, *, width: int = 128, depth: int = 3, adversary_learning_rate: float = 1e-3) -> Variant:
    """FactorVAE under a pixel likelihood, its adversary of `depth` hidden layers. Raises UserError on bad fields."""
    for field, value in {"width": width, "depth": depth}.items():
        if value < 1:
            raise UserError(f"{field}: {value} is not allowed; give a whole number of at least 1")
    if not 0 < adversary_learning_rate < float("inf"):
        raise UserError(f"adversary_learning_rate: {adversary_learning_rate} is not allowed; give a positive number")
    adversary = dense(*[width] * depth, 2, activation=partial(jax.nn.leaky_relu, negative_slope=0.2))

    def init(key: Key, image_shape: tuple[int, int, int], latent_dim: int) -> Params:
        return adversary.init(key, jnp.zeros((1, latent_dim)))

    def log_odds(own: Params, z: Codes) -> PerExample:
        logits = adversary.apply(own, z)
        return logits[:, 0] - logits[:, 1]

    def permuted_codes(posterior: Gaussian, batch: Batch, key: Key) -> Codes:
        """This device's share of z': a second draw for the same images, permuted over the whole batch."""
        z = jax.lax.stop_gradient(posterior.sample(randomness.stream(key, "factor/second"), batch["index"]))
        # Every device permutes the whole batch alike.
        permuted = permute_latents(randomness.stream(key, "factor/permutation"), collectives.all_gather(z))
        return permuted[collectives.batch_positions(len(z))]

    def loss(nets, params, batch, key, step, *, gamma=10.0, beta=1.0, free_bits=0.0):
        own = params["own"]
        posterior, z, terms = elbo_terms(likelihood, nets, params, batch, key)
        total_correlation = log_odds(jax.lax.stop_gradient(own), z)
        permuted = permuted_codes(posterior, batch, key)
        scores = adversary_scores(log_odds(own, jax.lax.stop_gradient(z)), log_odds(own, permuted))

        terms |= {"total_correlation": total_correlation}
        terms |= {"adversary_loss": scores.loss, "adversary_accuracy": scores.accuracy}
        rate = rate_with_free_bits(terms["kl"], free_bits)
        return jnp.mean(terms["distortion"] + gamma * total_correlation + scores.loss) + beta * rate, terms

    own_optimizer = optax.adam(adversary_learning_rate, b1=0.5, b2=0.9)
    return Variant(loss, init=init, own_optimizer=own_optimizer)
