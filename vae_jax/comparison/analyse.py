"""Which runs are better, by how much, and how sure that is."""

import math
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax import metrics
from vae_jax.comparison import intervals, wording
from vae_jax.comparison.load_runs import gather
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Group, Summary
from vae_jax.comparison.wording import comparable, group_name, in_nats, labelled, standing, telling
from vae_jax.errors import UserError, unknown_name
from vae_jax.metrics._directions import higher_is_better
from vae_jax.sweeps import study

SCORES = ("elbo", "distortion", "loss")
"""The score of choice is the first of these that a run has."""

ALWAYS = ("distortion", "rate", "active_units")

QUIET = ("wandb.", "parallel.", "checkpoint.", "log.", "sweep.", "evaluation.", "train.dispatch", "data.path")
"""Fields that decide where a run is computed and what is kept of it, and not what it is."""


def quoted(argv: Sequence[str]) -> str:
    """The words of a command line as a shell reads them."""
    return shlex.join(argv)


def compare_folders(
    folders: Sequence[str],
    by: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    baseline: str | None = None,
    command: str = "",
) -> Comparison:
    """The comparison of the runs in `folders`, studies or single runs; empty arguments are chosen.

    Raises UserError as `compare` does, and where one is no folder.
    """
    runs, skipped = gather([Path(folder) for folder in folders])
    return compare(",".join(map(str, folders)), command, runs, skipped, by, asked, baseline)


def compare(
    folder: str,
    command: str,
    runs: Sequence[ComparedRun],
    skipped: list[tuple[str, str]],
    by: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    baseline: str | None = None,
) -> Comparison:
    """Everything that is computed of `runs`; empty arguments are chosen as the module's docstring says.

    Raises UserError for a field, metric or group that no run has, and where none has finished.
    """
    done = [run for run in runs if run.status == study.DONE]
    if not done:
        raise UserError(f"--runs: {folder}: no run there has finished; {standing(runs, skipped)}")
    by = chosen_fields(by, runs)
    names = chosen_metrics(asked, done)
    runs, members = grouped(runs, by)
    reference = chosen_baseline(baseline, members)
    seeds = {group: {name: by_seed(of, name) for name in names} for group, of in members.items()}
    groups = [
        Group(
            group,
            {field: of[0].config[field] for field in by if field in of[0].config},
            tuple(run.name for run in of),
            sum(run.status == study.FAILED for run in of),
            {name: summary(np.array([*found.values()])) for name, found in seeds[group].items() if found},
        )
        for group, of in members.items()
    ]
    ways = {name: higher_is_better(name) for name in names}
    comparison = Comparison(
        folder=folder,
        command=command,
        by=by,
        baseline=reference,
        metrics=names,
        higher_is_better=ways,
        runs=runs,
        groups=groups,
        differences=[],
        correlation=[],
        explained={},
        skipped=skipped,
    )
    alike = comparable(comparison)
    columns = {name: np.array([run.metrics.get(name, math.nan) for run in alike]) for name in names}
    untested = () if asked else [name for name in names if ways[name] is None]
    return comparison._replace(
        differences=differences(seeds, reference, names, wording.apart(comparison), untested),
        correlation=[[intervals.rank_correlation(columns[a], columns[b]) for b in names] for a in names],
        explained={name: intervals.explained(*labelled(alike, name)) for name in names},
    )


def chosen_fields(by: tuple[str, ...], runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """`by`, or the fields that have several values among the runs that have them, the seed apart; the variant first."""
    known = sorted({field for run in runs for field in run.config} - {"seed"})
    for field in by:
        if field == "seed":
            raise UserError("--by: 'seed' is what groups are averaged over; leave it out")
        if field not in known:
            raise unknown_name("--by", field, known)
    if by:
        return by
    values = {field: {_key(run.config[field]) for run in runs if field in run.config} for field in known}
    differ = [field for field in known if len(values[field]) > 1 and not field.startswith(QUIET)]
    return tuple(sorted(differ, key=lambda field: (field != "variant.name", not field.startswith("variant."))))


def _key(value: Any) -> str:
    return repr(study.canonical(value))


def chosen_metrics(asked: tuple[str, ...], done: Sequence[ComparedRun]) -> tuple[str, ...]:
    """`asked`, or the score of choice, the parts of the ELBO, and what was evaluated by name, without details."""
    known = dict.fromkeys(name for run in done for name in run.metrics)
    for name in asked:
        if name not in known:
            raise unknown_name("--metrics", name, known)
    if asked:
        return asked
    heads = [name for name in known if not any(name.startswith(f"{other}.") for other in known)]
    evaluated = [name for name in heads if name.partition(":")[0] in metrics.names()]
    wanted = [*[name for name in SCORES if name in known][:1], *ALWAYS, *evaluated]
    return tuple(dict.fromkeys(name for name in wanted if name in known))


def grouped(runs: Sequence[ComparedRun], by: tuple[str, ...]) -> tuple[list[ComparedRun], dict[str, list[ComparedRun]]]:
    """The runs with the names of their groups, and the runs of each group; groups and runs in order."""

    def place(run):
        values = [run.config.get(field) for field in by]
        numeric = [isinstance(value, (int, float)) for value in values]
        return [
            (0 if value is None else 1 if number else 2, value if number else 0, str(value))
            for value, number in zip(values, numeric, strict=True)
        ]

    values = {str(place(run)): run.config for run in runs}
    fields = dict(zip(values, telling(list(values.values()), by), strict=True))
    named = [
        run._replace(group=group_name(run.config, fields[str(place(run))], by))
        for run in sorted(runs, key=lambda run: (place(run), run.seed))
    ]
    members: dict[str, list[ComparedRun]] = {}
    for run in named:
        members.setdefault(run.group, []).append(run)
    return named, members


def chosen_baseline(baseline: str | None, members: dict[str, list[ComparedRun]]) -> str:
    """`baseline`, or the VAE if there is a group of it, or the first group."""
    if baseline is not None:
        if baseline not in members:
            raise unknown_name("--baseline", baseline, members)
        return baseline
    vae = [
        group
        for group, runs in members.items()
        if all(run.config["variant.name"] == "beta" and run.config.get("variant.beta") == 1 for run in runs)
    ]
    return [*vae, *members][0]


def by_seed(runs: Sequence[ComparedRun], metric: str) -> dict[int, float]:
    """The finite values of a metric by seed; of several runs of a seed the mean."""
    found: dict[int, list[float]] = {}
    for run in runs:
        if math.isfinite(run.metrics.get(metric, math.nan)):
            found.setdefault(run.seed, []).append(run.metrics[metric])
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def summary(values: np.ndarray) -> Summary:
    """A group's numbers of one metric."""
    low, high = intervals.interval(values) or (None, None)
    return Summary(len(values), float(np.mean(values)), low, high, intervals.interquartile_mean(values))


def differences(
    seeds: dict[str, dict[str, dict[int, float]]],
    baseline: str,
    names: Sequence[str],
    apart: Collection[str] = (),
    untested: Collection[str] = (),
) -> list[Difference]:
    """Every group against the baseline in every metric that both have, over shared seeds: one family of comparisons.

    Of the groups `apart` nothing in nats is compared. The metrics `untested` have intervals, no p, and no part in it.
    """
    found, tested = [], []
    for name in names:
        for group in seeds:
            first, second = seeds[group][name], seeds[baseline][name]
            if group == baseline or not first or not second:
                continue
            if group in apart and in_nats(name):
                found.append(Difference(group, name, 0, math.nan, None, None, None, "not comparable", None))
                tested.append(None)
                continue
            shared = sorted(first.keys() & second.keys())
            pairs = intervals.differences(*(np.array([of[seed] for seed in shared]) for of in (first, second)))
            mean, low, high, p = intervals.paired(pairs) if shared else (math.nan, None, None, None)
            if name in untested:
                found.append(Difference(group, name, len(shared), mean, low, high, None, "not tested", None))
            else:
                found.append(Difference(group, name, len(shared), mean, low, high, p, "cannot tell", None))
            tested.append(pairs)
    places = [i for i, difference in enumerate(found) if difference.p is not None]
    corrected = intervals.holm(np.array([found[i].p for i in places]))
    told = int(np.sum(corrected <= intervals.LEVEL))
    for i, p in zip(places, corrected.tolist(), strict=True):
        if p <= intervals.LEVEL:
            found[i] = found[i]._replace(p=p, verdict=word(found[i].mean > 0, higher_is_better(found[i].metric)))
        else:  # at the level that Holm's procedure leaves to the next one to be told apart
            more = intervals.more_seeds(tested[i], intervals.LEVEL / (len(places) - told))
            found[i] = found[i]._replace(p=p, more_seeds=more)
    return found


def word(more: bool, higher: bool | None) -> str:
    """What a difference is called that has been told: better or worse, or which way where neither is better."""
    if higher is None:
        return "higher" if more else "lower"
    return "better" if more == higher else "worse"
