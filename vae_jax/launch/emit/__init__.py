"""Writes the plan of a sweep as text for another place, which then runs it: a scheduler, a cluster, a cloud.

PLACE and its words, which may be left out where they are in brackets:

    commands   a line a program, for a shell or GNU parallel
               [--python=PATH]
    sbatch     a SLURM array script, an element a program
               [--partition=P --time=HH:MM:SS --gpus=N --cpus=N --memory=GB (a node each) --nodes=N --max_parallel=N
               --python=PATH]
    jobset     JobSets of Kubernetes, one a program, a process a host
               --image=IMAGE --claim=VOLUME [--accelerator=NAME --topology=AxB (tpu) --chips=N (a host) --nodes=N
               --root=FOLDER (of the repository in the image) --namespace=NAME --restarts=N]
    skypilot   a SkyPilot task, launched once a program
               --bucket=URL [--accelerator=NAME:N --nodes=N --spot]
    gcloud     commands for a Cloud TPU slice, from asking for it to giving it back
               --accelerator=TYPE --zone=ZONE [--runtime=VERSION --project=NAME --spot]
    wandb      the file of a W&B sweep, whose trials vae-jax agent runs; for a sweep that is a grid

Every point of the sweep is checked first. plan.json and programs/*.json are written as vae-jax sweep writes them (for
wandb, the agent does), and what has ended in the study's folder, as it is seen here, is left out. docs/sweeps.md.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_jax import registry
from vae_jax.config.command_line import Overrides, switch, text, whole
from vae_jax.config.parse import load_sweep
from vae_jax.errors import UserError, unknown_name
from vae_jax.launch.emit import manifests, shell
from vae_jax.launch.emit.work import Work
from vae_jax.launch.jobs import Job, look_at_all, write_members_file
from vae_jax.sweeps import algebra, plan, study

PLACES: dict[str, Callable[..., str]] = {
    "commands": shell.commands,
    "sbatch": shell.sbatch,
    "gcloud": shell.gcloud,
    "jobset": manifests.jobset,
    "skypilot": manifests.skypilot,
    "wandb": manifests.wandb,
}
"""Each makes the text of a Work; its keywords are the words of the place."""


def place_fields() -> dict[str, Any]:
    """The words of all places with their defaults."""
    return {name: default for place in PLACES.values() for name, default in registry.keyword_fields(place).items()}


def argument(name: str, default: Any) -> dict[str, Any]:
    """How a command line reads the word `name`."""
    places = [place for place, make in PLACES.items() if name in registry.keyword_fields(make)]
    about = {"help": f"of --to={', '.join(places)} (default: {default!r})"}
    if isinstance(default, bool):
        return about | {"type": switch, "nargs": "?", "const": True, "metavar": "true|false"}
    if isinstance(default, int):
        return about | {"type": whole(min(default, 1)), "metavar": "N"}
    return about | {"type": text, "metavar": "TEXT"}


def check_words(place: str, given: Mapping[str, Any]) -> None:
    """Raises UserError for a word that is not one of the place's own."""
    fields = registry.keyword_fields(PLACES[place])
    for name in given:
        if name not in fields:
            known = ["to", "config", "workdir", "output", *fields]
            raise UserError(f"--to={place}: {unknown_name(f'--{name}', name, known)}")


def emit_sweep(
    to: str, given: Mapping[str, Any], file: str, overrides: Overrides, folder: Path, output: str = ""
) -> int:
    """Writes the text of a sweep for the place `to`; the exit status. Raises UserError naming what is wrong.

    Args:
        given: the words of the place that are not at their defaults.
        file: the config NAME|FILE.py[:ARGUMENT], which has sweep().
        folder: the study's.
        output: the file that the text goes to; printed where it is empty.
    """
    place = registry.choose("--to", to, PLACES)
    check_words(to, given)
    points = load_sweep(file)
    programs = algebra.programs(algebra.runs(file, overrides, points))
    if to == "wandb":
        check_output(output)
        give(place(Work(folder, file, overrides, points, programs), **given), output)
        return 0
    jobs, waiting = look_at_all({program.id: plan.of_program(program) for program in programs}, folder)
    if ended := len(jobs) - len(waiting):
        print(f"{ended} of {len(jobs)} programs have ended: left out", file=sys.stderr)
    if waiting:
        left = [program for program, job in zip(programs, jobs, strict=True) if not job.over()]
        emitted = place(Work(folder, file, overrides, points, left), **given)
        check_output(output)
        keep(folder, jobs, waiting)
        give(emitted, output)
    return 0


def keep(folder: Path, jobs: Sequence[Job], waiting: Sequence[Job]) -> None:
    """Writes plan.json, and the members of each program that has something to do, as vae-jax sweep does."""
    with study.hold(folder):
        study.write_plan(folder, [run for job in jobs for run in job.runs])
        for job in waiting:
            write_members_file(job, folder)


def check_output(output: str) -> None:
    """Raises UserError where the file `output` cannot be written, before anything else is."""
    if not output:
        return
    there = Path(output).exists()
    try:
        Path(output).open("a").close()
    except OSError as error:
        raise UserError(f"--output: {output!r} cannot be written ({error.strerror}); give another") from None
    if not there:
        Path(output).unlink()


def give(emitted: str, output: str) -> None:
    """Prints the text, or puts it in the file `output`, which has been checked."""
    if output:
        Path(output).write_text(emitted)
    else:
        print(emitted, end="")
