"""The well-behaved clients beside the attackers. They count their answers: none may be lost or wrong.

A separate process has three clients: a conversation that pipelines numbered requests, an HTTP connection that stays open,
and a probe that opens a new connection to the private listener each time.
"""

import http.client
import json
import multiprocessing
import queue
import select
import socket
import threading
import time

from wire import Frames, frame, upgrade

BURST = 8
PATIENCE = 20


def wanted(number):
    """What affine makes of [number, 1, 2 · number], see judge.affine."""
    return [number + 2 * number + 0.5, 1 + 2 * number - 0.5]


def asked(number):
    return {"id": str(number), "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [number, 1, 2 * number]}]}


def fault(said, number):
    """Why an answer is wrong, or None. Numbers stay below 2²⁴ / 3, so FP32 holds them."""
    if said.get("id") != str(number):
        return f"request {number} got the answer {said!r:.300}"
    if "outputs" not in said or said["outputs"][0]["data"] != wanted(number):
        return f"request {number} was answered {said!r:.300}"
    return None


class Conversation:
    """A conversation of a whole run."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream.sendall(upgrade("/v2/models/affine"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (byte := self.stream.recv(1)):
                raise ConnectionError(f"no upgrade: {head!r}")
            head += byte
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"no upgrade: {head!r}")
        self.frames, self.came, self.number = Frames(), [], 0

    def next(self):
        """The next message that is no ping; pings are answered."""
        while True:
            while not self.came:
                data = self.stream.recv(1 << 16)
                if not data:
                    raise ConnectionError("the server ended the connection")
                self.came += self.frames.feed(data)
            kind, payload = self.came.pop(0)
            if kind != "ping":
                return kind, payload
            self.stream.sendall(frame(10, payload))

    def idle(self):
        """Answers the pings that came in a pause."""
        while not self.came and select.select([self.stream], [], [], 0)[0]:
            self.came += self.frames.feed(self.stream.recv(1 << 16))
        for _, payload in [one for one in self.came if one[0] == "ping"]:
            self.stream.sendall(frame(10, payload))
        self.came = [one for one in self.came if one[0] != "ping"]

    def burst(self, result):
        numbers = [self.number + at for at in range(BURST)]
        self.number += BURST
        payloads = [json.dumps(asked(number % 5_000_000)).encode() for number in numbers]
        begun = time.monotonic()
        self.stream.sendall(frame(9, b"p%d" % numbers[0]) + b"".join(frame(1, payload) for payload in payloads))
        result["asked"] += BURST
        pongs, answers = 0, 0
        while answers < BURST or not pongs:
            kind, payload = self.next()
            if kind == "pong":
                pongs += payload == b"p%d" % numbers[0]
                continue
            if kind != "text":
                raise ConnectionError(f"{kind} {payload!r:.100}")
            wrong = fault(json.loads(payload), numbers[answers] % 5_000_000)
            if wrong:
                result["faults"].append(f"the good conversation: {wrong}")
            answers += 1
            result["times"].append(time.monotonic() - begun)
        result["answered"] += answers

    def last_words(self):
        """The code with which the server closes at its end."""
        self.stream.settimeout(45)
        while True:
            kind, payload = self.next()
            if kind == "close":
                self.stream.sendall(frame(8, (payload or 1000).to_bytes(2, "big")))
                return payload


class Good:
    """Runs the clients; `gate` lets them ask, `quiet` tells that they do not."""

    def __init__(self, ports):
        self.gate, self.leave, self.results = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
        self.busy, self.connected = multiprocessing.Array("i", 3), multiprocessing.Event()
        self.process = multiprocessing.Process(target=self.run, args=(ports,), daemon=True)
        self.process.start()
        if not self.connected.wait(PATIENCE):
            raise SystemExit("the good client cannot connect")

    def pause(self):
        self.gate.clear()
        until = time.monotonic() + PATIENCE
        while any(self.busy) and time.monotonic() < until:
            time.sleep(0.02)

    def finish(self):
        """What the clients counted; to be called when the server is about to end. The conversation stays open."""
        self.leave.set()
        self.gate.set()

    def result(self):
        try:
            return self.results.get(timeout=60)
        except queue.Empty:
            return {name: empty(f"the {name} client gave no result") for name in ("conversation", "http", "probe")} | {"close": None}

    def run(self, ports):
        results = {name: empty() for name in ("conversation", "http", "probe")}
        conversation = Conversation(ports["public"])
        kept = Http(ports["public"])
        kept.ask(results["http"])
        self.connected.set()
        clients = {"conversation": conversation.burst, "http": kept.ask, "probe": Http(ports["ops"]).probe}
        threads = [
            threading.Thread(target=self.repeat, args=(at, client, results[name], name, conversation))
            for at, (name, client) in enumerate(clients.items())
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            results["close"] = conversation.last_words()
        except Exception as error:
            results["close"] = str(error)
        self.results.put(results)

    def repeat(self, at, client, result, name, conversation):
        while True:
            while not self.gate.wait(1):
                if name == "conversation":
                    conversation.idle()
            if self.leave.is_set():
                return
            self.busy[at] = 1
            if self.gate.is_set():
                try:
                    client(result)
                except Exception as error:
                    result["faults"].append(f"the good {name} client: {type(error).__name__}: {error}")
                    self.busy[at] = 0
                    return
            self.busy[at] = 0
            time.sleep({"conversation": 0.01, "http": 0.01, "probe": 0.25}[name])


def empty(*faults):
    return {"asked": 0, "answered": 0, "times": [], "faults": list(faults)}


class Http:
    def __init__(self, port):
        self.port, self.connection, self.number, self.used = port, None, 0, 0

    def ask(self, result):
        # The server ends a connection that was idle for its keep-alive timeout; a client has to begin a new one.
        if self.connection is None or time.monotonic() - self.used > 2:
            if self.connection:
                self.connection.close()
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.number += 1
        begun = time.monotonic()
        result["asked"] += 1
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", "/v2/models/affine/infer", json.dumps(asked(self.number)), headers)
        answer = self.connection.getresponse()
        wrong = fault(json.loads(answer.read()), self.number)
        if answer.status != 200 or wrong:
            result["faults"].append(f"the good HTTP client: {answer.status}: {wrong}")
        result["answered"] += 1
        self.used = time.monotonic()
        result["times"].append(self.used - begun)

    def probe(self, result):
        begun = time.monotonic()
        result["asked"] += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200 or said != b'{"health":"true"}':
            result["faults"].append(f"the probe got {answer.status} {said[:200]!r}")
        result["answered"] += 1
        result["times"].append(time.monotonic() - begun)
        connection.close()
