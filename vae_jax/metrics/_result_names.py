"""The names of results: "mig:bins=30.shape" is the detail "shape" of the metric "mig" with 30 bins.

A dot begins a detail and a colon a setting. So the dots of a user's own metric are slashes in its results, and nothing
else has to be known to tell "my_lab/scores/mine.part" from a metric in a module "part", or "samples/mine" from a detail
of "samples".
"""

import re

_SETTING = re.compile(r":\w+=(?:[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\w+)")


def result_label(word: str) -> str:
    """What the results of a metric are called that was asked for as `word` ("my_lab.mine:k=0.5")."""
    name, colon, settings = word.partition(":")
    return name.replace(".", "/") + colon + settings


def metric_name(word: str) -> str:
    """The name of the metric that was asked for as `word`, a user's own with its dots."""
    return word.partition(":")[0].replace("/", ".")


def split_result(result: str) -> tuple[str, str]:
    """The name of a result's metric, a user's own with its dots, and of the detail; empty where it is the score."""
    label, _, detail = _SETTING.sub("", result).partition(".")
    return metric_name(label), detail
