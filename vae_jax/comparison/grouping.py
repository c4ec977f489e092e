"""The groups of a comparison: the fields that make them, their names, and the one that the others are held against."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vae_jax.comparison.results import ComparedRun, Number
from vae_jax.comparison.wording import format_value
from vae_jax.errors import UserError, unknown_name
from vae_jax.sweeps import study

UNGROUPED_FIELDS = (
    *("wandb.", "parallel.", "checkpoint.", "log.", "sweep.", "evaluation."),
    *("train.dispatch", "data.path"),
)
"""Fields that decide where a run is computed and what is kept of it, and not what it is."""


def select_fields(by: tuple[str, ...], runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """`by`, or the fields that have several values among the runs that have them, the seed apart; the variant first.

    Raises UserError for the seed, and for a field that no run has.
    """
    fields = sorted({field for run in runs for field in run.config} - {"seed"})
    for field in by:
        if field == "seed":
            raise UserError("--by: 'seed' is what groups are averaged over; leave it out")
        if field not in fields:
            raise unknown_name("--by", field, fields)
    if by:
        return by
    values = {field: {_canonical_text(run.config[field]) for run in runs if field in run.config} for field in fields}
    varying = [field for field in fields if len(values[field]) > 1 and not field.startswith(UNGROUPED_FIELDS)]
    return tuple(sorted(varying, key=lambda field: (field != "variant.name", not field.startswith("variant."))))


def _canonical_text(value: Any) -> str:
    return repr(study.canonical(value))


def group_runs(
    runs: Sequence[ComparedRun], by: tuple[str, ...]
) -> tuple[list[ComparedRun], dict[str, list[ComparedRun]]]:
    """(the runs with the names of their groups, the runs of each group); groups and runs in order."""
    configs = {_sort_key(run, by): run.config for run in runs}
    fields = dict(zip(configs, distinguishing_fields(list(configs.values()), by), strict=True))
    grouped = [
        run._replace(group=group_name(run.config, fields[_sort_key(run, by)], by))
        for run in sorted(runs, key=lambda run: (_sort_key(run, by), run.seed))
    ]
    groups: dict[str, list[ComparedRun]] = {}
    for run in grouped:
        groups.setdefault(run.group, []).append(run)
    return grouped, groups


def _sort_key(run: ComparedRun, by: Sequence[str]) -> tuple[tuple[int, Number, str], ...]:
    return tuple(_value_key(run.config.get(field)) for field in by)


def _value_key(value: Any) -> tuple[int, Number, str]:
    """What is missing comes first, then numbers by size, then the others by their text."""
    if value is None:
        return (0, 0, str(value))
    if isinstance(value, (int, float)):
        return (1, value, str(value))
    return (2, 0, str(value))


def select_baseline(baseline: str | None, groups: Mapping[str, Sequence[ComparedRun]]) -> str:
    """`baseline`, or the VAE if there is a group of it, or the first group. Raises UserError for an unknown group."""
    if baseline is not None:
        if baseline not in groups:
            raise unknown_name("--baseline", baseline, groups)
        return baseline
    vaes = [name for name, runs in groups.items() if all(map(_is_vae, runs))]
    return [*vaes, *groups][0]


def _is_vae(run: ComparedRun) -> bool:
    return run.config["variant.name"] == "beta" and run.config.get("variant.beta") == 1


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
    return " ".join(words) or "all runs"


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
