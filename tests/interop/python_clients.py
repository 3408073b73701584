"""Python's websockets, http.client and urllib against a running onnxd.

    python python_clients.py 127.0.0.1:PORT
"""

import asyncio
import http.client
import json
import struct
import sys
import urllib.error
import urllib.request

import websockets
from websockets.sync.client import connect

from digits import (DIGITS, REPORT, b64, best, check, drawing, equal, image, invert, label, oip, png, run_checks,
                    samples)

HOST = sys.argv[1]
WS, HTTP = f"ws://{HOST}", f"http://{HOST}"
INFER = "/v2/models/digits/infer"
WAIT = 60
SOME = samples(5)
LABELS = [value for value, _ in SOME]


def ask(ws, message):
    """Sends one message and returns the reply: bytes, or parsed JSON."""
    ws.send(message if isinstance(message, bytes) else json.dumps(message))
    reply = ws.recv(timeout=WAIT)
    return reply if isinstance(reply, bytes) else json.loads(reply)


async def pipeline(messages, on_open=None):
    """Sends everything on one conversation without waiting, and returns the replies in order."""
    async with websockets.connect(WS) as ws:

        async def send():
            for message in messages:
                await ws.send(message)

        sender = asyncio.create_task(send())
        extra = asyncio.create_task(on_open(ws)) if on_open else None
        replies = [json.loads(await asyncio.wait_for(ws.recv(), WAIT)) for _ in messages]
        await sender
        if extra:
            await extra
        return replies


def right(replies):
    """How many replies, in the order of the held-out digits, have the right label first."""
    return sum(best(reply) == [value] for reply, (value, _) in zip(replies, DIGITS, strict=True))


def tensor(digits):
    """Digits as the model's own FP32 tensor, [n,1,28,28]: 0 to 1, little-endian."""
    return b"".join(struct.pack("<784f", *(p / 255 for p in pixels)) for _, pixels in digits)


def tensor_head(digits, **fields):
    """The JSON that goes before tensor(digits) in OIP's binary extension."""
    shape, size = [len(digits), 1, 28, 28], 4 * 784 * len(digits)
    one = {"name": "image", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [one], **fields}).encode()


def check_probabilities(head, body, id):
    """Checks the JSON and the bytes of a binary reply with ten FP32 probabilities for each digit of SOME."""
    reply = json.loads(head)
    equal(reply.get("id"), id, "the id")
    [output] = reply["outputs"]
    equal((output["name"], output["datatype"], output["shape"]), ("logits", "FP32", [len(SOME), 10]), "the output")
    equal(output["parameters"]["binary_data_size"], len(body), "binary_data_size")
    equal(len(body), 4 * 10 * len(SOME), "the size of the tensor")
    rows = list(struct.iter_unpack("<10f", body))
    assert all(abs(sum(row) - 1) < 1e-4 for row in rows), f"the sums are {[sum(row) for row in rows]}"
    equal([row.index(max(row)) for row in rows], LABELS, "the digits")


PROBABILITIES = [{"name": "logits", "parameters": {"binary_data": True, "classification": 0}}]


# websockets


@check("websockets: a raw PNG, and a close with 1000")
def raw_png():
    with connect(WS) as ws:
        for value, pixels in SOME:
            equal(best(ask(ws, png(image(pixels)))), [value], "the digit")
    equal(ws.close_code, 1000, "the close code")


@check("websockets: every path of the model")
def paths():
    value, pixels = SOME[0]
    for path in ("/", "/v2/models/digits", INFER, "/v2/models/digits/versions/1", "/v2/models/digits/versions/1/infer"):
        with connect(WS + path) as ws:
            equal(best(ask(ws, png(image(pixels)))), [value], path)


@check("websockets: a message in fragments")
def fragments():
    value, pixels = SOME[0]
    file = png(image(pixels))
    with connect(WS) as ws:
        ws.send(file[i : i + 50] for i in range(0, len(file), 50))
        equal(best(json.loads(ws.recv(timeout=WAIT))), [value], "the digit")


@check("websockets: base64 in OIP JSON, with an id")
def oip_json():
    with connect(WS) as ws:
        reply = ask(ws, oip([png(image(pixels)) for _, pixels in SOME], id="five"))
    equal(best(reply), LABELS, "the digits")
    equal(reply.get("id"), "five", "the id")


@check("websockets: several instances")
def instances():
    with connect(WS) as ws:
        reply = ask(ws, {"instances": [b64(png(image(pixels))) for _, pixels in SOME]})
    equal([label(row[0]) for row in reply["predictions"]], LABELS, "the digits")


@check("websockets: framing=v2, an FP32 tensor in, a binary tensor out")
def framing_v2():
    with connect(WS + "/?framing=v2") as ws:
        head = tensor_head(SOME, id="v2", outputs=PROBABILITIES)
        reply = ask(ws, struct.pack("<I", len(head)) + head + tensor(SOME))
        assert isinstance(reply, bytes), f"expected a binary message, got {reply}"
        end = 4 + struct.unpack_from("<I", reply)[0]
        check_probabilities(reply[4:end], reply[end:], "v2")


@check("websockets: framing=v2, binary_data_output for classes in BYTES")
def framing_v2_bytes():
    with connect(WS + "/?framing=v2") as ws:
        head = tensor_head(SOME, parameters={"binary_data_output": True})
        reply = ask(ws, struct.pack("<I", len(head)) + head + tensor(SOME))
    assert isinstance(reply, bytes), f"expected a binary message, got {reply}"
    at = 4 + struct.unpack_from("<I", reply)[0]
    [output] = json.loads(reply[4:at])["outputs"]
    equal((output["datatype"], output["shape"]), ("BYTES", [len(SOME), 3]), "the output")
    equal(output["parameters"]["binary_data_size"], len(reply) - at, "binary_data_size")
    entries = []
    while at < len(reply):
        size = struct.unpack_from("<I", reply, at)[0]
        entries.append(reply[at + 4 : at + 4 + size].decode())
        at += 4 + size
    equal([label(entry) for entry in entries[::3]], LABELS, "the digits")


@check("websockets: 1,000 pipelined requests come back in order, 98.5 % right")
def pipelined():
    messages = [json.dumps(oip([png(image(pixels))], id=f"r{i}")) for i, (_, pixels) in enumerate(DIGITS)]
    replies = asyncio.run(pipeline(messages))
    equal([reply.get("id") for reply in replies], [f"r{i}" for i in range(len(DIGITS))], "the ids")
    assert right(replies) >= 0.985 * len(DIGITS), f"only {right(replies)} of {len(DIGITS)} are right"


@check("websockets: all held-out digits as raw PNGs, as many right as report.json says")
def accuracy():
    replies = asyncio.run(pipeline([png(image(pixels)) for _, pixels in DIGITS]))
    equal((len(replies), right(replies)), (REPORT["heldout"], REPORT["correct"]), "digits, and right ones")


@check("websockets: the same dark on light")
def dark_on_light():
    replies = asyncio.run(pipeline([png(invert(image(pixels))) for _, pixels in DIGITS]))
    equal((len(replies), right(replies)), (REPORT["heldout"], REPORT["correct_inverted"]), "digits, and right ones")


@check("websockets: drawings of 280x200, light on dark and dark on light")
def drawings():
    with connect(WS) as ws:
        for value, pixels in SOME:
            picture = drawing(pixels, (280, 200))
            equal(best(ask(ws, png(picture))), [value], "light on dark")
            equal(best(ask(ws, png(invert(picture).convert("RGBA")))), [value], "dark on light, in RGBA")


@check("websockets: an error reply carries the id and keeps the conversation open")
def errors():
    value, pixels = SOME[0]
    good = oip([png(image(pixels))], id="good")
    wrong = [
        {"id": "no inputs"},
        {"id": "no base64", "inputs": [{**good["inputs"][0], "data": ["%"]}]},
        {"id": "no image", "inputs": [{**good["inputs"][0], "data": [b64(b"text")]}]},
        {"id": "wrong name", "inputs": [{**good["inputs"][0], "name": "picture"}]},
    ]
    with connect(WS) as ws:
        for request in wrong:
            reply = ask(ws, request)
            equal((reply.get("code"), reply.get("id")), ("invalid_request", request["id"]), "the code and the id")
            assert reply.get("error"), f"no sentence in {reply}"
            equal(best(ask(ws, good)), [value], "the digit after it")
        for request in ("not json", b"not a picture"):
            ws.send(request)
            equal(json.loads(ws.recv(timeout=WAIT)).get("code"), "invalid_request", f"the code for {request!r}")
            equal(best(ask(ws, good)), [value], "the digit after it")


@check("websockets: a ping is answered, idle and while inference runs")
def pings():
    with connect(WS) as ws:
        assert ws.ping(b"idle").wait(WAIT), "no pong on an idle conversation"

    async def ping(ws):
        for i in range(5):
            await asyncio.wait_for(await ws.ping(f"busy {i}".encode()), WAIT)

    asyncio.run(pipeline([png(image(pixels)) for _, pixels in DIGITS[:200]], ping))


@check("websockets: an upgrade for an unknown model is refused with 404")
def unknown_model():
    try:
        connect(WS + "/v2/models/nothing").close()
    except websockets.InvalidStatus as refusal:
        equal(refusal.response.status_code, 404, "the status")
        assert json.loads(refusal.response.body).get("error"), f"no error in {refusal.response.body}"
    else:
        raise AssertionError("the upgrade was accepted")


# http.client and urllib


@check("http.client: metadata, JSON, raw PNG, an error and HEAD on one connection")
def http_client():
    value, pixels = SOME[0]
    file = png(image(pixels))
    connection = http.client.HTTPConnection(HOST, timeout=WAIT)
    connection.connect()
    sock = connection.sock

    def request(status, method, path, body=None, headers={}):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        equal(answer.status, status, f"the status of {method} {path}")
        assert connection.sock is sock, f"the connection was closed after {method} {path}"
        return json.loads(data) if data else None

    equal(request(200, "GET", "/v2/models/digits")["name"], "digits", "the name")
    reply = request(200, "POST", INFER, json.dumps(oip([file], id="http")), {"Content-Type": "application/json"})
    equal((best(reply), reply.get("id")), ([value], "http"), "the digit and the id")
    equal(best(request(200, "POST", INFER, file, {"Content-Type": "image/png"})), [value], "the raw digit")
    raw = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    equal(best(request(200, "POST", INFER, file, raw)), [value], "the digit after an empty inference header")
    reply = request(400, "POST", INFER, b'{"id":"wrong"}', {"Content-Type": "application/json"})
    assert reply.get("error") and reply.get("id") == "wrong", f"expected an error with the id, got {reply}"
    equal(request(200, "HEAD", "/v2"), None, "the body of HEAD")
    equal(request(200, "GET", "/v2/health/ready"), {"ready": True}, "readiness")
    connection.close()


@check("http.client: the binary tensor extension, both ways")
def http_binary():
    connection = http.client.HTTPConnection(HOST, timeout=WAIT)
    head = tensor_head(SOME, id="binary", outputs=PROBABILITIES)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", INFER, head + tensor(SOME), headers)
    answer = connection.getresponse()
    body = answer.read()
    equal(answer.status, 200, f"the status ({body[:200]!r})")
    end = int(answer.getheader("Inference-Header-Content-Length"))
    check_probabilities(body[:end], body[end:], "binary")
    connection.close()


@check("http.client: a chunked body")
def http_chunked():
    value, pixels = SOME[0]
    body = json.dumps(oip([png(image(pixels))])).encode()
    connection = http.client.HTTPConnection(HOST, timeout=WAIT)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", INFER, (body[i : i + 100] for i in range(0, len(body), 100)), headers)
    answer = connection.getresponse()
    equal((answer.status, best(json.load(answer))), (200, [value]), "the status and the digit")
    connection.close()


@check("urllib: health, inference and an error")
def urllib_request():
    with urllib.request.urlopen(HTTP + "/health", timeout=WAIT) as answer:
        equal(json.load(answer), {"health": "true"}, "health")
    body = json.dumps(oip([png(image(pixels)) for _, pixels in SOME])).encode()
    request = urllib.request.Request(HTTP + INFER, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WAIT) as answer:
        equal(best(json.load(answer)), LABELS, "the digits")
    try:
        urllib.request.urlopen(HTTP + "/v2/models/nothing", timeout=WAIT)
    except urllib.error.HTTPError as error:
        equal(error.code, 404, "the status")
        assert json.load(error).get("error"), "no error in the body"
    else:
        raise AssertionError("an unknown model was found")


run_checks()
