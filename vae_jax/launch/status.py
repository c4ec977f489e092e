"""The state of a study, from its folder alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_jax.launch.live_table import UNIT, elbo_range
from vae_jax.launch.progress import GroupProgress, read_progress
from vae_jax.launch.summary import group_lines, remaining_seconds
from vae_jax.phrases import format_duration, join_names, printable
from vae_jax.screen import TERM, wrap_text
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
    programs = read_progress(_by_program(entries), folder)
    lines = [printable(line) for line in _lines(folder, entries, states, problems, programs)]
    complete = len(states[DONE]) + len(states[DROPPED]) == len(entries) and not problems
    table = group_lines(programs, folder)
    return [wrap_text("\n".join(lines), "    ", TERM), *(["", *table] if table else [])], complete


def _by_program(entries: Sequence[PlanEntry]) -> dict[str, list[PlanEntry]]:
    programs: dict[str, list[PlanEntry]] = {}
    for run in entries:
        programs.setdefault(run.program, []).append(run)
    return programs


def _lines(
    folder: Path,
    entries: Sequence[PlanEntry],
    states: Mapping[str, list[str]],
    problems: Mapping[str, str],
    programs: Sequence[GroupProgress],
) -> list[str]:
    """The runs by state, with names where they are few; what crashed, is damaged, or does not belong."""
    lines = [f"{folder}: runs {len(entries):,}, programs {len(programs):,}"]
    for state, runs in states.items():
        lines.append("   ".join([f"  {state:<8}{len(runs):>6,}", *_details(state, runs, folder)]))
    if len(programs) <= PROGRAMS_SHOWN:
        lines += [_program_line(program, folder) for program in programs]
    lines += [f"  damaged: {name} {problem}" for name, problem in problems.items()]
    crashed = sorted(program.id for program in programs if study.error_file(folder, program.id).exists())
    lines += [f"  crashed: {name} (programs/{name}.error, {name}.log)" for name in crashed]
    if foreign := study.foreign_names(folder, entries):
        lines.append(f"  not of this study: {join_names(foreign)}")
    return lines


def _program_line(program: GroupProgress, folder: Path) -> str:
    """How far a program is: runs that have ended, the validation ELBO of all, the time that it would still take."""
    left, elbos = remaining_seconds(program, folder), elbo_range(program)
    parts = [
        f"{len(program.end_states):,} of {len(program.runs):,} ended",
        *([f"validation elbo {elbos} {UNIT}"] if elbos else []),
    ]
    return f"  {program.id}  {'  '.join([*parts, *([f'{format_duration(left)} left'] if left else [])])}"


def _details(state: str, runs: Sequence[str], folder: Path) -> list[str]:
    names = [join_names(runs)] if 0 < len(runs) <= NAMES_SHOWN else []
    begun = sum((folder / name / "metrics.jsonl").exists() for name in runs) if state == MISSING else 0
    return [*names, f"{begun:,} of them begun"] if begun else names
