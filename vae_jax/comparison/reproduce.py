"""The command lines that make runs again, each read back and found to give the very config of its run."""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.comparison.results import ComparedRun
from vae_jax.config import defaults
from vae_jax.config.parse import apply_overrides, flatten, parse_config
from vae_jax.errors import UserError
from vae_jax.sweeps import study

BASE = "configs/default.py"


def of_runs(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Each run's command by its name, as a shell reads it; a comment that says why where there is none."""
    plans = {folder: _plan(folder) for folder in {Path(run.folder).parent for run in runs}}
    found = {run.name: words(run, plans[Path(run.folder).parent].get(Path(run.folder).name)) for run in runs}
    return {
        name: shlex.join(["python", "-m", "experiments.train", *of])
        if of
        else f"# {name}: no command gives its config with this version of vae_jax"
        for name, of in found.items()
    }


def words(run: ComparedRun, planned: list[str] | None) -> list[str] | None:
    """The words after experiments.train that make the run again, its folder last.

    Those of its study's plan, or what its config has beside the defaults; None where neither gives its config any more.
    """
    for found in (*([planned] if planned else []), from_config(run.config)):
        with contextlib.suppress(UserError):  # a file or a field that is no more
            if _same(parse_config(found)[0], run.config):
                return [*found, f"--workdir={run.folder}"]
    return None


def from_config(config: Mapping[str, Any]) -> list[str]:
    """The words for a flat config: the names of its sections, then what differs from their defaults."""
    names = {f"{kind}.name": config[f"{kind}.name"] for kind in model.SECTIONS if f"{kind}.name" in config}
    tree = defaults.get_config()
    usual = flatten(tree)
    apply_overrides(tree, [*names.items()])
    known = study.canonical(flatten(tree))
    fields = [field for field, name in names.items() if usual[field] != name]
    fields += [field for field, value in config.items() if known.get(field, ...) != study.canonical(value)]
    return [f"--config={BASE}", *(f"--config.{field}={config[field]}" for field in fields)]


def _plan(folder: Path) -> dict[str, list[str]]:
    try:
        return {run.id: run.words for run in study.read_plan(folder)}
    except UserError:  # of no study
        return {}


def _same(config: ConfigDict, flat: Mapping[str, Any]) -> bool:
    """Whether all that a run's config has is so; a field that is newer than the run has its default."""
    found = study.canonical(flatten(config))
    return all(found.get(field, ...) == value for field, value in study.canonical(flat).items())
