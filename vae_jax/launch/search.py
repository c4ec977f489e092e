"""Searches a space of configs: Optuna chooses the next points, a generation of them trains as compiled populations."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ml_collections import ConfigDict

from vae_jax.config.command_line import Overrides, command
from vae_jax.config.free_fields import decisive_fields
from vae_jax.config.parse import read_config
from vae_jax.errors import UserError
from vae_jax.files import read_json, write_text
from vae_jax.launch.generations import Place, use_devices
from vae_jax.launch.progress import incomplete, read_progress
from vae_jax.phrases import format_duration, plural, printable
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.groups import RunGroup, group_runs, plan_entries, plan_points
from vae_jax.sweeps.objectives import Objective, metric_overrides, parse_objectives
from vae_jax.sweeps.ranges import Choice
from vae_jax.sweeps.search_settings import SearchSettings, check_settings, import_optuna
from vae_jax.sweeps.space import Space, load_space
from vae_jax.sweeps.trial_records import as_written, read_trials
from vae_jax.sweeps.trials import TRIALS, Journal, Trial, count_phrase

T = TypeVar("T")

SHOWN = 8
"""Trials that are shown at the end, the best first."""

INDENT = "    "
"""Of what a line of a terminal has no room for, on the next."""

MORE_SEEDS = 8
"""With which the command at the end trains the best trial: seeds that had no part in choosing it."""

TRIAL_FILE = "trial.py"

TRIAL_CONFIG = '''"""A trial of this search by its number, with seeds that had no part in choosing it.

Command    vae-jax sweep --config={file}:{number} --workdir={workdir}
"""

from vae_jax.launch.search import trial_config
from vae_jax.sweeps.algebra import grid


def get_config(number: str = "{number}"):
    """The config of a trial."""
    return trial_config(__file__, number)


def sweep():
    """More seeds."""
    return grid(seed=range({first}, {last}))
'''


class SearchRequest(NamedTuple):
    """A search as it is asked for: see `vae-jax search --help`."""

    trials: int
    at_once: int
    objective: Sequence[str]
    sampler: str
    pruner: str | None
    seeds: int
    seed: int


def run_search(
    file: str, overrides: Overrides, folder: Path, request: SearchRequest, place: Place, resume_command: str
) -> int:
    """Searches the space of a config's file in `folder`; the exit status.

    Args:
        file: the config NAME|FILE.py[:ARGUMENT], which has search().
        overrides: fields of every run.
        folder: the study's.
        request: how many trials, by what.
        place: where a generation trains.
        resume_command: what a person types to go on with it.

    Raises:
        UserError: naming what is wrong.
    """
    import_optuna()
    use_devices()
    config, space = load_space(file, overrides)
    settings = make_settings(config, space, request, place)
    overrides = [*overrides, *metric_overrides(settings.objectives, config)]
    if settings.pruner == "none" and config.sweep.halving:
        overrides = [*overrides, ("sweep.halving", "()")]  # which would drop half of a program's runs in its place
    base = {field: value for field, value in decisive_fields(config.to_dict()).items() if field not in space.ranges}
    journal = Journal(folder, space, settings, base)
    with place.lock(folder):
        journal.open()
        search = Search(file, overrides, journal, request.trials, place)
        print(wrap_text(search.header()), flush=True)
        status = search.run()
        print("\n".join(search.summary(status, resume_command)), flush=True)
    return status or int(not best_trials(folder))


def make_settings(config: ConfigDict, space: Space, request: SearchRequest, place: Place) -> SearchSettings:
    """What decides a search's suggestions. Raises UserError where its parts do not go together."""
    if not config.data.get("validation", True):
        raise UserError(
            "config.data.validation: 0 leaves no validation split, by which a search goes; give a fraction or a count"
        )
    objectives = parse_objectives(request.objective, config, list(space.ranges))
    rungs = tuple(step for step in config.sweep.halving if step < config.train.steps)
    can_prune = rungs and place.prunes and len(objectives) == 1 and not objectives[0].is_metric
    settings = SearchSettings(
        objectives=objectives,
        sampler=request.sampler,
        pruner=request.pruner or ("median" if can_prune else "none"),
        rungs=rungs,
        steps=config.train.steps,
        at_once=request.at_once,
        seeds=tuple(range(config.seed, config.seed + request.seeds)),
        seed=request.seed,
    )
    check_settings(settings, [field for field, values in space.ranges.items() if isinstance(values, Choice)])
    if settings.pruner != "none" and not place.prunes:
        raise UserError(f"--pruner: {settings.pruner!r} does not work on {place.name}; give none")
    return settings


@dataclasses.dataclass(frozen=True)
class Search:
    """A search in its folder; `optimizer_seconds` are those that each asking and telling took since `start`."""

    file: str
    overrides: Overrides
    journal: Journal
    limit: int
    place: Place
    optimizer_seconds: list[float] = dataclasses.field(default_factory=list)
    start: float = dataclasses.field(default_factory=time.monotonic)

    def header(self) -> str:
        """What is about to be done."""
        settings, space = self.journal.settings, self.journal.space
        fields = ", ".join(f"{field} in {words}" for field, words in space.words().items())
        each = f" of {plural(len(settings.seeds), 'seed')} each" if len(settings.seeds) > 1 else ""
        steps = ", ".join(map(str, settings.rungs))
        pruner = f", pruned by {settings.pruner} at steps {steps}" if settings.pruner != "none" else ""
        lines = [
            f"{plural(self.limit, 'trial')}{each}, {settings.at_once} at once, by {settings.sampler}{pruner}, for "
            f"{goals(settings.objectives)}; in {self.journal.folder}; on {self.place.name}",
            f"space: {fields}",
        ]
        return "\n".join([*lines, *filter(None, [space.cost()])])

    def run(self) -> int:
        """Trains generation after generation; the exit status."""
        while trials := self._timed(lambda: self.journal.ask(self.limit)):
            status = self._train(trials)
            if status:
                return status
            self._print_best(f"trials {trials[0].number} to {trials[-1].number} of {self.limit}")
        return 0

    def _timed(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        result = call()
        self.optimizer_seconds.append(time.monotonic() - began)
        return result

    def _train(self, trials: Sequence[Trial]) -> int:
        """Trains a generation and tells how it ended; the exit status where something is left to do."""
        folder, seeds = self.journal.folder, self.journal.settings.seeds
        points = [self.journal.space.point(trial.params) | {"seed": seed} for trial in trials for seed in seeds]
        runs = plan_points(self.file, self.overrides, points, folder)
        shares = [runs[i : i + len(seeds)] for i in range(0, len(runs), len(seeds))]
        trials = [
            dataclasses.replace(trial, runs=tuple(run.id for run in share))
            for trial, share in zip(trials, shares, strict=True)
        ]
        groups = group_runs(list({run.id: run for run in runs}.values()))
        status = self._train_groups(groups, trials)
        if status:
            return status
        self._timed(lambda: self.journal.tell(trials))
        return 0

    def _train_groups(self, groups: Sequence[RunGroup], trials: Sequence[Trial]) -> int:
        folder = self.journal.folder
        progress = read_progress(plan_entries(groups), folder)
        study.write_plan(folder, [run for group in progress for run in group.runs], queued=_programs(folder))
        status = self.place.train(progress, trials, self.journal)
        for group in progress:
            group.update(folder)
        return status or int(bool(incomplete(progress)))

    def _print_best(self, what: str) -> None:
        best, line = best_trials(self.journal.folder), ""
        if best and len(self.journal.settings.objectives) == 1:
            line = f"; the best is {trial_line(best[0])}"
        elif best:
            line = f"; {len(best)} in the Pareto set"
        print(wrap_text(f"{what} have ended. {count_phrase(self.journal.trials())}{line}"), flush=True)

    def summary(self, status: int, resume_command: str) -> list[str]:
        """What the search found, and how to go on."""
        journal, seconds = self.journal, time.monotonic() - self.start
        importances = journal.importances()
        journal.write_trials(importances)
        lines = [
            f"{count_phrase(journal.trials())}; in {journal.folder}; {format_duration(seconds)}, of which the sampler "
            f"took {sum(self.optimizer_seconds):.1f} s",
            *_best_lines(journal),
        ]
        lines += [f"what {label} varies with (fANOVA): {_shares(shares)}" for label, shares in importances.items()]
        lines = [wrap_text(line, INDENT) for line in lines]
        return [*lines, *([f"to go on: {resume_command}"] if status else _next_lines(journal))]


def goals(objectives: Sequence[Objective]) -> str:
    """What a search goes by, in words: "elbo:max of the validation split (nats per image, higher is better)"."""
    return " and ".join(f"{objective} of {objective.source} ({objective.reading})" for objective in objectives)


def _best_lines(journal: Journal) -> list[str]:
    """The best trials, or the Pareto set, a line each."""
    best, objectives = best_trials(journal.folder), journal.settings.objectives
    if not best:
        return []
    title = "the best" if len(objectives) == 1 else "the Pareto set (none is better in all)"
    lines = [f"{title}, by {goals(objectives)}:", *(f"  {trial_line(trial)}" for trial in best[:SHOWN])]
    return [*lines, f"  and {len(best) - SHOWN} more, in {journal.folder / TRIALS}"] if len(best) > SHOWN else lines


def _next_lines(journal: Journal) -> list[str]:
    """The commands that follow a search which has ended."""
    lines = ["all runs, with pictures of the search:", f"  {command('compare', [f'--runs={journal.folder}'])}"]
    best = best_trials(journal.folder)
    if not best:
        return lines
    number, folder = best[0]["number"], journal.folder if journal.folder.name else journal.folder.resolve()
    workdir = folder.with_name(f"{folder.name}_trial{number}")
    words = [f"--config={write_trial_file(journal, number, workdir)}:{number}", f"--workdir={workdir}"]
    title = f"trial {number} again, with {plural(MORE_SEEDS, 'seed')} that had no part in its choice:"
    return [title, f"  {command('sweep', words)}", *lines]


def _shares(importances: Mapping[str, float]) -> str:
    """The share of each field, the largest first."""
    ordered = sorted(importances.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{field} {share:.0%}" for field, share in ordered)


def _programs(folder: Path) -> set[str]:
    """The programs of the plan, all of which stay there."""
    return {entry.program for entry in study.read_plan(folder)} if study.has_plan(folder) else set()


def best_trials(folder: Path) -> list[Mapping[str, Any]]:
    """The complete trials of the search in a folder, the best first; of several objectives the Pareto set alone.

    Of trials of one and the same runs the first.
    """
    trials = read_trials(folder)
    return [] if trials is None else trials.best()


def trial_line(trial: Mapping[str, Any]) -> str:
    """A trial in a line: its values, and what it set."""
    errors = trial["standard_errors"]
    values = ", ".join(
        f"{label} {value:.5g}" + (f" ± {errors[label]:.2g}" if label in errors else "")
        for label, value in trial["values"].items()
    )
    params = ", ".join(f"{field}={as_written(value)}" for field, value in trial["params"].items())
    return printable(f"trial {trial['number']}  {values}  {params}")


def write_trial_file(journal: Journal, number: int, workdir: Path) -> Path:
    """Writes the config of the trials into the study's folder: the file."""
    file, first = journal.folder / TRIAL_FILE, max(journal.settings.seeds) + 1
    text = TRIAL_CONFIG.format(file=file, number=number, workdir=workdir, first=first, last=first + MORE_SEEDS)
    write_text(file, text)
    return file


def trial_config(file: str, number: str) -> ConfigDict:
    """The config of a trial of the search in whose folder `file` lies. Raises UserError where there is none."""
    folder = Path(file).parent
    trials = {str(trial["number"]): trial for trial in read_json(folder / TRIALS).get("trials", ())}
    if number not in trials or not trials[number]["runs"]:
        raise UserError(f"--config: the search in {str(folder)!r} has no trial {number!r}; it has {len(trials)}")
    config = read_config(str(folder / trials[number]["runs"][0] / "config.json"))
    config.sweep.halving = ()  # these seeds are to be compared, not to be dropped
    return config
