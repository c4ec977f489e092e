"""The words that ask for metrics: "mig,dci,likelihood:k=500" to what computes each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vae_jax import metrics, registry
from vae_jax.data import Dataset
from vae_jax.errors import UserError, unknown_name
from vae_jax.metrics import EvaluationContext, Metric, missing_requirement
from vae_jax.metrics._result_names import metric_name, result_label
from vae_jax.model import Model
from vae_jax.phrases import whole_number
from vae_jax.typing import Key


class Request(NamedTuple):
    """A metric that is asked for.

    Attributes:
        word: as it was asked for: "likelihood:k=500".
        metric: what computes it.
        parameters: the values of all its parameters, the defaults of those that the word does not set.
    """

    word: str
    metric: Metric
    parameters: dict[str, Any]

    @property
    def label(self) -> str:
        """What its score is called; a detail follows after a dot."""
        return result_label(self.word)

    @property
    def name(self) -> str:
        """The metric's name in results, without parameters."""
        return self.label.partition(":")[0]

    @property
    def protocol(self) -> str:
        """The values of all its parameters: "k=500 images=0"."""
        return " ".join(f"{name}={value}" for name, value in self.parameters.items())

    def compute(self, context: EvaluationContext, key: Key) -> dict[str, float]:
        """The score and its details, by the names that they are stored under."""
        scores = self.metric.compute(context, key, **self.parameters)
        score_name = next(iter(scores))
        return {self.label + name.removeprefix(score_name): value for name, value in scores.items()}

    def check(self, model: Model, dataset: Dataset) -> None:
        """Raises UserError unless the model and its data have what the metric requires."""
        if missing := missing_requirement(self.metric.requires, model, dataset):
            raise UserError(f"--metrics={self.word}: is not for this run; it needs {missing}")


def parse_requests(words: str) -> list[Request]:
    """The metrics that "mig,dci,likelihood:k=500" asks for, each once.

    Raises UserError for an unknown metric or parameter, and for a value that is not allowed.
    """
    return [_parse_request(word) for word in dict.fromkeys(words.split(",")) if word]


def _parse_request(word: str) -> Request:
    _, *settings = word.split(":")
    metric = metrics.get(metric_name(word))
    parameters = registry.keyword_fields(metric.compute)
    defaults = dict(parameters)
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in defaults:
            raise unknown_name(f"--metrics={word}", name, defaults)
        parameters[name] = _parse_value(word, name, text, defaults[name])
    _check_limits(word, metric, parameters)
    return Request(word, metric, parameters)


def _parse_value(word: str, name: str, text: str, default: Any) -> Any:
    kind = whole_number if type(default) is int else type(default)
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"--metrics={word}: {text!r} is not allowed; {name} is like {default!r}") from None


def _check_limits(word: str, metric: Metric, parameters: Mapping[str, Any]) -> None:
    """Raises UserError for a parameter beyond its limits, for NaN, and for a word that is none of its choices."""
    for name, least in metric.minimum.items():
        if not parameters[name] >= least:
            raise _not_allowed(word, name, parameters[name], f"at least {least}")
    for name, most in metric.maximum.items():
        if not parameters[name] <= most:
            raise _not_allowed(word, name, parameters[name], f"at most {most}")
    for name, words in metric.choices.items():
        if parameters[name] not in words:
            raise unknown_name(f"--metrics={word}: {name}", parameters[name], words)


def _not_allowed(word: str, name: str, value: Any, allowed: str) -> UserError:
    return UserError(f"--metrics={word}: {name} = {value} is not allowed; give {allowed}")
