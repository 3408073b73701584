"""Compares what the server sent with what was sent to it.

`judge` returns the faults of one case as sentences, and counts statuses and close codes. Every answer must be well formed.
If the reference in reading.py knows what a request means, a 200 must have the right numbers, and a request that must be
refused must not get a 200. A client that waited must have received every answer.
"""

import math
import struct
import urllib.parse

import reading
from wire import ACCEPT, CLOSES, Frames, Malformed, error_reply, response, strict_json

# The server's limits, which the run sets.
MOST_MESSAGE, MOST_FRAGMENTS = 1 << 20, 1000
# Codes that a good request may get on a busy server.
BUSY = {"overloaded", "deadline_exceeded"}


class Transcript:
    """What came, how it ended (`eof`, `reset`, `gone` when we ended it, `open` when it did not end), and how long it took."""

    def __init__(self, received, end, sent_all, seconds, sending):
        self.received, self.end, self.sent_all = received, end, sent_all
        self.seconds, self.sending = seconds, sending

    def waited(self, case):
        """Every answer must have come."""
        return case.orderly and self.sent_all and self.end == "eof" and self.sending < 0.5


def judge(case, came, counts):
    try:
        faults = list(of_http(case, came, counts))
    except Malformed as fault:
        faults = [f"malformed: {fault}"]
    except UnicodeDecodeError as fault:
        faults = [f"malformed: not UTF-8: {fault}"]
    if came.received.startswith(b"HTTP/1.1 101 ") and ("await",) not in case.plan:
        # Against RFC 6455 section 4.1, but what the server takes it must answer.
        faults = [f"frames right behind the upgrade: {fault}" for fault in faults]
    if came.end == "open" and not may_stay_open(case, came):
        faults.append(f"the connection did not end within {came.seconds:.0f} s")
    return faults


def may_stay_open(case, came):
    """A conversation whose client sent whole messages and no close goes on: nothing limits an idle one here."""
    if not came.received.startswith(b"HTTP/1.1 101 ") or ("half",) in case.plan:
        return False
    _, end, rest = reading.requests(case.stream)
    return end == "upgrade" and reading.frames(case.stream[rest:], MOST_MESSAGE, MOST_FRAGMENTS)[1] == "end"


def of_http(case, came, counts):
    sent, end, rest = reading.requests(case.stream)
    data, at, index, last = came.received, 0, 0, None
    while at < len(data):
        request = sent[index] if index < len(sent) else None
        # A 408 may come before the server has read the method, so it may have a body.
        late = data[at + 9 : at + 12] == b"408"
        headless = request.method == "HEAD" if request and not late else guess_headless(data, at)
        if last and not data.startswith(b"HTTP/1.1 "[: len(data) - at], at):
            yield f"behind a {last.status} to {sent[index - 1].method if index <= len(sent) else 'a request'} comes a body: {bytes(data[at:at + 100])!r}"
            return
        read = response(data, at, headless)
        if read is None:
            if came.end == "eof":
                yield f"an answer that is cut: {bytes(data[at:at + 300])!r}"
            return
        if last and last.header("connection") == "close":
            yield "an answer behind `Connection: close`"
        made, at = read
        counts[(case.kind, str(made.status))] += 1
        if made.status == 100:
            if request and request.headers.get("expect") != "100-continue":
                yield "a 100 that nobody asked for"
            continue
        if made.status == 101:
            yield from of_upgrade(case, came, counts, request, made, rest, data[at:])
            return
        if request:
            yield from of_answer(case, came, request, made)
        elif end == "unframed" and index == len(sent) and made.status < 400:
            yield f"a {made.status} for a request whose length is not told in one way (RFC 9112 section 6)"
        elif end == "unchunked" and index == len(sent) and made.status < 400 and made.header("connection") != "close":
            yield f"a {made.status} for a body whose chunks are wrong, and the connection goes on (RFC 9112 section 7.1)"
        elif end in ("unframed", "unchunked") and index > len(sent):
            yield "an answer behind a request whose length is not told in one way"
        elif end == "end":
            yield f"an answer too many: {made.status} {made.body[:200]!r}"
        elif end == "cut" and made.status == 200 and b'"model_name"' in made.body:
            yield "an answer to a request that did not come whole"
        index, last = index + 1, made
    closed = last and last.header("connection") == "close"
    if index < len(sent) and came.waited(case) and not closed:
        yield f"lost: {index} answers to {len(sent)} requests"


def guess_headless(data, at):
    """Whether an answer to something doubtful, which may be a HEAD, has no body. Every body begins with a brace."""
    end = data.find(b"\r\n\r\n", at)
    return data[end + 4 : end + 5] != b"{"


def of_answer(case, came, request, made):
    parts = urllib.parse.urlsplit(request.target)
    if made.status == 404 and b"smuggled" in made.body and b"unknown_model" in made.body and "smuggled" not in request.target:
        yield "smuggled: a request in a body was answered"
    if case.intact and made.status != 200 and not (made.status == 408 and came.sending > 0.5) and made.json().get("code") not in BUSY:
        yield f"a good request got {made.status}: {made.body[:300]!r}"
    if made.status != 200 or request.method != "POST":
        return
    said, tensors = split(made)
    of_result(said)
    if parts.path == "/v2/models/affine/infer" and plain(parts.query):
        meaning = of_body(request)
        if "stream=last" not in parts.query:
            yield from compare(meaning, said, tensors, affine)


def split(made):
    """An answer's JSON, and the tensors behind it."""
    length = made.header("inference-header-content-length")
    if length is None:
        return made.json(), b""
    if not length.isdigit() or int(length) > len(made.body):
        raise Malformed(f"Inference-Header-Content-Length {length} of {len(made.body)} bytes")
    return strict_json(made.body[: int(length)]), made.body[int(length) :]


def plain(query):
    """Whether answers have numbers in spite of the query."""
    names = [name for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True)]
    return len(set(names)) == len(names) and "classification" not in names


def windows(data, ended):
    """The windows of a stream of sound: the number of the first new sample, and six samples."""
    samples = [0, 0, *(one[0] / 32768 for one in struct.iter_unpack("<h", data[: len(data) // 2 * 2]))]
    length = len(samples) - 2
    count = max(0, (length - 4) // 3 + 1)
    covered = 3 * count + 1 if count else 0
    if ended and length > max(3 * count, covered):
        count, samples = count + 1, samples + [0] * 4
    return [(3 * at, samples[3 * at : 3 * at + 6]) for at in range(count)]


def of_event(said):
    """Whether it is the acknowledgement of an event."""
    return isinstance(said, dict) and said.get("event") in ("ended", "committed")


def of_result(said):
    if not isinstance(said, dict) or not isinstance(said.get("outputs", said.get("predictions")), list):
        raise Malformed(f"no answer of inference: {said!r:.300}")
    for output in said.get("outputs", []):
        count = math.prod(output["shape"])
        if "data" in output and len(output["data"]) != count:
            raise Malformed(f"shape {output['shape']} with {len(output['data'])} elements")


def of_body(request):
    """What a POST to the model affine means: see reading.meaning."""
    length, kind = request.headers.get("inference-header-content-length"), request.headers.get("content-type", "")
    kind = kind.split(";")[0].strip().lower()
    if length is not None:
        if not length.isdigit() or int(length) > len(request.body):
            return "refused: Inference-Header-Content-Length"
        if int(length) > 0:
            return reading.meaning(request.body[: int(length)], 3, request.body[int(length) :])
        return of_raw(request.body)
    if kind == "application/octet-stream":
        return of_raw(request.body)
    if kind in ("application/json", ""):
        return reading.meaning(request.body, 3)
    return None


def of_raw(data, columns=3):
    if not data or len(data) % (4 * columns):
        return "refused: bytes that do not fill rows"
    numbers = struct.unpack(f"<{len(data) // 4}f", data)
    return reading.Meaning([list(numbers[at : at + columns]) for at in range(0, len(numbers), columns)], "inputs")


def affine(row):
    """y = x · [[1, 0], [0, 1], [1, 1]] + [0.5, -0.5], as tests/models/make.py has it, and how exact it is."""
    scale = max(1, *map(abs, row)) if all(map(math.isfinite, row)) else 1
    # With the products by 0, which make NaN of infinity.
    return [row[0] + 0 * row[1] + row[2] + 0.5, 0 * row[0] + row[1] + row[2] - 0.5], scale


def compare(meaning, said, tensors, model):
    """Faults of an answer of success."""
    if meaning is None:
        return
    if isinstance(meaning, str):
        yield f"answered, but must be {meaning}; the answer is {said!r:.300}"
        return
    if isinstance(meaning.id, str) and said.get("id") != meaning.id or meaning.id is None and said.get("id") is not None:
        yield f"the id {said.get('id')!r} came back for {meaning.id!r}"
    values = numbers(meaning, said, tensors)
    if values is None:
        if not meaning.special:
            yield f"not the form that was asked for: {said!r:.300}"
        return
    wanted = [model(row) for row in meaning.rows]
    flat = [(value, scale) for row, scale in wanted for value in row]
    if len(flat) != len(values) or not all(near(got, *want) for got, want in zip(values, flat)):
        yield f"wrong numbers: {values!r:.300} instead of {[value for value, _ in flat]!r:.300}"


def numbers(meaning, said, tensors):
    """The numbers of an answer's output y; None when it has none in that form."""
    if meaning.form == "rows":
        made = said.get("predictions")
        return [value for row in made for value in row] if made and all(isinstance(row, list) for row in made) else None
    outputs = said.get("outputs") or [{}]
    output = outputs[0]
    if output.get("name") != "y" or output.get("datatype") != "FP32" or output.get("shape") != [len(meaning.rows), 2]:
        return None
    if "data" in output:
        return output["data"]
    size = output.get("parameters", {}).get("binary_data_size")
    return list(struct.unpack(f"<{size // 4}f", tensors[:size])) if size and size <= len(tensors) else None


def near(got, wanted, scale):
    """`null` is NaN or infinity, in JSON."""
    got = math.nan if got is None else got
    if not math.isfinite(got) or not math.isfinite(wanted):
        return not math.isfinite(got) and (not math.isfinite(wanted) or abs(wanted) > 3.4e38)
    return abs(got - wanted) <= 1e-6 * scale + 1e-5


def close_to(got, wanted):
    return got is not None and abs(got - wanted) < 1e-6


def of_upgrade(case, came, counts, request, made, rest, data):
    if made.header("sec-websocket-accept") is None or made.header("upgrade", ).lower() != "websocket":
        yield f"a 101 without its headers: {made.headers}"
    elif request and request.headers.get("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ==" and made.header("sec-websocket-accept") != ACCEPT.decode():
        yield "a wrong Sec-WebSocket-Accept"
    if request and not request.upgrades():
        yield "a 101 for a request that does not ask for it"
    events = Frames()
    came_in = events.feed(bytes(data))
    if events.at < len(events.buffer) and came.end == "eof":
        yield f"a frame that is cut: {bytes(events.buffer[:100])!r}"
    replies = [event for event in came_in if event[0] in ("text", "binary")]
    for event in came_in:
        if event[0] == "close":
            counts[(case.kind, f"close {event[1]}")] += 1
    if not request or not request.upgrades():
        return
    conversation = Conversation(case, came, request, *reading.frames(case.stream[rest:], MOST_MESSAGE, MOST_FRAGMENTS))
    yield from conversation.controls(came_in)
    yield from conversation.replies(replies, came_in, counts)


class Conversation:
    """A conversation whose frames the reference could read up to `end`."""

    def __init__(self, case, came, request, messages, end):
        self.case, self.came, self.end = case, came, end
        self.asked = [message for message in messages if message[0] in ("text", "binary")]
        self.pings = [payload for kind, payload in messages if kind == "ping"]
        self.close = next((payload for kind, payload in messages if kind == "close"), None)
        parts = urllib.parse.urlsplit(request.target)
        pieces = parts.path.strip("/").split("/")
        self.model = pieces[2] if len(pieces) > 2 and pieces[:2] == ["v2", "models"] else "affine" if parts.path == "/" else None
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.known = plain(parts.query) and "sec-websocket-protocol" not in request.headers and len(pieces) != 5

    def controls(self, events):
        if self.end == "doubtful":
            return
        pings = list(self.pings)
        for kind, payload in events:
            if kind == "pong":
                if payload not in pings:
                    yield f"a pong {payload[:40]!r} for no ping"
                    continue
                # One pong may answer several pings (RFC 6455 section 5.5.3).
                pings = pings[pings.index(payload) + 1 :] if payload in pings else pings
            elif kind == "close":
                own = struct.unpack(">H", self.close[:2])[0] if self.close and len(self.close) > 1 else None
                if payload not in CLOSES | {own, None}:
                    yield f"close code {payload}"
                if self.end == "broken" and payload not in (1002, 1007, 1008, 1009):
                    yield f"close code {payload} for frames that break RFC 6455"
                if self.is_whole() and payload != own:
                    yield f"close code {payload} for a conversation that closed with {own}"
        if not events and self.is_whole():
            yield "nothing came, not even a close"

    def replies(self, replies, events, counts):
        sound = self.model == "windows" and self.query.get("framing", "raw") == "raw"
        said = [self.read(*reply) for reply in replies]
        for one, _ in said:
            if "error" in one:
                error_reply(one)
                counts[(self.case.kind, one["code"])] += 1
                if self.case.intact and one["code"] not in BUSY:
                    yield f"a good request got {one!r:.300}"
            else:
                counts[(self.case.kind, "answer")] += 1
                if not of_event(one):
                    of_result(one)
        if self.end == "doubtful":
            return
        if self.query.get("stream") == "last":
            yield from self.newest(said)
        elif sound:
            yield from self.sound(said)
        else:
            if len(said) > len(self.asked):
                yield f"{len(said)} replies to {len(self.asked)} messages"
            if self.is_whole() and len(said) < len(self.asked):
                yield f"lost: {len(said)} replies to {len(self.asked)} messages"
            if self.known and self.model in ("affine", "running"):
                yield from self.numbers(said)

    def is_whole(self):
        """The client closed as it should and waited."""
        return self.end == "close" and self.came.waited(self.case)

    def read(self, kind, payload):
        if kind == "text":
            said, tensors = strict_json(payload), b""
        else:
            if len(payload) < 4 or struct.unpack("<I", payload[:4])[0] > len(payload) - 4:
                raise Malformed(f"a binary reply that is not laid out as v2: {payload[:40]!r}")
            length = struct.unpack("<I", payload[:4])[0]
            said, tensors = strict_json(payload[4 : 4 + length]), payload[4 + length :]
        if not isinstance(said, dict):
            raise Malformed(f"a reply that is no object: {said!r:.100}")
        return said, tensors

    def meaning(self, kind, payload, columns):
        if kind == "text":
            return reading.meaning(payload, columns)
        if self.query.get("framing") != "v2":
            return of_raw(payload) if columns == 3 else None
        length = struct.unpack("<I", payload[:4])[0] if len(payload) >= 4 else len(payload)
        if length > len(payload) - 4:
            return "refused: the JSON is longer than the message"
        return reading.meaning(payload[4 : 4 + length], columns, payload[4 + length :])

    def numbers(self, said):
        sums = {}
        for (kind, payload), (one, tensors) in zip(self.asked, said):
            if self.model == "affine":
                meaning = self.meaning(kind, payload, 3)
                if "error" not in one:
                    yield from compare(meaning, one, tensors, affine)
                elif isinstance(meaning, reading.Meaning) and isinstance(meaning.id, str) and one.get("id", meaning.id) != meaning.id:
                    yield f"the id {one['id']!r} came back for {meaning.id!r}"
                continue
            if "error" in one:
                continue
            meaning = self.meaning(kind, payload, 2)
            if isinstance(meaning, str):
                yield from compare(meaning, one, tensors, None)
            if not isinstance(meaning, reading.Meaning) or len(meaning.rows) != 1 or not self.step(meaning, sums):
                return
            yield from compare(meaning, one, tensors, lambda row: (self.total, max(1, *map(abs, self.total + row)) * 10))

    def step(self, meaning, sums):
        """The sum of a sequence with one more step, in `total`; False when the reference does not know."""
        name, start, end = meaning.sequence or (None, None, None)
        if not all(flag in (None, True, False) for flag in (start, end)) or isinstance(name, (float, list, dict)):
            return False
        name = None if name in (None, 0, "") else str(name)
        before = [0, 0] if start else sums.get(name, [0, 0])
        self.total = [old + new for old, new in zip(before, meaning.rows[0])]
        if not all(abs(value) < 1e6 for value in self.total):
            return False
        sums[name] = [0, 0] if end else self.total
        return True

    def newest(self, said):
        """Of frames that waited, only the newest is answered; the answers count the others."""
        wanted = len(self.asked)
        passed = sum(one.get("parameters", {}).get("dropped", 0) for one, _ in said if "error" not in one)
        if len(said) + passed > wanted:
            yield f"{len(said)} replies and {passed} dropped of {wanted} messages"
        if self.case.intact and self.is_whole() and not any("error" in one for one, _ in said) and len(said) + passed != wanted:
            yield f"lost: {len(said)} replies and {passed} dropped of {wanted} messages"
        ids = [one["id"] for one, _ in said if isinstance(one.get("id"), int)]
        if self.case.intact and (ids != sorted(set(ids)) or ids and ids[-1] != wanted - 1 and self.is_whole()):
            yield f"the newest frame is not the last that was answered: {ids}"

    def sound(self, said):
        """The model gives back its six samples: windows of four, every three, with two before them. An end fills the last
        window with silence, and is acknowledged."""
        if any(kind == "text" and payload != b'{"event":"end"}' for kind, payload in self.asked):
            return
        expected, heard = [], b""
        for kind, payload in self.asked:
            if kind == "text":
                expected += windows(heard, True)
                expected.append({"event": "ended", "stream_offset": len(heard) // 2})
                if len(heard) % 2:
                    expected[-1]["dropped_bytes"] = 1
                heard = b""
            else:
                heard += payload
        expected += windows(heard, False)
        if len(said) > len(expected) or len(said) < len(expected) and self.is_whole():
            yield f"{len(said)} answers of {len(expected)}"
        for at, ((one, _), known) in enumerate(zip(said, expected)):
            if "error" in one:
                continue
            if isinstance(known, dict):
                good = one == known
            else:
                offset, samples = known
                got = one["outputs"][0]["data"] if "outputs" in one else []
                good = one.get("parameters", {}).get("stream_offset") == offset
                good = good and len(got) == 6 and all(map(close_to, got, samples))
            if not good:
                yield f"answer {at} is {one!r:.300} instead of {known}"
                return
