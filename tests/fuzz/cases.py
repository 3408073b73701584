"""Cases: what is sent on one connection, and how. The same seed and index always make the same case.

Each kind makes the bytes of a whole connection from valid requests and then, in seven cases of eight, mutates some of
them. The other cases are intact and must get the right answers. This shows that the requests are valid before the mutation.
"""

import json
import random
import struct

import extra
import images
import mutate
import seeds
from wire import frame


class Case:
    """`stream` is all that is sent; `plan` is the list of steps that send it; `orderly` when it waits for every answer."""

    def __init__(self, seed, index):
        rng = random.Random(f"{seed}:{index}")
        self.index, self.kind = index, rng.choices(list(KINDS), WEIGHTS)[0]
        self.intact = rng.random() < 0.125
        self.port = "ops" if self.kind == "ops" else "public"
        self.narrow = rng.random() < 0.05
        self.stream = KINDS[self.kind](rng, not self.intact, index)
        self.orderly = True
        self.plan = plan(rng, self)


def plan(rng, case):
    """Cuts the stream into steps: ("send", bytes), ("pause" | "stall", seconds), ("half" | "reset" | "close",).

    ("await",) waits for a 101, as RFC 6455 section 4.1 wants a client to do; some do not.
    """
    stream, steps = case.stream, []
    head = stream.find(b"\r\n\r\n") + 4
    converses = b"Upgrade: websocket" in stream[:200] and head > 4
    if converses and rng.random() < 0.9:
        steps += [("send", stream[:head]), ("await",)]
        stream = stream[head:]
    pick = rng.random()
    if pick < 0.5 or case.intact and pick < 0.8:
        cuts = []
    elif pick < 0.95:
        cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice([1, 2, 3, 10])))
    else:
        cuts = list(range(1, min(len(stream), 80)))
    slow = rng.random() < 0.2
    for begin, end in zip([0, *cuts], [*cuts, len(stream)]):
        if begin and slow:
            steps.append(("pause", rng.choice([0, 0.001, 0.005])))
        steps.append(("send", stream[begin:end]))
    pick = rng.random()
    if case.intact or pick < 0.8:
        if rng.random() < 0.03:
            steps.append(("stall", rng.choice([0.1, 0.5])))
        # Behind a close frame the server ends the connection; with HTTP, who does not end its side gets to know the
        # server's time limits.
        if not converses and (rng.random() < 0.98 or case.intact):
            steps.append(("half",))
        elif not case.intact and rng.random() < 0.5:
            steps.append(("half",))
            case.orderly = False
        return steps
    case.orderly = False
    # Somewhere in the middle, the peer goes away.
    del steps[rng.randrange(1, len(steps) + 1) :]
    if rng.random() < 0.5:
        steps.append(("pause", rng.choice([0.0, 0.001, 0.01])))
    return [*steps, (rng.choice(["reset", "close", "half"]),)]


def wild_body(rng, wild, model, asked):
    """A request in JSON as a POST, mutated or not."""
    return b"".join(seeds.post(model, mutate.json_text(rng, asked) if wild else json.dumps(asked).encode()))


def asked_of_any(rng):
    pick = rng.randrange(8)
    if extra.ASKED and rng.random() < 0.25:
        return "extra", extra.ASKED
    if pick < 4:
        return "affine", seeds.of_x(rng, 3, rng.choice([None, "a", 7, "é"]))
    return [("types", seeds.of_types(rng)), ("pair", seeds.of_pair(rng)), ("open", seeds.of_open(rng)), ("running", seeds.of_x(rng, 2, most=1))][pick - 4]


def some(rng, wild, make):
    """One to four requests by `make(wild)`, of which one is mutated (or all)."""
    count, every = rng.choice([1, 1, 2, 4]), rng.random() < 0.1
    chosen = rng.randrange(count)
    return b"".join(make(wild and (every or at == chosen)) for at in range(count))


def heads(rng, wild, index):
    smuggled = seeds.get("/v2/models/smuggled")

    def one(wild):
        pick = rng.randrange(5)
        if pick == 0:
            head, body = seeds.get(rng.choice(["/v2", "/health", "/v2/models/affine", "/v2/health/ready"]), rng.choice(["GET", "HEAD"])), b""
        elif pick == 1:
            # A body that is a request: who reads the head in another way answers it.
            head, body = seeds.post("affine", smuggled, "text/plain", length=rng.random() < 0.7)
            body = body if b"Content-Length" in head else mutate.chunks(rng, body, False)
            return (mutate.head(rng, head) if wild else seeds.get("/v2")) + (body if wild else b"")
        elif pick == 2:
            head, body = seeds.post("affine", json.dumps(seeds.of_x(rng, 3)).encode(), lines=["Expect: 100-continue"])
        else:
            head, body = seeds.post("affine", json.dumps(seeds.of_x(rng, 3)).encode())
        return (mutate.head(rng, head) if wild else head) + body

    return some(rng, wild, one)


def chunked(rng, wild, index):
    def one(wild):
        inner = json.dumps(seeds.of_x(rng, 3)).encode()
        if wild and rng.random() < 0.2:
            inner = seeds.get("/v2/models/smuggled")
        head, body = seeds.post("affine", inner, length=False)
        return head + mutate.chunks(rng, body, wild)

    return some(rng, wild, one)


def forms(rng, wild, index):
    def one(wild):
        file = images.broken(rng) if wild and rng.random() < 0.3 else seeds.image(rng)
        boundary = rng.choice(["fuzzboundary", "b", "b" * 70])
        body = seeds.form(rng, file, boundary)
        if wild and rng.random() < 0.7:
            body = mutate.scramble(rng, body) if rng.random() < 0.7 else body * rng.choice([2, 70])
        kind = f"multipart/form-data; boundary={boundary}"
        if wild and rng.random() < 0.2:
            kind = rng.choice([f'multipart/form-data; boundary="{boundary}"', "multipart/form-data", "multipart/form-data; boundary=", kind + "x", 'multipart/form-data; boundary="'])
        return b"".join(seeds.post("digits", body, kind))

    return some(rng, wild, one)


def requests(rng, wild, index):
    return some(rng, wild, lambda wild: wild_body(rng, wild, *asked_of_any(rng)))


def instances(rng, wild, index):
    return some(rng, wild, lambda wild: wild_body(rng, wild, "affine", seeds.of_rows(rng)))


def tensors(rng, wild, index):
    def one(wild):
        if rng.random() < 0.3:
            data = seeds.raw(rng)
            data = mutate.scramble(rng, data) if wild else data
            return b"".join(seeds.post("affine", data, *rng.choice([("application/octet-stream",), ("", ["Inference-Header-Content-Length: 0"])])))
        asked, data = seeds.with_tensors(rng)
        text = mutate.json_text(rng, asked) if wild and rng.random() < 0.5 else json.dumps(asked).encode()
        length, body = len(text), text + data
        if wild and rng.random() < 0.3:
            length = rng.choice([0, length - 1, length + 1, len(body), len(body) + 1, -1, 1 << 63, 1 << 64, f"{length},{length}", f"+{length}", f"0{length}"])
        if wild and rng.random() < 0.3:
            body = mutate.scramble(rng, body)
        return b"".join(seeds.post("affine", body, "application/octet-stream", [f"Inference-Header-Content-Length: {length}"]))

    return some(rng, wild, one)


def pictures(rng, wild, index):
    def one(wild):
        file = seeds.image(rng)
        if wild:
            file = images.broken(rng) if rng.random() < 0.4 else mutate.scramble(rng, file)
        model, pick = rng.choice(["digits", "picture"]), rng.randrange(3)
        if pick == 0:
            files = [file] + [seeds.image(rng) for _ in range(rng.choice([0, 2]))]
            return wild_body(rng, wild and rng.random() < 0.2, model, seeds.of_image(rng, files))
        return b"".join(seeds.post(model, file, rng.choice(["image/png", "image/jpeg", "application/octet-stream"])))

    return some(rng, wild, one)


def texts(rng, wild, index):
    def one(wild):
        if rng.random() < 0.5:
            return wild_body(rng, wild, "embed", seeds.of_text(rng))
        text = rng.choice(seeds.SENTENCES).encode()
        return b"".join(seeds.post("embed", mutate.scramble(rng, text) if wild else text or b"a", "text/plain"))

    return some(rng, wild, one)


def queries(rng, wild, index):
    names = ["framing", "classification", "binary_data_output", "timeout", "stream", "results", "x", ""]
    values = ["raw", "v2", "1", "0", "true", "false", "last", "all", "-1", "18446744073709551615", "18446744073709551616", "", "%00", "%ff", "a%20b", "%zz", "1e3", "+1"]
    good = ["?framing=raw", "?classification=0", "?timeout=4000000", "?stream=all", "?unknown=1", "?binary_data_output=false", ""]
    query = "?" + "&".join(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.choice([1, 1, 2, 3]))) if wild else rng.choice(good)
    if rng.random() < 0.5:
        return b"".join(seeds.post("affine", json.dumps(seeds.of_x(rng, 3)).encode(), query=query))
    asked = [(1, json.dumps(seeds.of_x(rng, 3, at)).encode()) for at in range(3)]
    return seeds.converse("affine", query) + mutate.client_frames(rng, asked, False) + close(rng)


def upgrades(rng, wild, index):
    extra = rng.choice(["", "Sec-WebSocket-Protocol: oip.v2.json\r\n", "Sec-WebSocket-Protocol: x, json\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n"])
    head = seeds.converse("affine", headers=extra if wild else "")
    asked = [(1, json.dumps(seeds.of_x(rng, 3, at)).encode()) for at in range(2)]
    return (mutate.head(rng, head) if wild else head) + mutate.client_frames(rng, asked, False) + close(rng)


def close(rng):
    return frame(8, rng.choice([b"", struct.pack(">H", 1000), struct.pack(">H", 1000) + b"bye", struct.pack(">H", 3000)]))


def framed(rng, wild, index):
    asked = [(1, json.dumps(seeds.of_x(rng, 3, at)).encode()) if rng.random() < 0.7 else (2, seeds.raw(rng)) for at in range(rng.choice([1, 3, 12, 40]))]
    if rng.random() < 0.02:
        # Around the limit of a message, 1 MiB.
        asked.append((2, bytes(rng.choice([(1 << 20) - 4, 1 << 20, (1 << 20) + 4, 3 << 20]))))
        if not wild:
            asked.pop()
    return seeds.converse("affine") + mutate.client_frames(rng, asked, wild) + close(rng)


def talks(rng, wild, index):
    model = rng.choice(["affine", "affine", "affine", "types", "pair", "open", "embed"] + ["extra"] * bool(extra.ASKED))
    make = {"types": seeds.of_types, "pair": seeds.of_pair, "open": seeds.of_open, "embed": seeds.of_text, "extra": lambda rng: extra.ASKED}
    messages = []
    for at in range(rng.choice([1, 4, 12, 40])):
        asked = seeds.of_x(rng, 3, at) if model == "affine" else make[model](rng)
        if model == "affine" and rng.random() < 0.2:
            asked = seeds.of_rows(rng)
        text = mutate.json_text(rng, asked) if wild and rng.random() < 0.5 else json.dumps(asked).encode()
        # What is not UTF-8 would end the conversation; other kinds do that.
        text = text if wild and rng.random() < 0.05 else text.decode("utf-8", "replace").encode()
        messages.append((1, text))
    return seeds.converse(model) + mutate.client_frames(rng, messages, False) + close(rng)


def binary(rng, wild, index):
    messages = []
    for at in range(rng.choice([1, 3, 12])):
        asked, data = seeds.with_tensors(rng, at)
        text = mutate.json_text(rng, asked) if wild and rng.random() < 0.3 else json.dumps(asked).encode()
        length = len(text)
        if wild and rng.random() < 0.2:
            length = rng.choice([0, 1, length - 1, length + 1, length + len(data), (1 << 32) - 1])
        message = struct.pack("<I", length & 0xFFFFFFFF) + text + data
        messages.append((2, mutate.scramble(rng, message) if wild and rng.random() < 0.3 else message))
    return seeds.converse("affine", "?framing=v2") + mutate.client_frames(rng, messages, False) + close(rng)


def sound(rng, wild, index):
    messages = []
    for _ in range(rng.choice([1, 5, 30])):
        size = rng.choice([1, 2, 3, 8, 100]) if wild else rng.choice([2, 8, 100])
        messages.append((2, rng.randbytes(size)))
        if wild and rng.random() < 0.1:
            messages.append((1, rng.choice([b'{"event":"end"}', b"", b"{}", b'{"inputs":[]}'])))
    return seeds.converse("windows") + mutate.client_frames(rng, messages, wild and rng.random() < 0.3) + close(rng)


def steps(rng, wild, index):
    names = [1, 2, "a", "b", 0, "", f"s{index}"]
    messages = []
    begun = set()
    for _ in range(rng.choice([1, 6, 20])):
        asked = seeds.sequence_step(rng, names)
        if not wild:
            seeds.begin(asked, begun)
        text = mutate.json_text(rng, asked) if wild and rng.random() < 0.3 else json.dumps(asked).encode()
        messages.append((1, text.decode("utf-8", "replace").encode()))
    if wild and rng.random() < 0.2:
        return b"".join(b"".join(seeds.post("running", text)) for _, text in messages)
    return seeds.converse("running") + mutate.client_frames(rng, messages, False) + close(rng)


def newest(rng, wild, index):
    messages = []
    for at in range(rng.choice([2, 10, 60])):
        text = json.dumps(seeds.of_x(rng, 3, at)).encode()
        messages.append((1, mutate.json_text(rng, json.loads(text)).decode("utf-8", "replace").encode() if wild and rng.random() < 0.1 else text))
    return seeds.converse("affine", "?stream=last") + mutate.client_frames(rng, messages, wild and rng.random() < 0.2) + close(rng)


def operators(rng, wild, index):
    def one(wild):
        target = rng.choice(["/health", "/v2/health/live", "/v2/health/ready", "/v2", "/v2/models/affine"])
        head = seeds.get(target, rng.choice(["GET", "GET", "HEAD"]))
        return mutate.head(rng, head) if wild else head

    return some(rng, wild, one)


KINDS = {
    "heads": heads, "chunked": chunked, "forms": forms, "requests": requests, "instances": instances, "tensors": tensors,
    "pictures": pictures, "texts": texts, "queries": queries, "upgrades": upgrades, "framed": framed, "talks": talks,
    "binary": binary, "sound": sound, "steps": steps, "newest": newest, "ops": operators,
}  # fmt: skip
WEIGHTS = [12, 6, 4, 8, 4, 6, 8, 4, 4, 6, 10, 8, 6, 4, 4, 3, 6]
