"""The parts of `run` that are easier in Python.

    client.py digit PORT                asks a server for a digit over a WebSocket; exits 0 when it is right
    client.py port                      prints a port that is free
    client.py cut PORT TO_PORT BYTES once|for-good
                                        forwards connections, and breaks the one that sends more than BYTES; then
                                        continues (once) or ends (for-good)
"""

import json
import os
import socket
import sys
import threading


def digit(port):
    from held_out import first
    from websockets.sync.client import connect

    label, picture = first()
    with connect(f"ws://127.0.0.1:{port}/", proxy=None) as conversation:
        conversation.send(picture)
        best = json.loads(conversation.recv(timeout=30))["outputs"][0]["data"][0]
    print(best)
    assert best.split(":")[1] == str(label), f"{best}, expected {label}"


def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1])


def cut(port, to, limit, then):
    listener = socket.create_server(("127.0.0.1", int(port)))
    left = [int(limit)]

    def pass_on(source, target, counted):
        try:
            while data := source.recv(65536):
                if counted and left[0] is not None:
                    left[0] -= len(data)
                    if left[0] <= 0:
                        left[0] = None
                        print("cut", flush=True)
                        if then == "for-good":
                            os._exit(0)
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", int(to)))
        threading.Thread(target=pass_on, args=(client, server, True), daemon=True).start()
        threading.Thread(target=pass_on, args=(server, client, False), daemon=True).start()


if __name__ == "__main__":
    {"digit": digit, "port": port, "cut": cut}[sys.argv[1]](*sys.argv[2:])
