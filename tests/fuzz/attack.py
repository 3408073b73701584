"""Attackers: processes of several threads that each play one case after another and judge it."""

import collections
import multiprocessing
import select
import socket
import struct
import threading
import time

from cases import Case
from judge import Transcript, judge

# Every time limit of the server is shorter, so a connection that lives longer is a fault.
PATIENCE = 20
THREADS = 8


def play(case, address):
    """Performs a case's plan on a new connection."""
    begun = time.monotonic()
    stream = socket.socket()
    if case.narrow:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.settimeout(PATIENCE)
    try:
        stream.connect(address)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setblocking(False)
        player = Player(stream, begun + PATIENCE)
        player.perform(case.plan)
        sending = time.monotonic() - begun
        player.listen(None)
        return Transcript(player.received, player.end or "open", player.sent_all, time.monotonic() - begun, sending)
    finally:
        stream.close()


class Player:
    def __init__(self, stream, deadline):
        self.stream, self.deadline = stream, deadline
        self.received, self.end, self.sent_all = bytearray(), None, True
        self.poll = select.poll()
        self.poll.register(stream, select.POLLIN)

    def perform(self, plan):
        for name, *given in plan:
            if name == "send":
                self.send(given[0])
            elif name == "pause":
                self.listen(time.monotonic() + given[0])
            elif name == "stall":
                time.sleep(given[0])
            elif name == "await":
                while b"\r\n\r\n" not in self.received and self.end is None and time.monotonic() < self.deadline:
                    self.listen(time.monotonic() + 0.2, enough=1)
            elif name == "half":
                self.half()
            else:
                if name == "reset":
                    self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.end = "gone"

    def half(self):
        try:
            self.stream.shutdown(socket.SHUT_WR)
        except OSError:
            self.end = self.end or "reset"

    def send(self, data):
        at, view = 0, memoryview(data)
        self.poll.modify(self.stream, select.POLLIN | select.POLLOUT)
        while at < len(view) and self.sent_all and self.end != "gone":
            ready = self.poll.poll(max(0, self.deadline - time.monotonic()) * 1000)
            if not ready or time.monotonic() > self.deadline:
                self.sent_all = False
                break
            if ready[0][1] & ~select.POLLOUT and self.end is None:
                self.receive()
            if ready[0][1] & select.POLLOUT or self.end:
                try:
                    at += self.stream.send(view[at:])
                except BlockingIOError:
                    pass
                except OSError:
                    self.sent_all = False
        self.poll.modify(self.stream, select.POLLIN)

    def receive(self):
        try:
            data = self.stream.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.end = "reset"
            return
        self.received += data
        if not data:
            self.end = "eof"

    def listen(self, until, enough=1 << 40):
        """Reads until then, or until the end, or until there is enough."""
        until = min(until or self.deadline, self.deadline)
        while self.end is None and len(self.received) < enough and (left := until - time.monotonic()) > 0:
            if self.poll.poll(left * 1000 + 1):
                self.receive()


class Crew:
    """All attackers. `gate` lets them play; `playing` is how many cases are under way, a process each."""

    def __init__(self, seed, processes, ports):
        self.gate, self.stop = multiprocessing.Event(), multiprocessing.Event()
        self.faults, self.results = multiprocessing.Queue(), multiprocessing.Queue()
        self.playing = multiprocessing.Array("i", processes * THREADS)
        self.played = multiprocessing.Array("q", processes * THREADS)
        shared = (self.gate, self.stop, self.faults, self.results, self.playing, self.played)
        self.processes = [
            multiprocessing.Process(target=attack, args=(seed, at, processes, ports, shared), daemon=True) for at in range(processes)
        ]
        for process in self.processes:
            process.start()

    def pause(self, patience):
        """Waits for the cases under way; whether they all ended."""
        self.gate.clear()
        until = time.monotonic() + patience
        while any(self.playing) and time.monotonic() < until:
            time.sleep(0.05)
        return not any(self.playing)

    def finish(self):
        """Ends the attackers: what they counted."""
        self.stop.set()
        self.gate.set()
        counts = collections.Counter()
        for _ in self.processes:
            counts.update(self.results.get(timeout=PATIENCE + 20))
        for process in self.processes:
            process.join(5)
        return counts


def attack(seed, place, processes, ports, shared):
    gate, stop, faults, results, playing, played = shared
    counts, lock = collections.Counter(), threading.Lock()

    def work(thread):
        slot = place * THREADS + thread
        index = slot
        own = collections.Counter()
        while True:
            gate.wait()
            if stop.is_set():
                break
            playing[slot] = 1
            # A pause may have begun between the two lines above.
            if gate.is_set():
                one(seed, index, ports, own, faults)
                played[slot] += 1
                index += processes * THREADS
            playing[slot] = 0
        with lock:
            counts.update(own)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(counts)


def one(seed, index, ports, counts, faults, show=None):
    """Plays and judges one case. `show` is called with the case and what came."""
    case = Case(seed, index)
    counts[(case.kind, "cases")] += 1
    try:
        came = play(case, ("127.0.0.1", ports[case.port]))
    except OSError as error:
        faults.put((index, case.kind, f"no connection: {error}", case.stream, b""))
        # The server may be gone; the run notices soon.
        time.sleep(0.2)
        return
    counts[(case.kind, came.end)] += 1
    if show:
        show(case, came)
    try:
        found = judge(case, came, counts)
    except Exception as error:
        found = [f"the judge failed: {type(error).__name__}: {error}"]
    for fault in found:
        faults.put((index, case.kind, fault, case.stream, bytes(came.received)))
