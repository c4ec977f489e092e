"""Pictures of runs as they lie in a folder, where a copy may have cut them."""

import struct
import zlib
from pathlib import Path

from vae_jax.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(file: Path) -> bytes:
    """The bytes of a PNG; empty where there is none. Raises UserError where the file is no PNG, or not all of one."""
    if not file.exists():
        return b""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if not is_whole(content):
        raise UserError(f"{file}: is no whole PNG ({len(content):,} bytes)")
    return content


def is_whole(content: bytes) -> bool:
    """Whether these are the bytes of a PNG from its signature to its last chunk, none of them changed."""
    if not content.startswith(SIGNATURE):
        return False
    start, kind = len(SIGNATURE), b""
    while start + 12 <= len(content) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 8 + length
        if end + 4 > len(content) or content[end : end + 4] != zlib.crc32(content[start + 4 : end]).to_bytes(4):
            return False
        start = end + 4
    return kind == b"IEND"
