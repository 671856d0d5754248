"""The store: a folder with weights and optimizer state, and what a commit says of it."""

import gc
import io
import json
import os
import random
import sys

import torch

from .._native import NativeStore, size_of
from .activations import written_in
from .allocator import give_back_freed_memory
from .progress import Progress


class Report(dict):
    """Figures of a store; printed, they are sentences."""

    def __str__(self):
        lines = [
            f"steps    {self['steps']:,} in this run, {self['commits']:,} commits",
            f"drive    {_size(self['bytes_read'])} read, {_size(self['bytes_written'])} written "
            f"({self['step_bytes_written'] / max(self['trained'], 1):.2f} bytes a trained parameter and step), "
            f"{self['retried']:,} tried again",
            f"time     {self['elapsed_s']:.2f} s, of which {self['stall_s'] + self['commit_s']:.2f} s waiting for the drive",
            f"memory   {_size(self['memory'])} allowed, {_size(self['peak'])} used; "
            f"weights and state are {_size(self['state_bytes'])}",
        ]
        if self["share_of_limit"] is not None:
            lines.append(
                f"limit    {self['limit_s']:.2f} s, the longer of the rest of the work and of the time in which the "
                f"drive was busy: {100 * self['share_of_limit']:.0f} % of it reached"
            )
        wear = f"wear     {_size(self['written_in_all'])} written in {self['steps_in_all']:,} steps of all runs, activations included"
        if self["steps_left"] is not None:
            wear += f"; {self['steps_left']:,} more like these wear out a drive made for {_size(self['endurance'])}"
        lines.append(wear)
        return "\n".join(lines)


def _size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "TiB"
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"


class Store:
    """A folder with weights and optimizer state, of which ``memory`` bytes are in memory.

    ``durable`` says when a step is committed: ``"step"``, or a number of steps.
    ``twin=False`` keeps one copy of everything instead of two: half the space, but a
    crash within a step leaves a store that cannot be opened again. ``progress`` says
    whether long work shows a line on stderr; without it, where that is a terminal.
    """

    def __init__(self, path, memory, *, durable="step", twin=True, progress=None):
        if durable != "step" and (not isinstance(durable, int) or durable < 1):
            raise ValueError(f"durable={durable!r}: expected \"step\", or after how many steps to commit")
        give_back_freed_memory()
        self.path = os.fspath(path)
        self.memory = size_of(memory)
        self.durable = 1 if durable == "step" else durable
        self.twin = twin
        self.step = 0
        # Bytes of the user's own that are part of each commit.
        self.user = b""
        self.native = None
        self._session = self._building = None
        self._attached = []
        self._attached_states = []
        self._pid = os.getpid()
        self._progress = Progress(progress)
        # Bytes that runs before this one have written, and activations of others here.
        self._written_before = 0
        self._activations_before = written_in(self.path)
        if self.exists():
            words = self._unpacked(NativeStore.peek(self.path)[0])
            self._took(words)

    def _took(self, words):
        self.step, self.user = words["step"], _to_bytes(words["user"])
        self._written_before = words.get("written", 0)

    @staticmethod
    def _peek(path):
        return NativeStore.peek(path)[0]

    def exists(self):
        """Whether the folder holds a committed step."""
        return NativeStore.exists(self.path)

    def attach(self, *objects):
        """Makes what these say in ``state_dict()`` part of each commit, in this order, and
        gives each what the last commit holds of it: schedulers, samplers, whatever has
        ``state_dict`` and ``load_state_dict``."""
        for attached in objects:
            if not hasattr(attached, "state_dict") or not hasattr(attached, "load_state_dict"):
                raise TypeError(f"{type(attached).__name__} has no state_dict and load_state_dict, so it cannot be part of a commit")
            if isinstance(attached, torch.amp.GradScaler) and attached.is_enabled():
                raise TypeError("a GradScaler reads gradients, which are in the store; use bfloat16, which needs none")
            index = len(self._attached)
            self._attached.append(attached)
            if index < len(self._attached_states):
                attached.load_state_dict(self._attached_states[index])
                self._catch_up(attached)

    def _catch_up(self, attached):
        session = self._session
        if not isinstance(attached, torch.optim.lr_scheduler.LRScheduler) or session is None:
            return
        # The scheduler's constructor has set the rates anew.
        session.load_groups(session.committed_groups)
        # A crash between optimizer.step() and scheduler.step(): the commit has the
        # scheduler as it was before, which has stepped once at its start.
        if self.step > 0 and getattr(attached, "_step_count", None) == self.step:
            attached.step()

    def commit(self):
        """Commits now; steps do so by themselves."""
        self._check_session()
        self._session.commit()

    def report(self, endurance="600TB"):
        """What was done so far. ``endurance`` is what the drive is made to be written."""
        self._check_session()
        figures = self._session.figures()
        figures["endurance"] = size_of(endurance)
        activations = written_in(self.path) - self._activations_before
        steps, placed = figures["steps"], figures.pop("placed")
        figures["step_bytes_written"] = (figures["bytes_written"] - placed) / max(steps, 1)
        figures["steps_in_all"] = self.step
        figures["written_in_all"] = self.written()
        per_step = figures["step_bytes_written"] + activations / max(steps, 1)
        left = figures["endurance"] - figures["written_in_all"]
        figures["steps_left"] = max(int(left / per_step), 0) if steps and per_step else None
        return Report(figures)

    def written(self):
        """Bytes that all runs of this store have written, as far as a commit tells of
        them, with activations in its folder; what a run wrote after its last commit is
        missing."""
        here = self.native.figures()["bytes_written"] if self.native is not None else 0
        return self._written_before + here + written_in(self.path) - self._activations_before

    def export(self, path):
        """Writes all weights to a safetensors file, one after the other."""
        self._check_session()
        self._session.export(path)

    def _check_session(self):
        if self._session is None:
            raise RuntimeError("nothing is in this store yet; give it to delayline.torch.stream first")

    def _open(self, lens, waiting, words_room):
        """The native store, opened or created; whether it was there."""
        if self.native is not None:
            raise RuntimeError(f"{self.path}: the store has a model already; open the folder once more for another one")
        for attempt in range(2):
            try:
                if self.exists():
                    self.native = NativeStore.open(self.path, self.memory)
                    return True
                self.native = NativeStore.create(self.path, self.memory, lens, waiting, self.twin, words_room)
                return False
            except OSError:
                # A model that nobody has any more may wait for the collector.
                if attempt or self._pid != os.getpid():
                    raise
                gc.collect()

    def _packed(self, words):
        words = {**words, "step": self.step, "user": _of_bytes(self.user), "written": self.written(), **_generators()}
        words["attached"] = [_plain(attached.state_dict()) for attached in self._attached] or self._attached_states
        file = io.BytesIO()
        torch.save(words, file)
        return file.getvalue()

    def _unpacked(self, data):
        return torch.load(io.BytesIO(data), weights_only=True)

    def _restored(self, words):
        self._took(words)
        self._attached_states = words["attached"]
        torch.set_rng_state(words["torch"])
        random.setstate(_tuples(words["python"]))
        if words["numpy"] is not None and "numpy" in sys.modules:
            name, keys, *rest = words["numpy"]
            sys.modules["numpy"].random.set_state((name, keys.numpy().astype("uint32"), *rest))


def _generators():
    numpy = None
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        numpy = (name, torch.tensor(keys.astype("int64")), *rest)
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}


def _of_bytes(data):
    # Bytes themselves are not among what can be loaded without running code.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _to_bytes(tensor):
    return bytes(tensor.tolist())


def _tuples(value):
    return tuple(_tuples(one) for one in value) if isinstance(value, (list, tuple)) else value


def _plain(state):
    """The state if it can be read back without running code from the file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception as error:
        raise TypeError(f"the state of an attached object is more than numbers, text and tensors: {error}") from error
    return state


def manifest(entries, optimizer):
    """What a store is of, as text that two runs can compare."""
    kept = lambda entry: entry.state_keys if entry.group is None else ["gradient", *entry.state_keys]
    rows = [[entry.name, list(entry.size), str(entry.dtype), kept(entry)] for entry in entries]
    return json.dumps({"optimizer": optimizer, "weights": rows})


def compare_manifests(path, stored, here):
    """Refuses the store of another model, saying where they differ."""
    if stored == here:
        return
    stored, here = json.loads(stored), json.loads(here)
    words = f"{path}: the store is of another model"
    if stored["optimizer"] != here["optimizer"]:
        raise ValueError(f"{path}: the store is of optimizer {stored['optimizer']}, and this one is {here['optimizer']}; name another folder")
    for old, new in zip(stored["weights"], here["weights"]):
        if old != new:
            raise ValueError(f"{words}: it has {old[0]} {old[1]} {old[2]} with {old[3]} where this one has {new[0]} {new[1]} {new[2]} with {new[3]}; name another folder")
    raise ValueError(f"{words}: it has {len(stored['weights'])} weights and this one {len(here['weights'])}; name another folder")
