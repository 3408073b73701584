"""The server under test: started with small limits, its log read as it is written, its resources sampled."""

import os
import pathlib
import re
import subprocess
import threading
import time

MIB = 1 << 20
# Small, so that the bounds are reached; the times are shorter than the attackers' patience.
LIMITS = {
    "max-connections": 128,
    "max-message-bytes": MIB,
    "max-frame-bytes": MIB,
    "max-fragments": 1000,
    "max-in-flight": 8,
    "max-in-flight-bytes": 2 * MIB,
    "max-image-pixels": 1_000_000,
    "max-memory": 128 * MIB,
    "max-tensor-bytes": 16 * MIB,
    "head-timeout": "1s",
    "body-timeout": "2s",
    "message-timeout": "2s",
    "keep-alive-timeout": "5s",
    "write-timeout": "3s",
    "close-timeout": "1s",
    "request-timeout": "5s",
}
# A line of the log begins with its time and its level.
LINE = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (ERROR|WARN|INFO) ")
# Lines at ERROR and WARN that may come: none at ERROR; at WARN what is said of a model when it is loaded.
ALLOWED = re.compile(rb"WARN.*(batches are not used|no batches are used)")


class Server:
    def __init__(self, onnxd, models):
        command = [onnxd, "serve", str(models), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
        command += ["--default-model", "affine"]
        for name, value in LIMITS.items():
            command += [f"--{name}", str(value)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONNXD_", "RUST_"))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self.bad, self.last, self.lines, self.ports, self.changed = [], b"", 0, {}, threading.Condition()
        threading.Thread(target=self.read_log, daemon=True).start()

    def read_log(self):
        rest = b""
        while data := self.process.stdout.read1(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            with self.changed:
                for line in lines:
                    self.note(line)
                self.changed.notify_all()
        with self.changed:
            self.note(rest)
            self.ended = True
            self.changed.notify_all()

    def note(self, line):
        self.lines, self.last = self.lines + 1, line or self.last
        level = LINE.match(line)
        if not self.ports.get("public"):
            for name, pattern in (("public", rb"ready on 127\.0\.0\.1:(\d+)"), ("ops", rb"operators on http://127\.0\.0\.1:(\d+)")):
                if found := re.search(pattern, line):
                    self.ports[name] = int(found[1])
        if line and (not level or level[1] != b"INFO" and not ALLOWED.search(line)) and len(self.bad) < 20:
            self.bad.append(line.decode(errors="replace"))

    ended = asked = False

    def wait_until_ready(self):
        with self.changed:
            if not self.changed.wait_for(lambda: self.ports.get("public") or self.ended, 120) or self.ended:
                raise SystemExit(f"the server did not start: {self.bad} {self.last}")
        return self.ports

    def alive(self):
        return self.process.poll() is None

    def resources(self):
        """Resident bytes, threads, descriptors; nothing of a server that has ended."""
        here = pathlib.Path("/proc", str(self.process.pid))
        found = re.search(r"VmRSS:\s+(\d+)", (here / "status").read_text())
        if not found or not self.alive():
            return 0, 0, 0
        resident = int(found[1]) * 1024
        return resident, len(os.listdir(here / "task")), len(os.listdir(here / "fd"))

    def plans(self):
        """Whether plans for batches are still being made, by a thread a model."""
        names = pathlib.Path("/proc", str(self.process.pid), "task").glob("*/comm")
        return any(name.read_text().strip().endswith("-plan") for name in names if name.exists())

    def settle(self, idle=None, patience=30):
        """Resources when threads and descriptors are those of `idle` again; without it, when they no longer change.

        Waits at most `patience` seconds and then gives what there is.
        """
        until, before, same = time.monotonic() + patience, None, 0
        while True:
            now = self.resources()
            same = same + 1 if before and now[1:] == before[1:] and not self.plans() else 0
            if idle and now[1] <= idle[1] and now[2] <= idle[2] or not idle and same >= 20 or time.monotonic() > until:
                # What the allocator gives back, it gives back soon.
                time.sleep(0.5)
                return self.resources()
            before = now
            time.sleep(0.1)

    def leave(self):
        """Asks the server to end, once: a second signal would end it at once."""
        if not self.asked and self.alive():
            self.asked = True
            self.process.terminate()

    def stop(self):
        """Waits for the end that was asked for: the exit code (None when it had to be killed), and the last line."""
        self.leave()
        try:
            code = self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None, self.last
        with self.changed:
            self.changed.wait_for(lambda: self.ended, 5)
        return code, self.last
