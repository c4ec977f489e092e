"""The contract of a metric, and how one is found: a file here is a name in a list of metrics.

A metric's file defines `METRIC`, a `Metric`: how it is computed, and all that is known of it. So does a module of the
user's own, which a dotted name finds ("my_lab.scores.mine").
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.metrics._evaluation_context import EvaluationContext, Progress, no_progress
from vae_jax.metrics._factor_codes import ArrayClasses, ArrayCodes, FactorCodes, check_finite
from vae_jax.metrics._held_out import HELD_OUT, OWN_TERM, UNKNOWN_METRIC
from vae_jax.metrics._quantity import Quantity
from vae_jax.metrics._requirements import REQUIREMENTS, missing_requirement
from vae_jax.metrics._result_names import split_result

__all__ = [
    "REQUIREMENTS",
    "ArrayClasses",
    "ArrayCodes",
    "EvaluationContext",
    "FactorCodes",
    "Metric",
    "Progress",
    "agreement",
    "check_finite",
    "definition",
    "description",
    "get",
    "higher_is_better",
    "is_metric",
    "itemize",
    "missing_requirement",
    "names",
    "no_progress",
    "reading",
    "unit",
]

DIRECTIONS = {True: "higher is better", False: "lower is better", None: ""}


@dataclass(frozen=True)
class Metric(Quantity):
    """How a metric is computed for a trained run and its data, and what is known of its score and its details.

    Attributes:
        compute: `compute(context, key, *, parameters) -> {name: number}`, the score first under the metric's name and
            then its details ("mig", "mig.shape"). It takes what it needs from the `EvaluationContext`; its keyword-only
            parameters are what a user may set ("mig:bins=30"), and their defaults are the reference protocol. A result
            is a function of the run, the data, the key and the parameters alone.
        requires: what it needs of the model and its data, of REQUIREMENTS.
        minimum: the least value of a parameter.
        maximum: the largest value of a parameter.
        choices: the words that a parameter may be.
        expensive: why it takes so long that "all" leaves it out; empty if "all" includes it.
    """

    compute: Callable[..., Mapping[str, float]]
    requires: tuple[str, ...] = ()
    minimum: Mapping[str, float | int] = field(default_factory=dict)
    maximum: Mapping[str, float | int] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expensive: str = ""


def get(name: str) -> Metric:
    """The metric `name`, a file's or a dotted one.

    Raises UserError for an unknown name, and for a dotted one that finds no `Metric`.
    """
    metric = registry.find("--metrics", name, __name__, "METRIC")
    if not isinstance(metric, Metric):
        raise UserError(f"--metrics: {name!r} is a {type(metric).__name__}; give a vae_jax.metrics.Metric")
    return metric


def names() -> tuple[str, ...]:
    """The metrics that have a file here."""
    return registry.file_names(__name__)


def is_metric(result: str) -> bool:
    """Whether a result is a metric's, one of ours or of the user's own, and no number of the run's own evaluation."""
    name, _ = split_result(result)
    return name in names() or "." in name


def higher_is_better(result: str) -> bool | None:
    """Whether more of a result is better, whatever its metric's parameters; None where neither way is.

    Args:
        result: a name in an evaluation: "elbo", "mig:bins=30", "dci.informativeness.shape".
    """
    quantity, detail = _known(result)
    return quantity.direction(detail)


def unit(result: str) -> str:
    """The unit of a result ("elbo", "mig:bins=30"); empty for a pure number, and for a detail."""
    quantity, detail = _known(result)
    return "" if detail else quantity.unit


def reading(result: str) -> str:
    """How a result is to be read: its unit and which way is better, as far as there are such."""
    return ", ".join(filter(None, [unit(result), DIRECTIONS[higher_is_better(result)]]))


def agreement(result: str) -> tuple[str, ...]:
    """What two runs must agree in, beside their data, for a result to be one quantity in both: names of AGREEMENTS."""
    quantity, _ = _known(result)
    return quantity.agreement or (("likelihood", "density") if quantity.log_density else ())


def definition(result: str) -> str:
    """What a result is, in a line, a detail as its score; empty where nobody has said."""
    quantity, _ = _known(result)
    if quantity.definition or not isinstance(quantity, Metric):
        return quantity.definition
    return next(iter(description(quantity).splitlines()), "")


def description(metric: Metric) -> str:
    """The docstring of a metric's file: its equation, its protocol and its limits."""
    return (sys.modules[metric.compute.__module__].__doc__ or "").strip()


def _known(result: str) -> tuple[Quantity, str]:
    """What is known of a result's metric or held-out number, and the name of the detail that it is."""
    name, detail = split_result(result)
    if name in HELD_OUT:
        return HELD_OUT[name], detail
    if name in names():
        return get(name), detail
    if "." in name:
        with contextlib.suppress(UserError):  # a user's own that is not here, where only its results are
            return get(name), detail
        return UNKNOWN_METRIC, detail
    return OWN_TERM, detail


def itemize(name: str, score: float | int, parts: Iterable[str], values: np.ndarray) -> dict[str, float]:
    """A metric's result: the score under its `name`, and the value of each part under `name.part`."""
    details = {f"{name}.{part}": float(value) for part, value in zip(parts, values, strict=True)}
    return {name: float(score), **details}
