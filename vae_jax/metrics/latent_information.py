"""What each latent knows about the image: I(x; z_j), from the aggregate posterior of held-out images.

Purpose    use of the latents
Shows      how many nats each latent carries about the image.
Misleads   as a total: the sum counts what latents share more than once. And N images hold at most log N nats.

    I(x; z_j) = E_x KL(q(z_j | x) || q(z_j)),    q(z_j) = 1/N sum_n q(z_j | x_n)

In nats. The expectation is over one draw of z for each of N = 10,000 images, the mixture over all N, the image's own
posterior included (the index-code information of Hoffman & Johnson 2016, one latent at a time). So it is, without bias,
the information of z_j about which of these N images it is: at most log N = 9.2. It is less than the information about
one of all possible images, but little less while a posterior is far wider than the range of the means over N. Leaving
the image's own posterior out would err upwards instead. Never above the latent's KL from a prior of independent latents
but for the draw's noise: what is missing is KL(q(z_j) || p(z_j)). The first number is the sum over latents: the
information of all of them together plus the total correlation of q(z), which counts what latents share more than once.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vae_jax.metrics import EvaluationContext, Metric, _information, itemize
from vae_jax.models.distributions import Gaussian
from vae_jax.typing import Key


def latent_information(posterior: Gaussian, key: Key) -> Float[np.ndarray, " latent"]:
    """I(n; z_j) of the number n of an image and each latent, nats; one draw of z for each image."""
    index = jnp.arange(len(posterior.mean))
    z = posterior.sample(key, index)
    mixture = _information.log_mixtures(z, posterior, jnp.ones((len(index), 1)))[:, :, 0]
    return np.asarray(jnp.mean(posterior.log_densities(z) - mixture.T, axis=0), np.float64)


def compute(context: EvaluationContext, key: Key, *, images: int = 10_000) -> dict[str, float]:
    """I(x; z_j) (Hoffman & Johnson 2016, one latent at a time), nats: the sum over latents, and each one's.

    Args:
        context: the run and its data.
        key: draws z.
        images: how many held-out images the mixture is of; 0 takes all.
    """
    information = latent_information(context.posterior(images), key)
    return itemize("latent_information", information.sum(), map(str, range(len(information))), information)


METRIC = Metric(compute, requires=("posterior",), unit="nats", minimum={"images": 0})
