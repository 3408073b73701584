"""The reference: what the bytes that a client sent mean, by RFC 9112, RFC 6455 and our documents.

It is written from the documents, not from the server's code. When the meaning of bytes is doubtful, it gives no result. So
every result that it gives must match the server's answer.
"""

import codecs
import json
import re
import struct

from wire import TOKEN, masked

FLOAT_MOST = 3.4028e38


class Sent:
    """A request that was read. `headers` holds each name once; `repeated` says that a name came twice."""

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body

    def upgrades(self):
        def words(name):
            return [word.strip() for word in self.headers.get(name, "").lower().split(",")]

        return "websocket" in words("upgrade") and "upgrade" in words("connection")


def requests(data):
    """The requests up to the first doubtful one, why the reading ended there, and where.

    The end is one of: `end`, `cut` (more must come), `upgrade` (frames follow), `doubtful`, `unframed` (by RFC 9112
    section 6 the head must be refused and the connection ended), `unchunked` (the same of a body, which need not be read).
    """
    found, at = [], 0
    while True:
        while data[at : at + 2] == b"\r\n":
            at += 2
        if at == len(data):
            return found, "end", at
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return found, "doubtful" if b"\n" in data[at:].replace(b"\r\n", b"") else "cut", at
        head = read_head(bytes(data[at:end]))
        if isinstance(head, str):
            return found, head, at
        body = read_body(head, data, end + 4)
        if isinstance(body, str):
            return found, body, at
        head.body, at = body
        found.append(head)
        if head.upgrades():
            return found, "upgrade", at


def read_head(head):
    if len(head) > 15_000 or head.count(b"\r\n") > 90 or b"\0" in head:
        return "doubtful"
    if re.search(rb"\r(?!\n)|(?<!\r)\n", head):
        return "doubtful"
    first, *lines = head.split(b"\r\n")
    first = re.fullmatch(rb"([A-Z]{1,16}) (/[\x21\x24-\x3b\x3d\x3f-\x5a\x5f\x61-\x7a\x7e]*) HTTP/1\.1", first)
    if not first:
        return "doubtful"
    headers, repeated = {}, set()
    for line in lines:
        field = re.fullmatch(rb"(" + TOKEN + rb"):[ \t]*([\x20-\x7e]*?)[ \t]*", line)
        if not field:
            return "doubtful"
        name, value = field[1].decode().lower(), field[2].decode()
        if name in headers:
            repeated.add(name)
        if name == "content-length" and headers.get(name, value) != value:
            return "unframed"
        headers[name] = value
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if length is not None and coding is not None or length is not None and not re.fullmatch(r"[0-9]+", length):
        return "unframed"
    if coding is not None and (coding.lower() != "chunked" or "transfer-encoding" in repeated):
        return "unframed"
    if "host" not in headers or repeated or "expect" in headers and headers["expect"] != "100-continue":
        return "doubtful"
    return Sent(first[1].decode(), first[2].decode(), headers, b"")


def read_body(head, data, at):
    """(body, where it ends), or how the reading ends."""
    if head.headers.get("transfer-encoding"):
        return read_chunks(data, at)
    length = head.headers.get("content-length")
    if length is None:
        # RFC 9110 section 15.5.12: 411 is the answer to a POST without a length, and ends the connection.
        return "doubtful" if head.method in ("POST", "PUT", "PATCH") else (b"", at)
    if len(length) > 7:
        return "doubtful"
    if len(data) - at < int(length):
        return "cut"
    return bytes(data[at : at + int(length)]), at + int(length)


def read_chunks(data, at):
    body = []
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return "cut" if len(data) - at < 12 else "doubtful"
        size = re.fullmatch(rb"([0-9a-fA-F]{1,8})((?:;" + TOKEN + rb"(?:=" + TOKEN + rb")?)*)\r\n", data[at : end + 1])
        if not size:
            # Blanks and quoted values are allowed; nothing else is.
            allowed = re.fullmatch(rb"[0-9a-fA-F]{1,16}[ \t;][\x09\x20-\x7e\x80-\xff]*\r\n", data[at : end + 1])
            return "doubtful" if allowed or end - at > 8000 else "unchunked"
        length, at = int(size[1], 16), end + 1
        if length == 0:
            break
        if len(data) - at < length + 2:
            return "cut"
        if data[at + length : at + length + 2] != b"\r\n":
            return "unchunked"
        body.append(bytes(data[at : at + length]))
        at += length + 2
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return "doubtful"
        if end == at:
            return b"".join(body), at + 2
        if not re.fullmatch(TOKEN + rb":[\x20-\x7e\t]*", data[at:end]):
            return "doubtful"
        at = end + 2


def frames(data, most, most_fragments):
    """The messages that a client's frames hold, [(kind, payload)], and how they end: `end`, `cut`, `close`, `doubtful`,
    or `broken`, by RFC 6455 or by the server's limits."""
    messages, at, kind, parts = [], 0, None, []
    while at < len(data):
        if len(data) - at < 2:
            return messages, "cut"
        first, second = data[at], data[at + 1]
        opcode, length, start = first & 0x0F, second & 0x7F, at + 2
        if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
            return messages, "broken"
        if opcode >= 8 and not first & 0x80 or opcode < 3 and (opcode == 0) != (kind is not None):
            return messages, "broken"
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) - start < size:
                return messages, "cut"
            length, start = int.from_bytes(data[start : start + size], "big"), start + size
            if length < (126 if size == 2 else 1 << 16):
                # RFC 6455 section 5.2 wants the shortest form; whether a longer one is an error it leaves open.
                return messages, "doubtful"
        if opcode >= 8 and length > 125:
            return messages, "broken"
        if opcode < 8 and (length + sum(map(len, parts)) > most or len(parts) >= most_fragments):
            return messages, "broken"
        if len(data) - start < 4 + length:
            return messages, "cut"
        payload = masked(bytes(data[start + 4 : start + 4 + length]), bytes(data[start : start + 4]))
        at = start + 4 + length
        if opcode == 8:
            # What comes behind a close may be passed over or be an error.
            end = "broken" if not is_close(payload) else "close" if at == len(data) else "doubtful"
            return messages + [("close", payload)], end
        if opcode >= 9:
            messages.append(({9: "ping", 10: "pong"}[opcode], payload))
            continue
        kind = opcode or kind
        parts.append(payload)
        if first & 0x80:
            whole = b"".join(parts)
            if kind == 1 and not is_text(whole):
                return messages, "broken"
            messages.append(({1: "text", 2: "binary"}[kind], whole))
            kind, parts = None, []
        elif kind == 1 and not begins_text(b"".join(parts)):
            # RFC 6455 section 8.1: the server may say so before the message ends.
            return messages, "broken"
    return messages, "cut" if kind else "end"


def is_text(payload):
    try:
        payload.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def begins_text(payload):
    """Whether more bytes can make it UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(payload)
        return True
    except UnicodeDecodeError:
        return False


def is_close(payload):
    if not payload:
        return True
    if len(payload) == 1 or not is_text(payload[2:]):
        return False
    code = struct.unpack(">H", payload[:2])[0]
    return 3000 <= code < 5000 or 1000 <= code <= 1014 and code not in (1004, 1005, 1006)


class Meaning:
    """A request in JSON that must be taken: `rows` of numbers, and what was asked for."""

    def __init__(self, rows, form, id=None):
        self.rows, self.form, self.id = rows, form, id
        self.special, self.sequence = False, None


class Refused(Exception):
    """The request must be refused, for this reason."""


class Unsure(Exception):
    """The reference does not say."""


TWICE = object()


def pairs(fields):
    made = dict(fields)
    if len(made) != len(fields):
        made[TWICE] = [name for at, (name, _) in enumerate(fields) if name in dict(fields[:at])]
    return made


def once(thing, *names):
    """A field that is given twice has two values, so the request must be refused."""
    if any(name in names for name in thing.get(TWICE, [])):
        raise Refused(f"a field is given twice: {thing[TWICE]}")


def meaning(text, columns, tensors=b""):
    """What a request for one input `x` of FP32 `[N, columns]` means: a Meaning, `refused: why`, or None."""
    try:
        return read(text, columns, tensors)
    except Refused as why:
        return f"refused: {why}"
    except Unsure:
        return None
    except RecursionError:
        # Python goes deeper than the 128 lists and objects of --max-json-depth.
        return "refused: it nests too deeply"


def read(text, columns, tensors):
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise Refused("it is not UTF-8") from None
    if "\\ud" in text.lower():
        raise Unsure
    try:
        asked = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=whole)
    except ValueError:
        raise Refused("it is not JSON") from None
    if not isinstance(asked, dict):
        raise Refused("it is no object")
    once(asked, "id", "parameters", "inputs", "outputs", "instances")
    id = asked.get("id")
    if isinstance(id, (bool, list, dict)):
        raise Refused("the id is neither text nor a number")
    inputs, instances = asked.get("inputs"), asked.get("instances")
    if (inputs is None) == (instances is None):
        raise Refused("it has neither inputs nor instances, or both")
    if instances is not None:
        made = Meaning(of_instances(instances, columns, tensors), "rows", id)
    else:
        made = Meaning(of_inputs(inputs, columns, tensors), "inputs", id)
    made.special = read_outputs(asked.get("outputs"))
    parameters = asked.get("parameters")
    if parameters is not None:
        if not isinstance(parameters, dict):
            raise Refused("the parameters are no object")
        once(parameters, "timeout", "binary_data_output", "sequence_id", "sequence_start", "sequence_end")
        names = ("sequence_id", "sequence_start", "sequence_end")
        made.sequence = tuple(parameters.get(name) for name in names)
        made.special |= bool(parameters)
    return made


def constant(word):
    raise ValueError(word)


def whole(digits):
    return int(digits) if len(digits) < 40 else float(digits)


def read_outputs(outputs):
    """True when something else than plain numbers is asked for."""
    if outputs is None or outputs == []:
        return False
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise Refused("outputs is no list of objects")
    for output in outputs:
        once(output, "name", "parameters")
        if output.get("name") != "y":
            if isinstance(output.get("name"), str) and output["name"] not in ("state_out",):
                raise Refused("there is no such output")
            raise Unsure
    return len(outputs) > 1 or bool(outputs[0].get("parameters"))


def of_inputs(inputs, columns, tensors):
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise Refused("inputs is no list of objects")
    if len(inputs) != 1:
        raise Refused("there is one input")
    one = inputs[0]
    once(one, "name", "shape", "datatype", "data", "parameters")
    shape, data, parameters = one.get("shape"), one.get("data"), one.get("parameters")
    if one.get("name") != "x" or one.get("datatype") != "FP32":
        raise Refused("the input is x, of FP32")
    if not isinstance(shape, list) or not all(type(length) is int for length in shape):
        raise Refused("the shape is no list of whole numbers")
    if len(shape) != 2 or shape[1] != columns or shape[0] < 1:
        raise Refused("the shape is another")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refused("the input's parameters are no object")
    once(parameters or {}, "binary_data_size")
    size = (parameters or {}).get("binary_data_size")
    if (data is None) == (size is None):
        raise Refused("it has neither data nor a size, or both")
    if size is not None:
        if type(size) is not int or size != len(tensors) or size != 4 * shape[0] * columns:
            raise Refused("binary_data_size is another")
        numbers = struct.unpack(f"<{size // 4}f", tensors)
        return [list(numbers[at : at + columns]) for at in range(0, len(numbers), columns)]
    if tensors:
        raise Refused("bytes are left over")
    numbers, nesting = flat(data)
    if len(nesting) > 1 and nesting != shape or len(numbers) != shape[0] * columns:
        raise Refused("data and shape do not agree")
    return [numbers[at : at + columns] for at in range(0, len(numbers), columns)]


def of_instances(instances, columns, tensors):
    if not isinstance(instances, list) or not instances or tensors:
        raise Refused("instances is no list of rows")
    rows = []
    for row in instances:
        if isinstance(row, dict):
            once(row, "x")
            if set(row) - {TWICE} != {"x"}:
                raise Refused("an instance has other inputs")
            row = row["x"]
        numbers, nesting = flat(row)
        if nesting != [columns]:
            raise Refused("an instance has another shape")
        rows.append(numbers)
    return rows


def flat(data):
    """The numbers of nested lists, and the lengths of the lists."""
    if not isinstance(data, list):
        return [number(data)], []
    if not any(isinstance(one, list) for one in data):
        return [number(one) for one in data], [len(data)]
    if not all(isinstance(one, list) for one in data):
        raise Refused("it is ragged")
    parts = [flat(one) for one in data]
    if any(nesting != parts[0][1] for _, nesting in parts):
        raise Refused("it is ragged")
    return [one for numbers, _ in parts for one in numbers], [len(data)] + parts[0][1]


def number(value):
    if type(value) not in (int, float):
        raise Refused("an element is no number")
    if abs(value) > FLOAT_MOST:
        raise Refused("out of range") if abs(value) > 3.41e38 else Unsure
    return struct.unpack("<f", struct.pack("<f", value))[0]
