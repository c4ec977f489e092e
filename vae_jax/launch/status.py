"""The state of a study, from its folder alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_jax.launch.live_table import elbo_range
from vae_jax.launch.progress import read_progress
from vae_jax.phrases import format_duration, join_names
from vae_jax.sweeps import study
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, MISSING, RUNNING, PlanEntry

PROGRAMS_SHOWN = 12
"""Programs have a line each where there are no more of them."""

NAMES_SHOWN = 5
"""Runs of a state are named where there are no more of them."""


def report(folder: Path) -> tuple[list[str], bool]:
    """The state of a study in lines, and whether all its runs are done. Raises UserError where it has no plan."""
    entries = study.read_plan(folder)
    states: dict[str, list[str]] = {state: [] for state in (DONE, RUNNING, FAILED, DROPPED, MISSING)}
    for run in entries:
        states[study.run_state(folder / run.id, run.steps)].append(run.id)
    problems = {run.id: problem for run in entries if (problem := study.problem(folder / run.id))}
    complete = len(states[DONE]) + len(states[DROPPED]) == len(entries) and not problems
    return _lines(folder, entries, states, problems), complete


def _lines(
    folder: Path, entries: Sequence[PlanEntry], states: Mapping[str, list[str]], problems: Mapping[str, str]
) -> list[str]:
    """The runs by state, with names where they are few; what crashed, is damaged, or does not belong."""
    programs = list(dict.fromkeys(run.program for run in entries))
    lines = [f"{folder}: runs {len(entries):,}, programs {len(programs):,}"]
    for state, runs in states.items():
        lines.append("   ".join([f"  {state:<8}{len(runs):>6,}", *_details(state, runs, folder)]))
    if len(programs) <= PROGRAMS_SHOWN:
        lines += [_program_line(name, [run for run in entries if run.program == name], folder) for name in programs]
    lines += [f"  damaged: {name} {problem}" for name, problem in problems.items()]
    crashed = sorted(name for name in programs if study.error_file(folder, name).exists())
    lines += [f"  crashed: {name} (programs/{name}.error, {name}.log)" for name in crashed]
    if foreign := study.foreign_names(folder, entries):
        lines.append(f"  not of this study: {join_names(foreign)}")
    return lines


def _program_line(program: str, entries: Sequence[PlanEntry], folder: Path) -> str:
    """How far a program is: runs that have ended, the validation ELBO of all, the time that it would still take."""
    (group,) = read_progress({program: list(entries)}, folder)
    steps, seconds = study.read_speed(folder, program)
    left = group.remaining_seconds(seconds / steps) if steps else 0.0
    parts = [f"{len(group.end_states):,} of {len(entries):,} ended", *elbo_range(group)]
    return f"  {program}  {'  '.join([*parts, *([f'{format_duration(left)} left'] if left else [])])}"


def _details(state: str, runs: Sequence[str], folder: Path) -> list[str]:
    names = [join_names(runs)] if 0 < len(runs) <= NAMES_SHOWN else []
    begun = sum((folder / name / "metrics.jsonl").exists() for name in runs) if state == MISSING else 0
    return [*names, f"{begun:,} of them begun"] if begun else names
