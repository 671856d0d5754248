"""Uses of a streamed model besides training, and uses that are refused."""

import contextlib
import copy
import gc
import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import delayline.torch as flash
from delayline._train.activations import written_in
from train_models import GPT, assert_same, text_batch, text_loss, train

torch.set_num_threads(2)


@pytest.fixture
def streamed(tmp_path):
    """A model after two steps in memory, and the same from the drive."""
    made = []
    torch.manual_seed(3)
    for folder in (None, tmp_path):
        torch.manual_seed(3)
        model, generator = GPT(), torch.Generator().manual_seed(4)
        if folder is None:
            optimizer, store = torch.optim.AdamW(model.parameters(), lr=1e-3), None
        else:
            store = flash.Store(folder, memory="1MiB")
            model, optimizer = flash.stream(model, torch.optim.AdamW, lr=1e-3, store=store)
        for _ in range(2):
            text_loss(model, text_batch(generator)).backward()
            optimizer.step()
            optimizer.zero_grad()
        made.append((model, optimizer, store))
    return made


def test_state_dicts_copies_and_files_see_the_weights_as_they_are(streamed, tmp_path):
    (here, here_optimizer, _), (there, there_optimizer, store) = streamed
    expected = here.state_dict()

    def same(found):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)

    same(there.state_dict())
    torch.save(there.state_dict(), tmp_path / "saved.pt")
    same(torch.load(tmp_path / "saved.pt"))
    copied = copy.deepcopy(there)
    same(copied.state_dict())
    assert copied.head.weight is copied.embedding.weight
    generator = torch.Generator().manual_seed(8)
    batch = text_batch(generator)
    for model in (here, there, copied):
        model.eval()
    with torch.no_grad():
        out = [text_loss(model, batch).item() for model in (here, there, copied)]
    assert out[0] == out[1] == out[2]
    store.export(tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    for name, param in here.named_parameters():
        start, end = header[name]["data_offsets"]
        found = torch.frombuffer(bytearray(data[8 + length + start:8 + length + end]), dtype=torch.float32)
        assert torch.equal(found.view(header[name]["shape"]), param.data)
    # An export that fails leaves nothing.
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        store.export(tmp_path / "folder")
    assert not (tmp_path / "folder.partial").exists()
    mine, other = there_optimizer.state_dict(), here_optimizer.state_dict()
    assert mine["state"].keys() == other["state"].keys()
    for index, state in other["state"].items():
        assert all(torch.equal(mine["state"][index][key], state[key]) for key in state)


def test_what_is_loaded_is_trained_on(streamed, tmp_path):
    (here, here_optimizer, _), (there, there_optimizer, store) = streamed
    torch.manual_seed(12)
    other = GPT()
    for model in (here, there):
        model.load_state_dict(other.state_dict())
    losses = []
    for model, optimizer in ((here, here_optimizer), (there, there_optimizer)):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2)
        for _ in range(3):
            loss = text_loss(model, text_batch(generator))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert losses[:3] == losses[3:]
    with pytest.raises(RuntimeError, match="size mismatch for position"):
        there.load_state_dict({**other.state_dict(), "position": torch.zeros(3, 64)})
    # The optimizer's state as well.
    there_optimizer.load_state_dict(here_optimizer.state_dict())


def test_a_use_of_a_weight_on_the_drive_is_an_error(streamed):
    model = streamed[1][0]
    for touch in (lambda w: w.sum(), lambda w: w.clone(), lambda w: w.add_(1), lambda w: w.data.numpy(), lambda w: w[0, 0].item()):
        with pytest.raises(RuntimeError, match="up.weight is on the drive"):
            with torch.no_grad():
                touch(model.blocks[1].up.weight)
    assert model.blocks[1].up.weight.shape == (256, 64)


REFUSED = [
    ("a second backward", dict(), lambda m, o, loss: (loss.backward(retain_graph=True), loss.backward()), "changed since this forward pass|came after its update"),
    ("two backward passes", dict(), lambda m, o, loss: (loss.backward(), text_loss(m, text_batch(torch.Generator())).backward()), "call step\\(\\)"),
    ("a step that is skipped", dict(), lambda m, o, loss: (loss.backward(), o.zero_grad()), "cannot be taken back"),
    ("clipping by oneself", dict(), lambda m, o, loss: (loss.backward(), nn.utils.clip_grad_norm_(m.parameters(), 1.0)), "give stream\\(..., clip=...\\)"),
    ("scaling", dict(), lambda m, o, loss: (loss.backward(), torch.amp.GradScaler("cpu").scale(loss), _unscale(o)), "delayline"),
    ("gradients that stay", dict(), lambda m, o, loss: o.zero_grad(set_to_none=False), "leave it out"),
    ("a closure", dict(), lambda m, o, loss: o.step(lambda: loss), "computes again"),
    ("another rate between backward and step", dict(), lambda m, o, loss: (loss.backward(), o.param_groups[0].update(lr=1.0), o.step()), "after step\\(\\), as schedulers do"),
    ("a commit amid gradients", dict(clip=1.0), lambda m, o, loss: (loss.backward(), o.session.store.commit()), "call step\\(\\) first"),
    ("evaluation between backward and step", dict(), lambda m, o, loss: (loss.backward(), m.eval(), text_loss(m, text_batch(torch.Generator()))), "between backward\\(\\) and step\\(\\)"),
    ("a state dict between backward and step", dict(), lambda m, o, loss: (loss.backward(), m.state_dict()), "between backward\\(\\) and step\\(\\)"),
    ("a state dict loaded between backward and step", dict(), lambda m, o, loss: (state := m.state_dict(), loss.backward(), m.load_state_dict(state)), "between backward\\(\\) and step\\(\\)"),
    ("other memory", dict(), lambda m, o, loss: (setattr(m.norm.weight, "data", torch.ones(64)), text_loss(m, text_batch(torch.Generator()))), "other memory"),
    ("a weight changed in its forward pass", dict(), lambda m, o, loss: (m.norm.register_forward_pre_hook(_double), text_loss(m, text_batch(torch.Generator()))), "changed in place"),
    ("a group more", dict(), lambda m, o, loss: o.add_param_group({"params": [nn.Parameter(torch.zeros(2))]}), "cannot be added"),
    ("too many passes", dict(accumulate=2), lambda m, o, loss: [text_loss(m, text_batch(torch.Generator())).backward() for _ in range(3)], "call step\\(\\)"),
]


def _double(module, args):
    with torch.no_grad():
        module.weight.mul_(2)


def _unscale(optimizer):
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))
    scaler.unscale_(optimizer)


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_work_is_refused_with_a_message(case, tmp_path):
    _, options, deed, words = case
    store = flash.Store(tmp_path, memory="1MiB")
    model, optimizer = flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=store, **options)
    loss = text_loss(model, text_batch(torch.Generator()))
    with pytest.raises((RuntimeError, ValueError, TypeError), match=words):
        deed(model, optimizer, loss)


def test_what_cannot_be_streamed_is_refused_at_the_start(tmp_path):
    def refused(words, model=None, optimizer=torch.optim.AdamW, memory="1MiB", **options):
        store = flash.Store(tmp_path / "none", memory=memory)
        with pytest.raises((ValueError, TypeError), match=words):
            flash.stream(model or GPT(), optimizer, store=store, **options)
        assert not store.exists()

    refused("works on all weights at once", optimizer=torch.optim.LBFGS)
    refused("sparse", optimizer=torch.optim.SparseAdam)
    refused("expected a class", optimizer="AdamW")
    refused("accumulate", accumulate=0)
    refused("clip", clip=0)
    refused("too small", memory="100KiB")
    model = GPT()
    refused("in none of the optimizer's groups", model=model, params=[model.position])
    refused("no parameter", model=nn.ReLU())
    ddp = nn.parallel.DistributedDataParallel
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        refused("DistributedDataParallel", model=ddp(GPT()))
    finally:
        torch.distributed.destroy_process_group()


def test_the_store_of_another_model_is_refused(streamed, tmp_path):
    streamed.clear()
    def refused(words, model, optimizer=torch.optim.AdamW):
        with pytest.raises(ValueError, match=words):
            flash.stream(model, optimizer, lr=1e-3, store=flash.Store(tmp_path, memory="2MiB"))
    refused("of another model", GPT(width=32))
    refused("of another model: it has", GPT(blocks=2))
    refused("optimizer torch.optim.adamw.AdamW", GPT(), torch.optim.SGD)
    with pytest.raises(ValueError, match="durable"):
        flash.Store(tmp_path, memory="1MiB", durable=0)


def test_a_store_in_use_is_refused_and_a_worker_does_not_have_it(streamed, tmp_path):
    model, optimizer, store = streamed[1]
    with pytest.raises(OSError, match="another process uses this store"):
        flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=flash.Store(tmp_path, memory="1MiB"))
    # Workers are forked while the store is in use, and may outlive it.
    class Words(torch.utils.data.Dataset):
        def __len__(self):
            return 6
        def __getitem__(self, index):
            try:
                store.report()
            except RuntimeError as error:
                assert "a forked worker has none of its memory" in str(error)
            else:
                raise AssertionError("a worker has the store")
            return torch.full((33,), index)
    for batch in torch.utils.data.DataLoader(Words(), batch_size=2, num_workers=2, multiprocessing_context="fork"):
        text_loss(model, (batch[:, :-1], batch[:, 1:])).backward()
        optimizer.step()
        optimizer.zero_grad()
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    streamed.clear()
    del model, optimizer, store
    again = flash.Store(tmp_path, memory="1MiB")
    flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=again)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


class Doubled(torch.autograd.Function):
    """A custom function that saves a weight."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return 2 * x @ weight.t()

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return 2 * grad @ weight, 2 * grad.flatten(0, 1).t() @ x.flatten(0, 1)


class Odd(nn.Module):
    """A weight that only a custom function uses, one that is scaled outside of its module,
    and saved-tensor hooks of the user."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(300, 64)
        self.weight = nn.Parameter(torch.randn(64, 64) * 0.1)
        self.inner = nn.Linear(64, 64)
        self.head = nn.Linear(64, 300)
        self.seen = 0

    def forward(self, ids):
        def pack(tensor):
            self.seen += 1
            return tensor
        x = Doubled.apply(self.embedding(ids), self.weight)
        x = F.linear(x, self.inner.weight * 2, self.inner.bias) + x @ self.weight.T
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            x = torch.tanh(x)
            return self.head(torch.sin(x))


def test_odd_uses_of_weights_give_the_same_bits(tmp_path):
    seen = []
    arguments = dict(make=Odd, optimizer=torch.optim.AdamW, options={"lr": 1e-3}, steps=20, spill=None,
                     after=lambda model, made, store: seen.append(model.seen))
    memory = train(**arguments)
    drive = train(folder=tmp_path, **arguments)
    assert_same(memory, drive)
    # The user's hooks get all saved tensors except weights.
    assert seen[1] > 0.5 * seen[0]


def test_a_weight_that_somebody_keeps_holds_its_room_and_is_never_garbage(streamed):
    model, optimizer, _ = streamed[1]
    kept = []
    handle = model.blocks[0].up.register_forward_hook(lambda module, args, out: kept.append(module.weight.detach()))
    generator = torch.Generator().manual_seed(0)
    before = model.state_dict()["blocks.0.up.weight"]
    text_loss(model, text_batch(generator)).backward()
    handle.remove()
    assert len(kept) == 1
    # It is the store's memory, which the update in the backward pass changes.
    optimizer.step()
    after = model.state_dict()["blocks.0.up.weight"]
    assert torch.equal(kept[0], after) and not torch.equal(kept[0], before)
    with torch.no_grad():
        for _ in range(3):
            text_loss(model, text_batch(generator))
    assert torch.equal(kept[0], after)


def read_between_steps(step, model, optimizer, store, seen):
    """Reads something between two steps, another thing each time."""
    kind, batch = step % 7, text_batch(torch.Generator().manual_seed(1))
    model.eval()
    if kind == 0:
        with torch.inference_mode():
            seen.append(text_loss(model, batch))
    elif kind == 1:
        seen.extend(value.clone() for value in model.state_dict().values())
    elif kind == 2:
        seen.extend(param.detach().clone() for param in copy.deepcopy(model).parameters())
    elif kind == 3:
        seen.extend(one["exp_avg"].clone() for one in optimizer.state_dict()["state"].values())
    elif kind == 4:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            seen.append(text_loss(model, batch))
    elif kind == 5:
        # Some updates are made and others wait. A restart follows.
        with torch.no_grad():
            seen.append(model.blocks[1](torch.ones(1, 4, 64)))
        if store is not None:
            assert len({entry.is_late for entry in optimizer.session.trained()}) == 2
            store.commit()
    model.train()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_reads_between_steps_see_the_updates_that_wait(accumulate, tmp_path):
    seen = {None: [], tmp_path: []}
    for folder in seen:
        between = lambda *what: read_between_steps(*what, seen[folder])
        arguments = dict(steps=21, clip=0.5, accumulate=accumulate, between=between, restarts=(6, 9, 13))
        run = train(GPT, torch.optim.AdamW, {"lr": 1e-3}, folder=folder, **arguments)
        seen[folder] += [*run[1].values(), torch.tensor(run[0])]
    assert len(seen[None]) == len(seen[tmp_path]) > 100
    assert all(torch.equal(here, there) for here, there in zip(*seen.values()))


def test_updates_that_wait_are_made_by_a_run_without_clipping(tmp_path):
    def steps(clips, folder):
        torch.manual_seed(3)
        model, made = GPT(), []
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step, clip in enumerate(clips):
            if folder:
                torch.manual_seed(3)
                store = flash.Store(folder, memory="1MiB")
                model, optimizer = flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=store, clip=clip)
                torch.manual_seed(3)
            loss = text_loss(model.eval(), text_batch(torch.Generator().manual_seed(step)))
            loss.backward()
            if clip and not folder:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            made.append(loss.item())
            if folder:
                del model, optimizer, store, loss
                gc.collect()
        return made

    clips = (0.5, None, 0.5, 0.5, None, None)
    assert steps(clips, None) == steps(clips, tmp_path)


@pytest.mark.parametrize("clip, written", [(None, 12), (1.0, 16)])
def test_a_step_writes_no_byte_twice(clip, written, tmp_path):
    torch.manual_seed(3)
    store = flash.Store(tmp_path, memory="5MiB")
    model, optimizer = flash.stream(nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(6))), torch.optim.AdamW, store=store, clip=clip)
    reports = []
    for _ in range(4):
        model(torch.randn(3, 512)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        reports.append(store.report())
    records = 3 * os.path.getsize(tmp_path / "commits") / 2
    moved = reports[3]["bytes_written"] - reports[0]["bytes_written"]
    assert 3 * written * reports[3]["trained"] <= moved <= 1.01 * 3 * written * reports[3]["trained"] + records


def test_the_report_has_the_figures(streamed):
    store = streamed[1][2]
    report = store.report(endurance="600TB")
    assert report["steps"] == 2 and report["commits"] == 3
    # Three tensors a step, in whole pages, and once when they were moved there.
    assert 12 * report["trained"] <= report["bytes_written"] / 3 < 20 * report["trained"]
    assert report["peak"] <= report["memory"] <= 1 << 20
    assert "2 in this run" in str(report) and report["steps_left"] > 0


def test_wear_is_counted_over_runs(tmp_path):
    def run(steps, memory="1MiB", spill=None):
        torch.manual_seed(3)
        store = flash.Store(tmp_path, memory=memory)
        model, optimizer = flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=store)
        for _ in range(steps):
            with flash.activations(tmp_path, memory=spill) if spill else contextlib.nullcontext():
                loss = text_loss(model, text_batch(torch.Generator().manual_seed(4)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return store.report(endurance=10**9)

    first = run(2)
    # Moving the model to the store is not part of a step.
    assert first["written_in_all"] == first["bytes_written"]
    assert first["step_bytes_written"] < first["bytes_written"] / 2
    assert 12 * first["trained"] <= first["step_bytes_written"] < 20 * first["trained"]
    gc.collect()
    second = run(3, spill="256KiB")
    assert (second["steps"], second["steps_in_all"]) == (3, 5)
    stored = first["written_in_all"] + second["bytes_written"]
    activations = second["written_in_all"] - stored
    # What the first run wrote from its last commit on is missing. Activations that did not
    # fit were written too.
    assert -(1 << 20) < activations - written_in(tmp_path) <= 0 and activations > 0
    per_step = second["step_bytes_written"] + written_in(tmp_path) / 3
    assert second["steps_left"] == int((10**9 - second["written_in_all"]) / per_step)
    assert "5 steps of all runs" in str(second)


def test_long_work_shows_a_line_and_removes_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("delayline._train.progress._EVERY", 0.0)
    store = flash.Store(tmp_path / "run", memory="1MiB", progress=True)
    model, optimizer = flash.stream(GPT(blocks=1), torch.optim.AdamW, lr=1e-3, store=store)
    shown = capsys.readouterr().err
    count = len(list(model.parameters()))
    assert f"weights and state to {store.path}: {count - 1} of {count}\x1b[K" in shown and shown.endswith("\r\x1b[K")
    text_loss(model, text_batch(torch.Generator())).backward()
    assert f"\rstep 1: {count} of {count} weights updated\x1b[K" in capsys.readouterr().err
    optimizer.step()
    assert capsys.readouterr().err == "\r\x1b[K"
    store.export(tmp_path / "model.safetensors")
    assert f"model.safetensors: {count - 1} of {count} weights" in capsys.readouterr().err
    # Nothing is shown if stderr is not a terminal.
    store = flash.Store(tmp_path / "other", memory="1MiB")
    flash.stream(GPT(blocks=1), torch.optim.AdamW, lr=1e-3, store=store)
    assert capsys.readouterr().err == ""


def test_training_continues_after_a_read_failed(tmp_path, monkeypatch):
    made = []
    for fails in (False, True):
        torch.manual_seed(3)
        store = flash.Store(tmp_path / str(fails), memory="1MiB")
        model, optimizer = flash.stream(GPT(), torch.optim.AdamW, lr=1e-3, store=store, clip=0.5)
        batch = text_batch(torch.Generator().manual_seed(4))
        text_loss(model, batch).backward()
        optimizer.step()
        # The updates of that step are made when the forward pass uses the weights.
        if fails:
            session = optimizer.session
            together, left = session.together, [7]
            def failing(entry, *more):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError("item 3 could not be read")
                return together(entry, *more)
            monkeypatch.setattr(session, "together", failing)
            with pytest.raises(OSError, match="could not be read"):
                text_loss(model.eval(), batch)
        text_loss(model.train(), batch).backward()
        optimizer.step()
        made.append(model.state_dict())
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())


def test_a_model_is_built_larger_than_memory_with_the_same_numbers(tmp_path):
    torch.manual_seed(2)
    here = nn.Sequential(*(nn.Linear(512, 512) for _ in range(24)))
    for layer in here:
        nn.init.orthogonal_(layer.weight)
    torch.manual_seed(2)
    store = flash.Store(tmp_path, memory="6MiB")
    with flash.building(store) as built:
        there = nn.Sequential(*(nn.Linear(512, 512) for _ in range(24)))
        assert len(built.parked) > 20
        for layer in there:
            nn.init.orthogonal_(layer.weight)
        assert sum(param.nbytes for param in built.here.values()) <= 3 << 20
    there, optimizer = flash.stream(there, torch.optim.AdamW, store=store)
    assert all(torch.equal(value, here.state_dict()[key]) for key, value in there.state_dict().items())
    x = torch.randn(3, 512)
    assert torch.equal(here(x), there(x))


CHILD = '''
import os, signal, sys
import torch
import torch._dynamo
sys.path.insert(0, {tests!r})
import delayline.torch as flash
from train_models import GPT, text_batch, text_loss
torch.set_num_threads(1)

def run(folder, steps, out):
    torch.manual_seed(5)
    model = GPT(width=32, blocks=1)
    store = flash.Store(folder, memory="512KiB")
    model, optimizer = flash.stream(model, torch.optim.AdamW, lr=1e-2, store=store, clip=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.9)
    generator = torch.Generator().manual_seed(9)
    store.attach(scheduler)
    while store.step < steps:
        generator.manual_seed(store.step)
        os.write(out, b"s")
        loss = text_loss(model, text_batch(generator))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        os.write(out, b"c")
        scheduler.step()
    os.write(out, (repr((loss.item(), scheduler.get_last_lr())) + str(sum(v.double().sum().item() for v in model.state_dict().values()))).encode())

# Each run is a fork of a process that has only imported the modules.
for line in sys.stdin:
    folder, steps = line.split()
    into, out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(folder, int(steps), out)
        finally:
            os._exit(0)
    os.close(out)
    print(child, into, flush=True)
    wanted = int(sys.stdin.readline())
    said = b""
    while len(said) < wanted and (more := os.read(into, 1)):
        said += more
    if wanted < 10**6:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(said.decode().lstrip("sc") or "killed", flush=True)
    os.close(into)
'''


def test_a_killed_run_goes_on_to_the_bits_of_one_that_was_not(tmp_path):
    tests = os.path.dirname(os.path.abspath(__file__))
    kills = int(os.environ.get("KILLS", 20))
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed}")
    draw = random.Random(seed)
    process = subprocess.Popen([sys.executable, "-c", CHILD.format(tests=tests)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(folder, wanted):
        process.stdin.write(f"{folder} 24\n{wanted}\n")
        process.stdin.flush()
        process.stdout.readline()
        return process.stdout.readline().strip()

    whole = run(tmp_path / "whole", 10**9)
    assert whole != "killed"
    for index in range(kills):
        # After an odd number of marks the run is within a step; after an even number it is
        # between optimizer.step() and scheduler.step().
        assert run(tmp_path / f"killed{index // 5}", draw.randrange(1, 9)) == "killed"
        if index % 5 == 4:
            assert run(tmp_path / f"killed{index // 5}", 10**9) == whole
    process.stdin.close()
    assert process.wait() == 0
