"""`delayline serve` as a process, for tests with real clients."""

import os
import re
import signal
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("DELAYLINE", str(TARGET / "release" / "delayline"))
KEY = "a-key-for-tests"
# A conversation with only one likely continuation. The logits of two equal requests may differ in
# the last bits, because the order of sums depends on their cells in the cache, so that a close
# choice could fall either way.
COUNT = [
    {"role": "user", "content": "Count to thirty."},
    {"role": "assistant", "content": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,"},
]


def cannot_run(why):
    """Skips a test, or fails it in continuous integration, where all tests must run."""
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"{why}; with CI=true every test must run")
    pytest.skip(why)


def serving(model, *more, ctx=1024):
    """Starts a server of a model, yields its URL, and stops it."""
    command = [PROGRAM, "serve", str(model), "--memory", "160MiB", "--ctx", str(ctx)]
    command += ["--port", "0", "--api-key", KEY, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if at := re.search(r"http://\S+", line):
            break
    else:
        raise AssertionError(f"{' '.join(command)} ended without an address")
    yield at[0]
    assert process.poll() is None, "a client has ended the server"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0


@pytest.fixture(scope="session")
def url():
    # A short queue, which limits the number of answers to a request.
    yield from serving(MODEL, "--queue", "8")


@pytest.fixture
def brief_url():
    """A server with a short context, which ends answers that have no other end."""
    yield from serving(MODEL, "--queue", "8", ctx=96)


@pytest.fixture
def embedder_url(tmp_path):
    """A server of the demo model whose file asks for pooling by the last token."""
    plain = MODEL.read_bytes()

    def text(value):
        return struct.pack("<Q", len(value)) + value

    more = text(b"llama.pooling_type") + struct.pack("<II", 4, 3)
    more += text(b"general.filler") + struct.pack("<I", 8)
    # Tensors begin at multiples of 32 bytes.
    more += text(b"x" * (-(len(more) + 8) % 32))
    keys = struct.unpack("<Q", plain[16:24])[0] + 2
    path = tmp_path / "embedder.gguf"
    path.write_bytes(plain[:16] + struct.pack("<Q", keys) + more + plain[24:])
    yield from serving(path)
