"""curl and the schemathesis command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import KEY, cannot_run


def curl(url, body, *more):
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "600"]
    command += ["-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json"]
    command += ["-d", json.dumps(body), *more, f"{url}/v1/chat/completions"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_curl(url):
    if not shutil.which("curl"):
        cannot_run("there is no curl")
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    answer = json.loads(curl(url, body))
    assert answer["choices"][0]["message"]["role"] == "assistant"
    events = curl(url, {**body, "stream": True}).strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert all(event.startswith("data: {") for event in events[:-1])
    assert json.loads(curl(url, {**body, "n": 0}))["error"]["param"] == "n"


def test_schemathesis(brief_url, tmp_path):
    """Valid and invalid requests made from the OpenAPI description: all responses must be
    described, and none may be a server error. EXAMPLES sets their number, SEED the seed."""
    command = [str(Path(sys.executable).absolute().parent / "schemathesis"), "run", f"{brief_url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {KEY}", "--exclude-path", "/live"]
    command += ["--max-examples", os.environ.get("EXAMPLES", "3")]
    command += ["--seed", os.environ.get("SEED", "1")]
    command += ["--request-timeout", "600"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    # It writes its examples to the current folder.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
