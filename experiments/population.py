"""Trains many runs as one compiled program: runs that differ in their seeds and traced numbers alone.

    python -m experiments.population --members=FILE

FILE is a JSON list of {"workdir": "runs/study/x", "words": ["--config=configs/digits.py", "--config.seed=1"]}: the
command line of each as experiments.train would have it, and each leaves the same folder. launch.local writes such
files. The same command again goes on where the members stopped; those that are finished, have diverged (failed.json)
or were dropped by config.sweep.halving (dropped.json) are left as they are. On several hosts, one process on each as
with experiments.train, each trains its share of the members; with config.parallel.mode=data all train each of them.
"""

import contextlib
import functools
import hashlib
import json
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import settings, workdir
from experiments.capacity import members_at_once
from experiments.member import Member, versions
from experiments.stopping import Stop, stop_signals
from experiments.train import blank_run, finished, prepare, record_of, run, score, starting, together
from vae_jax import data, hosts, model, parallel, train, writers
from vae_jax.hosts import ALONE, Group
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Trains the members in --members; the exit status: 0 all is well, 1 some have diverged, 128 + n stopped by n."""
    own, overrides = settings.Arguments(("members", *hosts.FLAGS)).parse(argv)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each member holds its folder and its records open
    if overrides or "members" not in own:
        raise UserError("--members: give the file of the members' command lines, which hold their configs")
    file = Path(own["members"])
    every = read(file)
    config = every[0][0]
    check_one_program([member for member, _ in every])
    group = hosts.join(own, config.parallel.heartbeat, apart=config.parallel.mode != "data")
    group.alike(versions() | {"--members": hashlib.sha256(file.read_bytes()).hexdigest()})
    dataset, built = group.everywhere(lambda: prepare(config))
    with hosts.leaving_at_once(group), contextlib.ExitStack() as held:

        def claim(members: Sequence[tuple]) -> list[int]:
            for of_member, folder in members:
                held.enter_context(workdir.claim(folder, record_of(of_member, dataset)))
            going = [i for i, (of_member, folder) in enumerate(members) if not ended(folder, of_member)]
            print(f"{len(members)} members, {len(members) - len(going)} of them ended before", flush=True)
            return going

        if config.parallel.mode == "data":
            held.enter_context(hosts.one_voice(group))
            devices = parallel.all_devices(config.parallel.devices)
            waiting = [every[i] for i in group.of_first(lambda: claim(every))]
            status = in_turn(waiting, dataset, built, devices, group)
        else:
            share = every[group.index :: group.count]
            waiting = [share[i] for i in group.everywhere(lambda: claim(share))]
            status = population(waiting, [folder for _, folder in every], dataset, built, config, group)
    return status or int(any((folder / "failed.json").exists() for _, folder in every))


def read(file: Path) -> list[tuple[ConfigDict, Path]]:
    """The config and the folder of each member. Raises UserError where the file does not give them."""
    try:
        listed = [(member["words"], Path(member["workdir"])) for member in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--members: {str(file)!r} is no list of workdir and words ({error})") from None
    if not listed:
        raise UserError(f"--members: {str(file)!r} lists no member")
    return [(settings.parse(words)[0], folder) for words, folder in listed]


def check_one_program(configs: Sequence[ConfigDict]) -> None:
    """Raises UserError naming a field that differs and would need another program."""
    first = settings.static(configs[0])
    for config in configs[1:]:
        other = settings.static(config)
        for field in sorted(first.keys() | other.keys()):
            if first.get(field) != other.get(field):
                raise UserError(
                    f"config.{field}: {other.get(field)!r} and {first.get(field)!r} do not fit in one program; in a "
                    f"population only {', '.join(sorted(model.traced(configs[0])))} may differ"
                )


def ended(folder: Path, config: ConfigDict) -> bool:
    """Whether nothing remains to be done for this member."""
    stopped = any((folder / name).exists() for name in ("failed.json", "dropped.json"))
    return stopped or finished(folder, config.train.steps)


def in_turn(
    waiting: Sequence[tuple], dataset: data.Dataset, built: model.Model, devices: list, group: Group = ALONE
) -> int:
    """Trains one after another, each on all devices, its batches split over them; the exit status."""
    for config, _ in waiting:
        parallel.check_divides("config.train.batch_size", config.train.batch_size, devices)
        if config.sweep.halving:
            raise UserError(
                "config.sweep.halving: compares members that train together; with config.parallel.mode='data' they "
                "follow one another, take 'members' or leave it empty"
            )
    worst = 0
    with stop_signals(group.most) as stop:
        for config, folder in waiting:
            worst = max(worst, run(config, folder, dataset, built, devices, stop, group, Member.try_to))
            if stop.heard():
                return 128 + stop.number
    return worst


def population(
    waiting: Sequence[tuple],
    folders: Sequence[Path],
    dataset: data.Dataset,
    built: model.Model,
    config: ConfigDict,
    group: Group = ALONE,
) -> int:
    """Trains the members of this process at once; the exit status of all of `group`, which wait for one another.

    `folders` are those of all members, those that ended before and those of other processes too.
    """
    rungs = [rung for rung in config.sweep.halving if rung < config.train.steps]
    with stop_signals(group.tell) as stop:
        meet = functools.cache(lambda rung: len(group.meet(f"step {rung}", enough=stop.heard)) == group.count)
        halving = lambda members: halve(members, folders, rungs, meet)  # noqa: E731
        # Before any trains: who finds too few devices or too little memory later leaves the others behind.
        placement, at_once = group.everywhere(lambda: place(config, dataset, built, len(waiting)))
        status = 0
        if waiting:
            status = share(waiting, dataset, built, placement, at_once, halving, stop)
        else:
            halving([])
        # A signal is heard and told of, and those who save or train on are still waited for.
        return max(group.meet("the end", status, enough=lambda: stop.heard() and False))


def place(config: ConfigDict, dataset: data.Dataset, built: model.Model, count: int) -> tuple[parallel.Placement, int]:
    """Where `count` members of this process train, and how many of them at once. Raises UserError."""
    placement = parallel.member_parallel(parallel.local_devices(config.parallel.devices))
    return placement, members_at_once(config, dataset, built, placement, count) if count else 0


def share(
    waiting: Sequence[tuple],
    dataset: data.Dataset,
    built: model.Model,
    placement: parallel.Placement,
    at_once: int,
    halving: Callable[..., bool],
    stop: Stop,
) -> int:
    """Trains members, `at_once` at a time, those that stand furthest back first; the exit status.

    They train until they meet others, until half of them is dropped, or to the end.
    """
    config, devices = waiting[0][0], placement.devices
    progress = writers.Progress(0, config.train.steps)
    named = lambda folder: lambda line: progress.say(f"{folder.name}: {line}")  # noqa: E731
    members = [Member(config, folder, named(folder)) for config, folder in waiting]
    like = jax.eval_shape(starting(config, dataset, built), train.root_key(0))
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
            going = [member for member in members if member.alive and not ended(member.folder, config)]
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
            held_out = together(cohort, until, dataset, built, placement, progress, stop)
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
    members: Sequence[Member], folders: Sequence[Path], rungs: Sequence[int], meet: Callable[[int], bool]
) -> bool:
    """Drops the half with the lower held-out bound at each of the steps `rungs` that all who go on have reached.

    `folders` are those of all members, those that ended before too. A function of what their files say, so that
    a restart decides the same. `meet(rung)` waits for other processes; False, and so is what is returned, where they
    will not come.
    """
    for rung in rungs:
        going = [member for member in members if member.alive and not ended(member.folder, member.config)]
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


def drop(member: Member, why: dict[str, Any]) -> None:
    """Ends a member before its last step."""
    writers.write_json(member.folder / "dropped.json", why)
    member.say(f"dropped at step {why['step']}: place {why['place']} of {why['of']} ({why['bound']:.2f})")
    member.close(0)


def bound_at(folder: Path, step: int) -> float | None:
    """What a member's evaluation at `step` is judged by; None where it was not evaluated there."""
    for record in writers.read_metrics(folder / "metrics.jsonl"):
        if record["step"] == step and record["split"] == "test":
            return score(record)
    return None


if __name__ == "__main__":
    settings.start(main, __doc__)
