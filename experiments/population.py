"""Trains many runs as one compiled program: runs that differ in their seeds and traced numbers alone.

    python -m experiments.population --members=FILE

FILE is a JSON list of {"workdir": "runs/study/x", "words": ["--config=configs/digits.py", "--config.seed=1"]}: the
command line of each as experiments.train would have it, and each leaves the same folder. launch.local writes such
files. The same command again goes on where the members stopped; those that are finished, have diverged (failed.json)
or were dropped by config.sweep.halving (dropped.json) are left as they are.
"""

import contextlib
import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import settings, workdir
from experiments.capacity import members_at_once
from experiments.member import Member
from experiments.train import blank_run, finished, prepare, record_of, run, score, starting, stop_signals, together
from vae_jax import data, model, parallel, train, writers
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Trains the members in --members; the exit status: 0 all is well, 1 some have diverged, 128 + n stopped by n."""
    own, overrides = settings.Arguments(("members",)).parse(argv)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each member holds its folder and its records open
    if overrides or "members" not in own:
        raise UserError("--members: give the file of the members' command lines, which hold their configs")
    every = read(Path(own["members"]))
    config = every[0][0]
    check_one_program([member for member, _ in every])
    devices = parallel.local_devices(config.parallel.devices)
    dataset, built = prepare(config)
    with contextlib.ExitStack() as held:
        waiting = []
        for config, folder in every:
            held.enter_context(workdir.claim(folder, record_of(config, dataset)))
            if not ended(folder, config):
                waiting.append((config, folder))
        print(f"{len(every)} members, {len(every) - len(waiting)} of them ended before", flush=True)
        if waiting and config.parallel.mode == "data":
            parallel.check_divides("config.train.batch_size", config.train.batch_size, devices)
            status = in_turn(waiting, dataset, built, devices)
        elif waiting:
            status = population(waiting, [folder for _, folder in every], dataset, built, devices)
        else:
            status = 0
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


def in_turn(waiting: Sequence[tuple], dataset: data.Dataset, built: model.Model, devices: list) -> int:
    """Trains one after another, each on all devices, its batches split over them; the exit status."""
    if waiting[0][0].sweep.halving:
        raise UserError(
            "config.sweep.halving: compares members that train together; with config.parallel.mode='data' they follow "
            "one another, take 'members' or leave it empty"
        )
    worst = 0
    with stop_signals() as stop:
        for config, folder in waiting:
            worst = max(worst, run(config, folder, dataset, built, devices, stop))
            if stop:
                return 128 + stop[0]
    return worst


def population(
    waiting: Sequence[tuple], folders: Sequence[Path], dataset: data.Dataset, built: model.Model, devices: list
) -> int:
    """Trains members at once, spread over the devices, those that stand furthest back first; the exit status.

    They train until they meet others, until half of them is dropped, or to the end; as many at a time as fit.
    """
    config = waiting[0][0]
    placement = parallel.member_parallel(devices)
    at_once = members_at_once(config, dataset, built, placement, len(waiting))
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
    status = 1
    try:
        with stop_signals() as stop:
            while True:
                halve(members, folders, config.sweep.halving)
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
                    if not stop and member.alive and member.step == config.train.steps:
                        member.try_to(member.finish, dataset, blank, found, but=Exception)
                        member.close(0 if member.alive else 1)
                if stop:
                    progress.say(
                        f"stopped by a signal at step {cohort[0].step}, saved; the same command goes on from here"
                    )
                    status = 128 + stop[0]
                    return status
        status = 0
    finally:
        progress.close()
        for member in members:
            member.close(status or not member.alive)
    return status


def halve(members: Sequence[Member], folders: Sequence[Path], rungs: Sequence[int]) -> None:
    """Drops the half with the lower held-out bound at each of the steps `rungs` that all who go on have reached.

    `folders` are those of all members, those that ended before too. A function of what their files say, so that
    a restart decides the same.
    """
    for rung in rungs:
        if members and rung >= members[0].config.train.steps:  # who is there has finished
            return
        going = [member for member in members if member.alive and not ended(member.folder, member.config)]
        if any(member.step < rung for member in going):
            return
        bounds = {folder: bound for folder in folders if (bound := bound_at(folder, rung)) is not None}
        order = sorted(bounds, key=lambda folder: (-bounds[folder], str(folder)))
        dropped = {folder: place for place, folder in enumerate(order, start=1) if place > -(-len(order) // 2)}
        for member in going:
            if member.folder in dropped:
                place = dropped[member.folder]
                drop(member, {"step": rung, "place": place, "of": len(order), "bound": bounds[member.folder]})


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
