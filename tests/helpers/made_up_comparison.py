"""Comparisons made up for tests, with a report of them."""

import math

from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Group, Summary
from vae_jax.report import study_page

EVIL = "<script>document.title = 'attacked'</script>"
QUOTES = "\"' onmouseover='document.title=1' </script><img src=x onerror=\"document.title='attacked'\"> & {{x}} \u2028"

SHARES = {"variant": 0.25, "strength": 0.5, "seed": 0.125, "rest": 0.125}


def summary(values):
    mean = sum(values) / len(values)
    sure = (mean - 0.5, mean + 0.5) if len(values) > 1 else (None, None)
    return Summary(len(values), mean, *sure, mean)


def made_up(betas=(1.0, 4.0), seeds=4, autoencoder=True, evil="", folder="runs/study", metrics=("elbo", "distortion")):
    """A comparison of betas and, it may be, an autoencoder; `evil` stands wherever a user's text may."""
    runs, groups = [], []
    variants = [("beta", beta) for beta in betas] + [("autoencoder", None)] * autoencoder
    for variant, beta in variants:
        group = f"{variant}{'' if beta is None else f' beta={beta:g}'}{evil}"
        values = {"variant.name": variant} | ({} if beta is None else {"variant.beta": beta})
        own = []
        for seed in range(seeds):
            found = {"distortion": 16.0 + (beta or -12.0) + 0.1 * seed, "loss": 20.0 + seed}
            if beta is not None:
                found |= {"rate": 6.0 / (beta or 0.5) + 0.01 * seed}
                found |= {"elbo": -found["distortion"] - found["rate"]}
            name = f"{variant}_{beta}_s{seed}{evil}"
            config = {**values, "seed": seed, "train.steps": 100 if beta is None else 200}
            environment = {"jax": "0.10.2", "git": f"abc{evil}"}
            own.append(ComparedRun(name, f"{folder}/{name}", group, seed, config, found, "done", "", environment, 35.5))
        known = {m: [run.metrics[m] for run in own if m in run.metrics] for m in metrics}
        summaries = {m: summary(some) for m, some in known.items() if some}
        groups.append(Group(group, values, tuple(run.name for run in own), 0, summaries))
        runs += own
    differences = [
        Difference(group.name, "elbo", seeds, -2.25, -3.5, -1.125, 0.0123, "worse", None)
        for group in groups[1:]
        if "elbo" in group.summaries
    ]
    varying = [m for m in metrics if sum(m in run.metrics for run in runs) > 1]
    return Comparison(
        folder=folder + evil,
        command=f"python -m experiments.compare --runs={folder}{evil}",
        by=("variant.name", "variant.beta"),
        baseline=groups[0].name,
        metrics=tuple(metrics),
        higher_is_better={"elbo": True, "distortion": False, "rate": None},
        runs=runs,
        groups=groups,
        differences=differences,
        correlation=[[1.0 if a == b else math.nan for b in metrics] for a in metrics],
        explained={m: SHARES if m in varying else dict.fromkeys(SHARES, math.nan) for m in metrics},
        skipped=[("foreign", "has no config.json")],
    )


def broken(comparison):
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


def written(folder, comparison, *rest):
    file = folder / "report.html"
    study_page.write(file, comparison, *rest)
    return file
