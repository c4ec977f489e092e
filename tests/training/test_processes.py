"""Who joins a job of several processes, what they say to one another, and what ends all of them."""

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from vae_jax.errors import UserError
from vae_jax.training import processes as processes_module


class Store:
    """JAX's key-value store, of two processes that are threads here."""

    def __init__(self):
        self.values, self.barriers, self.changed = {}, {}, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            assert allow_overwrite or key not in self.values
            self.values[key] = value

    def key_value_delete(self, folder):
        with self.changed:
            self.values = {key: value for key, value in self.values.items() if not key.startswith(folder)}

    def key_value_dir_get(self, folder):
        with self.changed:
            return [(key, value) for key, value in self.values.items() if key.startswith(folder)]

    def wait_at_barrier(self, name, milliseconds):
        with self.changed:
            barrier = self.barriers.setdefault(name, threading.Barrier(2))
        barrier.wait(milliseconds / 1000)


class Numbers(threading.local):
    """The counter of a process, of which each thread has its own."""

    number = 0

    def __next__(self):
        self.number += 1
        return self.number


@pytest.fixture
def run_on_two(monkeypatch):
    """Runs act(group) in two processes, which are threads here: what each returned, or the UserError it raised."""
    monkeypatch.setattr(processes_module, "_NUMBERS", Numbers())

    def outcome(act, group):
        try:
            return act(group)
        except UserError as error:
            return str(error)

    def run_on_two(act):
        store = Store()
        groups = [processes_module.ProcessGroup(index, 2, store) for index in range(2)]
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(functools.partial(outcome, act), groups))

    return run_on_two


def test_what_one_process_says_is_known_to_all(run_on_two):
    assert (
        run_on_two(lambda group: [group.all_gather({"at": group.index}) for _ in range(3)])
        == [[[{"at": 0}, {"at": 1}]] * 3] * 2
    )
    assert run_on_two(lambda group: group.all_max(3 * group.index)) == [3, 3]
    assert run_on_two(lambda group: group.broadcast_first(lambda: f"of {group.index}")) == ["of 0", "of 0"]
    assert run_on_two(lambda group: group.run_on_all(lambda: group.index)) == [0, 1]
    assert run_on_two(lambda group: sorted(group.barrier("the end", 7 * group.index))) == [[0, 7], [0, 7]]


def test_an_error_of_one_process_is_raised_in_all(run_on_two):
    def refuse(group):
        if group.index == 1:
            raise UserError("config.x: not here")

    assert run_on_two(lambda group: group.run_on_all(lambda: refuse(group))) == ["config.x: not here"] * 2
    message = "config.x: 1 in process 1, 0 in process 0; start all of a job alike"
    assert run_on_two(lambda group: group.assert_equal({"a": 5, "config.x": group.index})) == [message] * 2
    assert run_on_two(lambda group: group.assert_equal({"a": 5})) == [None, None]


def test_a_number_is_posted_and_a_barrier_given_up_without_waiting():
    first, second = (processes_module.ProcessGroup(index, 2, store) for store in [Store()] for index in range(2))
    assert [first.post_max(0), second.post_max(15), first.post_max(0), second.post_max(0)] == [0, 15, 15, 15]
    assert first.barrier("step 60", 4, give_up=lambda: True) == [4]


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (jax.errors.JaxRuntimeError("UNAVAILABLE: connection reset"), processes_module.LOST),
        (caused(RuntimeError("barrier"), jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")), processes_module.LOST),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), 1),
        (caused(RuntimeError("step"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")), 1),
        (ZeroDivisionError("in a picture"), 1),
    ],
)
def test_what_is_taken_for_the_loss_of_another(error, status, monkeypatch, capsys):
    def leave(number):
        raise SystemExit(number)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left, processes_module.abort_on_failure(processes_module.ProcessGroup(0, 2)):
        raise error
    assert left.value.code == status
    assert ("is probably lost" in capsys.readouterr().err) == (status == processes_module.LOST)


@pytest.mark.parametrize(
    ("own", "environment", "asked"),
    [
        ({}, {}, None),
        ({}, {"JAX_COORDINATOR_ADDRESS": "a:1"}, None),
        ({"coordinator": "a:1", "processes": "1", "process": "0"}, {}, None),
        ({"coordinator": "a:1", "processes": "2", "process": "1"}, {}, ("a:1", 2, 1)),
        ({"process": "1"}, {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, ("a:1", 2, 1)),
        ({}, {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "0"}, ("a:1", 3, 0)),
        ({}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),
        ({}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, (None, 2, 1)),
        ({}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "JAX_COORDINATOR_ADDRESS": "a:1"}, ("a:1", 2, 1)),
        ({}, {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({}, {"TPU_WORKER_HOSTNAMES": "a,b"}, ()),
        ({"coordinator": "auto"}, {}, ()),
    ],
)
def test_who_is_asked_for(own, environment, asked, monkeypatch):
    for name in (
        "TPU_PROCESS_ADDRESSES",
        "TPU_WORKER_HOSTNAMES",
        "SLURM_STEP_NUM_TASKS",
        *processes_module.FLAGS.values(),
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: given.append(arguments))
    assert (
        processes_module.join(own, 7) == processes_module.SINGLE_PROCESS
    )  # nothing was started, so JAX knows of one process
    if asked is None:
        assert given == []
        return
    (arguments,) = given
    names = ("coordinator_address", "num_processes", "process_id")
    assert {name: arguments[name] for name in names if name in arguments} == dict(zip(names, asked, strict=False))
    assert arguments["heartbeat_timeout_seconds"] == 7


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"coordinator": "a:1", "processes": "2"}, "--process: missing"),
        ({"coordinator": "a", "processes": "2", "process": "0"}, "--coordinator: 'a' is not allowed; give HOST:PORT"),
        (
            {"coordinator": "a:1", "processes": "2", "process": "2"},
            "--process: 2 is not allowed; give a whole number from 0 to 1",
        ),
        ({"coordinator": "a:1", "processes": "two", "process": "0"}, "--processes: 'two' is not allowed"),
        ({"coordinator": "auto"}, "--coordinator: 'auto' starts no job of several processes"),
    ],
)
def test_flags_that_are_wrong_are_named(own, error, monkeypatch):
    def initialize(**arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=error):
        processes_module.join(own, 7)
