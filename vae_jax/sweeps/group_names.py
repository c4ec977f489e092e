"""The names of groups of runs that differ in their seeds alone: the fields that tell them apart, with their values.

No jax here: a study's state names its groups.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vae_jax.errors import UserError, unknown_name
from vae_jax.sweeps import study
from vae_jax.sweeps.short_names import numbered

UNGROUPED_FIELDS = (
    *("wandb.", "parallel.", "checkpoint.", "log.", "sweep.", "evaluation."),
    *("train.dispatch", "data.path"),
)
"""Fields that decide where a run is computed and what is kept of it, and not what it is."""

ALL = "all runs"
"""The name of a group that nothing has to tell apart."""


def select_fields(by: tuple[str, ...], configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """`by`, or the fields that have several values among the configs that have them, the seed apart; the variant first.

    Raises UserError for the seed, and for a field that none has.
    """
    fields = sorted({field for config in configs for field in config} - {"seed"})
    for field in by:
        if field == "seed":
            raise UserError("--by: 'seed' is what groups are averaged over; leave it out")
        if field not in fields:
            raise unknown_name("--by", field, fields)
    if by:
        return by
    values = {field: {_canonical_text(config[field]) for config in configs if field in config} for field in fields}
    varying = [field for field in fields if len(values[field]) > 1 and not field.startswith(UNGROUPED_FIELDS)]
    return tuple(sorted(varying, key=lambda field: (field != "variant.name", not field.startswith("variant."))))


def _canonical_text(value: Any) -> str:
    return repr(study.canonical(value))


def group_names(values: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[str]:
    """A name of its own for each group, of the fields that tell them apart."""
    fields = distinguishing_fields(values, by)
    names = [group_name(group, shown, by) for group, shown in zip(values, fields, strict=True)]
    if len(names) > 1:
        names = [_full_name(group, by) if name == ALL else name for group, name in zip(values, names, strict=True)]
    return distinct_names(names, values, by)


def distinct_names(names: Sequence[str], values: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[str]:
    """The names of groups, no two alike.

    Where two would be, they say all fields, those too that a group does not have; where that is not enough ("4" and 4,
    say), a number is behind them.
    """
    for _ in range(2):  # a name that says all may be that of a third
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else _full_name(group, by) for name, group in zip(names, values, strict=True)
        ]
    return numbered(names)


def _full_name(values: Mapping[str, Any], by: Sequence[str]) -> str:
    """The name that leaves no field out."""
    leaves = [field.rpartition(".")[2] for field in by]
    missing = [f"no {_short_name(field, leaves)}" for field in by if field not in values]
    return " ".join([*([group_name(values, by)] if len(missing) < len(by) else []), *missing])


def sort_key(values: Mapping[str, Any], by: Sequence[str]) -> tuple[tuple[int, int | float, str], ...]:
    """The values of the fields `by`, such that they can be sorted and hashed."""
    return tuple(_value_key(values.get(field)) for field in by)


def _value_key(value: Any) -> tuple[int, int | float, str]:
    """What is missing comes first, then numbers by size, then the others by their text; 4 and 4.0 are one."""
    if value is None:
        return (0, 0, "")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return (1, value, "")
    return (2, 0, _canonical_text(value))


def group_name(values: Mapping[str, Any], fields: Sequence[str], by: Sequence[str] = ()) -> str:
    """The variant, then the other `fields` that there are, with their values: "tcvae beta=4".

    A field is called by its last word where no other of `by`, by default of `fields`, ends so.
    """
    leaves, words = [field.rpartition(".")[2] for field in by or fields], []
    for field in fields:
        if field == "variant.name":
            words.append(format_value(values[field]))
        elif field in values:
            words.append(f"{_short_name(field, leaves)}={format_value(values[field])}")
    return " ".join(words) or ALL


def _short_name(field: str, leaves: Sequence[str]) -> str:
    leaf = field.rpartition(".")[2]
    if leaf == "name":
        return field.removesuffix(".name")
    return leaf if leaves.count(leaf) == 1 else field


def distinguishing_fields(values: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each group's `values` the fields of `by` that its name needs: not what over half of the groups share.

    The variant and its own fields are always said.
    """
    common = {field: _majority(field, values) for field in by}
    return [tuple(field for field in by if common[field] != format_value(group.get(field))) for group in values]


def _majority(field: str, values: Sequence[Mapping[str, Any]]) -> str | None:
    """What over half of the groups have in a field that is not the variant's; None where nothing is."""
    value, count = Counter(format_value(group.get(field)) for group in values).most_common(1)[0]
    return value if 2 * count > len(values) and not field.startswith("variant.") else None


def format_value(value: Any) -> str:
    """A config's value: 4 and 4.0 alike."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value + 0.0:g}"  # no sign before a zero
    if isinstance(value, tuple):
        return f"({', '.join(map(format_value, value))})"
    return str(value)
