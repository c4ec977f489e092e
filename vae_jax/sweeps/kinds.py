"""Of which kind a run's numbers are: what two runs must agree in for a number to be one quantity in both.

A density of grey levels is not a probability of black and white, log p(x|y) is not log p(x), and a loss weighs its
terms as its variant does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vae_jax import metrics
from vae_jax.sweeps import study
from vae_jax.sweeps.variant_facts import PREFIX, variant_facts

Config = Mapping[str, Any]

LIKELIHOOD_FIELDS = ("data.binarize", "likelihood.name")
"""What decides what a nat is of."""

PAIR_FIELD = "data.changed"
"""Which images make a pair: of no matter but to a bound of pairs."""

NO_IMAGES = ("data.path", "data.binarize", "data.flip", "data.shift", PAIR_FIELD)
"""Fields of the data that do not decide which images there are."""


def data_fields(config: Config) -> list[str]:
    """The fields of a flat config that decide which images there are."""
    return sorted(field for field in config if field.startswith("data.") and field not in NO_IMAGES)


def bound_in_words(config: Config) -> str:
    """What the ELBO of a run bounds; of one without an ELBO what its distortion is a part of, -log p(x)."""
    return variant_facts(config).bounds or "log p(x)"


def _data(config: Config) -> str:
    return _text(config, data_fields(config))


def _likelihood(config: Config) -> str:
    return _text(config, LIKELIHOOD_FIELDS)


def _binarize(config: Config) -> str:
    return _text(config, ["data.binarize"])


def _labels(config: Config) -> str:
    return "given" if "|y" in variant_facts(config).bounds else "not given"


def _bound(config: Config) -> str:
    bound = bound_in_words(config)
    return f"{bound} {_text(config, [PAIR_FIELD])}" if is_of_pairs(config) else bound


def is_of_pairs(config: Config) -> bool:
    """Whether the ELBO of a run is of pairs of images, x and x'."""
    return "x'" in variant_facts(config).bounds


def _density(config: Config) -> str:
    return variant_facts(config).density


def _variant(config: Config) -> str:
    weights = variant_facts(config).weights
    fields = (field for field in config if field.startswith(PREFIX))
    return _text(config, (field for field in fields if field.removeprefix(PREFIX) not in weights))


def _weights(config: Config) -> str:
    names = variant_facts(config).weights
    fields = [*(PREFIX + name for name in names), *(field for field in config if field.startswith("schedule."))]
    if config.get("schedule.name", "constant") != "constant" or "ramp_steps" in names:
        fields.append("train.steps")  # where a weight moves, it is where the last step has brought it
    return _text(config, fields)


def _text(config: Config, fields: Iterable[str]) -> str:
    """The fields and their values, which may be such that cannot be hashed; 4 and 4.0 are the same."""
    return " ".join(f"{field}={study.canonical(config[field])!r}" for field in sorted(fields) if field in config)


KINDS: dict[str, Callable[[Config], str]] = {
    "data": _data,
    "likelihood": _likelihood,
    "bound": _bound,
    "density": _density,
    "binarize": _binarize,
    "labels": _labels,
    "variant": _variant,
    "weights": _weights,
}
"""A run's kind in each thing that runs may have to agree in: those of metrics.AGREEMENTS, and the data."""


def agreement(metric: str) -> tuple[str, ...]:
    """All that two runs must agree in to be compared in a metric: names of KINDS."""
    return ("data", *metrics.agreement(metric))
