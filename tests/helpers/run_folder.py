"""What a run leaves in its folder, read and damaged."""

import json
from pathlib import Path
from typing import Any

from vae_jax.files import read_records
from vae_jax.training.writers import TIMINGS


def steps(folder: Path) -> list[int]:
    """The steps whose checkpoints are complete, in order."""
    return sorted(int(step.name) for step in (folder / "checkpoints").iterdir() if step.name.isdecimal())


def newest(folder: Path) -> Path:
    """The checkpoint of the last step."""
    return folder / "checkpoints" / str(steps(folder)[-1])


def digest(folder: Path) -> tuple[int, str]:
    """The last step that is saved, and the digest of its state."""
    checkpoint = newest(folder)
    return int(checkpoint.name), json.loads((checkpoint / "check" / "metadata").read_text())["digest"]


def records(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run but for timings."""
    rows = read_records(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]


def results(folder: Path) -> tuple:
    """Everything a run is judged by: the digest of its whole state, its metrics but for timings, its evaluation."""
    return *digest(folder), records(folder), json.loads((folder / "evaluation.json").read_text())


def flip_a_byte(checkpoint: Path) -> None:
    """Changes one byte in the middle of a checkpoint's largest file: the arrays."""
    file = max((file for file in checkpoint.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
