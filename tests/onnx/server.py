"""One server for a repository of models: started on a free port, its log read, its conversations."""

import json
import os
import queue
import re
import struct
import subprocess
import threading

import numpy as np
import websockets.exceptions
from websockets.sync.client import connect

# Seconds until a repository is loaded, and until a request is answered. Both take far less; more is a hang.
LOADING, ANSWER = 120, 20
KINDS = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class Gone(Exception):
    """The server ended, or does not become ready."""


class Refused(Exception):
    """An error reply: `args[0]` is its sentence."""


class Server:
    """`refused` has the reason of each model that is not served, by its folder's name."""

    def __init__(self, onnxd, folder):
        command = [onnxd, "serve", str(folder), "--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ONNXD_", "RUST_"))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=kept)
        self.refused, self.last, self.port = {}, "", queue.Queue()
        threading.Thread(target=self.read_log, daemon=True).start()

    def read_log(self):
        for line in self.process.stdout:
            try:
                said = json.loads(line)["message"]
            except (ValueError, KeyError, TypeError):
                # What a runtime prints when it ends the process.
                self.last = line.decode(errors="replace").strip() or self.last
                continue
            if found := re.search(r"^model (\S+) version \S+ is not loaded: (.*)", said, re.DOTALL):
                self.refused[found[1]] = found[2]
            elif found := re.search(r"/([^/]+): what is there is not served: (.*)", said, re.DOTALL):
                self.refused[found[1]] = found[2]
            elif found := re.search(r"^ready on 127\.0\.0\.1:(\d+)", said):
                self.port.put(int(found[1]))
        self.port.put(None)

    def wait_until_ready(self):
        try:
            self.address = self.port.get(timeout=LOADING)
        except queue.Empty:
            raise Gone(f"the server is not ready within {LOADING} s") from None
        if self.address is None:
            raise Gone(self.ending())

    def ending(self):
        """How the process ended; a moment passes between the end of its connections and its own."""
        try:
            return f"the server ended with {self.process.wait(5)}: {self.last}"
        except subprocess.TimeoutExpired:
            return None

    def ask(self, model, inputs):
        """The outputs by name: (datatype, array). Raises Refused, Gone, or TimeoutError."""
        url = f"ws://127.0.0.1:{self.address}/v2/models/{model}?framing=v2"
        try:
            with connect(url, compression=None, max_size=None, proxy=None, close_timeout=1) as conversation:
                conversation.send(request(inputs))
                return reply(conversation.recv(ANSWER))
        except websockets.exceptions.InvalidStatus as error:
            raise Refused(error.response.body.decode(errors="replace")) from None
        except (websockets.exceptions.WebSocketException, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            if ending := self.ending():
                raise Gone(ending) from None
            raise Refused(f"the conversation ended: {error}") from None
        except (ValueError, KeyError, struct.error) as error:
            raise Refused(f"a reply that is not of `framing=v2`: {error!r}") from None

    def stop(self):
        """Ends the server. What it said is of no use any more."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def request(inputs):
    """A message of `framing=v2`: the length of the JSON, the JSON, the tensors."""
    heads, bodies = [], []
    for name, datatype, array in inputs:
        bodies.append(encoded(datatype, array))
        size = {"binary_data_size": len(bodies[-1])}
        heads.append({"name": name, "shape": list(np.shape(array)), "datatype": datatype, "parameters": size})
    head = json.dumps({"inputs": heads, "parameters": {"binary_data_output": True}}).encode()
    return struct.pack("<I", len(head)) + head + b"".join(bodies)


def encoded(datatype, array):
    if datatype != "BYTES":
        return np.ascontiguousarray(array, KINDS[datatype]).tobytes()
    elements = [text if isinstance(text, bytes) else str(text).encode() for text in np.ravel(array)]
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def reply(message):
    if isinstance(message, str):
        said = json.loads(message)
        raise Refused(said.get("error") or f"a text instead of a binary message: {message[:200]}")
    length = struct.unpack_from("<I", message)[0]
    outputs, at = {}, 4 + length
    for output in json.loads(message[4:at])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        array = decoded(output["datatype"], message[at : at + size]).reshape(output["shape"])
        outputs[output["name"]] = (output["datatype"], array)
        at += size
    if at != len(message):
        raise Refused(f"{len(message) - at} bytes behind the last tensor")
    return outputs


def decoded(datatype, content):
    if datatype != "BYTES":
        return np.frombuffer(content, KINDS[datatype])
    elements, at = [], 0
    while at < len(content):
        size = struct.unpack_from("<I", content, at)[0]
        elements.append(content[at + 4 : at + 4 + size].decode(errors="replace"))
        at += 4 + size
    return np.array(elements, dtype=object)
