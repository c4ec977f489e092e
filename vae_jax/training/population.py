"""Trains many runs as one compiled program: runs that differ in their seeds and traced numbers alone."""

import contextlib
import functools
import hashlib
import json
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.config.parse import parse_config, static_fields
from vae_jax.errors import UserError
from vae_jax.training import executors, processes, workdir, writers
from vae_jax.training.loop import checkpoint_score, train_until
from vae_jax.training.memory import members_at_once
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.run import TrainingRun, versions
from vae_jax.training.setup import blank_run, initial_state_fn, prepare
from vae_jax.training.signals import StopSignal, stop_signals
from vae_jax.training.train_run import config_record, finished, train_run


def train_members(file: Path, process_flags: Mapping[str, str] = MappingProxyType({})) -> int:
    """Trains the members that `file` lists; the exit status: 0 all is well, 1 some have diverged, 128 + n stopped by n.

    Args:
        file: JSON, a list of {"workdir": "runs/study/x", "words": ["--config=digits", "--config.seed=1"]}.
        process_flags: those of processes.FLAGS that were given, where this process is one of several of a job.

    Raises:
        UserError: naming what is wrong with the file, a config, a folder or the machine.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each member holds its folder and its records open
    every = read(file)
    config = every[0][0]
    check_one_program([member for member, _ in every])
    group = processes.join(process_flags, config.parallel.heartbeat, apart=config.parallel.mode != "data")
    group.alike(versions() | {"--members": hashlib.sha256(file.read_bytes()).hexdigest()})
    dataset, built = group.everywhere(lambda: prepare(config))
    with processes.abort_on_failure(group), contextlib.ExitStack() as held:

        def claim(members: Sequence[tuple]) -> list[int]:
            for of_member, folder in members:
                held.enter_context(workdir.claim(folder, config_record(of_member, dataset)))
            going = [i for i, (of_member, folder) in enumerate(members) if not run_ended(folder, of_member)]
            print(f"{len(members)} members, {len(members) - len(going)} of them ended before", flush=True)
            return going

        if config.parallel.mode == "data":
            held.enter_context(processes.silence_non_primary(group))
            devices = executors.all_devices(config.parallel.devices)
            waiting = [every[i] for i in group.of_first(lambda: claim(every))]
            status = train_in_turn(waiting, dataset, built, devices, group)
        else:
            share = every[group.index :: group.count]
            waiting = [share[i] for i in group.everywhere(lambda: claim(share))]
            status = train_population(waiting, [folder for _, folder in every], dataset, built, config, group)
    return status or int(any((folder / "failed.json").exists() for _, folder in every))


def read(file: Path) -> list[tuple[ConfigDict, Path]]:
    """The config and the folder of each member. Raises UserError where the file does not give them."""
    try:
        listed = [(member["words"], Path(member["workdir"])) for member in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--members: {str(file)!r} is no list of workdir and words ({error})") from None
    if not listed:
        raise UserError(f"--members: {str(file)!r} lists no member")
    return [(parse_config(words), folder) for words, folder in listed]


def check_one_program(configs: Sequence[ConfigDict]) -> None:
    """Raises UserError naming a field that differs and would need another program."""
    first = static_fields(configs[0])
    for config in configs[1:]:
        other = static_fields(config)
        for field in sorted(first.keys() | other.keys()):
            if first.get(field) != other.get(field):
                raise UserError(
                    f"config.{field}: {other.get(field)!r} and {first.get(field)!r} do not fit in one program; in a "
                    f"population only {', '.join(sorted(model.traced(configs[0])))} may differ"
                )


def run_ended(folder: Path, config: ConfigDict) -> bool:
    """Whether nothing remains to be done for this member."""
    stopped = any((folder / name).exists() for name in ("failed.json", "dropped.json"))
    return stopped or finished(folder, config.train.steps)


def train_in_turn(
    waiting: Sequence[tuple],
    dataset: data.Dataset,
    built: model.Model,
    devices: list,
    group: ProcessGroup = SINGLE_PROCESS,
) -> int:
    """Trains one after another, each on all devices, its batches split over them; the exit status."""
    for config, _ in waiting:
        executors.check_divides("config.train.batch_size", config.train.batch_size, devices)
        if config.sweep.halving:
            raise UserError(
                "config.sweep.halving: compares members that train together; with config.parallel.mode='data' they "
                "follow one another, take 'members' or leave it empty"
            )
    worst = 0
    with stop_signals(group.most) as stop:
        for config, folder in waiting:
            worst = max(worst, train_run(config, folder, dataset, built, devices, stop, group, TrainingRun.try_to))
            if stop.heard():
                return 128 + stop.number
    return worst


def train_population(
    waiting: Sequence[tuple],
    folders: Sequence[Path],
    dataset: data.Dataset,
    built: model.Model,
    config: ConfigDict,
    group: ProcessGroup = SINGLE_PROCESS,
) -> int:
    """Trains the members of this process at once; the exit status of all of `group`, which wait for one another.

    `folders` are those of all members, those that ended before and those of other processes too.
    """
    rungs = [rung for rung in config.sweep.halving if rung < config.train.steps]
    with stop_signals(group.tell) as stop:
        meet = functools.cache(lambda rung: len(group.meet(f"step {rung}", enough=stop.heard)) == group.count)
        halving = lambda members: halve(members, folders, rungs, meet)  # noqa: E731
        # Before any trains: who finds too few devices or too little memory later leaves the others behind.
        placement, at_once = group.everywhere(lambda: place_members(config, dataset, built, len(waiting)))
        status = 0
        if waiting:
            status = train_share(waiting, dataset, built, placement, at_once, halving, stop)
        else:
            halving([])
        # A signal is heard and told of, and those who save or train on are still waited for.
        return max(group.meet("the end", status, enough=lambda: stop.heard() and False))


def place_members(
    config: ConfigDict, dataset: data.Dataset, built: model.Model, count: int
) -> tuple[executors.Placement, int]:
    """Where `count` members of this process train, and how many of them at once. Raises UserError."""
    placement = executors.member_parallel(executors.local_devices(config.parallel.devices))
    return placement, members_at_once(config, dataset, built, placement, count) if count else 0


def train_share(
    waiting: Sequence[tuple],
    dataset: data.Dataset,
    built: model.Model,
    placement: executors.Placement,
    at_once: int,
    halving: Callable[..., bool],
    stop: StopSignal,
) -> int:
    """Trains members, `at_once` at a time, those that stand furthest back first; the exit status.

    They train until they meet others, until half of them is dropped, or to the end.
    """
    config, devices = waiting[0][0], placement.devices
    progress = writers.Progress(0, config.train.steps)
    named = lambda folder: lambda line: progress.say(f"{folder.name}: {line}")  # noqa: E731
    members = [TrainingRun(config, folder, named(folder)) for config, folder in waiting]
    like = jax.eval_shape(initial_state_fn(config, dataset, built), randomness.root_key(0))
    blank = blank_run(config, dataset, built)
    rounds = -(-len(members) // at_once)
    progress.say(
        f"{len(members)} members of {sum(leaf.size for leaf in jax.tree.leaves(like.params)):,} parameters on "
        f"{len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}, {min(at_once, len(members))} at once, "
        f"in {rounds} round{'s' * (rounds > 1)}"
    )
    status, going = 1, members
    try:
        while not stop.heard():
            if not halving(members):
                continue  # somebody stops
            going = [member for member in members if member.alive and not run_ended(member.folder, config)]
            if not going:
                break
            step = min(member.step for member in going)
            cohort = [member for member in going if member.step == step][:at_once]
            for member in cohort:
                member.try_to(member.load, like, but=UserError)
            if any(member.step != step or not member.alive for member in cohort):
                continue  # the newest checkpoint of some was damaged
            ahead = [member.step for member in going if member.step > step]
            until = min([rung for rung in config.sweep.halving if rung > step] + ahead + [config.train.steps])
            held_out = train_until(cohort, until, dataset, built, placement, progress, stop)
            for member, found in zip(cohort, held_out, strict=True):
                if not stop.heard() and member.alive and member.step == config.train.steps:
                    member.try_to(member.finish, dataset, blank, found, but=Exception)
                    member.close(0 if member.alive else 1)
        status = 128 + stop.number if stop.number else 0
        if stop.number:
            step = min((member.step for member in going), default=config.train.steps)
            progress.say(f"stopped by a signal at step {step}, saved; the same command goes on from here")
    finally:
        progress.close()
        for member in members:
            member.close(status or not member.alive)
    return status


def halve(
    members: Sequence[TrainingRun], folders: Sequence[Path], rungs: Sequence[int], meet: Callable[[int], bool]
) -> bool:
    """Drops the half with the lower held-out bound at each of the steps `rungs` that all who go on have reached.

    `folders` are those of all members, those that ended before too. A function of what their files say, so that
    a restart decides the same. `meet(rung)` waits for other processes; False, and so is what is returned, where they
    will not come.
    """
    for rung in rungs:
        going = [member for member in members if member.alive and not run_ended(member.folder, member.config)]
        if any(member.step < rung for member in going):
            break
        if not meet(rung):
            return False
        bounds = {folder: bound for folder in folders if (bound := bound_at(folder, rung)) is not None}
        order = sorted(bounds, key=lambda folder: (-bounds[folder], str(folder)))
        dropped = {folder: place for place, folder in enumerate(order, start=1) if place > -(-len(order) // 2)}
        for member in going:
            if member.folder in dropped:
                place = dropped[member.folder]
                drop(member, {"step": rung, "place": place, "of": len(order), "bound": bounds[member.folder]})
    return True


def drop(member: TrainingRun, why: dict[str, Any]) -> None:
    """Ends a member before its last step."""
    writers.write_json(member.folder / "dropped.json", why)
    member.say(f"dropped at step {why['step']}: place {why['place']} of {why['of']} ({why['bound']:.2f})")
    member.close(0)


def bound_at(folder: Path, step: int) -> float | None:
    """What a member's evaluation at `step` is judged by; None where it was not evaluated there."""
    for record in writers.read_metrics(folder / "metrics.jsonl"):
        if record["step"] == step and record["split"] == "test":
            return checkpoint_score(record)
    return None
