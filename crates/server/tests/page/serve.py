"""`delayline serve` as a process that can be started, stopped, killed and started again."""

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("DELAYLINE", str(TARGET / "release" / "delayline"))

# Too little memory for the whole model, so that it is streamed; and one thread, because the
# browser needs a processor as well.
OPTIONS = ["--memory", "136MiB", "--ctx", "1024", "--threads", "1"]


class Serve:
    """A server of a model, by default the demo model. The system chooses the port at the first start."""

    def __init__(self, *more, model=MODEL, options=OPTIONS):
        self.more = [*options, *more]
        self.model = model
        self.port = 0
        self.start()

    def start(self):
        command = [PROGRAM, "serve", str(self.model)]
        command += ["--port", str(self.port), *self.more]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if at := re.search(r"http://[^:/]+:(\d+)", line):
                self.port = int(at[1])
                return
        raise AssertionError(f"{' '.join(command)} ended without an address:\n{''.join(said)}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def kill(self):
        """Kills it, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def _end(self, how):
        self.process.send_signal(how)
        self.process.stdout.close()
        self.process.wait(timeout=60)

    def metrics(self):
        """All samples of `/metrics` without labels, by name."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            text = answer.read().decode()
        samples = re.findall(r"^(\w+) ([0-9.eE+-]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in samples}

    def event(self, name):
        """The first event of that name that `/live` sends."""
        with urllib.request.urlopen(f"{self.url}/live") as stream:
            heard = None
            for line in stream:
                field, _, value = line.decode().rstrip("\r\n").partition(": ")
                if field == "event":
                    heard = value
                elif field == "data" and heard == name:
                    return json.loads(value)
        raise AssertionError(f"/live ended without an event {name}")
