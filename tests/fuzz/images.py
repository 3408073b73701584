"""Small image files: PNG made here, JPEG as two samples (gray and baseline, colour and progressive)."""

import base64
import struct
import zlib

GRAY = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9"
    "lnN+gXz/wAALCAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABQMG/8QAJRAAAAMGBgMAAAAAAAAAAAAAAQMEAAIFESExFBUyQUJRIzOB/9oA"
    "CAEBAAA/ADYUl00bQLVOVQkw92hr3jKpyHew2CY16k0YUl00YyOqcdFgIc9SWZYUu9yG3YAHye7f/9k="
)
COLOUR = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9"
    "lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wgARCAAQABgD"
    "ASIAAhEBAxEB/8QAFwAAAwEAAAAAAAAAAAAAAAAAAAMEBf/EABYBAQEBAAAAAAAAAAAAAAAAAAMBBP/aAAwDAQACEAMQAAABznVPI4zRLt//xAAX"
    "EAADAQAAAAAAAAAAAAAAAAAAAQIS/9oACAEBAAEFAlAoFAoFBk//xAAXEQADAQAAAAAAAAAAAAAAAAAAAgMh/9oACAEDAQE/AUsLbD//xAAYEQEB"
    "AAMAAAAAAAAAAAAAAAABAAIRMf/aAAgBAgEBPwEdy4Hb/8QAFBABAAAAAAAAAAAAAAAAAAAAIP/aAAgBAQAGPwJf/8QAGBAAAgMAAAAAAAAAAAAA"
    "AAAAAAERIEH/2gAIAQEAAT8hqDSjh//aAAwDAQACAAMAAAAQjA//xAAWEQEBAQAAAAAAAAAAAAAAAAAAARH/2gAIAQMBAT8QyUP/xAAXEQADAQAA"
    "AAAAAAAAAAAAAAAAAREh/9oACAECAQE/ECtI2n//xAAXEAEBAQEAAAAAAAAAAAAAAAAAYQEh/9oACAEBAAE/EIIoIIsOOtf/2Q=="
)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(rng, width=8, height=8, depth=8, color=0, declared=None, interlace=0, extra=()):
    """A PNG of random pixels. `declared` is a (width, height) of the header that lies; `extra` are chunks before the pixels."""
    line = (width * CHANNELS[color] * depth + 7) // 8
    rows = b"".join(bytes([rng.choice([0, 0, 1, 2, 3, 4])]) + rng.randbytes(line) for _ in range(height))
    header = struct.pack(">IIBBBBB", *(declared or (width, height)), depth, color, 0, 0, interlace)
    palette = chunk(b"PLTE", rng.randbytes(3 * 256 if depth == 8 else 3 << depth)) if color == 3 else b""
    body = chunk(b"IHDR", header) + palette + b"".join(extra)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sample(rng):
    """A good image."""
    pick = rng.randrange(5)
    if pick == 0:
        return GRAY
    if pick == 1:
        return COLOUR
    color, depth = rng.choice([(0, 8), (0, 1), (0, 16), (2, 8), (3, 8), (3, 4), (4, 8), (6, 8), (6, 16)])
    return png(rng, rng.randint(1, 40), rng.randint(1, 40), depth, color)


def broken(rng):
    """A PNG whose parts do not agree: sizes that lie, checksums, chunks that are not known, an inflating text."""
    pick = rng.randrange(7)
    if pick == 0:
        sizes = [(0, 8), (8, 0), (9, 9), (1, 1 << 31), (50_000, 50_000), (2**32 - 1, 2**32 - 1), (5000, 4000), (8, 2000)]
        return png(rng, declared=rng.choice(sizes))
    if pick == 1:
        color, depth = rng.choice([(0, 8), (2, 8), (6, 16)])
        return png(rng, 8, 8, depth, color, interlace=rng.choice([1, 2, 255]))
    if pick == 2:
        return png(rng, extra=[chunk(rng.choice([b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"gAMA", b"acTL", b"ABCD"]), rng.randbytes(rng.randrange(40)))])
    if pick == 3:
        return png(rng, extra=[chunk(b"IDAT", rng.randbytes(5), crc=rng.randrange(1 << 32))])
    if pick == 4:
        bomb = b"a\0\0" + zlib.compress(bytes(1 << 20), 9)
        return png(rng, extra=[chunk(rng.choice([b"zTXt", b"iCCP"]), bomb)])
    if pick == 5:
        return png(rng, extra=[chunk(b"PLTE", rng.randbytes(rng.choice([0, 1, 3, 769, 768])))] * rng.randint(1, 3))
    whole = png(rng, 8, 8)
    return whole[:33] + chunk(b"IDAT", zlib.compress(bytes(rng.choice([0, 10, 72, 73, 1 << 20])))) + chunk(b"IEND", b"")
