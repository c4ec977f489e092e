"""What an accelerator does with this laboratory's work: rates, memory, exactness.

    experiments/benchmark/accelerator.sh accelerator.json
    python -m experiments.benchmark.accelerator --part=mlp --json=accelerator.json
    python -m experiments.benchmark.accelerator --page --json=accelerator.json

The first measures all parts, each in a process of its own, into one JSON file; the second measures one part; the third
writes the measured section of docs/accelerators.md. What the file holds of the same device, version of JAX and commit
is not measured again: the same command goes on where it was stopped. --tiny tries all of it on a CPU in sizes of no
meaning.
"""

import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark.accelerator_page import render_section, replace_section
from experiments.benchmark.accelerator_parts import PARTS
from experiments.benchmark.accelerator_rows import DOES_NOT_FIT, Row
from experiments.benchmark.accelerator_scale import FULL, TINY, device
from experiments.benchmark.timing import run_benchmark
from vae_jax.config.command_line import Parser, path, text, words
from vae_jax.errors import UserError, message_of, unknown_name
from vae_jax.files import parse_json, write_json
from vae_jax.phrases import shorten

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accelerators.md"

Record = dict[str, Any]
"""What the file holds of a part: on what it was measured, its rows by name, and why it `failed` where it has."""


def main(argv: list[str]) -> int:
    """Measures parts, or writes the page; the exit status."""
    parser = Parser("experiments.benchmark.accelerator", __doc__, launcher="python -m")
    parser.flag("part", words, (), "NAME,...", f"what is measured: {', '.join(PARTS)}")
    parser.flag("json", path, None, "FILE", "the file of all parts")
    parser.flag("failed", text, None, "REASON", "records why the parts failed, in place of measuring")
    parser.flag("document", path, PAGE, "FILE", "the page that --page writes its section of")
    parser.switch("page", "writes the page from the file; without a file it says that nothing was run")
    parser.switch("list", "prints the names of all parts")
    parser.switch("tiny", "tries the program in sizes of no meaning, on a CPU too")
    flags, _ = parser.parse(argv)
    if flags.list:
        print("\n".join(PARTS))
        return 0
    if flags.page:
        parts = None if flags.json is None else read_parts(flags.json, missing_ok=False)
        replace_section(flags.document, render_section(parts, flags.tiny))
        print(flags.document)
        return 0
    check_parts(flags.part, flags.tiny)
    if flags.json is None:
        raise UserError("--json: has no value; give the file of all parts, as in --json=accelerator.json")
    if flags.failed is not None:
        for name in flags.part:
            record_failure(flags.json, name, flags.failed)
        return 0
    return int(sum(measure_part(name, flags.json, flags.tiny) for name in flags.part) > 0)


def check_parts(names: tuple[str, ...], tiny: bool) -> None:
    """Raises UserError unless these parts can be measured by one process."""
    if not names:
        raise UserError(f"--part: has no value; give one of {', '.join(PARTS)}")
    for name in names:
        if name not in PARTS:
            raise unknown_name("--part", name, PARTS)
        if PARTS[name].options and len(names) > 1 and not tiny:
            raise UserError(f"--part: {name!r} begins with options of its own; give it alone")


def measure_part(name: str, file: Path, tiny: bool) -> int:
    """Measures the rows of a part that the file does not hold, each written as it is had; how many failed."""
    part, begun = PARTS[name], time.monotonic()
    if part.options:  # XLA reads them once, as the first device is asked for
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {part.options}".strip()
    origin = describe_origin(tiny)
    stored = read_parts(file).get(name, {})
    same = {field: stored.get(field) for field in origin} == origin
    rows: dict[str, Row] = stored["rows"] if same else {}
    measures = part.rows(TINY if tiny else FULL)
    missing = [row for row in measures if "failed" in rows.get(row, {"failed": ""})]
    if not missing:
        print(f"{name}: measured already, skipped")
        return 0
    today = datetime.date.today().isoformat()
    for row in missing:
        rows[row] = attempt(measures[row])
        write_part(file, name, {**origin, "date": today, "rows": rows})
        print(f"{name}, {row}: {rows[row]}", flush=True)
    failed = [row for row in missing if "failed" in rows[row]]
    print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    if failed:
        print(f"{failed[0]}: {rows[failed[0]]['failed']}", file=sys.stderr)
    return len(failed)


def attempt(measure: Callable[[], Row]) -> Row:
    """The row that was measured, or in its place why it has no numbers: the rows after it are measured all the same."""
    try:
        return measure()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return DOES_NOT_FIT
        return {"failed": shorten(f"{type(error).__name__}: {message_of(error)}".partition("\n")[0])}


def describe_origin(tiny: bool) -> Record:
    """What a measurement is of. Raises UserError where that is no accelerator, and not the trial of the program."""
    own = device()
    if own.platform == "cpu" and not tiny:
        raise UserError("--part: JAX sees no accelerator here, only a CPU; give --tiny to try the program on it")
    return {
        "device": own.device_kind,
        "platform": own.platform,
        "jax": jax.__version__,
        "commit": commit(),
        "tiny": tiny,
    }


def commit() -> str:
    """The commit of this clone, with a mark where files differ from it: what COMMIT says, or git, or "unknown"."""
    if given := os.environ.get("COMMIT"):
        return given
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def read_parts(file: Path, missing_ok: bool = True) -> dict[str, Record]:
    """The record of each part in the file. Raises UserError where it holds none."""
    if missing_ok and not file.exists():
        return {}
    content = parse_json(file)
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, dict) and "rows" in part for part in parts.values()):
        raise UserError(f"--json: {str(file)!r} is no file of this program; give one that it wrote, or a new name")
    return parts


def write_part(file: Path, name: str, record: Record) -> None:
    """Puts the record of a part into the file, beside the others."""
    write_json(file, {"parts": read_parts(file) | {name: record}})


def record_failure(file: Path, name: str, reason: str) -> None:
    """Says in the file why the part was not measured to its end; the rows that it has are kept."""
    stored = read_parts(file).get(name, {"rows": {}})
    write_part(file, name, {**stored, "failed": shorten(reason)})


if __name__ == "__main__":
    run_benchmark(main)
