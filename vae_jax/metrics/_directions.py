"""Which way a metric is better, where either way is."""

import re

HIGHER = frozenset(
    [
        "elbo",
        "bound",
        "likelihood",
        "ais",
        "beta_vae",
        "dci",
        "dci.completeness",
        "dci.informativeness",
        "explicitness",
        "factor_vae",
        "irs",
        "mig",
        "mig_sampled",
        "modularity",
        "samples.precision",
        "samples.recall",
        "samples.density",
        "samples.coverage",
        "sap",
        "udr",
    ]
)
LOWER = frozenset(
    [
        "loss",
        "distortion",
        "distortion_relaxed",
        "bits_per_dim",
        "ais.gap",
        "gaussian_tc",
        "samples",
        "samples.near_copies",
        "wasserstein_correlation",
        "wasserstein_correlation.raw",
    ]
)
"""Neither way is better of all others: rate and active units are what distortion is paid with; a decoder that ignores
its code is the smoothest, and its aggregate posterior the nearest to the prior; counts and standard errors say how a
number was made; `samples.frechet_of_data` is of the data; and of a user's own metric nobody has said.
"""

BY_PART = ("dci.informativeness", "explicitness", "irs", "mig", "mig_sampled", "modularity", "sap")
"""Means of which each part is there too, for each factor or latent, and goes the same way."""

_SETTING = re.compile(r":\w+=(?:[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\w+)")


def higher_is_better(metric: str) -> bool | None:
    """Whether more of a metric is better, whatever its parameters; None where neither way is."""
    name = _SETTING.sub("", metric)
    if name.rpartition(".")[0] in BY_PART:
        name = name.rpartition(".")[0]
    return True if name in HIGHER else False if name in LOWER else None
