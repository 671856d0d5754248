"""Tensors of GGUF files, and the example that fine-tunes a real model."""

import os
import pathlib
import re
import struct
import subprocess
import sys

import pytest
import torch

import delayline.torch as flash

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
F32, Q8_0, Q4_K = 0, 8, 12
UINT32, STRING, ARRAY = 4, 8, 9


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(tensors, metadata):
    """A file with tensors of (name, type, dimensions, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        out += text(key) + struct.pack("<I", kind) + value
    at, data = 0, b""
    for name, kind, dims, bytes_ in tensors:
        out += text(name.encode()) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += bytes_ + bytes(-len(bytes_) % 32)
    return out + bytes(-len(out) % 32) + data


def test_tensors_are_the_numbers_of_the_file(tmp_path):
    numbers = torch.arange(6, dtype=torch.float32) / 4
    block = struct.pack("<e32b", 0.5, *range(-16, 16))
    words = struct.pack("<IQ", STRING, 2) + text(b"a word") + text(b"\xff")
    data = gguf(
        [("plain", F32, (3, 2), numbers.numpy().tobytes()), ("blocks", Q8_0, (32, 2), block * 2), ("other", Q4_K, (256,), bytes(144))],
        [(b"general.architecture", STRING, text(b"llama")), (b"width", UINT32, struct.pack("<I", 7)), (b"words", ARRAY, words)],
    )
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    file = flash.Gguf(path)
    assert list(file) == ["plain", "blocks", "other"] and len(file) == 3
    assert file.metadata == {"general.architecture": "llama", "width": 7, "words": ["a word", b"\xff"]}
    assert torch.equal(file["plain"], numbers.view(2, 3))
    assert torch.equal(file["blocks"], (torch.arange(-16, 16) / 2).repeat(2, 1))
    with pytest.raises(ValueError, match="other: tensors of type q4_K are not turned into numbers: expected"):
        file["other"]
    with pytest.raises(KeyError, match="none"):
        file["none"]
    with pytest.raises(FileNotFoundError, match="none.gguf"):
        flash.Gguf(tmp_path / "none.gguf")
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="model.gguf"):
        flash.Gguf(path)


def example(folder, steps):
    command = [sys.executable, ROOT / "crates/python/examples/finetune.py", "--steps", str(steps), "--tokens", "256", "--folder", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    held_out = re.findall(r"step (\d+): loss ([\d.]+) on text that is held out", done.stdout)
    peak, state = re.search(r"process +(\d+) MiB at the peak.* alone is (\d+) MiB", done.stdout).groups()
    return [(int(step), float(loss)) for step, loss in held_out], int(peak), int(state)


@pytest.mark.skipif(
    not MODEL.exists() and os.environ.get("CI", "") in ("", "0", "false"), reason=f"{MODEL} is not there: scripts/fetch-demo-model"
)
def test_the_example_fine_tunes_in_less_memory_than_its_optimizer_has_state(tmp_path):
    (first, last), peak, state = example(tmp_path / "run", 4)
    # The loss of a model that knows English: the weights were read correctly.
    assert first[0] == 0 and 2.0 < first[1] < 4.0
    assert last[0] == 4 and last[1] < first[1]
    assert state == 1026 and peak < state
    # A second run continues the first.
    assert example(tmp_path / "run", 4)[0] == [last, last]
