"""A person's files: paths as they are typed, JSON whatever it holds, and writes that are whole or none."""

import contextlib
import json
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vae_jax.errors import UserError
from vae_jax.phrases import printable


def user_path(path: str | Path) -> Path:
    """A path as a person gives it, with ~ for their home.

    Raises UserError, without a name before it, where it is empty, names a user whom this machine does not know, or
    holds a character that no line of a terminal or a script can show.
    """
    text = str(path)
    if not text:
        raise UserError("has no value; give a path")
    if printable(text) != text:
        raise UserError(f"{printable(text)!r} is not allowed; give a path without line breaks and control characters")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise UserError(f"{text!r} is not allowed; this machine knows no user {user.removeprefix('~')!r}") from None


def cache_folder(name: str) -> Path:
    """Where things of that name are kept for this user: below XDG_CACHE_HOME, ~/.cache, or /tmp without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / f"cache_{os.getuid()}"
    return home / "vae_jax" / name


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in a few words."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(words.strip().partition("\n")[0])[:200]


def parse_json(file: Path) -> Any:
    """What the JSON in `file` holds. Raises UserError naming the file where it cannot be read or is no JSON."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read ({reason(error)})") from None


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; empty where there is none or it is damaged."""
    try:
        value = parse_json(file)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def read_records(file: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a line that is no record is left out."""
    return [record for line in read_lines(file) if (record := parse_record(line)) is not None]


def read_lines(file: Path) -> list[bytes]:
    """The lines of a file with their ends; none where it is not there."""
    try:
        return file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The record of a line of metrics.jsonl; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def plain(value: Any) -> Any:
    """NumPy and JAX values as what JSON holds; NaN and infinities as null, which JSON has."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0:
        return [plain(item) for item in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def replacement(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, which takes its place at the end; where the write fails, nothing is left."""
    temporary = file.with_name(f".{secrets.token_hex(4)}.{file.name}")
    try:
        with named_errors(file):
            yield temporary
            os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Gives an OSError the name of the file that was being written, which that of a full disk does not have."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and Path(str(error.filename)).name[:1] != "."):
            raise
        raise OSError(error.errno, error.strerror, str(file)) from None


def write_text(file: Path, text: str) -> None:
    """Writes `text` whole or not at all; what is no character, as a file's name may hold, is escaped."""
    with replacement(file) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(file: Path, value: Any) -> None:
    """Writes `value` whole or not at all."""
    write_text(file, to_json(value))


def to_json(value: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(plain(value), indent=2) + "\n"
