"""Writes the plan of a sweep as text for another place, which then runs it: one place a file of this folder.

Such a file has `emit(plan, **words) -> str`, whose keywords are the words of the place on the command line, and a
docstring of what it writes and which words it takes.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vae_jax import registry
from vae_jax.config.command_line import Overrides, switch, text, whole
from vae_jax.config.parse import load_sweep
from vae_jax.errors import UserError, unknown_name
from vae_jax.files import write_text
from vae_jax.launch.emit._study_plan import StudyPlan
from vae_jax.launch.progress import (
    GroupProgress,
    all_entries,
    incomplete,
    read_progress,
    write_members_file,
)
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.phrases import printable
from vae_jax.sweeps import study
from vae_jax.sweeps.groups import group_runs, plan_entries, plan_runs

MANUAL = """Writes the plan of a sweep as text for another place, which then runs it: a scheduler, a cluster, a cloud.

PLACE and its words, which may be left out where they are in brackets:

{places}

Every point of the sweep is checked first. plan.json and programs/*.json are written as vae-jax sweep writes them (for
wandb, the agent does), and what has ended in the study's folder, as it is seen here, is left out. docs/sweeps.md.
"""

NAME_WIDTH = 11

COMMON_WORDS = ("to", "config", "workdir", "output")


def places() -> dict[str, ModuleType]:
    """The files of this folder by name."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in registry.file_names(__name__)}


def words_of(place: ModuleType) -> dict[str, Any]:
    """The words of a place with their defaults."""
    return registry.keyword_fields(place.emit)


def manual() -> str:
    """What the command line says of every place."""
    lines = []
    for name, place in places().items():
        first, *others = (inspect.getdoc(place) or "").splitlines()
        lines.append(f"    {name:<{NAME_WIDTH}}{first.removesuffix('.')}")
        lines += [f"    {'':<{NAME_WIDTH}}{line}" for line in others if line]
    return MANUAL.format(places="\n".join(lines))


def place_words() -> dict[str, Any]:
    """The words of all places with their defaults."""
    return {word: default for place in places().values() for word, default in words_of(place).items()}


def parser_options(word: str, default: Any) -> dict[str, Any]:
    """How argparse reads a word of a place."""
    names = [name for name, place in places().items() if word in words_of(place)]
    options = {"help": f"of --to={', '.join(names)} (default: {default!r})"}
    if isinstance(default, bool):
        return options | {"type": switch, "nargs": "?", "const": True, "metavar": "true|false"}
    if isinstance(default, int):
        return options | {"type": whole(min(default, 1)), "metavar": "N"}
    return options | {"type": text, "metavar": "TEXT"}


def emit_sweep(
    name: str, words: Mapping[str, Any], file: str, overrides: Overrides, folder: Path, output: str = ""
) -> int:
    """Writes the text of a sweep for another place; the exit status. Raises UserError naming what is wrong.

    Args:
        name: the place, a file of this folder.
        words: those of its words that are not at their defaults.
        file: the config NAME|FILE.py[:ARGUMENT], which has sweep().
        overrides: fields of every run.
        folder: the study's.
        output: the file that the text goes to; printed where it is empty.
    """
    place = registry.choose("--to", name, places())
    check_words(name, words, words_of(place))
    check_lines(words, file, overrides, folder)
    points = load_sweep(file)
    groups = group_runs(plan_runs(file, overrides, points, folder))
    plan = StudyPlan(folder, file, overrides, points, groups)
    if not getattr(place, "WRITES_STUDY", True):
        emitted = place.emit(plan, **words)
        check_output(output)
        write_output(emitted, output)
        return 0
    progress = read_progress(plan_entries(groups), folder)
    waiting = [group for group, state in zip(groups, progress, strict=True) if not state.complete]
    if ended := len(groups) - len(waiting):
        print(f"{ended} of {len(groups)} programs have ended: left out", file=sys.stderr)
    if waiting:
        emitted = place.emit(plan._replace(groups=waiting), **words)
        check_output(output)
        write_study(folder, progress)
        write_output(emitted, output)
    return 0


def check_words(name: str, words: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises UserError for a word that is not one of the place's own."""
    for word in words:
        if word not in known:
            raise UserError(f"--to={name}: {unknown_name(f'--{word}', word, [*COMMON_WORDS, *known])}")


def check_lines(words: Mapping[str, Any], file: str, overrides: Overrides, folder: Path) -> None:
    """Raises UserError for what is no single line of text: in a script or a manifest the next might be run."""
    fields = {f"config.{field}": value for field, value in overrides}
    for word, value in {**words, "config": file, "workdir": folder.resolve(), **fields}.items():
        if (line := printable(str(value))) != str(value):
            raise UserError(f"--{word}: '{line}' is not allowed; give text without line breaks and control characters")


def write_study(folder: Path, groups: Sequence[GroupProgress]) -> None:
    """Writes plan.json, and the members of each program that has something to do, as vae-jax sweep does."""
    with lock_unqueued(folder):
        study.write_plan(folder, all_entries(groups))
        for group in incomplete(groups):
            write_members_file(group, folder)


def check_output(output: str) -> None:
    """Raises UserError where the file `output` cannot be written, before anything else is."""
    if not output:
        return
    file, existed = Path(output), Path(output).exists()
    try:
        file.open("a").close()
    except OSError as error:
        raise UserError(f"--output: {output!r} cannot be written ({error.strerror}); give another") from None
    if not existed:
        file.unlink()


def write_output(emitted: str, output: str) -> None:
    """Prints the text, or puts it in the file `output`, which has been checked."""
    if output:
        write_text(Path(output), emitted)
    else:
        print(emitted, end="")
