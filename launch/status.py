"""How a study stands, from its folder alone.

    python -m launch.status runs/study

Works while it runs, and on a study copied from elsewhere. Exit status: 0 where every run is done (or was dropped by
halving), 1 otherwise.
"""

from pathlib import Path

from experiments import settings
from launch import study
from launch.study import DONE, DROPPED, FAILED, MISSING, RUNNING
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Prints the state of the study that the command line names; the exit status."""
    folders = [word for word in argv if not word.startswith("--")]
    if len(argv) != 1 or len(folders) != 1:
        raise UserError("launch.status: give the folder of one study, as in python -m launch.status runs/study")
    folder = Path(folders[0])
    planned = study.read_plan(folder)
    states: dict[str, list[str]] = {how: [] for how in (DONE, RUNNING, FAILED, DROPPED, MISSING)}
    for run in planned:
        states[study.state(folder / run.id, run.steps)].append(run.id)
    problems = {run.id: what for run in planned if (what := study.problem(folder / run.id))}
    print("\n".join(report(folder, planned, states, problems)))
    return int(len(states[DONE]) + len(states[DROPPED]) < len(planned) or bool(problems))


def report(
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


if __name__ == "__main__":
    settings.start(main, __doc__)
