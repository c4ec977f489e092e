"""SLURM's queue, asked through its client, and which programs of a study are in it."""

import contextlib
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.files import read_json, write_json
from vae_jax.sweeps import study

ANSWER_SECONDS = 60.0
"""How long SLURM may take to answer."""

SUFFIX = ".slurm.json"


def ask_queue() -> dict[str, str]:
    """The state of each job in the queue, with the reason why it waits. Raises UserError where SLURM tells none."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T %r"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM did not answer squeue within {ANSWER_SECONDS:g} s; try again later") from None
    except OSError as error:
        raise UserError(f"squeue failed: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"squeue failed: {in_one_line(error.stderr)}") from None
    queue = {}
    for line in answer.splitlines():
        job, state, reason = line.split(maxsplit=2)
        queue[job] = f"pending: {reason}" if state == "PENDING" else state.lower()
    return queue


def in_one_line(text: str) -> str:
    """What a client of SLURM printed, in one line."""
    return " ".join(text.split()) or "it does not say why"


def submission_file(folder: Path, program: str) -> Path:
    """The file that says as which SLURM job a program was last submitted, and with which runs."""
    return folder / "programs" / f"{program}{SUFFIX}"


def write_submission(folder: Path, program: str, job: str, runs: list[str]) -> None:
    """Keeps as which SLURM job a program was submitted, and with which runs."""
    write_json(submission_file(folder, program), {"job": job, "runs": runs})


def submitted_runs(folder: Path, program: str) -> list[str]:
    """The runs with which a program was last submitted."""
    runs = read_json(submission_file(folder, program)).get("runs")
    return [run for run in runs if study.is_file_name(run)] if isinstance(runs, list) else []


def submitted_jobs(folder: Path) -> dict[str, str]:
    """The SLURM job as which each program was last submitted."""
    files = sorted(folder.glob(f"programs/*{SUFFIX}"))
    return {file.name.removesuffix(SUFFIX): str(read_json(file).get("job")) for file in files}


def queued_jobs(folder: Path, queue: Mapping[str, str]) -> dict[str, str]:
    """The SLURM job of each program that one in the queue, a state for each job, is still to train."""
    return {
        program: job
        for program, job in submitted_jobs(folder).items()
        if job in queue and not (queue[job] == "completing" and study.error_file(folder, program).exists())
    }


@contextlib.contextmanager
def lock_unqueued(folder: Path) -> Iterator[None]:
    """Holds the study for this launcher alone, which trains without SLURM's queue.

    Raises UserError as `study.lock` does, and where a run that has not ended is in the queue.
    """
    with study.lock(folder):
        check_unqueued(folder)
        yield


def check_unqueued(folder: Path) -> None:
    """Raises UserError naming a SLURM job that is to train a run of this study which has not ended.

    Where no queue can be asked, what was submitted and has not crashed counts as queued.
    """
    unfinished = _unfinished_submissions(folder)
    if not unfinished:
        return
    try:
        queued: Collection[str] = queued_jobs(folder, ask_queue())
        alternative = ""
    except UserError:  # a machine without SLURM, or it does not answer
        queued = [program for program in unfinished if not study.error_file(folder, program).exists()]
        alternative = ", or remove that file if the job is gone"
    for program in unfinished:
        if program in queued:
            raise UserError(
                f"--workdir: {str(folder)!r} is with SLURM, {program} as job {unfinished[program]} "
                f"(programs/{program}{SUFFIX}); scancel it, or use vae-jax slurm{alternative}"
            )


def _unfinished_submissions(folder: Path) -> dict[str, str]:
    """The SLURM job of each program that was submitted with a run that has not ended."""
    steps = {run.id: run.steps for run in study.read_plan(folder)} if study.has_plan(folder) else {}
    return {
        program: job
        for program, job in submitted_jobs(folder).items()
        if any(study.end_state(folder / run, steps.get(run, -1)) is None for run in submitted_runs(folder, program))
    }
