"""Trains many runs as one compiled program: runs that differ in their seeds and traced numbers alone."""

import contextlib
import dataclasses
import functools
import hashlib
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.parse import parse_config, static_fields
from vae_jax.errors import UserError, message_of
from vae_jax.files import parse_json, user_path
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import plural, printable
from vae_jax.training import processes, workdir
from vae_jax.training.bars import Progress
from vae_jax.training.executors import Devices, MemberParallel, all_devices, check_divides, local_devices
from vae_jax.training.halving import Halving, Prune, Room, lower_half, run_ended
from vae_jax.training.loop import train_until
from vae_jax.training.memory import members_at_once
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.run import TrainingRun, versions
from vae_jax.training.run_results import Results
from vae_jax.training.setup import Setup, SetupCache, prepare
from vae_jax.training.signals import StopSignal, stop_signals
from vae_jax.training.train_run import config_record, isolate, train_run


class Member(NamedTuple):
    """A run of a population: its config and its folder."""

    config: ConfigDict
    folder: Path


class Generation(NamedTuple):
    """What a population takes from a search, whose populations follow one another in one process.

    Attributes:
        setups: those of earlier populations, with what they have compiled.
        room: how many members its program has room for, however few there are: one program for all.
        prune: which members are dropped at the steps of config.sweep.halving.
    """

    setups: SetupCache
    room: int
    prune: Prune


@pinned_flags()
def train_members(
    file: Path, process_flags: Mapping[str, str] = MappingProxyType({}), generation: Generation | None = None
) -> int:
    """Trains the members that `file` lists; the exit status: 0 all is well, 1 some have diverged, 128 + n stopped by n.

    Args:
        file: JSON, a list of {"workdir": "runs/study/x", "words": ["--config=digits", "--config.seed=1"]}.
        process_flags: those of processes.FLAGS that were given, where this process is one of several of a job.
        generation: of a search, where it is one.

    Raises:
        UserError: naming what is wrong with the file, a config, a folder or the machine.
    """
    allow_open_files()
    members = read_members(file)
    config = members[0].config
    check_one_program([member.config for member in members])
    if generation is None:
        check_halving([member.config for member in members])
    data_parallel = config.parallel.mode == "data"
    group = processes.join(process_flags, config.parallel.heartbeat, separate=not data_parallel)
    group.assert_equal(versions() | {"--members": hashlib.sha256(file.read_bytes()).hexdigest()})
    setup = group.run_on_all(lambda: generation.setups.get(config) if generation else prepare(config))
    with processes.abort_on_failure(group), contextlib.ExitStack() as claims:
        refused: list[str] = []

        def claim(members: Sequence[Member]) -> list[int]:
            claimed = [i for i, member in enumerate(members) if _try_claim(member, setup, claims, refused)]
            if members and not claimed:
                raise UserError(refused[0])
            unfinished = [i for i in claimed if not run_ended(members[i].folder, members[i].config)]
            ended = f"{len(claimed) - len(unfinished)} of them ended before"
            print("\n".join([f"{len(members)} members, {ended}", *refused]), flush=True)
            return unfinished

        if data_parallel:
            claims.enter_context(processes.silence_non_primary(group))
            devices = all_devices(config.parallel.devices)
            unfinished = [members[i] for i in group.broadcast_first(lambda: claim(members))]
            status = train_in_turn(unfinished, setup, devices, group)
        else:
            shard = members[group.index :: group.count]
            unfinished = [shard[i] for i in group.run_on_all(lambda: claim(shard))]
            folders = [member.folder for member in members]
            shards = [member.folder for member in shard]
            status = train_population(unfinished, folders, setup, group, shards, generation, file.stem)
    return status or int(bool(refused) or any((member.folder / "failed.json").exists() for member in members))


def _try_claim(member: Member, setup: Setup, claims: contextlib.ExitStack, refused: list[str]) -> bool:
    """Whether the member's folder could be claimed; else why not is added to `refused`: no folder stops another's."""
    try:
        record = config_record(member.config, setup)
        claims.enter_context(workdir.claim(member.folder, record, setup.fits_after_training))
    except (UserError, OSError) as error:
        refused.append(f"{member.folder.name}: left out: {printable(message_of(error))}")
        return False
    return True


def allow_open_files() -> None:
    """Raises this process's limit of open files as far as it may: each member holds its folder and records open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def read_members(file: Path) -> list[Member]:
    """The members that a file lists. Raises UserError where it does not give them."""
    try:
        rows = [(row["words"], user_path(row["workdir"])) for row in parse_json(file)]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"--members: {str(file)!r} is not a list of workdir and words ({error})") from None
    if not rows:
        raise UserError(f"--members: {str(file)!r} lists no member")
    return [Member(parse_config(words), folder) for words, folder in rows]


def check_one_program(configs: Sequence[ConfigDict]) -> None:
    """Raises UserError naming a field that differs and would need another program."""
    first = static_fields(configs[0])
    for other in map(static_fields, configs[1:]):
        differ = sorted(field for field in first.keys() | other.keys() if first.get(field) != other.get(field))
        if differ:
            field = differ[0]
            raise UserError(
                f"config.{field}: {other.get(field)!r} and {first.get(field)!r} do not fit in one program; in a "
                f"population only {', '.join(sorted(model.traced_fields(configs[0])))} may differ"
            )


def check_halving(configs: Sequence[ConfigDict]) -> None:
    """Raises UserError where halving would rank losses that weigh other things: without a bound it goes by the loss."""
    first = configs[0]
    if not first.sweep.halving or model.logs_bound(first):
        return
    for field in first.variant:
        values = list(dict.fromkeys(config.variant[field] for config in configs))
        if len(values) > 1:
            raise UserError(
                f"config.sweep.halving: ranks these members by their loss, which has other weights at "
                f"variant.{field}={values[0]!r} and {values[1]!r}; leave it empty"
            )


def train_in_turn(
    members: Sequence[Member], setup: Setup, devices: Devices, group: ProcessGroup = SINGLE_PROCESS
) -> int:
    """Trains one after another, each on all devices, its batches split over them; the exit status."""
    for config, _ in members:
        check_divides("config.train.batch_size", config.train.batch_size, devices)
        if config.sweep.halving:
            raise UserError(
                "config.sweep.halving: compares members that train together; with config.parallel.mode='data' they "
                "train one after another; take 'members' or leave it empty"
            )
    with stop_signals(group.all_max) as stop:
        worst = _train_each(members, setup, devices, stop, group)
        return 128 + stop.signal if stop.signal else worst


def _train_each(
    members: Sequence[Member], setup: Setup, devices: Devices, stop: StopSignal, group: ProcessGroup
) -> int:
    """Trains one after another until a signal comes; the worst exit status."""
    worst = 0
    for config, folder in members:
        run = TrainingRun(config, folder, group=group)
        worst = max(worst, train_run(run, setup, devices, stop, group, isolate))
        if stop.requested():
            break
    return worst


def train_population(
    members: Sequence[Member],
    folders: Sequence[Path],
    setup: Setup,
    group: ProcessGroup = SINGLE_PROCESS,
    shard: Sequence[Path] | None = None,
    generation: Generation | None = None,
    name: str = "",
) -> int:
    """Trains the members of this process at once; the exit status of all of `group`, which wait for one another.

    Args:
        members: those of this process that are to train.
        folders: those of all members, those that ended before and those of other processes too.
        setup: of all of them.
        group: the processes.
        shard: the folders of this process, those that ended before too; of `members` alone unless given.
        generation: of a search, where it is one.
        name: of the program, for lines of a log.
    """
    shard = [member.folder for member in members] if shard is None else shard
    config = setup.config
    rungs = [rung for rung in config.sweep.halving if rung < config.train.steps]

    def executor_and_size() -> tuple[MemberParallel, int]:
        executor = setup.member_executor(local_devices(config.parallel.devices))
        count = max(len(shard), generation.room) if generation else len(shard)
        return executor, members_at_once(setup, executor, count) if members else 0

    with stop_signals(group.post_max) as stop:
        # Before any trains: who finds too few devices or too little memory later leaves the others behind.
        executor, at_once = group.run_on_all(executor_and_size)
        prune = generation.prune if generation else lower_half
        halving = Halving(folders, rungs, functools.cache(functools.partial(_all_reach, group, stop)), prune)
        status = 0
        if members:
            room = Room(shard, at_once, fixed=generation is not None)
            status = Population(members, setup, executor, room, halving, stop, name).train()
        else:
            halving.drop_members([])

        def post_signal() -> bool:
            # A signal is heard and posted, and those who save or train on are still waited for.
            stop.requested()
            return False

        return max(group.barrier("the end", status, give_up=post_signal))


def _all_reach(group: ProcessGroup, stop: StopSignal, rung: int) -> bool:
    """Waits until all processes have come to `rung`; False where one stops."""
    return len(group.barrier(f"step {rung}", give_up=stop.requested)) == group.count


class Population:
    """The members of this process, which train in cohorts of those that stand at one step."""

    def __init__(
        self,
        members: Sequence[Member],
        setup: Setup,
        executor: MemberParallel,
        room: Room,
        halving: Halving,
        stop: StopSignal,
        name: str = "",
    ):
        self.setup, self.executor, self.room, self.halving, self.stop = setup, executor, room, halving, stop
        self.progress = Progress(0, setup.config.train.steps, name, "steps/s of each")
        self.runs: list[TrainingRun] = []
        self.failures = 0
        for config, folder in members:
            try:
                self.runs.append(TrainingRun(config, folder, self._say_of(folder)))
            except (UserError, OSError) as error:
                self.failures += 1
                self._say_of(folder)(f"left out: {printable(message_of(error))}")

    def _say_of(self, folder: Path) -> Callable[[str], None]:
        return lambda line: self.progress.say(f"{folder.name}: {line}")

    def train(self) -> int:
        """Trains cohort after cohort, those that stand furthest back first; the exit status.

        They train until they come to others, until half of them is dropped, or to the end.
        """
        status = 1
        self.progress.say(self._header())
        try:
            while not self.stop.requested() and self._train_cohort():
                pass
            status = 128 + self.stop.signal if self.stop.signal else self._exit_status()
            if self.stop.signal:
                step = min((run.step for run in self._unfinished()), default=self.setup.config.train.steps)
                self.progress.say(f"stopped by a signal at step {step}, saved; the same command resumes from here")
        finally:
            self.progress.close()
            for run in self.runs:
                run.close(status or int(not run.alive))
        return status

    def _exit_status(self) -> int:
        return int(bool(self.failures) or any(not run.alive for run in self.runs))

    def _unfinished(self) -> list[TrainingRun]:
        return [run for run in self.runs if run.alive and not run_ended(run.folder, run.config)]

    def _train_cohort(self) -> bool:
        """Trains those that stand furthest back until they come to others; False where none is left to train."""
        if not self.halving.drop_members(self.runs):
            return True  # another process stops, and this one with it
        unfinished = self._unfinished()
        if not unfinished:
            return False
        step = min(run.step for run in unfinished)
        cohort = [run for run in unfinished if run.step == step][: self.room.at_once]
        for run in cohort:
            with run.isolate_failure((UserError, OSError)):
                run.restore(self.setup.state_shape)
                run.open_records(self.progress if len(cohort) == 1 else None)
        if any(run.step != step or not run.alive for run in cohort):
            return True  # the newest checkpoint of one was damaged
        until = self._next_stop(step, unfinished) if any(run.active for run in cohort) else step
        executor = dataclasses.replace(self.executor, room=self.room.after(step))
        results = train_until(cohort, until, self.setup, executor, self.progress, self.stop)
        for run, own in zip(cohort, results, strict=True):
            if not self.stop.requested() and run.alive and run.complete:
                self._write_results(run, own)
        return True

    def _next_stop(self, step: int, unfinished: Sequence[TrainingRun]) -> int:
        config = self.setup.config
        rungs = [rung for rung in config.sweep.halving if rung > step]
        return min([*rungs, *(run.step for run in unfinished if run.step > step), config.train.steps])

    def _write_results(self, run: TrainingRun, results: Results | None) -> None:
        with run.isolate_failure(Exception):
            run.write_results(self.setup, results)
        run.close(int(not run.alive))

    def _header(self) -> str:
        devices, count, at_once = self.executor.devices, len(self.runs), self.room.at_once
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.setup.state_shape.params))
        rounds = -(-count // at_once)
        return (
            f"{count} members of {parameters:,} parameters on {plural(len(devices), f'{devices[0].platform} device')}, "
            f"{min(at_once, count)} at once, in {plural(rounds, 'round')}"
        )
