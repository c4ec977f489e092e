"""What decides the suggestions of a search: its objectives, its sampler and its pruner, of Optuna's."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from vae_jax.errors import UserError
from vae_jax.sweeps.objectives import Objective

SAMPLERS = ("tpe", "random", "cmaes", "gp", "nsga2")
PRUNERS = ("none", "median", "hyperband", "wilcoxon")

FEWEST_FOR_WILCOXON = 4
"""Pairs from which on the one-sided test can have a p below 0.1: it is at least 2^-n."""


class SearchSettings(NamedTuple):
    """What decides the suggestions of a search.

    Attributes:
        objectives: what a trial is scored by; of several there is no best one, but a Pareto set.
        sampler: of SAMPLERS.
        pruner: of PRUNERS.
        rungs: steps at which it prunes.
        steps: of a whole run.
        at_once: trials in a generation.
        seeds: of each trial, which is scored by their mean.
        seed: of the sampler.
    """

    objectives: tuple[Objective, ...]
    sampler: str
    pruner: str
    rungs: tuple[int, ...]
    steps: int
    at_once: int
    seeds: tuple[int, ...]
    seed: int

    def record(self) -> dict[str, Any]:
        """As search.json has it."""
        return self._asdict() | {"objectives": list(map(str, self.objectives))}


def import_optuna() -> Any:
    """Optuna, without what it prints by itself. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError:
        command = "pip install -c constraints.txt -e '.[search]'"
        raise UserError(f"vae-jax search needs optuna, which the extra 'search' brings: {command}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


NEEDED = {"cmaes": ("cmaes", "the extra 'search' brings it"), "gp": ("torch", "pip install torch")}
"""What a sampler needs beside Optuna, and where that comes from."""


def check_sampler(name: str) -> None:
    """Raises UserError where what a sampler needs is not installed."""
    module, remedy = NEEDED.get(name, ("optuna", ""))
    if find_spec(module) is None:
        others = [other for other in SAMPLERS if other not in NEEDED]
        raise UserError(f"--sampler: {name!r} needs {module} ({remedy}); or give one of {', '.join(others)}")


def make_sampler(name: str, seed: int, at_once: int) -> Any:
    """Optuna's sampler."""
    samplers = import_optuna().samplers
    if name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, popsize=max(2, at_once), warn_independent_sampling=False)
    if name == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=max(2, at_once))
    makers = {"tpe": samplers.TPESampler, "random": samplers.RandomSampler, "gp": samplers.GPSampler}
    return makers[name](seed=seed)


def make_pruner(settings: SearchSettings) -> Any:
    """Optuna's pruner of a search."""
    pruners, rungs = import_optuna().pruners, settings.rungs
    if settings.pruner == "median":
        return pruners.MedianPruner()
    if settings.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=rungs[0], max_resource=settings.steps)
    return pruners.WilcoxonPruner() if settings.pruner == "wilcoxon" else pruners.NopPruner()


def check_settings(settings: SearchSettings, choices: Sequence[str]) -> None:
    """Raises UserError where sampler, pruner, objectives and space do not go together, and where a sampler is not here.

    `choices` are the fields of the space that are chosen from options.
    """
    check_sampler(settings.sampler)
    several, pruner = len(settings.objectives) > 1, settings.pruner
    if several and settings.sampler == "cmaes":
        raise UserError(f"--sampler: 'cmaes' takes one objective, and there are {len(settings.objectives)}; give tpe")
    if choices and settings.sampler == "cmaes":
        raise UserError(f"--sampler: 'cmaes' takes numbers alone, and {choices[0]} is chosen from options; give tpe")
    if pruner == "none":
        return
    if not settings.rungs:
        raise UserError(
            f"--pruner: {pruner!r} prunes at the steps of config.sweep.halving, which is empty; give some, as in "
            "--config.sweep.halving=1000,3000"
        )
    if pruner == "wilcoxon" and len(settings.rungs) < FEWEST_FOR_WILCOXON:
        raise UserError(
            f"--pruner: 'wilcoxon' tests at a level of 0.1, which fewer than {FEWEST_FOR_WILCOXON} steps never reach; "
            f"give as many in config.sweep.halving, which has {len(settings.rungs)}, or median"
        )
    if several:
        raise UserError(
            f"--pruner: {pruner!r} takes one objective, and there are {len(settings.objectives)}; give none"
        )
    if settings.objectives[0].is_metric:
        raise UserError(
            f"--pruner: {pruner!r} needs --objective at earlier steps, and {settings.objectives[0].label!r} is "
            "computed only after the last one; give none"
        )
