"""How long the scores of disentanglement take: one model of ten latents, its codes given, at the full protocol.

    python -m experiments.benchmark_metrics [--metrics=mig,dci]

Prints a table of seconds, compiling included, of all scores by default. The codes are made up for the grid of the
sprites: five noisy factors, two of them mixed, and five latents of noise.
"""

import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from vae_jax import metrics, train
from vae_jax.data import sprites
from vae_jax.distributions import Gaussian
from vae_jax.factors import Factors
from vae_jax.metrics import Subject
from vae_jax.registry import fields

SCORES = (
    "beta_vae,factor_vae,mig,mig_sampled,sap,dci,modularity,explicitness,irs,gaussian_tc,wasserstein_correlation,"
    "active_units,latent_information"
)
SIZES = fields(sprites.load)["sizes"]


class Given(Subject):
    """A subject of which only the codes are known, one row for each image of a grid; every posterior is as wide."""

    def __init__(self, codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...], logvar: float = -4.0):
        self.dataset = SimpleNamespace(factors=Factors(names, sizes, render=None))
        self.coded = metrics.coded(codes, names, sizes)
        self.logvar = logvar

    def codes(self, images: int) -> np.ndarray:
        """The codes of `images` of the grid, 0 for all, spread over it."""
        order = np.random.default_rng(0).permutation(len(self.coded.codes))
        return self.coded.codes[order[:images] if images else order]

    def posterior(self, images: int) -> Gaussian:
        """Around the codes."""
        mean = jnp.asarray(self.codes(images))
        return Gaussian(mean, jnp.full_like(mean, self.logvar))

    def posterior_at(self, ids: np.ndarray) -> Gaussian:
        """Around the codes of the grid."""
        mean = jnp.asarray(self.coded.codes[ids])
        return Gaussian(mean, jnp.full_like(mean, self.logvar))


def made_up(sizes: tuple[int, ...], latents: int) -> np.ndarray:
    """Codes of the grid: each factor, scaled and noisy, the first two mixed with the last two; then noise."""
    random = np.random.default_rng(0)
    classes = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    factors = 3 * (classes / (np.asarray(sizes)[None] - 1) - 0.5)
    codes = 0.3 * random.normal(size=(len(classes), latents))
    codes[:, : len(sizes)] += factors
    codes[:, :2] += 0.7 * factors[:, -2:]
    return codes.astype(np.float32)


def main(argv: list[str]) -> int:
    """Times each score once; the exit status."""
    own, _ = settings.Arguments(("metrics",)).parse(argv)
    computed = metrics.parse(own.get("metrics", SCORES))
    subject, key, total = Given(made_up(SIZES, 10), sprites.NAMES, SIZES), train.root_key(0), 0.0
    print(f"1 x {jax.devices()[0].device_kind}, jax {jax.__version__}\n\n| score | seconds | value |\n|---|---|---|")
    for word, compute in computed.items():
        begin = time.perf_counter()
        result, _ = compute(subject, key)
        seconds = time.perf_counter() - begin
        total += seconds
        print(f"| {word} | {seconds:.2f} | {next(iter(result.values())):.3f} |", flush=True)
    print(f"| all | {total:.1f} | |")
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    settings.start(main, __doc__)
