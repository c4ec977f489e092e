"""The folder of a study: its plan, and the state of each run, from the files alone.

    plan.json               every run of the study: its id, its program, its steps, its command line
    programs/<id>.json      the members of a program, as vae-jax population reads them
    programs/<id>.log       what its process printed
    programs/<id>.error     the end of that, where it crashed; gone when it is tried again
    programs/<id>.slurm.json    the SLURM job as which it was last submitted, and with which runs
    programs/<run>.trial.json   what W&B's agent told the trial of a run
    programs/study_<digest>.py, .json   the config and the points of vae_jax.sweep; programs/data.npz its arrays
    programs/<id>.speed.json    steps of all members together and their seconds, in the launch that did most
    comparison/, udr.json   what vae-jax compare and vae-jax udr found
    search.json, trials.json, trial.py, optuna_journal.log    of a search (trials.py)
    <run>/                  the folder of a run, as vae-jax train leaves it

No jax here: a table of thousands of runs is drawn anew every second.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from vae_jax.config.command_line import command
from vae_jax.config.free_fields import decisive_fields
from vae_jax.config.run_end import has_ended
from vae_jax.errors import UserError
from vae_jax.files import parse_json, read_json, write_json
from vae_jax.phrases import printable, shorten

SUFFIX_DIGITS = 8
"""Of the digest in a run's id: among 10,000 runs of a seed two are alike with a chance of one in a hundred."""

NAME_LENGTH = 80
"""Characters of a run's id before its suffix, at most."""

FILE_NAME_BYTES = 200
"""Of a name to which endings are put, at most: file systems take 255."""

WORDS_LENGTH = 200
"""Characters that are shown of what a damaged file holds."""

DONE, FAILED, DROPPED, RUNNING, MISSING = "done", "failed", "dropped", "running", "missing"
"""The states of a run; in the first three nothing remains to be done for it."""


STUDY_FILES = (
    *("plan.json", "programs", "comparison", "udr.json"),
    *("search.json", "trials.json", "trial.py", "optuna_journal.log"),
)
"""What a study's folder holds beside runs; the last four where it is a search."""


class PlanEntry(NamedTuple):
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


def run_suffix(config: Mapping[str, Any]) -> str:
    """How the id of the run of a config ends, given as nested dicts: the same run wherever it is launched.

    What changes none of its numbers is not in it, nor how long it trains where that changes none.
    """
    return f"_s{config['seed']}_{digest(decisive_fields(config))[:SUFFIX_DIGITS]}"


def run_id(config: Mapping[str, Any], point: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The id of a run: what the `point` of its sweep sets, and `run_suffix`: "beta=4_s0_a24cd813".

    Without anything but the seed in the point: the variant and the data.
    """
    words = [_swept_word(field, value, point) for field, value in point.items() if field != "seed"]
    plain_words = words or [config["variant"]["name"], config["data"]["name"]]
    name = re.sub(r"[^\w.+=()-]+", "-", "_".join(plain_words), flags=re.ASCII)
    return name[:NAME_LENGTH].strip("-.") + run_suffix(config)


def _swept_word(field: str, value: Any, point: Mapping[str, Any]) -> str:
    """A swept field with its value; of a name the value alone, of a field the last word where that is enough."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    leaf = field.rpartition(".")[2]
    if leaf == "name":
        return text
    return f"{leaf if sum(other.endswith(f'.{leaf}') for other in point) < 2 else field}={text}"


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the study for this launcher alone; the lock goes with the process, however that ends.

    Raises UserError where another launcher has it, and where it cannot be a study's folder.
    """
    handle = _open_study(folder)
    try:
        if not _try_lock(handle, fcntl.LOCK_EX):
            raise UserError(
                f"--workdir: {str(folder)!r} is in use by another launcher; wait for it ({command('status')} "
                f"{folder}) or give another"
            )
        yield
    finally:
        os.close(handle)


def _open_study(folder: Path) -> int:
    if (folder / "config.json").exists():
        raise UserError(f"--workdir: {str(folder)!r} is the folder of one run; give another")
    try:
        (folder / "programs").mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--workdir: {str(folder)!r} cannot be a folder ({error.strerror}); give another") from None


def _try_lock(handle: int, kind: int) -> bool:
    """Whether an open folder could be locked at once, as its one holder (LOCK_EX) or one of several (LOCK_SH)."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def error_file(folder: Path, program: str) -> Path:
    """The file that says how a program crashed."""
    return folder / "programs" / f"{program}.error"


def speed_file(folder: Path, program: str) -> Path:
    """The file that says how fast a program was."""
    return folder / "programs" / f"{program}.speed.json"


def read_speed(folder: Path, program: str) -> tuple[float, float]:
    """Steps of all members of a program together and their seconds, as recorded; zeros where that is not known."""
    recorded = read_json(speed_file(folder, program))
    steps, seconds = (_positive(recorded.get(name)) for name in ("member_steps", "seconds"))
    return (steps, seconds) if steps and seconds else (0.0, 0.0)


def _positive(value: Any) -> float:
    """A positive number of a file; 0 for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 2**63 else 0.0


def has_plan(folder: Path) -> bool:
    """Whether a study was planned in this folder."""
    return (folder / "plan.json").exists()


def read_plan(folder: Path) -> list[PlanEntry]:
    """The runs of a study. Raises UserError where its plan.json is missing or damaged."""
    file = folder / "plan.json"
    if not file.is_file():
        raise UserError(f"{folder}: has no plan.json; give the folder of a study, as vae-jax sweep makes it")
    try:
        return [_plan_entry(run) for run in parse_json(file)["runs"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = str(error).removeprefix(f"{file}: ") if isinstance(error, ValueError) else repr(error)
        why = shorten(printable(why), WORDS_LENGTH)
        raise UserError(f"{file}: is damaged ({why}); remove it, and vae-jax sweep writes it anew") from None


def _plan_entry(run: Mapping[str, Any]) -> PlanEntry:
    """A run of plan.json. Raises ValueError, TypeError or KeyError for what no launcher writes there.

    Its id and its program are names of files, and must not lead anywhere else.
    """
    entry = PlanEntry(run["id"], run["program"], run["steps"], tuple(run["halving"]), run["words"])
    holds = {
        "id": is_file_name(entry.id),
        "program": is_file_name(entry.program),
        "steps": _is_count(entry.steps),
        "halving": all(map(_is_count, entry.halving)),
        "words": isinstance(entry.words, list) and all(isinstance(word, str) for word in entry.words),
    }
    for field, right in holds.items():
        if not right:
            raise ValueError(f"{field} of a run: {run[field]!r}")
    return entry


def is_file_name(value: Any) -> bool:
    """Whether it is the plain name of a file or a folder."""
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value or printable(value) != value:
        return False
    return len(value.encode()) <= FILE_NAME_BYTES


def _is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def write_plan(folder: Path, entries: Sequence[PlanEntry], queued: Collection[str] = ()) -> None:
    """Writes plan.json: these runs, and those of earlier sweeps that have a folder or whose program is `queued`.

    What was never begun goes.
    """
    ids = {run.id for run in entries}
    earlier = read_plan(folder) if has_plan(folder) else []
    kept = [run for run in earlier if run.id not in ids and ((folder / run.id).is_dir() or run.program in queued)]
    write_json(folder / "plan.json", {"runs": [run._asdict() for run in [*entries, *kept]]})


def end_state(folder: Path, steps: int) -> str | None:
    """How a run of so many steps ended; None where it has not. Metrics alone, asked for later, do not finish one."""
    if (folder / "failed.json").exists():
        return FAILED
    if (folder / "dropped.json").exists():
        return DROPPED
    evaluation = read_json(folder / "evaluation.json")
    return DONE if has_ended(evaluation, steps) else None


def failure_reason(folder: Path) -> str:
    """Why a run has failed, as its failed.json says, in one line."""
    reason = read_json(folder / "failed.json").get("error")
    return printable(reason) if isinstance(reason, str) else "it does not say why"


def run_state(folder: Path, steps: int) -> str:
    """The state of a run: done, failed, dropped, running or missing."""
    return end_state(folder, steps) or (RUNNING if is_locked(folder) else MISSING)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder, as training/workdir.py does."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def last_step(folder: Path) -> int:
    """The step of the last whole record of metrics.jsonl, of which only the end is read; 0 where there is none."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            return next(filter(None, map(_step_of_record, _lines_from_end(file))), 0)
    except OSError:
        return 0


def _step_of_record(line: bytes) -> int:
    """The step of one line of metrics.jsonl; 0 where it is cut short. Records begin at step 1."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
    return step if _is_count(step) else 0


def last_elbo(folder: Path) -> float | None:
    """The ELBO of the last evaluation of the validation split; None where there is none. Reads the end alone."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            return next((elbo for line in _lines_from_end(file) if (elbo := _elbo_of_record(line)) is not None), None)
    except OSError:
        return None


def _lines_from_end(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file from the last to the first, of which no more is read than is asked for."""
    end, cut = file.seek(0, os.SEEK_END), b""
    while end:
        start = max(0, end - CHUNK_BYTES)
        file.seek(start)
        first, *lines = (file.read(end - start) + cut).split(b"\n")
        yield from reversed(lines)
        end, cut = start, first
    yield cut


CHUNK_BYTES = 8192
"""Of a file that are read at once."""


def _elbo_of_record(line: bytes) -> float | None:
    """The ELBO of one line of metrics.jsonl, if it is of the validation split and has a finite one."""
    if b'"validation"' not in line:
        return None
    try:
        record = json.loads(line)
        elbo = record["elbo"] if record["split"] == "validation" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return elbo if isinstance(elbo, float) and math.isfinite(elbo) else None


def remaining_steps(run: PlanEntry, step: int) -> float:
    """Steps that a run at `step` has before it: each later rung of halving leaves half of the runs."""
    total, share, start = 0.0, 1.0, step
    for stop in [*(rung for rung in run.halving if step <= rung < run.steps), run.steps]:
        total, share, start = total + share * (stop - start), share / 2, stop
    return total


def problem(folder: Path) -> str | None:
    """What is wrong with a run's folder; None where nothing is, or nothing is there yet."""
    if not folder.is_dir():
        return "is not a folder" if folder.exists() else None
    file = folder / "config.json"
    if not file.exists():
        return None if not any(folder.iterdir()) else "has no config.json"
    try:
        suffix = run_suffix(read_json(file)["config"])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OverflowError):
        return "has a damaged config.json"
    if not folder.name.endswith(suffix):
        return f"holds another run (...{shorten(printable(suffix), WORDS_LENGTH)})"
    evaluation = folder / "evaluation.json"
    return "has a damaged evaluation.json" if evaluation.exists() and not read_json(evaluation) else None


def foreign_names(folder: Path, entries: Sequence[PlanEntry]) -> list[str]:
    """The names in the study's folder that its plan does not have."""
    known = {*STUDY_FILES, *(run.id for run in entries)}
    return sorted(path.name for path in folder.iterdir() if path.name not in known and not path.name.startswith("."))
