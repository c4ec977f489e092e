"""Trains the trials of a W&B sweep many at once: those that share a program are one population, each its own run."""

import dataclasses
import functools
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ml_collections import ConfigDict

from vae_jax.config.command_line import Overrides
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.files import read_json, write_json, write_text
from vae_jax.launch import machine, wandb_agent
from vae_jax.launch.live_table import Table
from vae_jax.launch.local import Scheduler, Worker
from vae_jax.launch.progress import GroupProgress, incomplete, read_progress, report_end, start_line
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.launch.stopping import StopSignals, catch_stop_signals
from vae_jax.launch.wandb_agent import MAX_FAILURES, read_point, trial_file
from vae_jax.launch.wandb_heartbeats import Offer, SweepAgents, SweepPath, read_sweep_path
from vae_jax.phrases import plural
from vae_jax.sweeps import study
from vae_jax.sweeps.groups import group_runs, plan_runs
from vae_jax.sweeps.study import DONE, FAILED, PlanEntry
from vae_jax.training import writers

PATIENCE = 30.0
"""Seconds without another trial after which those that are there train: W&B gives fewer near the end of a sweep."""

POLL_SECONDS = 0.1
"""Seconds between looks at the signals while trials are waited for."""

BEGUN, STOPPED = "begun", "stopped"
"""Of a trial that has not ended, and of one that W&B has stopped."""


class Trial(NamedTuple):
    """A trial that W&B has given: the run that it is, and the variables by which W&B's own agent would tell it so."""

    entry: PlanEntry
    environment: dict[str, str]

    @property
    def id(self) -> str:
        """The id of its run in W&B."""
        return self.environment["WANDB_RUN_ID"]


def train_trials(words: str, file: str, overrides: Overrides, folder: Path, count: int = 0, at_once: int = 1) -> int:
    """Trains the trials of a W&B sweep, one after another or in rounds of many; the exit status.

    Args:
        words: the sweep, as ID, PROJECT/ID or ENTITY/PROJECT/ID.
        file: the config NAME|FILE.py[:ARGUMENT] of every trial.
        overrides: fields of every trial.
        folder: the study's.
        count: trials to ask for at most; 0 for all there are.
        at_once: trials of a round.

    Raises:
        UserError: where the config or the sweep is wrong.
    """
    if at_once == 1:
        return wandb_agent.run_trials(words, file, overrides, folder, count)
    overrides = wandb_agent.online(overrides)
    (template,) = plan_runs(file, overrides, [{}])  # what holds for every trial is checked before any
    path = read_sweep_path(words, template.config.wandb.project, template.config.wandb.entity)
    for variable in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        os.environ.pop(variable, None)  # they are of a process of one run: W&B would take its id for every other
    os.environ["WANDB_DIR"] = str((folder / "programs").resolve())  # where it leaves what is of no run
    with lock_unqueued(folder), catch_stop_signals() as stop:
        rounds = Rounds(file, overrides, folder, template.config, path, stop, at_once, count)
        rounds.resume()
        if not rounds.complete:
            rounds.run()
    return rounds.report()


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Takes trials and trains them, `at_once` in a round, `count` in all (0: no limit).

    `outcomes` says how each trial ended, in the order in which they came; `offers` are those that W&B gave to this
    process, `backlog` those that are to train in another round.
    """

    file: str
    overrides: Overrides
    folder: Path
    template: ConfigDict
    path: SweepPath
    stop: StopSignals
    at_once: int
    count: int
    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)
    offers: list[str] = dataclasses.field(default_factory=list)
    backlog: list[Trial] = dataclasses.field(default_factory=list)

    @property
    def gave_up(self) -> bool:
        """Whether so many trials in a row have failed that no more are asked for."""
        return list(self.outcomes.values())[-MAX_FAILURES:] == [FAILED] * MAX_FAILURES

    @property
    def complete(self) -> bool:
        """Whether no further trial is to begin."""
        return self.stop.requested or self.gave_up

    def resume(self) -> None:
        """Goes on with the trials of the sweep that this study has begun and not ended."""
        trials = []
        for entry, environment in wandb_agent.unfinished_trials(self.folder, self.path.sweep):
            print(f"{entry.id}: goes on, as the trial {environment['WANDB_RUN_ID']}", flush=True)
            others = read_json(trial_file(self.folder, entry.id)).get("others", [])
            trials += [Trial(entry, known) for known in (environment, *others)]
        self.outcomes.update({trial.id: BEGUN for trial in trials})
        self.train(trials, ())

    def run(self) -> None:
        """Takes trials and trains them until W&B gives no more. Raises UserError where it has no such sweep."""
        with SweepAgents(self.path) as agents:
            while not self.complete and (trials := self.gather(agents)):
                self.train_gathered(trials, agents)
        self.accept_offers(agents, [])  # an answer that was on its way: the next command goes on with it

    def train_gathered(self, trials: Sequence[Trial], agents: SweepAgents) -> None:
        """Trains the trials of a round, whose agents then ask for others."""
        if not self.complete:
            self.train(trials, agents.stops)
        for trial in trials:
            agents.release(trial.id)

    def gather(self, agents: SweepAgents) -> list[Trial]:
        """The trials of a round, fewer where W&B gives no other for a while; none where it has no more."""
        trials: list[Trial] = []
        for trial in [self.backlog.pop(0) for _ in list(self.backlog)]:
            self.begin(trial, trials)
        deadline = time.monotonic() + PATIENCE
        while not self.complete:
            agents.ask(self._seats(trials))
            if len(trials) + len(self.backlog) >= agents.seats:
                break
            if offer := agents.next_offer(POLL_SECONDS):
                self.accept(offer, agents, trials)
                deadline = time.monotonic() + PATIENCE
            elif agents.exhausted or (trials and time.monotonic() > deadline):
                break
            elif time.monotonic() > deadline:  # it may be paused
                print("the sweep gives no trial yet; waiting for one", flush=True)
                deadline = math.inf
        agents.ask(0)
        self.accept_offers(agents, trials)
        return trials

    def _seats(self, trials: Sequence[Trial]) -> int:
        """How many agents may have a trial now."""
        remaining = self.count - len(self.offers) if self.count else self.at_once
        return min(self.at_once, len(trials) + len(self.backlog) + remaining)

    def accept_offers(self, agents: SweepAgents, trials: list[Trial]) -> None:
        """Takes what W&B has given and nobody has taken, that no trial be lost."""
        while offer := agents.next_offer(0.0):
            self.accept(offer, agents, trials)

    def accept(self, offer: Offer, agents: SweepAgents, trials: list[Trial]) -> None:
        """Takes a trial: adds it to those of a round, or tells W&B at once what becomes of it."""
        self.offers.append(offer.id)
        self.outcomes[offer.id] = BEGUN
        environment = self._environment(offer)
        point = read_point(Path(environment["WANDB_SWEEP_PARAM_PATH"]))
        try:
            (run,) = plan_runs(self.file, self.overrides, [point], self.folder)
        except UserError as error:
            self.outcomes[offer.id] = self.fail(environment, str(error).splitlines()[-1].strip())
        else:
            (group,) = group_runs([run])
            (entry,) = group.entries()
            self.begin(Trial(entry, environment), trials)
        if self.outcomes[offer.id] != BEGUN:
            agents.ask(min(agents.seats, self._seats(trials)))  # before its agent asks for another
            agents.release(offer.id)

    def begin(self, trial: Trial, trials: list[Trial]) -> None:
        """Adds a trial to those of a round, unless its run has ended before or is there with other steps."""
        entry, folder = trial.entry, self.folder / trial.entry.id
        same_run = [other for other in trials if other.entry.id == entry.id]
        if any(other.entry.steps != entry.steps for other in same_run):
            self.backlog.append(trial)
            return
        if state := study.end_state(folder, entry.steps):
            self.outcomes[trial.id] = self.tell_end(trial, state)
            return
        folder.mkdir(exist_ok=True)
        study.write_plan(self.folder, [entry])
        trials.append(trial)
        first, *others = [*same_run, trial]
        recorded = first.environment | {"others": [other.environment for other in others]}
        write_json(trial_file(self.folder, entry.id), recorded)

    def _environment(self, offer: Offer) -> dict[str, str]:
        """What W&B's own agent tells a trial, with the file of its parameters, which is written where it writes it."""
        file = self.folder / "programs" / "wandb" / f"sweep-{self.path.sweep}" / f"config-{offer.id}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, yaml.safe_dump({"wandb_version": 1} | offer.parameters, sort_keys=False))
        values = {
            "WANDB_SWEEP_ID": self.path.sweep,
            "WANDB_RUN_ID": offer.id,
            "WANDB_SWEEP_PARAM_PATH": str(file.resolve()),
            "WANDB_ENTITY": self.path.entity,
            "WANDB_PROJECT": self.path.project,
        }
        return {name: value for name, value in values.items() if value}

    def train(self, trials: Sequence[Trial], stops: Collection[str]) -> None:
        """Trains the trials of a round, all at once, but for those that W&B adds to `stops`."""
        first_trials: dict[str, Trial] = {}
        programs: dict[str, list[PlanEntry]] = {}
        for trial in trials:
            if trial.entry.id not in first_trials:
                first_trials[trial.entry.id] = trial
                programs.setdefault(trial.entry.program, []).append(trial.entry)
                mark_trial(self.folder / trial.entry.id, trial.environment)
        if trials:
            stopped_runs = functools.partial(find_stops, self.folder, first_trials, stops)
            run_programs(self.folder, programs, self.stop, stopped_runs)
        for trial in trials:
            self.outcomes[trial.id] = self.settle(trial, first_trials[trial.entry.id])

    def settle(self, trial: Trial, first: Trial) -> str:
        """How a trial of a round ended; W&B is told what the run itself, which is the trial `first`, has not told."""
        entry, file = trial.entry, trial_file(self.folder, trial.entry.id)
        state = study.end_state(self.folder / entry.id, entry.steps)
        if state is not None:
            return (FAILED if state == FAILED else DONE) if trial is first else self.tell_end(trial, state)
        if (self.folder / entry.id / writers.STOP_FILE).exists():
            file.unlink(missing_ok=True)  # it is not to go on
            if trial is not first:
                return self.fail(trial.environment, f"{entry.id} was stopped in W&B, as the trial {first.id}")
            print(f"{entry.id}: the trial {trial.id} was stopped in W&B", flush=True)
            return STOPPED
        if self.stop.requested:
            return BEGUN
        reason = f"{entry.id} has not ended, programs/{entry.program}.log says why; the same command tries it again"
        return self.fail(trial.environment, reason)

    def tell_end(self, trial: Trial, state: str) -> str:
        """Tells W&B of a trial whose run has ended as another or before; how it ended."""
        entry, folder = trial.entry, self.folder / trial.entry.id
        if state == FAILED:
            reason = f"{entry.id} has failed before ({study.failure_reason(folder)})"
            return self.fail(trial.environment, f"{reason}; remove its failed.json to try it again")
        print(f"{entry.id}: has ended; the trial {trial.id} is told its records", flush=True)
        config = parse_config(entry.words)
        wandb_agent.send_records(folder, config, self._mirror(trial.environment, entry.id, config.to_dict()))
        return DONE

    def fail(self, environment: Mapping[str, str], reason: str) -> str:
        """Says why a trial has failed, here and to W&B."""
        name = environment["WANDB_RUN_ID"]
        wandb_agent.report_failure(name, reason, self._mirror(environment, name, {}))
        return FAILED

    def _mirror(self, environment: Mapping[str, str], name: str, config: dict[str, Any]) -> writers.WandbMirror:
        """The run in W&B of a trial that has no folder of its own."""
        folder = self.folder / "programs" / "trials" / environment["WANDB_RUN_ID"]
        mark_trial(folder, environment)
        settings = self.template.wandb.to_dict()
        return writers.WandbMirror(folder, settings | {"name": settings["name"] or name}, config)

    def report(self) -> int:
        """Says how the trials ended; the exit status."""
        counts = Counter(self.outcomes.values())
        if self.gave_up:
            print(f"error: {MAX_FAILURES} trials in a row have failed; no more are asked for", file=sys.stderr)
        print(f"{counts[DONE]} trials done, {counts[FAILED]} failed; in {self.folder}")
        if counts[BEGUN]:
            print(f"the same command goes on with {plural(counts[BEGUN], 'trial')}", flush=True)
        return self.stop.exit_status if self.stop.requested and not self.gave_up else int(bool(counts[FAILED]))


def mark_trial(folder: Path, environment: Mapping[str, str]) -> None:
    """Lets the run in `folder` be a trial in W&B, whoever trains it."""
    file = folder / writers.TRIAL_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    (folder / writers.STOP_FILE).unlink(missing_ok=True)
    write_text(file.with_name("id"), environment["WANDB_RUN_ID"])
    parameters = read_point(Path(environment["WANDB_SWEEP_PARAM_PATH"]))
    project, entity = (environment.get(f"WANDB_{name}", "") for name in ("PROJECT", "ENTITY"))
    sweep = environment["WANDB_SWEEP_ID"]
    write_json(file, {"sweep": sweep, "project": project, "entity": entity, "parameters": parameters})


def find_stops(folder: Path, trials: Mapping[str, Trial], stops: Collection[str]) -> set[str]:
    """The runs that W&B has stopped, as their trials' agents were told or they themselves; `trials` are by the run."""
    for run, trial in trials.items():
        if trial.id in stops:
            (folder / run / writers.STOP_FILE).touch()
    return {run for run in trials if (folder / run / writers.STOP_FILE).exists()}


def run_programs(
    folder: Path,
    programs: Mapping[str, list[PlanEntry]],
    stop: StopSignals,
    stopped_runs: Callable[[], set[str]],
) -> None:
    """Trains the runs of these programs; returns when all have ended, been stopped, or crashed."""
    progress = read_progress(programs, folder)
    waiting = incomplete(progress)
    shares = [
        # Without W&B's service of this process, which a mirror that fails here would end.
        share._replace(environment=share.environment | {"WANDB_SERVICE": ""})
        for share in machine.share_devices(len(waiting), 0)
    ]
    table = Table()
    table.print(start_line(progress, ", ".join(share.name for share in shares), folder))
    scheduler = TrialScheduler(folder, progress, waiting, shares, table, stop, stopped_runs=stopped_runs)
    try:
        scheduler.run()
    finally:
        table.close()
        scheduler.kill_workers()


@dataclasses.dataclass
class TrialScheduler(Scheduler):
    """Runs programs some members of which W&B may stop: the program saves and ends, and goes on without them."""

    stopped_runs: Callable[[], set[str]] = set
    signal_pids: set[int] = dataclasses.field(default_factory=set)
    """Processes that have had a signal to end for it."""

    def refresh(self) -> None:
        """Also lets the programs end that have a member which W&B has stopped."""
        super().refresh()
        stopped = self.stopped_runs()
        for worker in self.workers:
            if worker.process.pid not in self.signal_pids and unfinished(worker.group, stopped):
                self.signal_pids.add(worker.process.pid)
                worker.process.terminate()

    def pass_signals(self) -> None:
        """Passes signals on, the first one not to programs that end already: it would kill them."""
        workers = self.workers
        if not self.signals_passed:
            self.workers = [worker for worker in workers if worker.process.pid not in self.signal_pids]
        super().pass_signals()
        self.workers = workers

    def report(self, worker: Worker) -> None:
        """Says how a program ended; lets one that ended for its stopped members go on without them."""
        group, stopped = worker.group, self.stopped_runs()
        if worker.process.pid not in self.signal_pids or self.stop.requested:
            super().report(worker)
            return
        remaining = GroupProgress(group.id, [run for run in group.runs if run.id not in stopped])
        group.end_states |= dict.fromkeys(unfinished(group, stopped), STOPPED)
        report_end(group, self.folder, self.table.print)
        if group.complete:
            return
        remaining.update(self.folder)
        self.groups[self.groups.index(group)] = remaining
        self.waiting.append(remaining)


def unfinished(group: GroupProgress, names: Collection[str]) -> list[str]:
    """Those of the named runs that are the group's and have not ended."""
    return [run.id for run in group.runs if run.id in names and run.id not in group.end_states]
