"""`delayline serve` as a process, for real clients."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("DELAYLINE", str(TARGET / "release" / "delayline"))
KEY = "a-key-for-tests"
# A beginning that has but one likely end. Of two asked alike the last bits may differ, since the
# cells of the cache that they take decide the order of sums, and a close choice falls either way.
COUNT = [
    {"role": "user", "content": "Count to thirty."},
    {"role": "assistant", "content": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,"},
]


def cannot_run(why):
    """Skips a test, or fails it in continuous integration, where all must run."""
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"{why}; with CI=true every test must run")
    pytest.skip(why)


@pytest.fixture(scope="session")
def url():
    command = [PROGRAM, "serve", str(MODEL), "--memory", "160MiB", "--ctx", "1024"]
    # Few may wait, so that nobody asks for many answers at once.
    command += ["--port", "0", "--api-key", KEY, "--queue", "8"]
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
