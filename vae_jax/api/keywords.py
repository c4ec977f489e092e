"""Fields of a config as keyword arguments, by their own names or dotted: beta=4.0, steps=500, **{"train.ema": 0.9}."""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from vae_jax.api import objects
from vae_jax.config.parse import apply_overrides, flatten
from vae_jax.errors import UserError, unknown_name

COMMON = {
    "seed": "seed",
    "latent_dim": "latent_dim",
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
}
"""Names that are these fields whatever else a config has."""

NAMED = ("variant", "net", "likelihood", "schedule")
"""Sections whose word alone is their name: net="conv"."""

SECTIONS = ("variant", "net", "likelihood", "train", "data")
"""Sections whose fields are known by their own names."""

FIELD = re.compile(r"^(\s*)(?:--)?config\.([\w.]*\w)", re.MULTILINE)
FLAG = re.compile(r"^--(\w+)")
"""How a line begins that names a field of a config, or a flag of a program."""


@contextlib.contextmanager
def python_errors() -> Iterator[None]:
    """Names arguments in a UserError as Python has them: config, not --config."""
    try:
        yield
    except UserError as error:
        raise type(error)(FLAG.sub(r"\1", str(error))) from None


@contextlib.contextmanager
def keyword_errors(names: Mapping[str, str]) -> Iterator[None]:
    """Names fields of the config in a UserError as keyword arguments: beta, not config.variant.beta.

    Args:
        names: the dotted field of each keyword argument that was given.
    """
    words = {field: name for name, field in names.items()}
    try:
        with python_errors():
            yield
    except UserError as error:
        message = FIELD.sub(lambda match: match[1] + (words.get(match[2]) or keyword_of(match[2])), str(error))
        raise type(error)(message) from None


def keyword_of(field: str) -> str:
    """What a dotted field is called as a keyword argument."""
    section, _, leaf = field.rpartition(".")
    if leaf == "name" and section in NAMED:
        return section
    if leaf in NAMED:  # train.schedule, where schedule is that of beta
        return field
    return leaf if section in SECTIONS and leaf != "name" else field


def dotted_fields(known: Collection[str], names: Iterable[str], without: Collection[str] = ()) -> dict[str, str]:
    """The dotted field that each keyword argument means.

    Args:
        known: all fields that there are, dotted.
        names: of keyword arguments.
        without: fields that have an argument of their own here, and cannot be given.

    Raises:
        UserError: for a name that no field has, with the nearest, and for one that two sections have.
    """
    meanings: dict[str, list[str]] = {}
    for field in known:
        section, _, leaf = field.rpartition(".")
        if section in SECTIONS and leaf != "name" and field not in without:
            meanings.setdefault(leaf, []).append(field)
    meanings |= {name: [field] for name, field in COMMON.items()}
    meanings |= {section: [f"{section}.name"] for section in NAMED}
    return {name: _meaning(name, meanings, known, without) for name in names}


def _meaning(name: str, meanings: Mapping[str, list[str]], known: Collection[str], without: Collection[str]) -> str:
    if "." in name:
        if name not in known or name in without:
            raise unknown_name(name, name, [field for field in known if field not in without])
        return name
    if name not in meanings:
        raise unknown_name(name, name, meanings)
    fields = meanings[name]
    if len(fields) > 1:
        raise UserError(f'{name}: is {" and ".join(fields)}; say which, as in **{{"{fields[0]}": ...}}')
    return fields[0]


def set_keywords(config: ConfigDict, keywords: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, str]:
    """Sets the fields of `config` that keyword arguments mean, sections' names first; the dotted field of each.

    Args:
        config: is changed.
        keywords: values by the names that `dotted_fields` takes; a network, a variant and a likelihood may be objects.
        without: fields that have an argument of their own.

    Raises:
        UserError: for an unknown name, and for a value that its field does not take.
    """
    names = {name: value for name, value in keywords.items() if name.removesuffix(".name") in NAMED}
    with keyword_errors({}):
        for name, value in names.items():
            section = name.removesuffix(".name")
            set_fields(config, {f"{section}.name": objects.name_of(section, value)})
    fields = dotted_fields(flatten(config), keywords, without)
    with keyword_errors(fields):
        set_fields(config, {field: keywords[name] for name, field in fields.items() if name not in names})
    return fields


def set_fields(config: ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets fields of `config`, by dotted name, to these values. Raises UserError for one that is wrong."""
    types = {field: type(value) for field, value in flatten(config).items()}
    apply_overrides(config, [(field, text_of(value, types.get(field))) for field, value in fields.items()])


def text_of(value: Any, kind: type | None) -> str:
    """A value as the text that a field of this type reads it from."""
    value = plain_value(value)
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) if kind is str else str(tuple(value))
    return str(value)


def plain_value(value: Any) -> Any:
    """Arrays as lists, and their numbers as Python's: what is 0.1 in float32 as 0.1."""
    if isinstance(value, tuple):
        return tuple(map(plain_value, value))
    if isinstance(value, list) or (hasattr(value, "ndim") and value.ndim):
        return [*map(plain_value, value)]
    if not hasattr(value, "item"):
        return value
    number = value.item()
    return float(str(value)) if isinstance(number, float) else number
