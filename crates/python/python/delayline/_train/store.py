"""The store: a folder with weights and optimizer state, and the data in its commits."""

import gc
import io
import json
import os
import random
import sys

import torch

from .. import _size
from .._native import NativeStore, size_of
from .activations import written_in
from .allocator import give_back_freed_memory
from .progress import Progress


class Report(dict):
    """The figures of a store, by name. ``print`` shows them as text."""

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
                f"limit    {self['limit_s']:.2f} s, the longer of the work without waiting and of the time that the "
                f"drive was busy: {100 * self['share_of_limit']:.0f} % of it reached"
            )
        wear = f"wear     {_size(self['written_in_all'])} written in {self['steps_in_all']:,} steps of all runs, activations included"
        if self["steps_left"] is not None:
            wear += f"; {self['steps_left']:,} more such steps reach the endurance of the drive, {_size(self['endurance'])}"
        lines.append(wear)
        return "\n".join(lines)


class Store:
    """A folder with weights and optimizer state, of which at most ``memory`` (a size such as
    ``"2GiB"``) is in memory.

    ``durable`` is when steps are committed: ``"step"`` after each, or a number of steps.
    ``twin=False`` keeps one copy of everything instead of two, which takes half the space,
    but after a crash within a step the store cannot be opened again. ``progress`` is whether
    long work shows a line on stderr; by default it does if that is a terminal.

    ``step`` is the number of the last step, and ``user`` bytes of your own that are part of
    each commit. Raises ``OSError`` if the folder cannot be read.
    """

    def __init__(self, path, memory, *, durable="step", twin=True, progress=None):
        if durable != "step" and (not isinstance(durable, int) or durable < 1):
            raise ValueError(f"durable={durable!r}: expected \"step\", or the number of steps from one commit to the next")
        give_back_freed_memory()
        self.path = os.fspath(path)
        self.memory = size_of(memory)
        self.durable = 1 if durable == "step" else durable
        self.twin = twin
        self.step = 0
        # Part of each commit.
        self.user = b""
        self.native = None
        self._session = self._building = None
        self._attached = []
        self._attached_states = []
        self._pid = os.getpid()
        self._progress = Progress(progress)
        # Bytes written by earlier runs, and by activations in this folder before this store
        # was opened.
        self._written_before = 0
        self._activations_before = written_in(self.path)
        if self.exists():
            self._take_figures(self._unpacked(NativeStore.peek(self.path)[0]))

    def _take_figures(self, saved):
        self.step, self.user = saved["step"], _to_bytes(saved["user"])
        self._written_before = saved.get("written", 0)

    @staticmethod
    def _peek(path):
        return NativeStore.peek(path)[0]

    def exists(self):
        """Whether the folder contains a committed step."""
        return NativeStore.exists(self.path)

    def attach(self, *objects):
        """Makes the state of these objects part of each commit: schedulers, samplers, and
        anything else with ``state_dict`` and ``load_state_dict``. If the last commit has
        states, they are loaded into the objects, in the order in which they are attached.

        Raises ``TypeError`` if an object cannot be part of a commit.
        """
        for attached in objects:
            if not hasattr(attached, "state_dict") or not hasattr(attached, "load_state_dict"):
                raise TypeError(f"{type(attached).__name__} has no state_dict and load_state_dict, so it cannot be part of a commit")
            if isinstance(attached, torch.amp.GradScaler) and attached.is_enabled():
                raise TypeError("a GradScaler reads gradients, which are on the drive; use bfloat16, which needs no scaling")
            index = len(self._attached)
            self._attached.append(attached)
            if index < len(self._attached_states):
                attached.load_state_dict(self._attached_states[index])
                self._catch_up(attached)

    def _catch_up(self, attached):
        """Brings a scheduler to the last committed step."""
        session = self._session
        if not isinstance(attached, torch.optim.lr_scheduler.LRScheduler) or session is None:
            return
        # The constructor of the scheduler has changed the learning rates.
        session.load_groups(session.committed_groups)
        # The run ended between optimizer.step(), which commits, and scheduler.step(). A
        # scheduler counts one step when it is made.
        if self.step > 0 and getattr(attached, "_step_count", None) == self.step:
            attached.step()

    def commit(self):
        """Commits now. Not needed after ``step()``, which commits by itself."""
        self._check_session()
        self._session.commit()

    def report(self, endurance="600TB"):
        """The figures so far. ``endurance`` is the size that may be written to the drive in
        its life, according to its maker."""
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
        """Bytes that all runs of this store have written, with the activations in its folder.
        What an earlier run wrote after its last commit is missing."""
        here = self.native.figures()["bytes_written"] if self.native is not None else 0
        return self._written_before + here + written_in(self.path) - self._activations_before

    def export(self, path):
        """Writes all weights to a safetensors file. They are in memory one at a time."""
        self._check_session()
        self._session.export(path)

    def _check_session(self):
        if self._session is None:
            raise RuntimeError("this store has no model yet; give it to delayline.torch.stream first")

    def _open(self, lens, waiting, words_room):
        """Opens or creates the native store. Returns whether it existed."""
        if self.native is not None:
            raise RuntimeError(f"{self.path}: this store has a model already; make another Store for another model")
        for attempt in range(2):
            try:
                if self.exists():
                    self.native = NativeStore.open(self.path, self.memory)
                    return True
                self.native = NativeStore.create(self.path, self.memory, lens, waiting, self.twin, words_room)
                return False
            except OSError:
                # A model that is not used any more may still have the store open until it is
                # collected.
                if attempt or self._pid != os.getpid():
                    raise
                gc.collect()

    def _packed(self, saved):
        """The data of a commit, as bytes."""
        saved = {**saved, "step": self.step, "user": _of_bytes(self.user), "written": self.written(), **_generators()}
        saved["attached"] = [_plain(attached.state_dict()) for attached in self._attached] or self._attached_states
        file = io.BytesIO()
        torch.save(saved, file)
        return file.getvalue()

    def _unpacked(self, data):
        return torch.load(io.BytesIO(data), weights_only=True)

    def _restore(self, saved):
        """Restores what a commit has of the store itself and of the generators."""
        self._take_figures(saved)
        self._attached_states = saved["attached"]
        torch.set_rng_state(saved["torch"])
        random.setstate(_tuples(saved["python"]))
        if saved["numpy"] is not None and "numpy" in sys.modules:
            name, keys, *rest = saved["numpy"]
            sys.modules["numpy"].random.set_state((name, keys.numpy().astype("uint32"), *rest))


def _generators():
    numpy = None
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        numpy = (name, torch.tensor(keys.astype("int64")), *rest)
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}


def _of_bytes(data):
    # torch.load refuses bytes with weights_only=True.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _to_bytes(tensor):
    return bytes(tensor.tolist())


def _tuples(value):
    return tuple(_tuples(one) for one in value) if isinstance(value, (list, tuple)) else value


def _plain(state):
    """The state, if it can be loaded again without running code from the file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception as error:
        raise TypeError(f"the state of an attached object is more than numbers, text and tensors: {error}") from error
    return state


def manifest(entries, optimizer):
    """The optimizer and the weights of a store as text, to compare two runs."""
    kept = lambda entry: entry.state_keys if entry.group is None else ["gradient", *entry.state_keys]
    rows = [[entry.name, list(entry.size), str(entry.dtype), kept(entry)] for entry in entries]
    return json.dumps({"optimizer": optimizer, "weights": rows})


def compare_manifests(path, stored, here):
    """Raises an error with the first difference if a store is of another model."""
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
