"""Event files of TensorBoard beside metrics.jsonl, by the extra `tensorboard`: tensorboard --logdir FOLDER shows them.

Its EventsWriter is used, which writes at once in the thread that calls it: SummaryWriter has a queue of its own that
waits for ever where the disk is full. A mirror as W&B is one: it can neither stop nor slow a run.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.files import plain, read_records
from vae_jax.training.background import BackgroundCalls
from vae_jax.training.writers import BINS, KEYS, split_values

CLOSE_SECONDS = 30.0
"""For which the end of a run waits for what is not written yet."""


class EventFile:
    """One event file in `folder`, of a run that goes on from `step`: TensorBoard forgets what came at it or after."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        number = len(list(folder.glob("*tfevents*")))  # TensorBoard reads them in the order of their names
        self._writer = EventsWriter(str(folder.absolute() / f"events.{number:04d}"))
        self._write(step, session_log=SessionLog(status=SessionLog.START))

    def write_values(self, scalars: Mapping[str, Any], vectors: Mapping[str, list[float]], step: int) -> None:
        """Writes scalars, those that are finite numbers, and each vector as a histogram; all are on disk then."""
        from tensorboardX import summary

        numbers = {name: value for name, value in scalars.items() if type(value) in (int, float)}
        for name, value in numbers.items():
            self._write(step, summary=summary.scalar(name, value))
        for name, values in vectors.items():
            self._write(step, summary=summary.histogram(name, np.array(values, float), BINS))
        self._writer.flush()

    def write_picture(self, name: str, file: Path, step: int) -> None:
        """Writes one PNG file; it is on disk then."""
        from PIL import Image
        from tensorboardX import summary

        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._write(step, summary=summary.image(name, pixels, dataformats="HWC"))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **content))


class TensorboardMirror:
    """Writes scalars, pictures and results to an event file in a run's folder, from its own thread.

    Going on from `step`, what metrics.jsonl has of that step is written again, for TensorBoard forgets it; a run that
    had no event files gets all its records. Whatever fails is reported once through `say`.
    """

    def __init__(self, folder: Path, step: int, is_enabled: bool, say: Callable[[str], Any] = print):
        self._folder, self._first, self._step = folder, step, step
        self._calls = None
        if is_enabled:
            # Read here, before what comes next is in the file.
            is_new = not any(folder.glob("*tfevents*"))
            records = read_records(folder / "metrics.jsonl")
            self._missing = [record for record in records if is_new or record["step"] >= step]
            self._calls = BackgroundCalls("tensorboard", self._start, lambda file, code: file.close(), say)
            self._calls.thread.start()

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Mirrors one record of metrics.jsonl, as split/name; a vector is a histogram."""
        self._step = record["step"]
        self._put(lambda file: file.write_values(*split_values(record), record["step"]))

    def picture(self, path: Path, step: int) -> None:
        """Mirrors one PNG file."""
        self._put(lambda file: file.write_picture(f"pictures/{path.stem}", path, step))

    def summary(self, values: Mapping[str, Any], prefix: str = "final") -> None:
        """Mirrors an evaluation, as prefix/name, at the step that the run has come to."""
        scalars, step = {f"{prefix}/{name}": plain(values[name]) for name in values if name not in KEYS}, self._step
        self._put(lambda file: file.write_values(scalars, {}, step))

    def close(self) -> None:
        """Finishes the file, waiting no longer than CLOSE_SECONDS for it."""
        if self._calls is not None:
            self._calls.close(0, CLOSE_SECONDS)

    def _put(self, call: Callable[[EventFile], Any]) -> None:
        if self._calls is not None:
            self._calls.put(call)

    def _start(self) -> EventFile:
        try:
            file = EventFile(self._folder, self._first)
        except ImportError:
            raise ImportError("log.tensorboard needs the extra 'tensorboard': pip install -e .[tensorboard]") from None
        for record in self._missing:
            file.write_values(*split_values(record), record["step"])
        return file
