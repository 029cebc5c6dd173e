"""Pictures to test with: small, distinct, and made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

MakeImage = Callable[..., bytes]


def encoded(seed: int = 0, *, size: tuple[int, int] = (16, 16), kind: str = "PNG", **options: object) -> bytes:
    """One picture of random pixels as the bytes of a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png_announcing(width: int, height: int) -> bytes:
    """A PNG whose header promises width × height pixels and whose data holds next to none."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


@pytest.fixture
def picture() -> MakeImage:
    return encoded


@pytest.fixture
def bomb() -> Callable[[int, int], bytes]:
    return png_announcing


@pytest.fixture
def saved() -> Callable[..., bytes]:
    """Bytes of a Pillow image in any format."""

    def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return save
