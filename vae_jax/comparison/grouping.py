"""The groups of a comparison, and the one that the others are held against."""

from collections.abc import Mapping, Sequence

from vae_jax.comparison.results import ComparedRun
from vae_jax.errors import unknown_name
from vae_jax.sweeps.group_names import group_names, sort_key


def group_runs(
    runs: Sequence[ComparedRun], by: tuple[str, ...]
) -> tuple[list[ComparedRun], dict[str, list[ComparedRun]]]:
    """(the runs with the names of their groups, the runs of each group); groups and runs in order."""
    configs = {sort_key(run.config, by): run.config for run in runs}
    names = dict(zip(configs, group_names(list(configs.values()), by), strict=True))
    grouped = [
        run._replace(group=names[sort_key(run.config, by)])
        for run in sorted(runs, key=lambda run: (sort_key(run.config, by), run.seed))
    ]
    groups: dict[str, list[ComparedRun]] = {}
    for run in grouped:
        groups.setdefault(run.group, []).append(run)
    return grouped, groups


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
