"""A held-out digit as a PNG file, made with the standard library alone."""

import struct
import zlib
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data" / "digits-heldout.bin"


def first():
    """The first one's label, and its file."""
    record = DATA.read_bytes()[:785]
    return record[0], png(record[1:])


def png(pixels):
    rows = b"".join(b"\0" + pixels[at : at + 28] for at in range(0, 784, 28))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
