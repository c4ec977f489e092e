"""Calls that a thread of its own makes while a run trains: what they are made to may be slow, or fail."""

import queue
import threading
from collections.abc import Callable
from typing import Any

BACKLOG = 10_000
"""Calls that may wait; when what they are made to falls further behind, what comes is left out there."""


class BackgroundCalls:
    """Calls to what `start` gives, in their order, until `finish` ends it with an exit code.

    Whatever fails ends them and is reported once through `say`, and nothing but `close` ever waits for them.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Any],
        finish: Callable[[Any, int], Any],
        say: Callable[[str], Any],
    ):
        self._name, self._start, self._finish, self._say = name, start, finish, say
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._behind = False
        self._exit_code = 0
        self.thread = threading.Thread(target=self._work, daemon=True, name=name)

    def report(self, text: str) -> None:
        """Says a line of what the calls are made to."""
        self._say(f"{self._name}: {text}")

    def put(self, call: Callable[[Any], Any]) -> None:
        """Lets the thread make `call` when its turn comes."""
        if not self.thread.is_alive():
            return
        if self._queue.qsize() < BACKLOG:
            self._queue.put(call)
        elif not self._behind:
            self._behind = True
            self.report(f"{BACKLOG:,} records behind; later ones are missing there, metrics.jsonl has everything")

    def close(self, exit_code: int, seconds: float, remedy: str = "") -> bool:
        """Whether all calls were made and finished within `seconds`; if not, says so and leaves them behind."""
        self._exit_code = exit_code
        self._queue.put(None)
        self.thread.join(seconds)
        if not self.thread.is_alive():
            return True
        self.report(f"still sending after {seconds:.0f} s; left behind{remedy}")
        self._say = lambda line: None
        return False

    def _work(self) -> None:
        try:
            self._make_calls(self._start())
        except BaseException as error:
            self.report(f"mirror stopped ({error_line(error)}); metrics.jsonl has everything")

    def _make_calls(self, target: Any) -> None:
        """Makes what calls are in the queue until it is closed."""
        try:
            while (call := self._queue.get()) is not None:
                call(target)
        except BaseException:
            self._exit_code = self._exit_code or 1
            raise
        finally:
            self._finish(target, self._exit_code)


def error_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
