"""The memory of a process that trains from the drive: that of the store, that of the
activations, PyTorch, and the temporary tensors that a step also has in memory."""

import json
import os
import subprocess
import sys

import pytest

MIB = 1 << 20

# Runs in a separate process, so that nothing else is counted.
CHILD = '''
import contextlib, json, sys
import torch
torch.set_num_threads(2)
sys.path.insert(0, {tests!r})
import delayline.torch as flash
from train_models import GPT, text_loss, VOCABULARY

folder, store_memory, spill, clip = json.loads(sys.argv[1])

def high(reset=False):
    """The maximum of memory that this process has used since the last reset, in bytes."""
    found = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    return int(found.split()[1]) * 1024

def make():
    return GPT(width=512, blocks=8, heads=8)

torch.manual_seed(5)
context, saved = contextlib.nullcontext, {{}}
if folder:
    store = flash.Store(folder, memory=store_memory)
    with flash.building(store):
        model = make()
    model, optimizer = flash.stream(model, torch.optim.AdamW, lr=1e-3, store=store, clip=clip)
    context = lambda: flash.activations(folder, memory=spill)
else:
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weights = {{param.untyped_storage().data_ptr() for param in model.parameters()}}
    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor
    context = lambda: torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
bytes_ = sum(param.nbytes for param in model.parameters())
losses, phases = [], []
for step in range(3):
    ids = torch.randint(0, VOCABULARY, (8, 65), generator=torch.Generator().manual_seed(step))
    if not folder:
        high(reset=True)
        saved.clear()
    with context():
        loss = text_loss(model, (ids[:, :-1], ids[:, 1:]))
    losses.append(loss.item())
    if not folder:
        forward = high(reset=True)
    loss.backward()
    if not folder:
        backward = high(reset=True)
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip, foreach=False)
    del loss
    optimizer.step()
    optimizer.zero_grad()
    if not folder:
        # The optimizer's state exists from the end of the first step on.
        state, kept = 3 * bytes_ if step else bytes_, sum(saved.values())
        phases.append((forward - state - kept, backward - state - max(kept, bytes_), high() - 4 * bytes_))
print(json.dumps({{"losses": losses, "bytes": bytes_, "saved": sum(saved.values()), "high": high(), "phases": phases}}))
'''


def run(*options, **environment):
    tests = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", CHILD.format(tests=tests), json.dumps(options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_process_stays_in_what_it_was_given(clip, tmp_path):
    # The allocator has the same setting in memory, so that only used memory is compared.
    here = run(None, None, None, clip, MALLOC_MMAP_THRESHOLD_=str(MIB))
    # The temporary tensors, and PyTorch itself. Underestimated if a phase has less state or
    # fewer activations than is subtracted.
    transients = max(max(phases) for phases in here["phases"])
    store, spill = 24 * MIB, 16 * MIB
    there = run(str(tmp_path / "run"), store, spill, clip)
    assert there["losses"] == here["losses"]
    allowed = store + spill + transients + 64 * MIB
    # The streamed bytes are so many that it would be seen if they stayed in memory.
    assert 4 * here["bytes"] > 5 * 64 * MIB and here["saved"] > 64 * MIB
    assert there["high"] <= allowed, f"{there['high'] / MIB:.0f} MiB, allowed {allowed / MIB:.0f}"
