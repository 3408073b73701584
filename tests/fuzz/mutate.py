"""Mutations: of bytes, of JSON, of heads and of frames. Everything comes from the generator that is handed in."""

import json

from wire import frame

NUMBERS = [b"0", b"-1", b"1", b"127", b"255", b"65535", b"65536", b"2147483648", b"4294967295", b"9223372036854775807"]
NUMBERS += [b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1e400", b"-0", b"1e-400"]
WORDS = NUMBERS + [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"=", b"%00", b"\xff\xfe"]
WORDS += [b"\xef\xbb\xbf", b"chunked", b"HTTP/1.1", b"GET ", b"--", b"{", b"}", b"[", b"]", b'"', b"\\", b"null", b"NaN"]
WORDS += [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x7f", b"\x80", b"\x81\x80\0\0\0\0", b"0\r\n\r\n"]


def scramble(rng, data, times=None):
    """A few changes of bytes anywhere."""
    data = bytearray(data)
    for _ in range(times or rng.choice([1, 1, 1, 2, 3, 6])):
        at = rng.randrange(len(data) + 1)
        pick = rng.randrange(9)
        if pick == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif pick == 1 and data:
            data[at % len(data)] = rng.choice([0, 1, 9, 10, 13, 32, 127, 128, 255, rng.randrange(256)])
        elif pick == 2:
            data[at:at] = rng.choice(WORDS)
        elif pick == 3:
            word = rng.choice(WORDS)
            data[at : at + len(word)] = word
        elif pick == 4:
            del data[at : at + rng.choice([1, 1, 2, 4, 16, 100])]
        elif pick == 5:
            data[at:at] = data[at : at + rng.choice([1, 4, 16, 64])] * rng.choice([1, 1, 2, 50])
        elif pick == 6:
            del data[at:]
        elif pick == 7:
            data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
        else:
            data[at:at] = bytes([rng.choice([65, 91, 123, 32, 0, 48])]) * rng.choice([2, 130, 1100, 20_000])
    return bytes(data)


class Raw(bytes):
    """Bytes that stand in JSON as they are."""


class Fields(list):
    """An object as a list of (name, value), so that a name can come twice."""


def fields(value):
    """JSON values with objects as `Fields`."""
    if isinstance(value, dict):
        return Fields([name, fields(inner)] for name, inner in value.items())
    return [fields(inner) for inner in value] if isinstance(value, list) else value


def dump(value, blank=b""):
    """JSON as bytes, with `blank` wherever blanks may stand."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, Fields):
        parts = (dump(name) + blank + b":" + dump(inner, blank) for name, inner in value)
        return b"{" + blank + (b"," + blank).join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + (b"," + blank).join([dump(inner, blank) for inner in value]) + blank + b"]"
    return json.dumps(value).encode()


def places(value, found):
    """Every (container, place) of a tree. Of long lists the ends are enough."""
    if isinstance(value, Fields):
        for pair in value:
            found.append((pair, 1))
            places(pair[1], found)
    elif isinstance(value, list):
        for at in {*range(min(4, len(value))), *range(max(0, len(value) - 2), len(value))}:
            found.append((value, at))
            places(value[at], found)
    return found


def odd(rng):
    """A value that has no place in a request, or hardly one."""
    pick = rng.randrange(12)
    depth = rng.choice([1, 2, 9, 32, 33, 64, 126, 127, 128, 129, 500, 5000, 60_000])
    if pick == 0:
        return Raw(b"[" * depth + rng.choice([b"", b"1"]) + b"]" * depth)
    if pick == 1:
        return Raw(b'{"a":' * depth + b"1" + b"}" * depth)
    if pick == 2:
        return Raw(rng.choice(NUMBERS))
    if pick == 3:
        return Raw(rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b".5", b"1.", b"+1", b"0x10", b"1_000", b"tru", b"nul"]))
    if pick == 4:
        return Raw(b"1" * rng.choice([20, 39, 400, 5000]) + rng.choice([b"", b".5", b"e5", b"e-5000"]))
    if pick == 5:
        return Raw(rng.choice([b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\x41"', b'"\n"', b'"\x7f"', b'"unended', b"'a'"]))
    if pick == 6:
        return "s" * rng.choice([0, 1, 127, 128, 129, 1023, 1024, 1025, 70_000])
    if pick == 7:
        return rng.choice([None, True, False, 0, -1, 1.5, "", [], Fields(), [[]], [None], Fields([["a", 1]]), Fields([["b64", "AAAA"]])])
    if pick == 8:
        return rng.choice(["x", "y", "FP32", "BYTES", "INT64", "state", "0", "1e3", "é", "\u2028", "\0", "[1,2,3]"])
    if pick == 9:
        return [rng.choice([0, 1, 3, 2**31, 2**32, 2**63, 2**64, -1]) for _ in range(rng.choice([1, 2, 3, 33, 40]))]
    if pick == 10:
        return [rng.choice([1, 2.5, "3", None, [1], True, 1e38, 3e38, 1e39, -0.0, 5e-324]) for _ in range(rng.choice([1, 2, 3, 6]))]
    return [1.0] * rng.choice([1023, 3000, 30_000])


def json_text(rng, value):
    """A mutated request in JSON, as bytes."""
    value = fields(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = places(value, [])
        pick = rng.randrange(8)
        if not found or pick == 0:
            if isinstance(value, Fields):
                names = ["id", "inputs", "outputs", "instances", "parameters", "data", "x", "sequence_id", "", "\0"]
                value.insert(rng.randrange(len(value) + 1), [rng.choice(names), odd(rng)])
            continue
        inside, at = rng.choice(found)
        if pick <= 3:
            inside[at] = odd(rng)
        elif pick == 4:
            objects = [value] + [pair[place] for pair, place in found if isinstance(pair[place], Fields)]
            chosen = rng.choice([one for one in objects if isinstance(one, Fields)] or [Fields()])
            if chosen:
                name, inner = rng.choice(chosen)
                chosen.insert(rng.randrange(len(chosen) + 1), [name, rng.choice([inner, odd(rng)])])
        elif pick == 5:
            if isinstance(inside, list) and len(inside) > 1 and not isinstance(inside[0], str):
                del inside[at]
        elif pick == 6:
            other, place = rng.choice(found)
            inside[at] = json.loads(json.dumps(other[place], default=str)) if not has_raw(other[place]) else odd(rng)
        elif isinstance(inside[at], list) and inside[at] and len(dump(inside[at])) < 1000:
            # As copies, or a list would be inside itself; of the same kind, objects too.
            inside[at] = type(inside[at])(inside[at] * rng.choice([2, 3, 100]))
    text = dump(value, rng.choice([b"", b"", b"", b" ", b"\n", b"\t\r\n "]))
    pick = rng.randrange(16)
    if pick == 0:
        return rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b" \n", b"\x0c", b"\0", b"//\n"]) + text
    if pick == 1:
        return text + rng.choice([b"\0", b" ", b"{}", b",", b"\n", b"x", text[:50]])
    return scramble(rng, text) if pick < 5 else text


def has_raw(value):
    return isinstance(value, Raw) or isinstance(value, list) and any(has_raw(inner) for inner in value)


METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"get", b"PRI", b"", b"G\0T"]
METHODS += [b"M" * 40, b"G(T", b"\xe9", b"GET\t"]
TARGETS = [b"/", b"*", b"//", b"/v2/", b"/v2/models/affine", b"/v2/models/affine/infer/", b"/v2/models//infer", b"/v2/models/%61ffine"]
TARGETS += [b"http://fuzz/v2", b"http://other/v2/models/affine/infer", b"fuzz:80", b"/../v2", b"/v2/./health/live", b"/%", b"/%00", b"/\xe9", b"/\xc3\xa9"]
TARGETS += [b"/" + b"a" * 3000, b"/" + b"a" * 17_000, b"/v2?" + b"a=b&" * 500, b"/#a", b"?a", b"", b"/ /", b"/v2/models/affine/versions/9/infer"]
TARGETS += [b"/metrics", b"/health", b"/v2/health/live", b"/v2/health/ready", b"/v2/models/affine/ready", b'/"<>\\^`{|}', b"/v2/repository/index"]
LINES = [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding:\x0bchunked"]
LINES += [b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding : chunked", b"Transfer-encoding: CHUNKED", b"Transfer-Encoding: xchunked"]
LINES += [b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: -1", b"Content-Length: 0x5", b"Content-Length: "]
LINES += [b"Content-Length: 18446744073709551616", b"Content-Length: 1048577", b"Content-Length: 00000000000000000005", b"Content-Length: 5\t"]
LINES += [b"Host: other", b"Host:", b"Host: a b", b"Expect: 100-continue", b"Expect: 100-continue, x", b"Expect: 200-ok", b"Connection: close"]
LINES += [b"Connection: keep-alive", b"Connection: upgrade", b"Connection: close, keep-alive", b"Upgrade: websocket", b"Upgrade: h2c"]
LINES += [b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Content-Encoding: gzip", b"Accept-Encoding: gzip", b"Range: bytes=0-1", b"Trailer: X", b"TE: trailers"]
LINES += [b"Inference-Header-Content-Length: 5", b"Inference-Header-Content-Length: 0", b"Content-Type: text/plain", b"Content-Type: image/png"]
LINES += [b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary=b", b"Content-Type: application/octet-stream"]
LINES += [b"Authorization: Bearer x", b"Origin: http://evil", b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Protocol: oip.v2.binary"]
LINES += [b" folded: line", b"\tfolded", b"X", b": x", b"X Y: z", b"X\0: y", b"X: \0", b"X: \xff", b"X: a\rb", b"X: a\nY: b", b"X" * 9000 + b": y"]
LINES += [b"X: " + b"y" * 9000, b"X: " + b"y" * 17_000, b"\r", b"X: y\r\n" * 120 + b"X: y", b"Cookie: " + b"a=b; " * 300]


def head(rng, raw):
    """A mutated head, with its empty line at the end."""
    lines = raw[: raw.find(b"\r\n\r\n")].split(b"\r\n")
    ends = b"\r\n"
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        pick = rng.randrange(12)
        first, at = lines[0].split(b" "), rng.randrange(1, len(lines) + 1)
        if pick == 0:
            lines[0] = b" ".join([rng.choice(METHODS)] + first[1:])
        elif pick == 1:
            lines[0] = b" ".join([first[0], rng.choice(TARGETS)] + first[2:])
        elif pick == 2:
            versions = [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"", b"HTTP/11", b"HTTP/1.1\0"]
            lines[0] = b" ".join(first[:2] + [rng.choice(versions)])
        elif pick <= 6:
            lines.insert(at, rng.choice(LINES))
        elif pick == 7 and len(lines) > 1:
            lines.insert(at, rng.choice(lines[1:]))
        elif pick == 8 and len(lines) > 1:
            del lines[rng.randrange(1, len(lines))]
        elif pick == 9:
            ends = rng.choice([b"\n", b"\r", b"\r\r\n", b"\r\n\n", b"\n\r"])
        elif pick == 10 and len(lines) > 1:
            line = rng.randrange(1, len(lines))
            name, _, value = lines[line].partition(b":")
            changes = [name + b" :" + value, name + b":" + value.upper(), name.swapcase() + b":\t " + value.strip() + b" \t"]
            changes += [name + b":\r\n " + value, name + value, name + b":" + value + b"," + value, name + b":" + rng.choice(NUMBERS)]
            lines[line] = rng.choice(changes)
        else:
            line = rng.randrange(len(lines))
            lines[line] = scramble(rng, lines[line], 1)
    if ends == b"\r\n":
        return ends.join(lines) + b"\r\n\r\n"
    return ends.join(lines) + rng.choice([ends + ends, b"\r\n\r\n"])


def chunks(rng, body, wild):
    """A body in chunks. When `wild`, one of them or the end is not as RFC 9112 section 7.1 has it."""
    pieces, at = [], 0
    while at < len(body):
        size = rng.choice([1, 2, 7, 50, 1000])
        pieces.append(body[at : at + size])
        at += size
    sizes = [b"%x" % len(piece) for piece in pieces] + [b"0"]
    if rng.random() < 0.3:
        which = rng.randrange(len(sizes))
        sizes[which] += rng.choice([b";a", b";a=b", b';a="b"', b" ; a = b", b";" + b"a" * 500])
    ends = [b"\r\n"] * len(sizes)
    tail = rng.choice([b"", b"", b"X: y\r\n", b"Content-Length: 5\r\n"]) + b"\r\n"
    if wild:
        which, pick = rng.randrange(len(sizes)), rng.randrange(6)
        size = sizes[which]
        if pick == 0:
            odd_sizes = [b"+" + size, b" " + size, b"0x" + size, b"-1", b"", size + b" x", size + b"\0", b"g", b"ffffffffffffffff", b"fffffffffffffffff"]
            sizes[which] = rng.choice(odd_sizes + [b"0" * 20 + size, size + b";", size + b";a\nb", b"%x" % (len(body) + 1), size + b";" + b"a" * 20_000])
        elif pick == 1:
            ends[which] = rng.choice([b"\n", b"\r", b"", b"\r\n\r\n", b"\n\n"])
        elif pick == 2 and which < len(pieces):
            pieces[which] += rng.choice([b"x", b"\r\n", b"0\r\n\r\n"])
        elif pick == 3:
            tail = rng.choice([b"", b"\r", b"\n", b"x\r\n\r\n", b"X : y\r\n\r\n", b" a: b\r\n\r\n", b"X: y\r\n" * 4000 + b"\r\n", b"a\0: b\r\n\r\n"])
        elif pick == 4:
            del sizes[-1]
        else:
            parts = b"".join(s + e + p + b"\r\n" for s, e, p in zip(sizes, ends, pieces)) + b"0\r\n" + tail
            return scramble(rng, parts)
    made = b"".join(s + e + p + b"\r\n" for s, e, p in zip(sizes, ends, pieces))
    return made + (sizes[-1] + ends[-1] + tail if len(sizes) > len(pieces) else b"")


def client_frames(rng, messages, wild):
    """Messages [(opcode, payload)] as frames, fragmented at random with pings in between. When `wild`, some are wrong."""
    made = []
    for opcode, payload in messages:
        cuts = rng.choice([1, 1, 1, 2, 3, 8])
        size = max(1, len(payload) // cuts)
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for at, piece in enumerate(pieces):
            mask = rng.choice([b"\0\0\0\0", rng.randbytes(4)])
            made.append(dict(opcode=opcode if at == 0 else 0, payload=piece, fin=at == len(pieces) - 1, mask=mask))
            if rng.random() < 0.1:
                made.append(dict(opcode=rng.choice([9, 10]), payload=rng.randbytes(rng.choice([0, 4, 125]))))
    if not wild:
        return b"".join(frame(**one) for one in made)
    for _ in range(rng.choice([1, 1, 2])):
        at, pick = rng.randrange(len(made)), rng.randrange(12)
        one = made[at]
        if pick == 0:
            one["opcode"] = rng.randrange(16)
        elif pick == 1:
            one["mask"] = None
        elif pick == 2:
            one["rsv"] = rng.randrange(8)
        elif pick == 3:
            one["fin"] = not one.get("fin", True)
        elif pick == 4:
            one["declared"] = rng.choice([0, 1, 125, 126, 127, 65535, 65536, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 63, (1 << 64) - 1])
        elif pick == 5:
            one["form"] = rng.choice([16, 64])
        elif pick == 6:
            codes = [0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1012, 1015, 1016, 2999, 3000, 4999, 5000, 65535]
            reason = rng.choice([b"", b"bye", b"\xff", b"r" * 123, b"r" * 124])
            made.insert(at, dict(opcode=8, payload=rng.choice([b"", b"\3", rng.choice(codes).to_bytes(2, "big") + reason])))
        elif pick == 7:
            made.insert(at, dict(opcode=rng.choice([8, 9, 10]), payload=rng.randbytes(rng.choice([0, 125, 126, 70_000]))))
        elif pick == 8:
            made.insert(at, dict(opcode=rng.choice([0, 1, 2]), payload=rng.choice([b"", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b"{}"])))
        elif pick == 9:
            del made[at]
            made = made or [dict(opcode=9)]
        elif pick == 10:
            made[at:at] = [dict(opcode=0, payload=b"", fin=False)] * rng.choice([1, 50, 3000])
        else:
            made = [dict(made[0])] + made
    whole = b"".join(frame(**one) for one in made)
    return scramble(rng, whole) if rng.random() < 0.2 else whole
