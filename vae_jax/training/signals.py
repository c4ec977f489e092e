"""How a run is stopped: by a signal, at a step that all its processes agree on."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class StopSignal:
    """The signal by which to stop, 0 for none: `caught` by this process, `signal` what all agree on.

    `agree` is called with what was caught here whenever it is asked whether to stop.
    """

    def __init__(self, agree: Callable[[int], int]):
        self.agree, self.caught, self.signal = agree, 0, 0

    def requested(self) -> bool:
        """Whether to stop; once true, always."""
        self.signal = self.signal or self.agree(self.caught)
        return bool(self.signal)


@contextlib.contextmanager
def stop_signals(agree: Callable[[int], int] = lambda number: number) -> Iterator[StopSignal]:
    """A StopSignal that SIGTERM and SIGINT set; a second one acts as it always does."""
    stop = StopSignal(agree)

    def catch(number: int, frame: Any) -> None:
        stop.caught = number
        signal.signal(number, previous[number])

    with signal_handlers(catch, (signal.SIGTERM, signal.SIGINT)) as previous:
        yield stop


@contextlib.contextmanager
def signal_handlers(catch: Callable[[int, Any], Any], numbers: Sequence[int]) -> Iterator[dict[int, Any]]:
    """Calls `catch` for these signals, and afterwards the handlers from before, which it yields by signal."""
    previous = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield previous
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
