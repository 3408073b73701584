"""Bytes on the wire: WebSocket frames as a client sends them, and strict readers of what the server sends.

Both readers raise `Malformed` at the first byte that RFC 9112 or RFC 6455 does not allow from a server.
"""

import json
import re
import struct

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
# RFC 6455 section 1.3 has this pair as its example.
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
CODES = {
    "invalid_request": 400,
    "unknown_model": 404,
    "too_large": 413,
    "overloaded": 503,
    "deadline_exceeded": 504,
    "inference_failed": 500,
    "unavailable": 503,
}
# The close codes of docs/operations.md, and those that the server may repeat from the peer's close.
CLOSES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013}


class Malformed(Exception):
    """The server sent what it must not send."""


def masked(payload, mask):
    """The payload under a mask. One large number is much faster than a loop over bytes."""
    if not any(mask):
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    both = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
    return both.to_bytes(len(payload), "little")


def frame(opcode, payload=b"", fin=True, mask=b"\x11\x22\x33\x44", rsv=0, declared=None, form=None):
    """A frame. `mask`: None for no mask. `declared`: a wrong length to declare. `form`: bits of the length, 7, 16 or 64."""
    length = len(payload) if declared is None else declared
    form = form or (7 if length < 126 else 16 if length < 1 << 16 else 64)
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | (rsv << 4) | opcode])
    if form == 7:
        head += bytes([bit | (length & 0x7F)])
    elif form == 16:
        head += bytes([bit | 126]) + struct.pack(">H", length & 0xFFFF)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", length & (1 << 64) - 1)
    return head + (b"" if mask is None else mask + masked(payload, mask))


def upgrade(target="/", headers=""):
    lines = f"GET {target} HTTP/1.1\r\nHost: fuzz\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{lines}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n{headers}\r\n".encode("latin-1")


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)

    def json(self):
        return strict_json(self.body)


def strict_json(data):
    def refuse(word):
        raise Malformed(f"{word} in JSON")

    try:
        return json.loads(data if isinstance(data, str) else data.decode("utf-8"), parse_constant=refuse)
    except (UnicodeDecodeError, ValueError) as error:
        raise Malformed(f"no JSON: {error}: {data[:200]!r}") from None


def response(data, at, headless=False):
    """One response from `at` on: (Response, where it ends), or None when it has not ended. `headless` is for HEAD."""
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    first, *lines = data[at:end].split(b"\r\n")
    status = re.fullmatch(rb"HTTP/1\.1 ([1-5]\d\d) [\x20-\x7e]*", first)
    if not status:
        raise Malformed(f"status line {first[:100]!r}")
    headers = []
    for line in lines:
        field = re.fullmatch(rb"(" + TOKEN + rb"):[ \t]*([\x20-\x7e\t]*?)[ \t]*", line)
        if not field:
            raise Malformed(f"header line {line[:100]!r}")
        headers.append((field[1].decode().lower(), field[2].decode()))
    status, end = int(status[1]), end + 4
    made = Response(status, headers, b"")
    lengths = [value for name, value in headers if name == "content-length"]
    if made.header("transfer-encoding") is not None:
        raise Malformed("a Transfer-Encoding, which this server never sends")
    if status < 200 or status == 204:
        if lengths:
            raise Malformed(f"a {status} with a Content-Length (RFC 9110 section 8.6)")
        return made, end
    if len(lengths) != 1 or not re.fullmatch(r"\d+", lengths[0]):
        raise Malformed(f"Content-Length {lengths}: expected one")
    if len([1 for name, _ in headers if name == "date"]) != 1:
        raise Malformed("no Date (RFC 9110 section 6.6.1), or several")
    if headless:
        return made, end
    length = int(lengths[0])
    if len(data) - end < length:
        return None
    made.body = bytes(data[end : end + length])
    check_body(made)
    return made, end + length


def check_body(made):
    """What the documents say of a response's parts."""
    if made.status == 200:
        return
    said = made.json()
    if made.status == 503 and isinstance(said, dict) and "error" not in said:
        # A probe's answer.
        if not {"health", "ready", "live"} & said.keys():
            raise Malformed(f"503 with {made.body[:200]!r}")
    else:
        error_reply(said, made.status)
    if made.header("content-type") != "application/json":
        raise Malformed(f"an error of type {made.header('content-type')}")
    for status, name in ((405, "allow"), (426, "upgrade"), (401, "www-authenticate")):
        if made.status == status and made.header(name) is None:
            raise Malformed(f"a {status} without {name}")


def error_reply(said, status=None):
    """`{"error", "code"?, "id"?}`, as it is documented; on a conversation the code must be there."""
    if not isinstance(said, dict) or not isinstance(said.get("error"), str) or not said["error"]:
        raise Malformed(f"an error that is not the documented JSON: {said!r:.300}")
    if said.keys() - {"error", "code", "id"}:
        raise Malformed(f"an error with unknown fields: {said!r:.300}")
    code = said.get("code")
    if (code is not None or status is None) and code not in CODES:
        raise Malformed(f"an error with the code {code!r}: {said!r:.300}")
    if status and code and CODES[code] != status:
        raise Malformed(f"status {status} with the code {code}")
    if "panicked" in said["error"] or "inference_failed" == code and "panic" in said["error"]:
        raise Malformed(f"a panic: {said!r:.500}")


class Frames:
    """Reads a server's frames into messages: ("text", str), ("binary", bytes), ("ping" | "pong", bytes), ("close", code)."""

    def __init__(self):
        self.buffer, self.at, self.kind, self.parts, self.closed = bytearray(), 0, None, [], False

    def feed(self, data):
        self.buffer += data
        messages = []
        while (message := self.one()) is not None:
            if message:
                messages.append(message)
        del self.buffer[: self.at]
        self.at = 0
        return messages

    def one(self):
        """A message, () for a frame that ends none, None when a frame has not come whole."""
        have = len(self.buffer) - self.at
        if have < 2:
            return None
        first, second = self.buffer[self.at], self.buffer[self.at + 1]
        fin, opcode, length, start = first & 0x80, first & 0x0F, second & 0x7F, 2
        if self.closed:
            raise Malformed("a frame behind the close frame")
        if first & 0x70:
            raise Malformed(f"reserved bits in {first:#x}")
        if second & 0x80:
            raise Malformed("a masked frame from a server")
        if opcode not in (0, 1, 2, 8, 9, 10):
            raise Malformed(f"opcode {opcode}")
        if length >= 126:
            start = 4 if length == 126 else 10
            if have < start:
                return None
            least = 126 if length == 126 else 1 << 16
            length = int.from_bytes(self.buffer[self.at + 2 : self.at + start], "big")
            if length < least:
                raise Malformed(f"length {length} in too many bytes")
        if opcode >= 8 and (length > 125 or not fin):
            raise Malformed("a control frame that is long or fragmented")
        if have < start + length:
            return None
        payload = bytes(self.buffer[self.at + start : self.at + start + length])
        self.at += start + length
        return self.control(opcode, payload) if opcode >= 8 else self.data(opcode, payload, fin)

    def control(self, opcode, payload):
        if opcode != 8:
            return ({9: "ping", 10: "pong"}[opcode], payload)
        self.closed = True
        if not payload:
            return ("close", None)
        if len(payload) == 1:
            raise Malformed("a close frame of one byte")
        payload[2:].decode("utf-8")
        return ("close", struct.unpack(">H", payload[:2])[0])

    def data(self, opcode, payload, fin):
        if (opcode == 0) != (self.kind is not None):
            raise Malformed("fragments out of order")
        self.kind = opcode or self.kind
        self.parts.append(payload)
        if not fin:
            return ()
        kind, whole = self.kind, b"".join(self.parts)
        self.kind, self.parts = None, []
        if kind == 2:
            return ("binary", whole)
        try:
            return ("text", whole.decode("utf-8"))
        except UnicodeDecodeError:
            raise Malformed("text that is not UTF-8") from None
