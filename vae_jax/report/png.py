"""PNGs: those of runs as they lie in a folder, where a copy may have cut them, and those that a page holds."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float

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


def encode_png(image: Float[np.ndarray, "height width channels"]) -> bytes:
    """An image in [0, 1], grey or RGB, as a PNG; what is beyond is cut to it."""
    from PIL import Image

    pixels = np.clip(np.round(255 * image), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def png_address(content: bytes) -> str:
    """The address by which a page holds a PNG."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
