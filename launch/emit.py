"""Writes the plan of a sweep as text for another place, which then runs it: a scheduler, a cluster, a cloud.

    python -m launch.emit --to=PLACE --config=FILE[:ARG] --workdir=runs/study [--config.a.b=v ...] [--output=FILE]

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
    wandb      the file of a W&B sweep, whose trials launch.wandb_agent runs; for a sweep that is a grid

Every point of the sweep is checked first. plan.json and programs/*.json are written as launch.local writes them (for
wandb, the agent does), and what has ended in the study's folder, as it is seen here, is left out. docs/sweeps.md.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import settings
from launch import emit_shell, emit_yaml, plan, study, sweep
from launch.emit_work import Work
from launch.watch import Job, look_at_all, prepare
from vae_jax import registry
from vae_jax.registry import UserError

KNOWN = ("to", "config", "workdir", "output")

PLACES: dict[str, Callable[..., str]] = {
    "commands": emit_shell.commands,
    "sbatch": emit_shell.sbatch,
    "gcloud": emit_shell.gcloud,
    "jobset": emit_yaml.jobset,
    "skypilot": emit_yaml.skypilot,
    "wandb": emit_yaml.wandb,
}
"""Each makes the text of a Work; its keywords are the words of the place."""


def main(argv: list[str]) -> int:
    """Writes the text that the command line asks for; the exit status."""
    fields = {name: default for place in PLACES.values() for name, default in registry.fields(place).items()}
    switches = tuple(name for name, default in fields.items() if default is False)
    own, overrides = settings.Arguments([*KNOWN, *(fields.keys() - set(switches))], switches).parse(argv)
    if "to" not in own:
        raise UserError(f"--to: missing; give one of {', '.join(sorted(PLACES))}")
    place = registry.choose("--to", own["to"], PLACES)
    words = read_words(own["to"], {name: text for name, text in own.items() if name not in KNOWN})
    file = own.get("config", settings.DEFAULT)
    folder = Path(own.get("workdir", f"runs/{Path(file.partition(':')[0]).stem}_sweep"))
    points = settings.load_sweep(file)
    programs = sweep.programs(sweep.runs(file, overrides, points))
    if own["to"] == "wandb":
        check_output(own.get("output", ""))
        give(place(Work(folder, file, overrides, points, programs), **words), own.get("output", ""))
        return 0
    jobs, waiting = look_at_all({program.id: plan.of_program(program) for program in programs}, folder)
    if ended := len(jobs) - len(waiting):
        print(f"{ended} of {len(jobs)} programs have ended: left out", file=sys.stderr)
    if waiting:
        left = [program for program, job in zip(programs, jobs, strict=True) if not job.over()]
        text = place(Work(folder, file, overrides, points, left), **words)
        check_output(own.get("output", ""))
        keep(folder, jobs, waiting)
        give(text, own.get("output", ""))
    return 0


def read_words(place: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The words of a place as its function takes them. Raises UserError for one that is not its own, or no number."""
    fields, found = registry.fields(PLACES[place]), {}
    for name, text in given.items():
        if name not in fields:
            raise UserError(f"--to={place}: {registry.unknown(f'--{name}', name, [*KNOWN, *fields])}")
        default = fields[name]
        if type(default) is int and not (text.isdecimal() and int(text) >= min(default, 1)):
            raise UserError(f"--{name}: {text!r} is not allowed; give a whole number of at least {min(default, 1)}")
        if type(default) is bool and text not in ("true", "false"):
            raise UserError(f"--{name}: {text!r} is not allowed; give true or false")
        found[name] = text == "true" if type(default) is bool else type(default)(text)
    return found


def keep(folder: Path, jobs: Sequence[Job], waiting: Sequence[Job]) -> None:
    """Writes plan.json, and the members of each program that has something to do, as launch.local does."""
    with study.hold(folder):
        study.write_plan(folder, [run for job in jobs for run in job.runs])
        for job in waiting:
            prepare(job, folder)


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


def give(text: str, output: str) -> None:
    """Prints the text, or puts it in the file `output`, which has been checked."""
    if output:
        Path(output).write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    settings.start(main, __doc__)
