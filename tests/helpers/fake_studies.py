"""Studies whose programs are fakes, and a launcher that runs them: one process, many launches."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

FLAG = "--xla_backend_optimization_level=1"

FAKE = '''
"""Stands in for vae-jax population: counts to 40 in each member's folder, and does what its environment says."""

import fcntl, json, os, pathlib, signal, sys, time

members = json.loads(pathlib.Path(sys.argv[1].partition("=")[2]).read_text())
hidden = next(w for w in members[0]["words"] if "net.hidden" in w).partition("=")[2]
is_to = lambda name: os.environ.get(name) in ("all", hidden)
stopped = []
if is_to("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
handles, status = [], 0
cores, group = sorted(os.sched_getaffinity(0)), os.environ.get("WANDB_RUN_GROUP")
print("on", json.dumps([cores, os.environ["XLA_FLAGS"], group, os.getpid()]), flush=True)
for number, member in enumerate(members):
    folder = pathlib.Path(member["workdir"])
    folder.mkdir(exist_ok=True)
    handles.append(os.open(folder, os.O_RDONLY))
    fcntl.flock(handles[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    ended = [folder / name for name in ("evaluation.json", "failed.json", "dropped.json")]
    if any(file.exists() for file in ended):
        continue
    (folder / "starts").open("a").write("x")
    records = folder / "metrics.jsonl"
    step = len(records.read_text().splitlines()) if records.exists() else 0
    while step < 40 and not stopped:
        time.sleep(float(os.environ.get("SLEEP", 0)))
        step += 1
        with records.open("a") as file:
            file.write(json.dumps({"step": step, "split": "train"}) + chr(10))
    if is_to("CRASH"):
        raise RuntimeError("out of memory, say")
    if stopped:
        sys.exit(143)
    if is_to("DIVERGE") and number == 0:
        (folder / "failed.json").write_text(json.dumps({"step": 7, "error": "step 8: loss not finite"}))
        status = 1
    else:
        (folder / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 40}))
sys.exit(status)
'''

CONFIG = """
from vae_jax.configs import digits
from vae_jax.sweeps.algebra import grid

def get_config():
    config = digits.get_config()
    config.train.steps = 40
    return config

def sweep():
    return grid(**{"net.hidden": [(8,), (16,), (32,)], "seed": range(2)})
"""

LAUNCHER = """
import contextlib, io, json, os, sys
from unittest import mock
from vae_jax import cli
from vae_jax.config.command_line import run_program
from vae_jax.launch import local

local.COMMAND, local.REFRESH_SECONDS = [sys.executable, sys.argv[1]], 0.05
for line in sys.stdin:
    request, output, status = json.loads(line), io.StringIO(), None
    os.chdir(request["folder"])
    with mock.patch.dict(os.environ, request["environment"]):
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                run_program(cli.sweep, request["words"])
            except SystemExit as exit:
                status = exit.code
    print(json.dumps([status, output.getvalue()]), flush=True)
"""
"""Launches once for each line of JSON that it reads, and answers with the exit status and what was printed."""


class Launch(NamedTuple):
    """How a launch ended."""

    status: int
    output: str


class Launcher:
    """A process that launches sweeps with fake programs, again and again: importing jax is most of what one costs."""

    def __init__(self, folder: Path):
        (folder / "fake.py").write_text(FAKE)
        (folder / "launcher.py").write_text(LAUNCHER)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "launcher.py"), str(folder / "fake.py")],
            env=os.environ | {"XLA_FLAGS": FLAG},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, *words: str, **environment: str) -> None:
        """Begins a launch of the study in `folder`."""
        flags = ["--config=config.py", "--workdir=study", *words]
        request = {"folder": str(folder), "words": flags, "environment": environment}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def finish(self, seconds: float = 60) -> Launch:
        """Waits for the end of the launch that was begun."""
        limit = threading.Timer(seconds, self.process.kill)
        limit.start()
        try:
            return Launch(*json.loads(self.process.stdout.readline()))
        finally:
            limit.cancel()

    def launch(self, expected: int, folder: Path, *words: str, **environment: str) -> str:
        """What a launch prints that ends with the status `expected`."""
        self.start(folder, *words, **environment)
        result = self.finish()
        assert result.status == expected, result.output
        return result.output

    def wait_for(self, condition, seconds: float = 60):
        """What `condition` gives once it is true; the process must live until then."""
        limit = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process.poll() is None, "the launcher has ended"
            assert time.monotonic() < limit
            time.sleep(0.01)
        return value


@contextlib.contextmanager
def open_launcher(folder: Path):
    """A launcher that ends with its block."""
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.process.kill()
        launcher.process.communicate(timeout=20)
