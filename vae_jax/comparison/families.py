"""Families of groups, which a picture joins by a line: those that differ in one number alone, their strength."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_jax.comparison.results import Comparison, Group, Number
from vae_jax.sweeps.group_names import distinct_names, distinguishing_fields, group_name, sort_key

MAX_RATE_RATIO = 5.0
"""How many times the next smaller rate a rate may be and still be drawn to scale."""


class Family(NamedTuple):
    """Groups that differ in one number alone, their strength, in its order; `field` is empty for a group by itself."""

    name: str
    field: str
    strengths: tuple[float, ...]
    groups: tuple[Group, ...]


def families(comparison: Comparison) -> list[Family]:
    """The groups of each variant along the first number of --by that varies in it, one family for each other choice."""
    variants = {run.group: run.config["variant.name"] for run in comparison.runs}
    strengths = _strength_fields(comparison, variants)
    members: dict[tuple[Hashable, ...], list[Group]] = {}
    for group in comparison.groups:
        variant = variants[group.name]
        others = tuple(field for field in comparison.by if field != strengths[variant])
        members.setdefault((variant, sort_key(group.values, others)), []).append(group)
    firsts = [groups[0] for groups in members.values()]
    shown = {group.name: strengths[variants[group.name]] for group in firsts}
    names = _names(comparison, variants, shown)
    return [_family(name, shown[groups[0].name], groups) for name, groups in zip(names, members.values(), strict=True)]


def _names(comparison: Comparison, variants: Mapping[str, str], strengths: Mapping[str, str]) -> list[str]:
    """The names of families, each given by one of its groups and its strength, which is left out."""
    fields = distinguishing_fields([group.values for group in comparison.groups], comparison.by)
    names, values = [], []
    for group, shown in zip(comparison.groups, fields, strict=True):
        if group.name not in strengths:
            continue
        strength = strengths[group.name]
        others = {field: value for field, value in group.values.items() if field != strength}
        words = [field for field in shown if field != strength]
        names.append(group_name(others, words, comparison.by) if others else variants[group.name])
        values.append(others)
    return distinct_names(names, values, comparison.by)


def _strength_fields(comparison: Comparison, variants: Mapping[str, str]) -> dict[str, str]:
    """Of each variant the first field of --by that is a number and varies among its groups; empty where none is."""
    groups: dict[str, list[Group]] = {}
    for group in comparison.groups:
        groups.setdefault(variants[group.name], []).append(group)
    return {
        variant: next((field for field in comparison.by if _is_strength(field, same)), "")
        for variant, same in groups.items()
    }


def _is_strength(field: str, groups: Sequence[Group]) -> bool:
    values = [group.values.get(field) for group in groups]
    return all(type(value) in (int, float) for value in values) and len(set(values)) > 1


def _family(name: str, field: str, groups: Sequence[Group]) -> Family:
    strengths = [float(group.values[field]) if field else math.nan for group in groups]
    order = np.argsort(strengths, kind="stable")
    return Family(name, field, tuple(strengths[i] for i in order), tuple(groups[i] for i in order))


def distant_groups(rates: Mapping[str, Number]) -> list[str]:
    """The few groups whose rate leaves no room for the others: more than MAX_RATE_RATIO times that of the next.

    Args:
        rates: the mean rate of each group, nats per image.
    """
    order = sorted(rates, key=rates.__getitem__)
    first = max(2, len(order) - max(1, len(order) // 4))
    for i in range(first, len(order)):
        if rates[order[i]] > MAX_RATE_RATIO * max(rates[order[i - 1]], 1.0):
            return order[i:]
    return []
