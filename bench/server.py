"""Shared by the benchmarks of the server: `delayline serve` as a process in a memory
cgroup, and its clients. Uses only the standard library."""

import atexit
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("DELAYLINE", str(TARGET / "release" / "delayline"))


def fail(message):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


class Cap:
    """A memory cgroup, version 1 or 2, with a limit and without swap."""

    def __init__(self, limit_bytes):
        v1 = Path("/sys/fs/cgroup/memory")
        self.is_v1 = v1.is_dir()
        top = v1 if self.is_v1 else Path("/sys/fs/cgroup")
        self.dir = top / f"delayline-bench-{os.getpid()}"
        limits = {"memory.max": limit_bytes, "memory.swap.max": 0}
        if self.is_v1:
            limits = {
                "memory.limit_in_bytes": limit_bytes,
                "memory.memsw.limit_in_bytes": limit_bytes,
                "memory.swappiness": 0,
            }
        try:
            self.dir.mkdir()
            for name, value in limits.items():
                # Absent in a kernel without swap.
                if (self.dir / name).exists():
                    (self.dir / name).write_text(str(value))
        except OSError as error:
            fail(f"cannot make a memory cgroup: {error}; run this as root")

    def join(self):
        """Puts the calling process into the cgroup."""
        (self.dir / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self):
        name = "memory.max_usage_in_bytes" if self.is_v1 else "memory.peak"
        return int((self.dir / name).read_text())

    def kills(self):
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        found = re.search(r"^oom_kill (\d+)$", (self.dir / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def remove(self):
        if not self.dir.exists():
            return
        for _ in range(100):
            try:
                return self.dir.rmdir()
            except OSError:
                # The last process may still be ending.
                time.sleep(0.05)


class Server:
    """`delayline serve` in a cgroup of `memory_bytes`."""

    def __init__(self, model, memory_bytes, *options):
        self.cap = Cap(memory_bytes)
        command = [PROGRAM, "serve", str(model), "--memory", str(memory_bytes), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--json", *options],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=self.cap.join,
        )
        atexit.register(self.kill)
        self.started = {}
        for line in self.process.stdout:
            if (said := json.loads(line)).get("event") == "serving":
                self.started = said
                break
        else:
            kills = self.cap.kills()
            self.stop()
            fail("the server was killed because of its memory" if kills else "the server did not start; see above")
        host, port = said["address"].rsplit(":", 1)
        self.host, self.port, self.model = host, int(port), said["model"]

    def connect(self, timeout_s=600):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)

    def get(self, path):
        """The status and the body of a response."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """The values of `/metrics` that have no labels, by name."""
        samples = re.findall(r"^delayline_(\w+) ([0-9.eE+-]+)$", self.get("/metrics")[1], re.MULTILINE)
        return {name: float(value) for name, value in samples}

    def resident_peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)[1]) << 10

    def kill(self):
        """Kills the server if it is running, and removes the cgroup."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.cap.remove()

    def stop(self):
        """Asks the server to stop. Returns its exit status, or None if it does not stop."""
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        try:
            status = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        return status


class Stream(threading.Thread):
    """A client that streams one answer and records when each piece arrives."""

    def __init__(self, server, body):
        super().__init__()
        self.server, self.body = server, {**body, "stream": True, "stream_options": {"include_usage": True}}
        self.pieces_s, self.sent_s, self.ended_s = [], 0.0, 0.0
        self.usage, self.error = {}, None

    def run(self):
        try:
            self.answer()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.error = str(error)

    def answer(self):
        connection = self.server.connect()
        self.sent_s = time.monotonic()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(self.body), headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise ValueError(f"status {reply.status}: {reply.read().decode()}")
        for line in reply:
            field, _, data = line.decode().strip().partition(": ")
            if field != "data" or data == "[DONE]":
                continue
            now, event = time.monotonic(), json.loads(data)
            if "error" in event:
                raise ValueError(event["error"]["message"])
            if event.get("usage"):
                self.usage = event["usage"]
            elif event["choices"][0]["text"]:
                self.pieces_s.append(now)
        self.ended_s = time.monotonic()
        connection.close()


def all_at_once(streams):
    """Runs all streams at once, and fails if one of them did."""
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
        if stream.error:
            fail(f"an answer failed: {stream.error}")
    return streams
