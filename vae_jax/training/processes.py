"""One job on several hosts: the processes that take part, and how they agree.

The only file that knows of jax.distributed. Nothing here uses a device: what processes say to one another goes through
the key-value store of JAX's coordination service, which also ends all of them once one is lost.
"""

import atexit
import contextlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from vae_jax.errors import UserError

FLAGS = {"coordinator": "JAX_COORDINATOR_ADDRESS", "processes": "JAX_NUM_PROCESSES", "process": "JAX_PROCESS_ID"}
"""Flags of a program that may be one of several processes, and the environment that stands for each."""

LIMIT = 3600.0
"""Seconds in which all come to the same point, compiling included; one that ended is noticed after its heartbeat."""

STARTING = 3
"""Heartbeats in which all must have started."""

LOST = 75
"""The exit status where another process is lost: to be tried again. Where JAX notices first it is 134, an abort."""

POLL = 0.1
"""Seconds between looks while waiting for others who may take long."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train a run together, this one being `index` of `count`; one is a group too.

    `all_gather`, `run_on_all`, `broadcast_first`, `all_max` and `assert_equal` are called by all in the same order,
    `post_max` and `barrier` by any.
    """

    index: int = 0
    count: int = 1
    client: Any = None

    def all_gather(self, value: Any) -> list[Any]:
        """What each gives, which must be JSON, in all of them."""
        if self.count == 1:
            return [value]
        number = next(_NUMBERS)
        self.client.key_value_set(f"gather/{number}/{self.index}", json.dumps(value))
        self.client.wait_at_barrier(f"gather/{number}", int(1000 * LIMIT))
        if self.index == 0:  # all have read what was said before this
            self.client.key_value_delete(f"gather/{number - 1}/")
        return [posted for _, posted in sorted(self._posted(f"gather/{number}/").items())]

    def run_on_all(self, action: Callable[[], Any]) -> Any:
        """What `action` gives here; a UserError that it raises in one is raised in all."""
        value, error = None, None
        try:
            value = action()
        except UserError as raised:
            error = str(raised)
        for message in self.all_gather(error):
            if message is not None:
                raise UserError(message)
        return value

    def broadcast_first(self, action: Callable[[], Any]) -> Any:
        """What `action` gives in the first process, in all of them, and so is its UserError."""
        return self.all_gather(self.run_on_all(action if self.index == 0 else lambda: None))[0]

    def all_max(self, number: int) -> int:
        """The largest number that one of them gives."""
        return max(self.all_gather(number))

    def assert_equal(self, fields: Mapping[str, Any]) -> None:
        """Raises UserError in all of them, naming a field in which one differs from the first."""
        first, *others = self.all_gather(dict(fields))
        for index, other in enumerate(others, start=1):
            names = sorted(first.keys() | other.keys())
            differ = [name for name in names if first.get(name, "absent") != other.get(name, "absent")]
            if differ:
                name = differ[0]
                theirs, ours = other.get(name, "absent"), first.get(name, "absent")
                raise UserError(
                    f"{name}: {theirs!r} in process {index}, {ours!r} in process 0; start all of a job alike"
                )

    def post_max(self, number: int) -> int:
        """The largest number that one of them has posted, without waiting; 0 posts nothing."""
        if self.count == 1:
            return number
        if number:
            self.client.key_value_set(f"posted/{self.index}", json.dumps(number), allow_overwrite=True)
        return max(self._posted("posted/").values(), default=0)

    def barrier(self, name: str, number: int = 0, give_up: Callable[[], bool] = lambda: False) -> list[int]:
        """The number of each once all have come to `name`, or of those who have once `give_up()` is true."""
        if self.count == 1:
            return [number]
        self.client.key_value_set(f"barrier/{name}/{self.index}", json.dumps(number))
        while len(arrived := self._posted(f"barrier/{name}/")) < self.count and not give_up():
            time.sleep(POLL)
        return list(arrived.values())

    def _posted(self, folder: str) -> dict[int, Any]:
        posted = self.client.key_value_dir_get(folder)
        return {int(key.rpartition("/")[2]): json.loads(value) for key, value in posted}


SINGLE_PROCESS = ProcessGroup()
_NUMBERS = itertools.count(1)


def join(flags: Mapping[str, str], heartbeat: int, separate: bool = False) -> ProcessGroup:
    """All processes of this job, once they have come together; SINGLE_PROCESS where nothing says that it has several.

    The flags of FLAGS or their variables say so, or a SLURM step of several tasks, or a TPU slice of several hosts;
    --coordinator=auto leaves all to what JAX knows. To be called before JAX computes anything.

    Args:
        flags: those of FLAGS that were given.
        heartbeat: in seconds: who is silent for so long is lost, and to start they have three times as long, or JAX
            aborts.
        separate: whether each process computes on its own, and JAX knows of no others.

    Raises:
        UserError: where the flags are wrong or name no job.
    """
    job = _job(flags)
    if job is None:
        return SINGLE_PROCESS
    from jax._src import distributed  # the key-value store has no public name

    state = distributed.State() if separate else distributed.global_state
    initialize = state.initialize if separate else jax.distributed.initialize
    # Its service would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        initialize(
            **job,
            local_device_ids=[],  # each has whatever devices it sees
            initialization_timeout=STARTING * heartbeat,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        address = job.get("coordinator_address") or "auto"
        reason = str(error).strip().partition("\n")[0][:120]
        raise UserError(
            f"--coordinator: {address!r} starts no job of {job.get('num_processes', 'several')} processes ({reason})"
        ) from None
    if not separate:
        return ProcessGroup(jax.process_index(), jax.process_count(), state.client)
    atexit.register(state.shutdown)
    if jax.process_count() > 1:
        raise UserError(
            "config.parallel.mode: 'members' does not work on a TPU slice of several hosts, which computes only as a "
            "whole; give 'data'"
        )
    return ProcessGroup(state.process_id, state.num_processes, state.client)


def _job(flags: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of jax.distributed.initialize; None for a process on its own."""
    values = {flag: flags.get(flag) or os.environ.get(variable) for flag, variable in FLAGS.items()}
    flags_given = bool(flags.keys() & FLAGS.keys())
    if values["coordinator"] == "auto":
        return {}
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and not flags_given:
        values["processes"], values["process"] = os.environ["SLURM_STEP_NUM_TASKS"], os.environ.get("SLURM_PROCID")
    elif "," in os.environ.get("TPU_PROCESS_ADDRESSES", os.environ.get("TPU_WORKER_HOSTNAMES", "")):
        return {}
    elif missing := [flag for flag, value in values.items() if value is None]:
        if flags_given:
            raise UserError(f"--{missing[0]}: missing; give --coordinator=HOST:PORT, --processes=N and --process=I")
        return None
    address, count, index = values["coordinator"], _whole("processes", values), _whole("process", values)
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"--coordinator: {address!r} is not allowed; give HOST:PORT of process 0, or auto")
    if not index < count:
        raise UserError(
            f"--process: {index} is not allowed; give a whole number from 0 to {count - 1}, another to each"
        )
    return {"coordinator_address": address, "num_processes": count, "process_id": index} if count > 1 else None


def _whole(flag: str, values: Mapping[str, str | None]) -> int:
    text = values[flag] or ""
    if not text.isdecimal():
        raise UserError(f"--{flag}: {text!r} is not allowed; give a whole number")
    return int(text)


@contextlib.contextmanager
def abort_on_failure(group: ProcessGroup) -> Iterator[None]:
    """Ends this process where it fails and others take part: at an orderly exit JAX would wait for them.

    A UserError is raised: all have it. What JAX reports, but that a device's memory is full, is taken for the loss of
    another process.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if group.count == 1:
            raise
        traceback.print_exc()
        reported = [str(e) for e in (error, error.__cause__) if isinstance(e, jax.errors.JaxRuntimeError)]
        lost = bool(reported) and not any("RESOURCE_EXHAUSTED" in text for text in reported)
        if lost:
            print("error: another process of this job is probably lost; start all again", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(LOST if lost else 1)


@contextlib.contextmanager
def silence_non_primary(group: ProcessGroup) -> Iterator[None]:
    """Lets only the first of a group print; errors that are raised are printed by all, outside."""
    with contextlib.ExitStack() as redirections:
        if group.index:
            null = redirections.enter_context(open(os.devnull, "w"))
            redirections.enter_context(contextlib.redirect_stdout(null))
            redirections.enter_context(contextlib.redirect_stderr(null))
        yield
