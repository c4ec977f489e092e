"""How a study stands, from its folder alone."""

from pathlib import Path

from vae_jax.sweeps import study
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, MISSING, RUNNING


def report(folder: Path) -> tuple[list[str], bool]:
    """The state of a study in lines, and whether all its runs are done. Raises UserError where it has no plan."""
    planned = study.read_plan(folder)
    states: dict[str, list[str]] = {how: [] for how in (DONE, RUNNING, FAILED, DROPPED, MISSING)}
    for run in planned:
        states[study.state(folder / run.id, run.steps)].append(run.id)
    problems = {run.id: what for run in planned if (what := study.problem(folder / run.id))}
    complete = len(states[DONE]) + len(states[DROPPED]) == len(planned) and not problems
    return _lines(folder, planned, states, problems), complete


def _lines(
    folder: Path, planned: list[study.Planned], states: dict[str, list[str]], problems: dict[str, str]
) -> list[str]:
    """The runs by state, with names where they are few; what crashed, is damaged, or does not belong."""
    programs = {run.program for run in planned}
    lines = [f"{folder}: runs {len(planned):,}, programs {len(programs):,}"]
    for how, found in states.items():
        lines.append(f"  {how:<8}{len(found):>6,}{_names(how, found, folder)}")
    lines += [f"  damaged: {name} {what}" for name, what in problems.items()]
    crashed = sorted(name for name in programs if (folder / "programs" / f"{name}.error").exists())
    lines += [f"  crashed: {name} (programs/{name}.error, {name}.log)" for name in crashed]
    if strange := study.foreign(folder, planned):
        lines.append(f"  not of this study: {study.named(strange)}")
    return lines


def _names(how: str, found: list[str], folder: Path) -> str:
    text = f"   {study.named(found)}" if 0 < len(found) <= 5 else ""
    if how == MISSING and (begun := sum((folder / name / "metrics.jsonl").exists() for name in found)):
        text += f"   {begun:,} of them begun"
    return text
