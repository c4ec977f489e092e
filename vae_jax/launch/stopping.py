"""Signals that ask a launcher to stop."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator

from vae_jax.training.signals import signal_handlers

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

REPEAT_SECONDS = 0.5
"""A Ctrl-C so soon after another is the same: a wrapper around us may pass on what the terminal has sent already."""


@dataclasses.dataclass
class StopSignals:
    """The signals to stop that came: the first lets programs save and end, a Ctrl-C after it ends them at once."""

    numbers: list[int] = dataclasses.field(default_factory=list)
    last_time: float = 0.0

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return bool(self.numbers)

    @property
    def exit_status(self) -> int:
        """128 and the first signal."""
        return 128 + self.numbers[0]

    def add(self, number: int) -> None:
        """Takes a signal that came now."""
        repeated = time.monotonic() - self.last_time < REPEAT_SECONDS
        self.last_time = time.monotonic()
        if not self.numbers or (number == signal.SIGINT and not repeated):
            self.numbers.append(number)


@contextlib.contextmanager
def catch_stop_signals(interrupt: bool = False) -> Iterator[StopSignals]:
    """What comes of signals to stop; with `interrupt` each also raises KeyboardInterrupt in the main thread."""
    stop = StopSignals()

    def catch(number, frame):
        stop.add(number)
        if interrupt:
            raise KeyboardInterrupt

    with signal_handlers(catch, NUMBERS):
        yield stop
