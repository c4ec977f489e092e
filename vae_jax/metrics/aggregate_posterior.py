"""How far the aggregate posterior is from the prior, and the parts of the rate (Hoffman & Johnson 2016).

Purpose    use of the latents
Shows      where the rate goes: into information about the image, into dependence between latents, into a mismatch with
           the prior.
Misleads   when posteriors are narrow and images few: compare both estimates of the information before you trust the
           split.

    E KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)),    q(z) = 1/N sum_n q(z|x_n)
    KL(q(z) || p(z)) = TC + sum_j KL(q(z_j) || p(z_j)),   TC = KL(q(z) || prod_j q(z_j))

The second line (Chen et al. 2018) holds where the prior is factorised: N(0, I). In nats, all at least 0 but for the
draws' noise. The first number is KL(q(z) || p(z)): how far the codes that the decoder saw in training are from those
that the prior draws. One z is drawn from each of N = 10,000 held-out images, and q(z) is the whole mixture over all N,
the image's own posterior included. For these N images that is exact, and each mean is unbiased. The minibatch
estimators that train beta-TCVAE are biased: variants/tcvae.py.

N images are too few to stand for all possible images. In expectation over them

    E log q(z|x)/q(z)  <=  I(x; z)  <=  E log q(z|x)/q'(z),    q' without the image's own posterior

(Poole et al. 2019). The left is `mutual_information`, at most log N: near that (9.21 for 10,000) it only counts the
images. What it lacks is then in KL(q(z) || p(z)), which is too high. So is TC, by (latents - 1) log N where each latent
alone tells the images apart. The right is `mutual_information_leave_one_out`, by Jensen's inequality on the mean of
posteriors on which z does not depend; it has no upper limit where posteriors are narrow and far apart. Where both agree
the split is right; otherwise rate - leave_one_out <= KL <= the first number.

The rate is in closed form under N(0, I), and at each image's z under any other prior. The KLs are the rate less the
information, image by image: the parts add up to the rate but for rounding. The standard errors are of means over
images, as if each were drawn anew with its z; for these images alone they are too large. TC is that of the posterior's
draws, where gaussian_tc takes its means and a Gaussian. A conditional variant gets each image's label, and its q(z) is
over images and labels.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vae_jax.errors import UserError
from vae_jax.metrics import EvaluationContext, Metric, _information
from vae_jax.models.distributions import Gaussian
from vae_jax.typing import Codes, Key, PerExample

CHUNK = 1000
"""Codes whose density under the prior is taken at once."""

PerImage = Float[np.ndarray, " image"]
LogPrior = Callable[[Codes], PerExample]
"""Latents -> log p(z), nats."""


def rate_parts(posterior: Gaussian, key: Key, log_prior: LogPrior | None) -> dict[str, PerImage]:
    """The parts of the rate at one z of each image, nats, the KL of q(z) from the prior first.

    Args:
        posterior: q(z | x) of each image.
        key: draws z.
        log_prior: None is N(0, I), for which alone each latent's own KL is there.
    """
    z = posterior.sample(key, jnp.arange(len(posterior.mean)))
    log_q, log_q_latents = posterior.log_prob(z), posterior.log_densities(z)
    aggregate, aggregate_of_others = _information.log_aggregate(z, posterior)
    marginals = _information.log_mixtures(z, posterior, jnp.ones((len(z), 1)))[:, :, 0].T
    information = log_q - aggregate
    rate = jnp.sum(posterior.kl(), axis=1) if log_prior is None else log_q - log_prior(z)
    parts = {
        "": rate - information,
        "mutual_information": information,
        "mutual_information_leave_one_out": log_q - aggregate_of_others,
        "total_correlation": aggregate - jnp.sum(marginals, axis=1),
        "rate": rate,
    }
    if log_prior is None:
        parts["dimension_wise_kl"] = jnp.sum(posterior.kl() - (log_q_latents - marginals), axis=1)
    return {name: np.asarray(values, np.float64) for name, values in parts.items()}


def latent_log_prior(context: EvaluationContext) -> LogPrior | None:
    """The density of latents under the variant's prior, None for N(0, I)."""
    run, prior = context.run, context.model.variant.log_prior
    if prior is None:
        return None

    @jax.jit
    def log_prior(params, z):
        # What a code has beside its latents is a label, of which the latents are independent under the prior.
        code = jnp.pad(z, ((0, 0), (0, run.code_dim - z.shape[1])))
        return prior(context.model.nets, params, code)

    def in_chunks(z):
        return jnp.concatenate([log_prior(run.params, z[i : i + CHUNK]) for i in range(0, len(z), CHUNK)])

    return in_chunks


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """KL(q(z) || p(z)) and the parts of the rate (Hoffman & Johnson 2016; Chen et al. 2018), nats per image.

    Each part's standard error over images is beside it.

    Args:
        context: the run and its data.
        key: draws z.
        images: how many held-out images the mixture is of; 0 takes all.

    Raises:
        UserError: for fewer than two images.
    """
    posterior = context.posterior(images)
    count = len(posterior.mean)
    if count < 2:
        raise UserError(f"images: {count} image is not enough; give at least 2")
    result = {}
    for part, values in rate_parts(posterior, key, latent_log_prior(context)).items():
        name = f"aggregate_posterior.{part}".rstrip(".")
        result[name] = float(values.mean())
        result[f"{name}.standard_error"] = float(values.std(ddof=1) / math.sqrt(count))
    return {**result, "aggregate_posterior.images": count}


METRIC = Metric(compute, requires=("posterior",), unit="nats per image", minimum={"images": 0})
