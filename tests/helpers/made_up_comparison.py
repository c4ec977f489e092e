"""Comparisons made up for tests, with a report of them."""

import math

from vae_jax.comparison.comparability import run_kinds
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Group, Summary
from vae_jax.report import study_page

EVIL = "<script>document.title = 'attacked'</script>"
QUOTES = "\"' onmouseover='document.title=1' </script><img src=x onerror=\"document.title='attacked'\"> & {{x}} \u2028"

SHARES = {"variant": 0.25, "strength": 0.5, "seed": 0.125, "rest": 0.125}


def summary(values):
    mean = sum(values) / len(values)
    interval = (mean - 0.5, mean + 0.5) if len(values) > 1 else (None, None)
    return Summary(len(values), mean, *interval, mean)


def make_comparison(
    betas=(1.0, 4.0), seeds=4, autoencoder=True, evil="", folder="runs/study", metrics=("elbo", "distortion")
):
    """A comparison of betas and, it may be, an autoencoder; `evil` stands wherever a user's text may."""
    variants = [("beta", beta) for beta in betas] + ([("autoencoder", None)] if autoencoder else [])
    members = [[make_run(*variant, seed, evil, folder) for seed in range(seeds)] for variant in variants]
    groups = [make_group(runs, metrics) for runs in members]
    runs = [run for group in members for run in group]
    differences = [
        Difference(group.name, "elbo", seeds, -2.25, -3.5, -1.125, 0.0123, "worse", None)
        for group in groups[1:]
        if "elbo" in group.summaries
    ]
    varying = [metric for metric in metrics if sum(metric in run.metrics for run in runs) > 1]
    return Comparison(
        folder=folder + evil,
        command=f"vae-jax compare --runs={folder}{evil}",
        by=("variant.name", "variant.beta"),
        baseline=groups[0].name,
        metrics=tuple(metrics),
        higher_is_better={"elbo": True, "distortion": False, "rate": None, "loss": False},
        runs=runs,
        groups=groups,
        differences=differences,
        correlation=[[1.0 if a == b else math.nan for b in metrics] for a in metrics],
        variance_shares={m: SHARES if m in varying else dict.fromkeys(SHARES, math.nan) for m in metrics},
        skipped=[("foreign", "has no config.json")],
    )


def make_run(variant, beta, seed, evil, folder):
    metrics = {"distortion": 16.0 + (beta or -12.0) + 0.1 * seed, "loss": 20.0 + seed}
    if beta is not None:
        metrics |= {"rate": 6.0 / (beta or 0.5) + 0.01 * seed}
        metrics |= {"elbo": -metrics["distortion"] - metrics["rate"]}
    name = f"{variant}_{beta}_s{seed}{evil}"
    values = {"variant.name": variant} | ({} if beta is None else {"variant.beta": beta})
    return ComparedRun(
        name=name,
        folder=f"{folder}/{name}",
        group=f"{variant}{'' if beta is None else f' beta={beta:g}'}{evil}",
        seed=seed,
        config={**values, "seed": seed, "train.steps": 100 if beta is None else 200},
        metrics=metrics,
        status="done",
        error="",
        environment={"jax": "0.10.2", "git": f"abc{evil}"},
        steps_per_second=35.5,
    )


def make_group(runs, metrics):
    values = {field: value for field, value in runs[0].config.items() if field.startswith("variant.")}
    numbers = {metric: [run.metrics[metric] for run in runs if metric in run.metrics] for metric in metrics}
    summaries = {metric: summary(values) for metric, values in numbers.items() if values}
    return Group(runs[0].group, values, tuple(run.name for run in runs), 0, summaries, run_kinds(runs))


def with_failures(comparison):
    """The same with a run that failed, one that was dropped, a NaN and a metric that is missing."""
    first, second, third, fourth, *others = comparison.runs
    runs = [
        first._replace(status="failed", error=f"step 7: loss not finite {EVIL}", metrics={}),
        second._replace(status="dropped", error="4th of 8 at step 500", metrics={}),
        third._replace(metrics={**third.metrics, "elbo": math.nan}),
        fourth._replace(metrics={"elbo": -math.inf}, steps_per_second=None),
        *others,
    ]
    return comparison._replace(runs=runs)


def write_report(folder, comparison, explorers=()):
    file = folder / "report.html"
    study_page.write(file, comparison, explorers)
    return file
