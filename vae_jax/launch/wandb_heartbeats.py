"""Agents of a W&B sweep, many in one process: W&B gives each of them one trial at a time."""

import dataclasses
import queue
import socket
import sys
import threading
from types import TracebackType
from typing import Any, NamedTuple

from vae_jax.errors import UserError
from vae_jax.phrases import printable
from vae_jax.training.background import error_line
from vae_jax.training.writers import IDENTITY

HEARTBEAT_SECONDS = 5.0
"""Between two signs of life of an agent, as W&B's own agent has it."""

CLOSE_SECONDS = 2.0
"""How long an answer is waited for that is on its way when no more trials are wanted."""


class SweepPath(NamedTuple):
    """A sweep in W&B; its project and its entity are None where they are W&B's own default."""

    sweep: str
    project: str | None
    entity: str | None


class Offer(NamedTuple):
    """A trial that W&B gave: the id of its run, and its parameters as W&B has them, {field: {"value": value}}."""

    id: str
    parameters: dict[str, Any]


def read_sweep_path(words: str, project: str, entity: str) -> SweepPath:
    """The sweep ID, PROJECT/ID or ENTITY/PROJECT/ID, with these defaults. Raises UserError for anything else."""
    parts = words.split("/")
    if len(parts) > 3 or not parts[-1].strip():
        raise UserError(f"SWEEP_ID: {words!r} is not allowed; give ID, PROJECT/ID or ENTITY/PROJECT/ID")
    given_entity, given_project, sweep = [""] * (3 - len(parts)) + parts
    return SweepPath(sweep, given_project or project or None, given_entity or entity or None)


@dataclasses.dataclass
class SweepAgents:
    """The agents of a sweep, up to `seats` of which ask for a trial; a thread of their own keeps all of them alive.

    W&B gives an agent a trial when it names none that runs. One that has a trial names it until `release`, and so is
    given no other. `stops` are the trials that W&B has told to stop; `exhausted` says that it has no more to give.
    """

    path: SweepPath
    seats: int = 0
    exhausted: bool = False
    stops: set[str] = dataclasses.field(default_factory=set)
    trials: dict[str, str] = dataclasses.field(default_factory=dict)
    """The trial of each agent by the agent's id; empty where it has none."""
    offers: "queue.SimpleQueue[Offer]" = dataclasses.field(default_factory=queue.SimpleQueue)
    api: Any = None
    silent: bool = False
    wake: threading.Event = dataclasses.field(default_factory=threading.Event)
    end: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __enter__(self) -> "SweepAgents":
        """Registers the first agent. Raises UserError where W&B has no such sweep."""
        import wandb

        try:
            if not wandb.login(prompt=False, verify=False):
                raise UserError("SWEEP_ID: W&B has no API key here; wandb login keeps one")
            self._register(wandb.Api())
        except (wandb.errors.Error, wandb.errors.UsageError, TypeError, KeyError) as error:
            reason = printable(error_line(error))
            raise UserError(
                f"SWEEP_ID: {'/'.join(filter(None, reversed(self.path)))!r}: W&B does not give its trials ({reason}); "
                "see wandb sweep"
            ) from None
        self.thread = threading.Thread(target=self._work, daemon=True, name="heartbeats")
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Asks for no more."""
        self.seats = 0
        self.end.set()
        self.wake.set()
        self.thread.join(CLOSE_SECONDS)

    def ask(self, seats: int) -> None:
        """Lets so many agents have a trial at once."""
        if seats != self.seats:
            self.seats = seats
            self.wake.set()

    def next_offer(self, seconds: float) -> Offer | None:
        """The next trial that W&B gave; None where there is none within `seconds`."""
        try:
            return self.offers.get(timeout=seconds) if seconds else self.offers.get_nowait()
        except queue.Empty:
            return None

    def release(self, trial: str) -> None:
        """Lets the agent of a trial that has ended ask for another."""
        self.api = None  # a mirror in this process that failed has ended W&B's service for all of it
        for agent, current in list(self.trials.items()):
            if current == trial:
                self.trials[agent] = ""
                self.wake.set()

    def _register(self, api: Any) -> str:
        """The id of one agent more."""
        register = _api_functions()[0]
        agent = register(
            api, socket.gethostname(), sweep_id=self.path.sweep, project=self.path.project, entity=self.path.entity
        )["id"]
        self.trials[agent] = ""
        return agent

    def _work(self) -> None:
        while not self.end.is_set():
            try:
                self._beat_all()
                self.silent = False
            except Exception as error:  # W&B is away for a while: what trains goes on
                self._report_silence(error)
            self.wake.wait(HEARTBEAT_SECONDS)
            self.wake.clear()

    def _report_silence(self, error: Exception) -> None:
        """Says once that W&B does not answer."""
        if not self.silent:
            reason = printable(error_line(error))
            print(f"W&B does not answer ({reason}); it is asked again", file=sys.stderr, flush=True)
        self.silent = True

    def _beat_all(self) -> None:
        """Tells of each trial that it runs, and asks for as many more as there are seats."""
        import wandb

        api = self.api = self.api or wandb.Api()
        for agent, trial in list(self.trials.items()):
            if trial:
                self._beat(api, agent, trial)
            elif not self.seats and self._busy():  # it would be silent while the others train: W&B takes it for lost
                del self.trials[agent]
        for agent in [agent for agent, trial in self.trials.items() if not trial]:
            if self._wants_more():
                self._beat(api, agent, "")
        while len(self.trials) < self.seats and self._wants_more():
            self._beat(api, self._register(api), "")

    def _busy(self) -> int:
        return sum(1 for trial in list(self.trials.values()) if trial)

    def _wants_more(self) -> bool:
        return self._busy() < self.seats and not self.exhausted and not self.end.is_set()

    def _beat(self, api: Any, agent: str, trial: str) -> None:
        """Gives one sign of life of an agent, and takes what W&B answers."""
        from wandb.sdk.sweeps import SweepNotFoundError

        heartbeat = _api_functions()[1]
        try:
            commands = heartbeat(api, agent, {}, {trial: True} if trial else {})
        except SweepNotFoundError:  # it was deleted: what trains goes on to its end
            self.exhausted = True
            return
        for command in commands:
            self._take(agent, command)

    def _take(self, agent: str, command: dict[str, Any]) -> None:
        kind, name = command.get("type"), command.get("run_id")
        if kind in ("run", "resume") and isinstance(name, str) and IDENTITY.fullmatch(name):
            self.trials[agent] = name
            self.offers.put(Offer(name, command.get("args") or {}))
        elif kind == "exit":
            self.exhausted = True
            name = self.trials.get(agent)  # one that runs is cancelled
        if kind in ("stop", "exit") and name:
            self.stops.add(name)
            self.trials.pop(agent, None)  # it would be told so again and again


def _api_functions() -> tuple[Any, Any]:
    """What registers an agent, and what gives its signs of life; W&B has no public name for them."""
    try:
        from wandb.apis.public.sweeps import _agent_heartbeat, _register_agent
    except ImportError:
        raise UserError("--at_once: does not work with this version of wandb; give 1, or install wandb 0.31") from None
    return _register_agent, _agent_heartbeat
