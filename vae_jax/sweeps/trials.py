"""The trials of a search, in Optuna's journal in the study's folder: asked for and told a generation at a time.

Every change is made on a copy of the journal that then takes its place: a generation is asked for, or told, as a whole
or not at all, whenever the process is killed. The sampler's seed is a function of the search's and of how many trials
there are, so that the same command suggests what it would have without the kill.
"""

import contextlib
import dataclasses
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vae_jax.errors import UserError
from vae_jax.files import read_json, replacement, write_json
from vae_jax.phrases import plural
from vae_jax.sweeps import study
from vae_jax.sweeps.objectives import Objective, mean_and_error
from vae_jax.sweeps.search_settings import SearchSettings, import_optuna, make_pruner, make_sampler
from vae_jax.sweeps.space import Space

JOURNAL, SETTINGS, TRIALS = "optuna_journal.log", "search.json", "trials.json"
"""Optuna's journal; what the search is of; its trials as plain JSON. Files of a study's folder (study.STUDY_FILES)."""

FEWEST_FOR_IMPORTANCE = 8
"""Complete trials from which on it is asked which fields mattered."""

NAME = "search"
"""Of the study in the journal."""

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"
"""The states of a trial, as Optuna names them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A trial: its number, its parameters by field, and its runs, one a seed, once they are planned."""

    number: int
    params: Mapping[str, Any]
    runs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Which members of a generation its pruner drops, as training.halving.Prune: a trial with all its seeds."""

    journal: "Journal"
    trials: Sequence[Trial]

    def __call__(self, step: int, folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
        """What dropped.json says of each folder whose trial ends at `step`."""
        names = {folder.name for folder in folders}
        members = [trial for trial in self.trials if names.intersection(trial.runs)]
        verdicts = self.journal.verdicts(members, step)
        values = {run: verdicts[trial.number] for trial in members if trial.number in verdicts for run in trial.runs}
        settings = self.journal.settings
        return {
            folder: {"pruner": settings.pruner, settings.objectives[0].label: values[folder.name]}
            for folder in folders
            if folder.name in values
        }


@dataclasses.dataclass(frozen=True)
class Journal:
    """The trials of a search in the folder of its study."""

    folder: Path
    space: Space
    settings: SearchSettings
    config: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """Optuna's journal."""
        return self.folder / JOURNAL

    def open(self) -> None:
        """Begins the search, or goes on with it. Raises UserError saying how another, whose folder it is, differs."""
        for unfinished in self.folder.glob(f".*{JOURNAL}*"):  # of a change that was cut short
            unfinished.unlink()
        here = {"space": self.space.words(), **self.settings.record(), "config": dict(self.config)}
        file = self.folder / SETTINGS
        if not (there := read_json(file)):
            write_json(file, here)
        elif difference := _difference(there, here):
            raise UserError(f"--workdir: {str(self.folder)!r} holds another search: {difference}; give another folder")
        if not self.file.exists():
            with replacement(self.file) as copy:
                directions = [objective.direction for objective in self.settings.objectives]
                import_optuna().create_study(storage=_storage(copy), study_name=NAME, directions=directions)
        self.write_trials()

    def ask(self, limit: int) -> list[Trial]:
        """The trials that are to be trained next: those asked for and not told, or the next generation of `limit`."""
        if running := self.running():
            return running
        with self._change() as opened:
            count = min(self.settings.at_once, limit - len(opened.study.trials))
            for _ in range(count):
                opened.study.ask(self.space.distributions())
        self.write_trials()
        return self.running()

    def running(self) -> list[Trial]:
        """Those asked for and not told."""
        with self._scratch() as opened:
            trials = opened.study.trials
        return [Trial(trial.number, trial.params) for trial in trials if trial.state.name == RUNNING]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Tells how the runs of a generation ended."""
        with self._change() as opened:
            for rung in self.settings.rungs:
                self._report(opened, trials, rung)
            for trial in trials:
                opened.tell(trial, self._notes(trial), *self._outcome(trial))
        self.write_trials()

    def _outcome(self, trial: Trial) -> tuple[str, list[float] | None]:
        """How a trial ended, and its values where it is complete."""
        states = {study.end_state(self.folder / run, self.settings.steps) for run in trial.runs}
        if study.FAILED in states:
            return FAIL, None
        if study.DROPPED in states:
            return PRUNED, None
        values = [self._mean(objective, trial) for objective in self.settings.objectives]
        return (FAIL, None) if any(map(math.isnan, values)) else (COMPLETE, values)

    def _mean(self, objective: Objective, trial: Trial) -> float:
        return mean_and_error([objective.of_run(self.folder / run) for run in trial.runs])[0]

    def _notes(self, trial: Trial) -> dict[str, Any]:
        """What stands beside a trial: its runs, and the standard error of each value over its seeds."""
        notes: dict[str, Any] = {"runs": list(trial.runs)}
        for objective in self.settings.objectives:
            _, error = mean_and_error([objective.of_run(self.folder / run) for run in trial.runs])
            if error is not None and math.isfinite(error):
                notes[f"{objective.label}.standard_error"] = error
        return notes

    def verdicts(self, trials: Sequence[Trial], step: int) -> dict[int, float]:
        """The value at `step` of each trial that the pruner ends there, by its number, as if nothing came later."""
        with self._scratch() as opened:
            reports = [self._report(opened, trials, rung) for rung in self.settings.rungs if rung <= step]
        return reports[-1]

    def _report(self, opened: "OpenJournal", trials: Sequence[Trial], step: int) -> dict[int, float]:
        """Reports the trials' values at a step, and gives the value of each that the pruner ends there, by its number.

        A pruner keeps what it has seen of a trial in the journal.
        """
        if self.settings.pruner == "none":
            return {}
        values = {trial: self._mean_at(trial, step) for trial in trials}
        known = {trial: value for trial, value in values.items() if math.isfinite(value)}
        for trial, value in known.items():
            opened.storage.set_trial_intermediate_value(opened.trial_id(trial), step, value)
        return {trial.number: value for trial, value in known.items() if opened.prunes(trial)}

    def _mean_at(self, trial: Trial, step: int) -> float:
        (objective,) = self.settings.objectives
        return mean_and_error([objective.at_step(self.folder / run, step) for run in trial.runs])[0]

    def trials(self) -> list[dict[str, Any]]:
        """Every trial as trials.json has it."""
        with self._scratch() as opened:
            trials = opened.study.trials
        labels = [objective.label for objective in self.settings.objectives]
        return [_plain_trial(trial, labels, self.space) for trial in trials]

    def write_trials(self, importances: Mapping[str, Mapping[str, float]] = MappingProxyType({})) -> None:
        """Writes the trials as plain JSON, for whoever has no Optuna."""
        record = {
            "objectives": {objective.label: objective.direction for objective in self.settings.objectives},
            "sources": {objective.label: objective.source for objective in self.settings.objectives},
            "space": self.space.words(),
            "importances": importances,
            "trials": self.trials(),
        }
        write_json(self.folder / TRIALS, record)

    def importances(self) -> dict[str, dict[str, float]]:
        """The share of each objective's variance that each field has, over the complete trials, by Optuna's fANOVA.

        Nothing where there are too few trials, or one field alone, and of an objective that is the same for all.
        """
        optuna = import_optuna()
        evaluate = optuna.importance.get_param_importances
        with self._scratch() as opened:
            complete = [trial for trial in opened.study.trials if trial.state.name == COMPLETE]
            if len(complete) < FEWEST_FOR_IMPORTANCE or len(self.space.ranges) < 2:
                return {}
            varying = {
                i: objective.label
                for i, objective in enumerate(self.settings.objectives)
                if len({trial.values[i] for trial in complete}) > 1
            }
            return {
                label: evaluate(
                    opened.study,
                    evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                    target=lambda trial, i=i: trial.values[i],
                )
                for i, label in varying.items()
            }

    @contextlib.contextmanager
    def _change(self) -> Iterator["OpenJournal"]:
        """The study, on a copy of the journal that takes its place at the end."""
        with replacement(self.file) as copy:
            shutil.copyfile(self.file, copy)
            yield self._load(copy)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator["OpenJournal"]:
        """The study, on a copy of the journal that is thrown away."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / JOURNAL
            shutil.copyfile(self.file, copy)
            yield self._load(copy)

    def _load(self, file: Path) -> "OpenJournal":
        optuna, storage = import_optuna(), _storage(file)
        study_id = storage.get_study_id_from_name(NAME)
        count = len(storage.get_all_trials(study_id, deepcopy=False))
        seed = int(study.digest([self.settings.seed, count])[:8], 16)
        sampler, pruner = make_sampler(self.settings.sampler, seed, self.settings.at_once), make_pruner(self.settings)
        loaded = optuna.load_study(storage=storage, study_name=NAME, sampler=sampler, pruner=pruner)
        return OpenJournal(loaded, storage, study_id)


class OpenJournal(NamedTuple):
    """Optuna's study of a journal, with its storage and its id there."""

    study: Any
    storage: Any
    study_id: int

    def trial_id(self, trial: Trial) -> int:
        """The id of a trial in the storage."""
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)

    def tell(self, trial: Trial, notes: Mapping[str, Any], state: str, values: list[float] | None) -> None:
        """Tells how a trial ended, with what stands beside it."""
        for name, value in notes.items():
            self.storage.set_trial_user_attr(self.trial_id(trial), name, value)
        self.study.tell(trial.number, values, state=import_optuna().trial.TrialState[state])

    def prunes(self, trial: Trial) -> bool:
        """Whether the pruner would stop a trial at the last step that was reported of it."""
        return bool(self.study.pruner.prune(self.study, self.storage.get_trial(self.trial_id(trial))))


def _storage(file: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file)))


def _plain_trial(trial: Any, labels: Sequence[str], space: Space) -> dict[str, Any]:
    values = dict(zip(labels, trial.values or [math.nan] * len(labels), strict=True))
    errors = {label: trial.user_attrs.get(f"{label}.standard_error") for label in labels}
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": values if trial.state.name == COMPLETE else {},
        "standard_errors": {label: error for label, error in errors.items() if error is not None},
        "params": {field: _plain_param(value) for field, value in space.point(trial.params).items()},
        "intermediate": {str(step): value for step, value in trial.intermediate_values.items()},
        "runs": trial.user_attrs.get("runs", []),
    }


def _plain_param(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


SAID = {
    "objectives": "--objective",
    "rungs": "config.sweep.halving",
    "steps": "config.train.steps",
    "seeds": "its list of seeds",
}
"""What a person knows a part of search.json by; the others are flags of their names."""


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """In words, the first thing in which two searches differ; empty where there is none."""
    for name in here:
        other, own = study.canonical(there.get(name)), study.canonical(here[name])
        if other == own:
            continue
        if not (isinstance(other, dict) and isinstance(own, dict)):
            return f"{SAID.get(name, f'--{name}')} is {there.get(name)!r} there and {here[name]!r} here"
        field = next(field for field in [*other, *own] if other.get(field, ...) != own.get(field, ...))
        words = "in its space" if name == "space" else "in its config"
        values = [f"{tree[field]!r}" if field in tree else "not" for tree in (other, own)]
        return f"{field} {words} is {values[0]} there and {values[1]} here"
    return ""


def count_phrase(trials: Sequence[Mapping[str, Any]]) -> str:
    """How trials ended, in words."""
    states = [trial["state"] for trial in trials]
    words = {COMPLETE: "complete", PRUNED: "pruned", FAIL: "failed", RUNNING: "running"}
    counts = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    return f"{plural(len(trials), 'trial')}: {', '.join(counts) or 'none yet'}"
