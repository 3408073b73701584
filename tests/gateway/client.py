"""The checks of `run`: arguments are the project's root, the gateway's port, and the seconds to be idle."""

import json
import ssl
import sys
import threading
import time
import urllib.request

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from held_out import first

root, port, idle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
trust = ssl.create_default_context(cafile=f"{root}/tests/data/tls/authority.crt")
token = {"X-Auth-Token": "let me in"}


label, picture = first()


def conversation(path, headers=token):
    # No pings of the client's own: it only answers.
    return connect(
        f"wss://localhost:{port}{path}", ssl=trust, additional_headers=headers, ping_interval=None, proxy=None
    )


def classes(client):
    client.send(picture)
    return json.loads(client.recv(timeout=30))["outputs"][0]["data"]


passed = failed = 0


def check(name, holds):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print("ok    " if holds else "FAILED", name, flush=True)


def status_of(path, headers):
    try:
        with conversation(path, headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


for _ in range(100):
    try:
        with conversation("/infer/digits/"):
            break
    except OSError:
        time.sleep(0.1)

check("a wrong token is stopped by the gateway", status_of("/infer/digits/", {"X-Auth-Token": "no"}) == 401)
check("a wrong path gets the server's 404", status_of("/infer/digits/nothing", token) == 404)
with conversation("/infer/digits/v2/models/digits?classification=1") as client:
    found = classes(client)
    check("a sub-path and a query string pass", len(found) == 1 and found[0].endswith(f":{label}"))
request = urllib.request.Request(
    f"https://localhost:{port}/infer/digits/v2/models/digits/infer", picture, {**token, "Content-Type": "image/png"}
)
with urllib.request.urlopen(request, context=trust) as response:
    data = json.load(response)["outputs"][0]["data"]
    check("plain HTTP passes", data[0].endswith(f":{label}"))


def stay(path, seconds, outcome):
    with conversation(path) as client:
        classes(client)
        begun = time.monotonic()
        try:
            client.recv(timeout=seconds)
        except TimeoutError:
            outcome["lives"] = classes(client)
        except ConnectionClosed:
            outcome["cut"] = time.monotonic() - begun


lives, cut = {}, {}
silent = threading.Thread(target=stay, args=("/silent", 90, cut))
silent.start()
stay("/infer/digits/", idle, lives)
silent.join()
check(f"idle for {idle:.0f} s on the server's pings, a conversation lives", lives.get("lives", [""])[0].endswith(f":{label}"))
check("without them the gateway cuts it after its 60 s", 55 < cut.get("cut", 0) < 75)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
