"""The command lines that make runs again, each read back and found to give the very config of its run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax import model
from vae_jax.comparison.load_runs import START_FIELD
from vae_jax.comparison.results import ComparedRun
from vae_jax.config import defaults
from vae_jax.config.command_line import command
from vae_jax.config.parse import apply_overrides, flatten, parse_config
from vae_jax.errors import UserError
from vae_jax.phrases import printable
from vae_jax.sweeps import study

BASE = "default"
"""The packaged config that holds every field's default."""


def training_commands(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Each run's command by its name, as a shell reads it; a comment that says why where there is none."""
    plans = {folder: _planned_words(folder) for folder in {Path(run.folder).parent for run in runs}}
    commands = {}
    for run in runs:
        folder = Path(run.folder)
        words = training_words(run, plans[folder.parent].get(folder.name))
        if words is None:
            commands[run.name] = f"# {printable(run.name)}: no command gives its config with this version of vae_jax"
        else:
            commands[run.name] = command("train", words)
    return commands


def training_words(run: ComparedRun, planned: Sequence[str] | None = None) -> list[str] | None:
    """The words after `vae-jax train` that make the run again, its folder last.

    Those of its study's plan, or what its config has beside the defaults; None where neither gives its config any more.
    """
    config = {field: value for field, value in run.config.items() if field != START_FIELD}
    start = str(run.config.get(START_FIELD, "")).rpartition(" ")[0]
    for words in _candidates(config, planned):
        if _gives(words, config):
            return [*words, *([f"--from={start}"] if start else []), f"--workdir={run.folder}"]
    return None


def _candidates(config: Mapping[str, Any], planned: Sequence[str] | None) -> Iterator[Sequence[str]]:
    if planned:
        yield planned
    try:
        yield words_of_config(config)
    except (ValueError, TypeError):  # a variant, network or dataset that is no more, or is something else
        return


def words_of_config(config: Mapping[str, Any]) -> list[str]:
    """The words for a flat config: the names of its sections, then what differs from their defaults.

    Raises UserError for a name that is unknown.
    """
    names = {f"{kind}.name": config[f"{kind}.name"] for kind in model.SECTIONS if f"{kind}.name" in config}
    tree = defaults.get_config()
    base = flatten(tree)
    apply_overrides(tree, [*names.items()])
    values = study.canonical(flatten(tree))
    fields = [field for field, name in names.items() if base[field] != name]
    fields += [field for field, value in config.items() if values.get(field, ...) != study.canonical(value)]
    return [f"--config={BASE}", *(f"--config.{field}={config[field]}" for field in fields)]


def _planned_words(folder: Path) -> dict[str, list[str]]:
    try:
        return {run.id: run.words for run in study.read_plan(folder)}
    except UserError:  # of no study
        return {}


def _gives(words: Sequence[str], config: Mapping[str, Any]) -> bool:
    """Whether the words give all that a run's flat config has; a field that is newer than the run has its default."""
    try:
        values = study.canonical(flatten(parse_config(words)))
    except (ValueError, TypeError):  # a file or a field that is no more, or is something else
        return False
    return all(values.get(field, ...) == value for field, value in study.canonical(config).items())
