"""Which runs are better, by how much, and how sure that is.

    python -m experiments.compare --runs=runs/study [--by=variant.name,variant.beta] [--metrics=elbo,mig]
                                  [--baseline=GROUP] [--out=FOLDER] [--wandb]

--runs is a folder of runs (a study's, or any that holds some), or several with commas between. Runs that agree in the
fields of --by are a group, and its seeds are averaged over; by default the fields are those in which the runs differ.
The first of --metrics is the score of choice. Into --out (runs/study/comparison) go runs.csv and runs.parquet, every
run with its config, metrics, speed and versions; rate_distortion and score, pictures as .png and .svg; and report.html.

A group against the baseline is a paired t test over the seeds that both have, corrected for the number of comparisons:
name fewer metrics and each needs fewer seeds. Metrics of which neither way is better (rate, active units, your own) are
tested only where --metrics names them, and are then higher or lower. docs/comparing.md says how often this is wrong
where nothing differs, and how many seeds it takes to tell. --wandb sends table and report to the study's group.
"""

import math
import os
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import compare_text, settings, statistics
from experiments.compare_figures import draw
from experiments.compare_table import write_csv, write_parquet
from experiments.comparison import ComparedRun, Comparison, Difference, Group, Summary
from experiments.directions import higher_is_better
from experiments.gather import gather
from launch import study
from vae_jax import metrics, writers
from vae_jax.registry import UserError, unknown

SCORES = ("elbo", "distortion", "loss")
"""The score of choice is the first of these that a run has."""

ALWAYS = ("distortion", "rate", "active_units")

QUIET = ("wandb.", "parallel.", "checkpoint.", "log.", "sweep.", "evaluation.", "train.dispatch", "data.path")
"""Fields that decide where a run is computed and what is kept of it, and not what it is."""


def main(argv: list[str]) -> int:
    """Compares the runs that the command line names; the exit status."""
    own, overrides = settings.Arguments(("runs", "by", "metrics", "baseline", "out"), ("wandb",)).parse(argv)
    if overrides or "runs" not in own:
        raise UserError("--runs: give the folder of a study, or of runs; configs are those of the runs")
    roots = [Path(root) for root in _words(own, "runs")]
    runs, skipped = gather(roots)
    command = shlex.join([settings.interpreter(), "-m", "experiments.compare", *argv])
    by, asked = _words(own, "by"), _words(own, "metrics")
    comparison = compare(own["runs"], command, runs, skipped, by, asked, own.get("baseline"))
    print("\n".join(compare_text.lines(comparison)) + "\n", flush=True)
    out = Path(own.get("out", roots[0] / "comparison"))
    files = write(out, comparison)
    if own.get("wandb") == "true":
        publish(out, comparison, files)
    print(f"{out}: {', '.join(file.name for file in files)}")
    return 0


def _words(own: dict[str, str], flag: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in own.get(flag, "").split(",") if word))


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
        raise UserError(f"--runs: {folder}: no run there has finished; {compare_text.standing(runs, skipped)}")
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
    alike = compare_text.comparable(comparison)
    columns = {name: np.array([run.metrics.get(name, math.nan) for run in alike]) for name in names}
    untested = () if asked else [name for name in names if ways[name] is None]
    return comparison._replace(
        differences=differences(seeds, reference, names, compare_text.apart(comparison), untested),
        correlation=[[statistics.rank_correlation(columns[a], columns[b]) for b in names] for a in names],
        explained={name: statistics.explained(*compare_text.labelled(alike, name)) for name in names},
    )


def chosen_fields(by: tuple[str, ...], runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """`by`, or the fields that have several values among the runs that have them, the seed apart; the variant first."""
    known = sorted({field for run in runs for field in run.config} - {"seed"})
    for field in by:
        if field == "seed":
            raise UserError("--by: 'seed' is what groups are averaged over; leave it out")
        if field not in known:
            raise unknown("--by", field, known)
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
            raise unknown("--metrics", name, known)
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
    fields = dict(zip(values, compare_text.telling(list(values.values()), by), strict=True))
    named = [
        run._replace(group=compare_text.group_name(run.config, fields[str(place(run))], by))
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
            raise unknown("--baseline", baseline, members)
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
    low, high = statistics.interval(values) or (None, None)
    return Summary(len(values), float(np.mean(values)), low, high, statistics.interquartile_mean(values))


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
            if group in apart and compare_text.in_nats(name):
                found.append(Difference(group, name, 0, math.nan, None, None, None, "not comparable", None))
                tested.append(None)
                continue
            shared = sorted(first.keys() & second.keys())
            pairs = statistics.differences(*(np.array([of[seed] for seed in shared]) for of in (first, second)))
            mean, low, high, p = statistics.paired(pairs) if shared else (math.nan, None, None, None)
            if name in untested:
                found.append(Difference(group, name, len(shared), mean, low, high, None, "not tested", None))
            else:
                found.append(Difference(group, name, len(shared), mean, low, high, p, "cannot tell", None))
            tested.append(pairs)
    places = [i for i, difference in enumerate(found) if difference.p is not None]
    corrected = statistics.holm(np.array([found[i].p for i in places]))
    told = int(np.sum(corrected <= statistics.LEVEL))
    for i, p in zip(places, corrected.tolist(), strict=True):
        if p <= statistics.LEVEL:
            found[i] = found[i]._replace(p=p, verdict=word(found[i].mean > 0, higher_is_better(found[i].metric)))
        else:  # at the level that Holm's procedure leaves to the next one to be told apart
            more = statistics.more_seeds(tested[i], statistics.LEVEL / (len(places) - told))
            found[i] = found[i]._replace(p=p, more_seeds=more)
    return found


def word(more: bool, higher: bool | None) -> str:
    """What a difference is called that has been told: better or worse, or which way where neither is better."""
    if higher is None:
        return "higher" if more else "lower"
    return "better" if more == higher else "worse"


def write(out: Path, comparison: Comparison) -> list[Path]:
    """Tables, figures and the report into the folder `out`, as far as what they need is installed; their files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be a folder ({error.strerror}); give another") from None
    files = draw(comparison, out)
    for name, make in FILES.items():
        try:
            make(out / name, comparison)
            files.append(out / name)
        except UserError as problem:
            print(f"left out: {problem}")
    return files


def _report(file: Path, comparison: Comparison) -> None:
    from experiments import explore, report

    best = report.best_runs(comparison)
    # The baseline's best run and the best of another group, side by side.
    chosen = [pair for pair in best if pair[0].name == comparison.baseline][:1]
    # No slider moves anything of a decoder that ignores its code.
    lively = [pair for pair in _by_score(comparison, best) if pair[1].metrics.get("active_units") != 0]
    chosen += [pair for pair in lively if pair not in chosen][:1]
    explorers = []
    for group, run in chosen:
        try:
            explorers.append(explore.of_folder(Path(run.folder), group.name))
        except UserError as problem:  # a copied study may lack checkpoints or data
            print(f"left out: the latent explorer of {group.name}: {problem}")
    report.write(file, comparison, explorers)


def _by_score(comparison: Comparison, best: list[tuple[Group, ComparedRun]]) -> list[tuple[Group, ComparedRun]]:
    score = comparison.metrics[0]
    sign = compare_text.sign(comparison, score)
    other = compare_text.apart(comparison) if compare_text.in_nats(score) else ()
    known = lambda group: score in group.summaries and group.name not in other  # noqa: E731
    mean = lambda group: sign * group.summaries[score].mean if known(group) else -math.inf  # noqa: E731
    return sorted(best, key=lambda pair: -mean(pair[0]) if math.isfinite(mean(pair[0])) else math.inf)


FILES = {
    "runs.csv": lambda file, comparison: write_csv(file, comparison.runs),
    "runs.parquet": lambda file, comparison: write_parquet(file, comparison.runs),
    "report.html": _report,
}
"""What makes each file of a comparison, or raises UserError where something for it is not installed."""


def publish(out: Path, comparison: Comparison, files: Sequence[Path]) -> None:
    """Sends the table of groups and the report to W&B, in the group of the runs."""
    config = comparison.runs[0].config
    folder = Path(comparison.folder.split(",")[0]).resolve()
    own = {name: config.get(f"wandb.{name}", "") for name in ("mode", "project", "entity", "group")}
    own["mode"] = "online" if own["mode"] in ("", "disabled") else own["mode"]
    own["group"] = own["group"] or os.environ.get("WANDB_RUN_GROUP", folder.name)
    to = writers.WandbMirror(
        out,
        {**own, "name": f"comparison of {folder.name}", "tags": ("comparison",), "artifact": False},
        {"command": comparison.command, "by": list(comparison.by), "baseline": comparison.baseline},
    )
    to.table("comparison", *compare_text.flat(comparison))
    if out / "report.html" in files:
        to.page(out / "report.html")
    to.close()


if __name__ == "__main__":
    settings.start(main, __doc__)
