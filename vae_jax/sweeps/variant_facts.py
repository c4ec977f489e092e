"""What the variant of a run says of its numbers: what its ELBO bounds, and which of its fields are weights."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vae_jax import registry, variants
from vae_jax.errors import UserError
from vae_jax.models.likelihoods import bernoulli

PREFIX = "variant."


class VariantFacts(NamedTuple):
    """`bounds` and `density` are those of the `Variant`; `weights` the names of its loss' floats."""

    bounds: str
    density: str
    weights: frozenset[str]


def variant_facts(config: Mapping[str, Any]) -> VariantFacts:
    """What is known of the variant of a flat config.

    One that cannot be made here, a user's own whose module is elsewhere, is a kind by itself: its bound is called after
    it, and all of its fields count as static.
    """
    name = config[f"{PREFIX}name"]
    static = {field: config[PREFIX + field] for field in _static_fields(name) if PREFIX + field in config}
    return _facts(name, json.dumps(static, sort_keys=True, default=repr))


@functools.lru_cache(maxsize=1024)
def _make(name: str) -> Callable[..., variants.Variant] | None:
    try:
        return variants.get(name)
    except (UserError, TypeError):  # of another version, of a module that is not here, or of something else
        return None


@functools.lru_cache(maxsize=1024)
def _static_fields(name: str) -> tuple[str, ...]:
    try:
        make = _make(name)
        return () if make is None else tuple(registry.keyword_fields(make))
    except (TypeError, ValueError):  # the name is that of something else
        return ()


@functools.lru_cache(maxsize=1024)
def _facts(name: str, static: str) -> VariantFacts:
    """The facts of a variant whose static fields are `static`, in JSON: a key that can be hashed."""
    make = _make(name)
    kind = f"an unknown quantity ({name})"
    unknown = VariantFacts(kind, kind, frozenset())
    if make is None:
        return unknown
    fields = {field: tuple(value) if isinstance(value, list) else value for field, value in json.loads(static).items()}
    try:
        variant = make(bernoulli.make(), **fields)
        return VariantFacts(variant.bounds, variant.density, frozenset(variants.floats(variant)))
    except (Exception, SystemExit):  # the code may be the user's, and the fields those of another version
        return unknown
