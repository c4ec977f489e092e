"""The folder of a study: its plan, and how each run stands, told from the files alone.

    plan.json               every run of the study: its id, its program, its steps, its command line
    programs/<id>.json      the members of a program, as experiments.population reads them
    programs/<id>.log       what its process printed
    programs/<id>.error     the end of that, where it crashed; gone when it is tried again
    programs/<id>.slurm.json    the SLURM job as which it was last submitted, and with which runs
    programs/<run>.trial.json   what W&B's agent told the trial of a run
    programs/<id>.speed.json    steps of all members together and their seconds, in the launch that did most
    <run>/                  the folder of a run, as experiments.train leaves it

SLURM's queue is asked only before a launcher takes the folder. No jax here: a table of thousands of runs is drawn anew
every second.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.errors import UserError
from vae_jax.launch.slurm_queue import ask_queue
from vae_jax.training.writers import write_json

DONE, FAILED, DROPPED, RUNNING, MISSING = "done", "failed", "dropped", "running", "missing"
ENDED = (DONE, FAILED, DROPPED)
"""States in which nothing remains to be done for a run."""


class Planned(NamedTuple):
    """A run as plan.json has it; `halving` are the steps at which half of its program's runs are dropped."""

    id: str
    program: str
    steps: int
    halving: tuple[int, ...]
    words: list[str]


def canonical(value: Any) -> Any:
    """A config's values as JSON holds them, with every number a float: 4 and 4.0 are the same setting."""
    if isinstance(value, Mapping):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def digest(value: Any) -> str:
    """Ten hex digits that stand for `value`, whatever the order of its fields."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def identity(config: Mapping[str, Any]) -> str:
    """The id of the run of a config, given as nested dicts: the same config is the same run wherever it is launched."""
    return f"{config['variant']['name']}_{config['data']['name']}_s{config['seed']}_{digest(config)}"


@contextlib.contextmanager
def hold(study: Path) -> Iterator[None]:
    """Holds the study for this launcher alone, which trains without SLURM's queue.

    Raises UserError as `lock` does, and where a run that has not ended is in the queue.
    """
    with lock(study):
        check_unqueued(study)
        yield


@contextlib.contextmanager
def lock(study: Path) -> Iterator[None]:
    """Holds the study for this launcher alone; the lock goes with the process, however that ends.

    Raises UserError where another launcher has it, and where it cannot be a study's folder.
    """
    if (study / "config.json").exists():
        raise UserError(f"--workdir: {str(study)!r} is the folder of one run; give another")
    try:
        (study / "programs").mkdir(parents=True, exist_ok=True)
        handle = os.open(study, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--workdir: {str(study)!r} cannot be a folder ({error.strerror}); give another") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--workdir: {str(study)!r} is in use by another launcher; wait for it (python -m launch.status "
                f"{study}) or give another"
            ) from None
        yield
    finally:
        os.close(handle)


def submission(study: Path, program: str) -> Path:
    """The file that says as which SLURM job a program was last submitted, and with which runs."""
    return study / "programs" / f"{program}.slurm.json"


def error(study: Path, program: str) -> Path:
    """The file that says how a program crashed."""
    return study / "programs" / f"{program}.error"


def submitted(study: Path) -> dict[str, str]:
    """The SLURM job as which each program was last submitted."""
    files = sorted(study.glob("programs/*.slurm.json"))
    return {file.name.removesuffix(".slurm.json"): str(read(file).get("job")) for file in files}


def queued(study: Path, queue: Mapping[str, str]) -> dict[str, str]:
    """The SLURM job of each program that one in the queue, a state for each number, is still to train."""
    ending = lambda name, number: queue[number] == "completing" and error(study, name).exists()  # noqa: E731
    return {name: job for name, job in submitted(study).items() if job in queue and not ending(name, job)}


def check_unqueued(study: Path) -> None:
    """Raises UserError naming a SLURM job that is to train a run of this study which has not ended.

    Where no queue can be asked, what was submitted and has not crashed is in it.
    """
    steps = {run.id: run.steps for run in read_plan(study)} if (study / "plan.json").exists() else {}
    left = {}
    for name, number in submitted(study).items():
        runs = read(submission(study, name)).get("runs", [])
        if any(ended(study / run, steps.get(run, -1)) is None for run in runs):
            left[name] = number
    if not left:
        return
    otherwise = ""
    try:
        there = queued(study, ask_queue())
    except UserError:  # a machine without SLURM, or it does not answer
        there = {name: number for name, number in submitted(study).items() if not error(study, name).exists()}
        otherwise = ", or remove that file if the job is gone"
    for name, number in left.items():
        if name in there:
            raise UserError(
                f"--workdir: {str(study)!r} is with SLURM, {name} as job {number} (programs/{name}.slurm.json); "
                f"scancel it, or use launch.slurm{otherwise}"
            )


def read_plan(study: Path) -> list[Planned]:
    """The runs of a study. Raises UserError where its plan.json is missing or damaged."""
    file = study / "plan.json"
    if not file.is_file():
        raise UserError(f"{study}: has no plan.json; give the folder of a study, as launch.local makes it")
    try:
        listed = json.loads(file.read_text())["runs"]
        return [
            Planned(run["id"], run["program"], int(run["steps"]), tuple(run["halving"]), run["words"]) for run in listed
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: is damaged ({error!r}); remove it, and launch.local writes it anew") from None


def write_plan(study: Path, planned: list[Planned], queued: Collection[str] = ()) -> None:
    """Writes plan.json: these runs, and those of earlier sweeps that have a folder or whose program is `queued`.

    What was never begun goes.
    """
    ids = {run.id for run in planned}
    earlier = read_plan(study) if (study / "plan.json").exists() else []
    kept = [run for run in earlier if run.id not in ids and ((study / run.id).is_dir() or run.program in queued)]
    write_json(study / "plan.json", {"runs": [run._asdict() for run in [*planned, *kept]]})


def read(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; empty where there is none or it is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def ended(folder: Path, steps: int) -> str | None:
    """How a run of so many steps ended; None where it has not. Metrics alone, asked for later, do not finish one."""
    if (folder / "failed.json").exists():
        return FAILED
    if (folder / "dropped.json").exists():
        return DROPPED
    found = read(folder / "evaluation.json")
    return DONE if "loss" in found and found.get("step") == steps else None


def state(folder: Path, steps: int) -> str:
    """How a run stands: done, failed, dropped, running or missing."""
    return ended(folder, steps) or (RUNNING if locked(folder) else MISSING)


def locked(folder: Path) -> bool:
    """Whether a process holds the folder, as experiments/workdir.py does."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def last_step(folder: Path) -> int:
    """The step of the last whole record of metrics.jsonl, of which only the end is read."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            size, length = file.seek(0, os.SEEK_END), 4096
            while True:
                start = max(0, size - length)
                file.seek(start)
                # What comes before the first line break may be half a line.
                lines = file.read(size - start).split(b"\n")[1 if start else 0 :]
                for line in reversed(lines):
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        return int(json.loads(line)["step"])
                if not start:
                    return 0
                length *= 4
    except OSError:
        return 0


def steps_left(run: Planned, step: int) -> float:
    """Steps that a run at `step` has before it: each later rung of halving leaves half of the runs."""
    left, share, at = 0.0, 1.0, step
    for until in [*(rung for rung in run.halving if step <= rung < run.steps), run.steps]:
        left, share, at = left + share * (until - at), share / 2, until
    return left


def problem(folder: Path) -> str | None:
    """What is wrong with a run's folder; None where nothing is, or nothing is there yet."""
    if not folder.is_dir():
        return "is no folder" if folder.exists() else None
    file = folder / "config.json"
    if not file.exists():
        return None if not any(folder.iterdir()) else "has no config.json"
    try:
        found = identity(read(file)["config"])
    except (KeyError, TypeError):
        return "has a damaged config.json"
    if found != folder.name:
        return f"holds another run ({found})"
    evaluation = folder / "evaluation.json"
    return "has a damaged evaluation.json" if evaluation.exists() and not read(evaluation) else None


def foreign(study: Path, planned: list[Planned]) -> list[str]:
    """The names in the study's folder that its plan does not have."""
    known = {run.id for run in planned} | {"plan.json", "programs", "comparison"}
    return sorted(path.name for path in study.iterdir() if path.name not in known and not path.name.startswith("."))


def named(names: list[str], most: int = 5) -> str:
    """The names in a line, or the first of them and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
