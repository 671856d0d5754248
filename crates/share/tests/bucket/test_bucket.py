"""`serve --kv-shared` with several servers over a bucket of moto's S3 server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest

ROOT = Path(__file__).resolve().parents[4]
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("DELAYLINE", str(TARGET / "release" / "delayline"))
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}
TEXT = "A delay line is a tube of mercury in which pulses of sound go round. " * 20
SECRET = "all servers of these tests know this"


class Store:
    """An S3 server."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        program = Path(sys.executable).with_name("moto_server")
        command = [program, "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert self.process.poll() is None, "moto_server has ended"
                time.sleep(0.1)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=KEYS["AWS_REGION"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self.client.create_bucket(Bucket="delayline")

    def objects(self, prefix):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="delayline", Prefix=prefix)
        return [one for page in pages for one in page.get("Contents", [])]

    def blocks(self, prefix):
        return [one["Key"] for one in self.objects(f"{prefix}/blocks/")]

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def bucket():
    store = Store()
    yield store
    store.end()


class Server:
    """`delayline serve` with a folder of its own."""

    def __init__(self, folder, url, place, secret=SECRET, *more):
        (folder / "secret").write_text(secret)
        command = [PROGRAM, "serve", str(MODEL), "--memory", "200MiB", "--ctx", "1024", "--port", "0"]
        command += ["--kv-cache", str(folder / "kv"), "--kv-shared", place]
        command += ["--kv-secret", str(folder / "secret"), *more]
        environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"}
        self.log = folder / "log"
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, env=environment
        )
        self.url = None
        for line in self.process.stdout:
            if at := re.search(r"http://\S+", line):
                self.url = at[0]
                break

    def ask(self, text=TEXT):
        body = {"prompt": text, "max_tokens": 2, "temperature": 0}
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        answer = json.load(urllib.request.urlopen(request, timeout=300))
        usage = answer["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return cached, usage["prompt_tokens"], answer["choices"][0]["text"]

    def figure(self, name):
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        lines = [line for line in text.splitlines() if line.startswith(f"delayline_{name} ")]
        return float(lines[0].rpartition(" ")[2])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=120) == 0
        return self.log.read_text()


def test_what_one_server_has_computed_another_finds(bucket, tmp_path_factory):
    place = "s3://delayline/one/two"
    one = Server(tmp_path_factory.mktemp("one"), bucket.url, place)
    cached, tokens, text = one.ask()
    assert cached == 0 and tokens > 200
    one.end()
    assert len(bucket.blocks("one/two")) == (tokens + 1) // 64
    two = Server(tmp_path_factory.mktemp("two"), bucket.url, place)
    again = two.ask()
    # Complete blocks are shared; the last token of a prompt is computed again.
    assert again == ((tokens - 1) // 64 * 64, tokens, text)
    assert two.figure('kv_hit_tokens_total{tier="shared"}') == again[0]
    assert two.figure('kv_hit_tokens_total{tier="flash"}') == 0
    # From its own folder this time.
    two.ask("Another text, so that this one is not in memory. " * 60)
    assert two.figure("kv_shared_found_blocks_total") == again[0] // 64
    assert "shared" not in two.end()


def test_what_was_changed_in_the_bucket_is_computed_and_put_right(bucket, tmp_path_factory):
    place = "s3://delayline/changed"
    one = Server(tmp_path_factory.mktemp("one"), bucket.url, place)
    _, tokens, text = one.ask()
    one.end()
    names = bucket.blocks("changed")
    for name in names:
        body = bucket.client.get_object(Bucket="delayline", Key=name)["Body"].read()
        changed = body[:-1] + bytes([body[-1] ^ 1])
        bucket.client.put_object(Bucket="delayline", Key=name, Body=changed)
    two = Server(tmp_path_factory.mktemp("two"), bucket.url, place)
    assert two.ask() == (0, tokens, text)
    assert two.figure('kv_rejected_blocks_total{reason="unsealed"}') == 1
    two.end()
    assert sorted(bucket.blocks("changed")) == sorted(names)
    # The first block was removed and stored again.
    three = Server(tmp_path_factory.mktemp("three"), bucket.url, place)
    assert three.ask() == (64, tokens, text)
    three.end()


def test_another_secret_or_bucket_is_refused_in_words(bucket, tmp_path_factory):
    place = "s3://delayline/secret"
    Server(tmp_path_factory.mktemp("one"), bucket.url, place).end()
    for other, secret, words in [
        (place, "a secret of somebody else", "another secret than that of --kv-secret"),
        (place, "short", "expected 16 or more"),
        ("s3://nowhere/at/all", SECRET, "nowhere"),
    ]:
        refused = Server(tmp_path_factory.mktemp("two"), bucket.url, other, secret)
        assert refused.url is None and refused.process.wait(timeout=60) != 0
        assert words in refused.log.read_text()


def test_the_size_is_kept(bucket, tmp_path_factory):
    place = "s3://delayline/size"
    size = 8 << 20
    one = Server(tmp_path_factory.mktemp("one"), bucket.url, place, SECRET, "--kv-shared-size", "8MiB")
    for number in range(5):
        one.ask(f"{number} {TEXT}")
    one.end()
    taken = sum(one["Size"] for one in bucket.objects("size/blocks/"))
    # A block may have been written since the last listing.
    assert size / 2 < taken <= size + (2 << 20)


def test_a_bucket_that_goes_is_told_once_and_answers_go_on(tmp_path_factory):
    bucket = Store()
    one = Server(tmp_path_factory.mktemp("one"), bucket.url, "s3://delayline/gone")
    one.ask()
    bucket.end()
    started = time.monotonic()
    for number in range(3):
        cached, tokens, _ = one.ask(f"{number} {TEXT}")
        assert cached < 64 < tokens
    assert one.ask()[0] > 200, "what is here is found"
    assert time.monotonic() - started < 200
    log = one.end()
    assert len(re.findall("goes on without the shared one", log)) == 1, log
