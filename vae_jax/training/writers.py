"""Where a run's numbers and pictures go: metrics.jsonl, Weights & Biases; the terminal: bars.py; TensorBoard:
event_files.py.

The only file that imports wandb, but for the agents of launch/. metrics.jsonl is the truth and W&B a mirror of it: the
mirror lives in a thread of its own, so that it can neither stop nor slow a run, and fails once, aloud.
"""

import contextlib
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from vae_jax.files import (
    named_errors,
    parse_record,
    plain,
    read_json,
    read_lines,
    replacement,
    write_text,
)
from vae_jax.phrases import plural
from vae_jax.training.background import BackgroundCalls, error_line

TIMINGS = ("steps_per_second", "images_per_second", "seconds")
"""Fields of metrics.jsonl that tell of the machine and not of the run: they differ when it is repeated."""

KEYS = ("step", "split")
"""Fields of metrics.jsonl that say of what a record is."""

BINS = 20
"""Of a histogram of the numbers of all latents."""

IDENTITY = re.compile(r"[\w-]{1,64}", re.ASCII)
"""What W&B takes as the id of a run."""

TRIAL_FILE, STOP_FILE = Path("wandb", "trial.json"), Path("wandb", "stopped")
"""In a run's folder: which trial of a W&B sweep it is, where it trains beside others, and that W&B has stopped it."""

START_SECONDS, FINISH_SECONDS = 10.0, 20.0
"""W&B's own limits on the start of a run and on its last uploads."""


class MetricsFile:
    """metrics.jsonl: one JSON object a line, flushed at once; opening it forgets what came after `step`.

    So it does what was reported at `step`: a run reports at its end, which was elsewhere, or comes once more. A last
    line that a crash cut short is dropped. Any other that is no record is moved to metrics.damaged.jsonl, and
    `say` is told.
    """

    def __init__(self, file: Path, step: int, say: Callable[[str], Any] = print):
        lines = read_lines(file)
        cut = lines[-1:] if lines and not lines[-1].endswith(b"\n") else []
        records = [(line, parse_record(line)) for line in lines]
        kept = [line.rstrip(b"\n") + b"\n" for line, record in records if record and _comes_before(record, step)]
        damaged = [line for line, record in records if record is None and line.strip() and line not in cut]
        if damaged:
            aside = file.with_name(f"{file.stem}.damaged{file.suffix}")
            with aside.open("ab") as stream:
                stream.writelines(damaged)
            say(f"{file}: moved {plural(len(damaged), 'damaged line')} to {aside.name}; every record is kept")
        with replacement(file) as temporary:
            temporary.write_bytes(b"".join(kept))
        self._path = file
        self._file = file.open("a", buffering=1)

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        with named_errors(self._path):
            self._file.write(json.dumps(plain(record)) + "\n")

    def sync(self) -> None:
        """Returns once all records are on disk, as what is saved after them will be."""
        with named_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _comes_before(record: Mapping[str, Any], step: int) -> bool:
    """Whether a record was written before a run that goes on from `step`."""
    return record["step"] < step or (record["step"] == step and record.get("split") != "test")


class WandbMirror:
    """Sends scalars, pictures, the config, a summary and a checkpoint to W&B from its own thread.

    `settings` is the config's `wandb` section. Mode "online" falls back to "offline" within seconds
    where there is no key or no network. The run's id is kept in `workdir/wandb/id`, so that a
    resumed run goes on in the same W&B run; `workdir/wandb/trial.json` says of which sweep it is a trial.
    Whatever fails is reported once through `say`, and nothing but `close` ever waits for W&B.
    """

    def __init__(self, workdir: Path, settings: Mapping[str, Any], config: Any, say: Callable[[str], Any] = print):
        self._workdir, self._settings, self._config, self._say = workdir, settings, config, say
        self._calls = None
        if settings["mode"] != "disabled":
            self._calls = BackgroundCalls("wandb", self._start, lambda run, code: run.finish(exit_code=code), say)
            self._calls.thread.start()

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Mirrors one record of metrics.jsonl, as split/name.

        A vector, one number a latent, is one histogram; of the test split it is a table too.
        """

        def send(run):
            import wandb

            scalars, vectors = split_values(record)
            panels = {name: wandb.Histogram(values, num_bins=BINS) for name, values in vectors.items()}
            if record["split"] == "test":  # once a run: W&B keeps a table as an artifact
                panels |= {f"{name}_table": _numbered(wandb, values) for name, values in vectors.items()}
            run.log(scalars | panels, step=record["step"])

        self._put(send)

    def picture(self, file: Path, step: int) -> None:
        """Mirrors one PNG file."""

        def send(run):
            import wandb

            run.log({f"pictures/{file.stem}": wandb.Image(str(file))}, step=step)

        self._put(send)

    def summary(self, values: Mapping[str, Any], prefix: str = "final") -> None:
        """Mirrors an evaluation in the run's summary, as prefix/name."""
        self._put(lambda run: run.summary.update({f"{prefix}/{name}": plain(value) for name, value in values.items()}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Mirrors a table."""

        def send(run):
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(plain(row)) for row in rows])})

        self._put(send)

    def page(self, file: Path) -> None:
        """Mirrors one self-contained HTML file."""

        def send(run):
            import wandb

            run.log({file.stem: wandb.Html(str(file))})

        self._put(send)

    def artifact(self, folder: Path) -> None:
        """Mirrors a folder of checkpoints as an artifact, if the config asks for it."""
        if self._settings["artifact"]:
            self._put(lambda run: run.log_artifact(str(folder), name=f"checkpoints-{run.id}", type="model"))

    def close(self, exit_code: int = 0, seconds: float = 30.0) -> None:
        """Finishes the W&B run, waiting no longer than `seconds` for it."""
        if self._calls is not None and not self._calls.close(exit_code, seconds, " (wandb sync sends the rest)"):
            _abandon()

    def _put(self, call: Callable[[Any], Any]) -> None:
        if self._calls is not None:
            self._calls.put(call)

    def _report(self, text: str) -> None:
        if self._calls is not None:
            self._calls.report(text)

    def _start(self) -> Any:
        import wandb

        mode = self._settings["mode"]
        if mode == "online":
            try:
                _check_online(wandb)
                return self._init(wandb, mode)
            except Exception as error:
                self._report(f"{error_line(error)}; this run is kept offline (wandb sync sends it later)")
                wandb.teardown()  # which forgets the failed start: the service would hold its id to be taken
            mode = "offline"
        return self._init(wandb, mode)

    def _init(self, wandb: Any, mode: str) -> Any:
        names = {name: self._settings[name] or None for name in ("project", "entity", "group", "name")}
        trial = read_json(self._workdir / TRIAL_FILE)
        if trial:
            names |= {name: trial[name] for name in ("project", "entity") if trial[name]}
        return wandb.init(
            **{**names, "name": names["name"] or self._workdir.resolve().name},
            job_type=self._settings.get("job_type", "train"),
            tags=list(self._settings["tags"]) or None,
            id=_identity(self._workdir / "wandb" / "id"),
            resume="allow",
            reinit="create_new",  # whatever other run this process has is not ours to continue
            mode=mode,
            dir=str(self._workdir),
            config=plain(self._config) | trial.get("parameters", {}),
            settings=wandb.Settings(
                init_timeout=START_SECONDS,
                finish_timeout=FINISH_SECONDS,
                silent=True,
                console="off",
                **self._trial_settings(trial),
            ),
        )

    def _trial_settings(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of W&B by which a run is a trial of a sweep; none where it is no trial.

        WANDB_SWEEP_ID is for processes of one run: under it W&B takes no id of a run but its own. And a run that is
        stopped on W&B's site would interrupt the process of all; so it leaves a file, for whoever started them.
        """
        return {"sweep_id": trial["sweep"], "stop_fn": (self._workdir / STOP_FILE).touch} if trial else {}


def _check_online(wandb: Any) -> None:
    """Raises unless there is a key and something listens; asks nobody and sends nothing."""
    # The mode is said here too, because under WANDB_MODE=disabled or offline login() finds no key.
    address = wandb.setup(wandb.Settings(mode="online", silent=True)).settings.base_url
    if not wandb.login(prompt=False, verify=False):
        raise ConnectionError("no API key (wandb login)")
    url = urlparse(address)
    if url.scheme in getproxies():
        return  # only the proxy can tell; wandb.init has a limit of its own
    try:
        socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), 3.0).close()
    except OSError as error:
        raise ConnectionError(f"{address} cannot be reached") from error


def _abandon() -> None:
    """Ends W&B's service process, for which the interpreter would wait without limit at its exit."""
    wandb: Any = sys.modules.get("wandb")
    with contextlib.suppress(Exception):  # none of it has a public name; what is on disk stays for wandb sync
        connection = wandb.setup()._connection
        connection._finalizer._queue.put(None)  # ends the thread that would tell it of what is collected at the exit
        connection._cleanup()  # takes back W&B's exit handler, which would talk to the ended service
        connection._proc._process.kill()
        connection._proc.join()


def _identity(file: Path) -> str:
    """The id in `file`; a new one where there is none, or what is there is none."""
    known = file.read_bytes().strip().decode(errors="replace") if file.is_file() else ""
    if IDENTITY.fullmatch(known):
        return known
    identity = secrets.token_hex(4)
    file.parent.mkdir(exist_ok=True)
    write_text(file, identity)
    return identity


def _numbered(wandb: Any, values: Sequence[float]) -> Any:
    """The table of one number a latent."""
    return wandb.Table(columns=["latent", "value"], data=[[i, value] for i, value in enumerate(values)])


def split_values(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The scalars and the vectors of a record of metrics.jsonl, by split/name; a vector only where all are numbers."""
    named = {f"{record['split']}/{name}": value for name, value in plain(record).items() if name not in KEYS}
    vectors = {name: value for name, value in named.items() if isinstance(value, list)}
    scalars = {name: value for name, value in named.items() if name not in vectors}
    return scalars, {name: value for name, value in vectors.items() if value and None not in value}
