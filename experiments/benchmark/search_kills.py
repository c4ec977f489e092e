"""Whether a search that is killed at random moments ends as one that is left alone: its trials and its evaluations.

    python -m experiments.benchmark.search_kills --config=FILE --workdir=runs/kills [--kills=10] [--longest=6]

All other words (--trials=24 --at_once=4 ...) are those of vae-jax search, which runs twice: in FOLDER/whole, and in
FOLDER/killed, where each process but the last is killed within --longest seconds.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vae_jax.config.command_line import run_program
from vae_jax.errors import UserError
from vae_jax.files import read_json

FLAGS = {"kills": "10", "longest": "6", "workdir": ""}


def main(argv: list[str]) -> int:
    """Searches twice and compares; the exit status: 0 where both ended alike."""
    flags, words = dict(FLAGS), []
    for word in argv:
        name, _, value = word.removeprefix("--").partition("=")
        if name in flags:
            flags[name] = value
        else:
            words.append(word)
    if not flags["workdir"]:
        raise UserError("--workdir: give a folder, in which nothing is kept")
    folder = Path(flags["workdir"])
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    _start(words, folder / "whole").wait()
    print(f"left alone: {time.monotonic() - started:.0f} s")
    for number in range(1, int(flags["kills"]) + 1):
        process = _start(words, folder / "killed")
        seconds = random.uniform(0.5, float(flags["longest"]))
        ended = _wait(process, seconds)
        process.kill()
        process.wait()
        told = sum(trial["state"] != "RUNNING" for trial in _trials(folder / "killed"))
        print(f"kill {number}: {'had ended' if ended else f'after {seconds:.1f} s'}, {told} trials told", flush=True)
    _start(words, folder / "killed").wait()
    alike = _trials(folder / "whole") == _trials(folder / "killed") and _evaluations(folder / "whole") == _evaluations(
        folder / "killed"
    )
    print(f"{len(_trials(folder / 'whole'))} trials: {'the same' if alike else 'NOT the same'}")
    return int(not alike)


def _start(words: Sequence[str], folder: Path) -> subprocess.Popen:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as output:
        command = [sys.executable, "-m", "vae_jax", "search", *words, f"--workdir={folder}"]
        return subprocess.Popen(command, stdout=output, stderr=output)


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _trials(folder: Path) -> list[dict]:
    return read_json(folder / "trials.json").get("trials", [])


def _evaluations(folder: Path) -> dict[str, str]:
    return {file.parent.name: file.read_text() for file in folder.glob("*/evaluation.json")}


if __name__ == "__main__":
    run_program(main)
