"""How the runs of a study stand by group, and the lines that end a launch."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.config.command_line import command
from vae_jax.config.free_fields import flatten_tree
from vae_jax.files import read_json
from vae_jax.launch.progress import GroupProgress, count_states, counts_text
from vae_jax.launch.stopping import StopSignals
from vae_jax.phrases import format_duration, join_names, plural
from vae_jax.screen import rich_lines, screen_width, wrap_text
from vae_jax.sweeps import study
from vae_jax.sweeps.group_names import group_names, select_fields, sort_key
from vae_jax.sweeps.short_names import short_names
from vae_jax.sweeps.study import DONE, DROPPED, FAILED

MAX_ROWS = 12
"""Groups that are shown."""

NUMBER_COLUMNS = 40
"""Columns of a terminal that the numbers beside a name take."""

TITLE = (
    "validation ELBO by group, nats per image, higher is better: "
    "mean ± standard error over seeds (compare has the test split)"
)


class Group(NamedTuple):
    """Runs that differ in their seeds alone.

    Attributes:
        name: of the fields in which it differs from the others.
        configs: of its runs, flat.
        runs: how many have begun.
        ended: how many have ended, of them `done` well.
        done: see `ended`.
        elbos: of the last evaluation of the validation split of each run that has neither failed nor been dropped.
        seconds: that its programs still take; None where that is not known.
    """

    name: str
    configs: Sequence[Mapping[str, Any]]
    runs: int
    ended: int
    done: int
    elbos: list[float]
    seconds: float | None


def read_groups(programs: Sequence[GroupProgress], folder: Path) -> tuple[list[Group], int]:
    """(the groups of the runs that have begun, by what differs as `vae-jax compare` names it; how many have not begun).

    Args:
        programs: after an update.
        folder: the study's.
    """
    states = [(run.id, program) for program in programs for run in program.runs]
    configs = {name: config for name, _ in states if (config := _flat_config(folder / name))}
    by = select_fields((), list(configs.values()))
    members: dict[Any, list[tuple[str, GroupProgress]]] = {}
    for name, program in states:
        if name in configs:
            members.setdefault(sort_key(configs[name], by), []).append((name, program))
    ordered = [members[key] for key in sorted(members)]
    values = [configs[runs[0][0]] for runs in ordered]
    seconds = {program.id: remaining_seconds(program, folder) for program in programs}
    groups = [
        _group(name, [configs[run] for run, _ in runs], runs, seconds)
        for name, runs in zip(group_names(values, by), ordered, strict=True)
    ]
    return groups, len(states) - len(configs)


def _group(
    name: str,
    configs: Sequence[Mapping[str, Any]],
    runs: Sequence[tuple[str, GroupProgress]],
    seconds: Mapping[str, float | None],
) -> Group:
    states = [program.end_states.get(run) for run, program in runs]
    shown = [run for run, state in zip(runs, states, strict=True) if state not in (FAILED, DROPPED)]
    elbos = [program.elbos[run] for run, program in shown if run in program.elbos]
    times = [time for program in {program.id for _, program in runs} if (time := seconds[program]) is not None]
    ended = sum(state is not None for state in states)
    return Group(name, configs, len(runs), ended, states.count(DONE), elbos, max(times, default=None))


def remaining_seconds(program: GroupProgress, folder: Path) -> float | None:
    """Seconds that a program still takes, at the speed that its folder records; None where it records none."""
    steps, seconds = study.read_speed(folder, program.id)
    return program.remaining_seconds(seconds / steps) if steps else None


def _flat_config(folder: Path) -> dict[str, Any]:
    """The config of a run by dotted names; empty where it has not begun, or where that is damaged."""
    tree = read_json(folder / "config.json").get("config")
    config = flatten_tree(tree) if isinstance(tree, dict) else {}
    if not isinstance(config.get("variant.name"), str):
        return {}
    return {field: tuple(value) if isinstance(value, list) else value for field, value in config.items()}


def best_group(groups: Sequence[Group]) -> Group | None:
    """The one of the largest mean ELBO; None before all runs have ended, and where ELBOs are of several quantities."""
    rivals = [group for group in groups if group.elbos]
    if len(rivals) < 2 or any(group.ended < group.runs for group in groups):
        return None
    from vae_jax.sweeps.kinds import KINDS, agreement  # brings jax, for which vae-jax status need not wait before

    configs = [config for group in rivals for config in group.configs]
    kinds = {tuple(KINDS[name](config) for name in agreement("elbo")) for config in configs}
    return max(rivals, key=lambda group: statistics.fmean(group.elbos)) if len(kinds) == 1 else None


def group_lines(programs: Sequence[GroupProgress], folder: Path) -> list[str]:
    """The groups as a table for standard output: the best first where one is, else in the order of what differs."""
    from rich.table import Column, Table

    groups, missing = read_groups(programs, folder)
    if not any(group.elbos for group in groups):
        return []
    best, width = best_group(groups), screen_width(sys.stdout)
    if best is not None:
        groups.sort(key=lambda group: -statistics.fmean(group.elbos or [-sys.float_info.max]))
    names = short_names([group.name for group in groups], max(width - NUMBER_COLUMNS, 12))
    numbers = [Column(head, justify="right", no_wrap=True) for head in ("done", "ELBO", "")]
    left = any(group.seconds for group in groups)
    table = Table("  group", *numbers, Column("time left" if left else ""), box=None, padding=(0, 2, 0, 0))
    for group in groups[:MAX_ROWS]:
        mean, error = _mean_cells(group.elbos)
        word = "best" if group is best else format_duration(group.seconds) if group.seconds else ""
        style = "bold" if group is best else None
        table.add_row(f"  {names[group.name]}", f"{group.done}/{group.runs}", mean, error, word, style=style)
    lines = [*wrap_text(TITLE, "  ").split("\n"), *rich_lines(table, sys.stdout)]
    if len(groups) > MAX_ROWS:
        lines.append(f"  and {plural(len(groups) - MAX_ROWS, 'group')} more")
    return [*lines, *([f"  and {plural(missing, 'run')} not begun"] if missing else [])]


def _mean_cells(elbos: Sequence[float]) -> tuple[str, str]:
    """The mean, and behind it its standard error where there are several seeds."""
    if not elbos:
        return "", ""
    error = f"± {statistics.stdev(elbos) / len(elbos) ** 0.5:.2f}" if len(elbos) > 1 else ""
    return f"{statistics.fmean(elbos):.2f}", error


def print_summary(groups: Sequence[GroupProgress], stop: StopSignals, folder: Path, resume_command: str) -> int:
    """Says how the launch ended, by group too, and how to go on; the exit status."""
    counts, crashed = count_states(groups), [group.id for group in groups if group.crashed]
    remaining = sum(len(group.runs) for group in groups) - counts.total()
    print(wrap_text(f"{counts_text(counts)}, {remaining} remaining; in {folder}", "  "))
    if lines := group_lines(groups, folder):
        print("\n".join(["", *lines, ""]))
    if counts[FAILED]:
        print(wrap_text("a run that has failed is tried again once its failed.json is removed", "  "))
    if crashed:
        print(wrap_text(f"crashed, and tried again by the next launch: {join_names(crashed)}", "  "))
    if remaining:
        print(f"to go on: {resume_command}", flush=True)
    elif counts[DONE]:
        print(f"next: {command('compare', [f'--runs={folder}'])}", flush=True)
    if stop.requested and remaining:
        return stop.exit_status
    return int(bool(counts[FAILED] or remaining))
