"""Streams a model: its weights are in memory only while modules compute with them, and
each is updated as soon as its gradient is complete."""

import time
import weakref

import torch
from torch.overrides import TorchFunctionMode

from .copies import install_copies, write_safetensors
from .optimizer import StateRules, StreamedOptimizer
from .phantom import phantom, storage_pointer, tensor_over
from .saved import SavedHooks, unpack, weight_cast
from .store import compare_manifests, manifest

# Bytes reserved in a commit for data that may grow: generators, attached objects, groups.
_PAYLOAD_ROOM = 4 << 20

# Bytes of memory besides those of one update: for commit records, and gaps.
_BESIDE = 256 << 10


class Entry:
    """A weight, its extents in the store, and the state of its update."""

    def __init__(self, name, param, group):
        self.name, self.param, self.group = name, param, group
        self.size, self.stride, self.dtype = param.size(), param.stride(), param.dtype
        self.bytes = param.numel() * param.element_size()
        words = f"{name} is on the drive: it is in memory while its module computes; state_dict() gives a copy"
        self.phantom = phantom(param.data, words)
        self.gone = None
        if group is not None:
            words = (
                f"the gradient of {name} is taken by delayline's optimizer as it comes: "
                "for clipping give stream(..., clip=...), for scaling use bfloat16"
            )
            self.gone = phantom(param.data, words)
        # Number of updates, of modules that have it in memory, and of gradients since the
        # last step.
        self.version = self.depth = self.arrivals = 0
        # Whether the gradients since the last step are applied.
        self.updated = False
        # Whether the update of the last step is still to be made, when the weight is needed.
        self.is_late = False
        # The version counter of its tensor when it was read, and the norm of its gradient.
        self.seen = self.norm = None
        # The state tensors of its shape, each of which is an extent, and the rest of its state.
        self.state_keys, self.state_dtypes, self.small = [], [], None
        # The extents of the weight and of its gradient.
        self.extent = self.gradient = None


def stream(model, optimizer, *, store, params=None, clip=None, accumulate=1, **options):
    """Moves the weights of ``model`` to ``store``. Returns the model, which computes as
    before, and an optimizer of the class ``optimizer`` with these ``options``.

    If the folder contains a committed step of the same model, it is restored: weights,
    buffers, optimizer state and groups, and random number generators. ``params`` are the
    parameters to train, or groups of them, as optimizers take them; by default all that
    require a gradient. ``clip`` is the maximum norm of all gradients, as for
    ``clip_grad_norm_``. ``accumulate`` is the number of backward passes in a step.

    Raises ``ValueError`` or ``TypeError`` if the model, the optimizer or the options cannot
    be streamed, or the store is of another model or too small.
    """
    session = Session(model, optimizer, store, params, clip, accumulate, options)
    streamed = StreamedOptimizer(None, session.groups, session.rules)
    streamed.session = session
    session.groups = streamed.param_groups
    session.start(model)
    return model, streamed


class Session:
    """Connects a model, its optimizer and their store. Modules and the optimizer refer to
    it, but not the reverse, so that all of them are freed when they are no longer used."""

    def __init__(self, model, optimizer, store, params, clip, accumulate, options):
        if not isinstance(accumulate, int) or accumulate < 1:
            raise ValueError(f"accumulate={accumulate!r}: expected the number of backward passes in a step, 1 or more")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip={clip!r}: expected the maximum norm of all gradients, more than 0")
        if any(hasattr(module, "_delayline") for module in model.modules()):
            raise ValueError("this model, or a part of it, is streamed already")
        for module in model.modules():
            kinds = {kind.__name__ for kind in type(module).__mro__} & {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule", "DataParallel"}
            if kinds:
                raise TypeError(f"{kinds.pop()} moves weights and gradients by itself and cannot be streamed; give the model inside, in one process")
        self.store, self.clip, self.accumulate = store, clip, accumulate
        self.rules = StateRules(optimizer, options)
        self.groups = _groups(model, params)
        self.frames, self.mode, self.at = [], None, {}
        self.steps, self.hypers, self.grad_norm = 0, None, None
        # For the updates that wait: the settings of the optimizer's groups, and the factor of
        # their gradients.
        self.late = None
        # Bytes written to move the model to the store, and number of weights updated in this
        # step.
        self.placed = self.updates = 0
        # If set, commits fail with this message.
        self.broken = None
        self.committed_groups = None
        self.since = time.monotonic()
        self._learn(model)

    def start(self, model):
        """Moves the model to the store, or restores it from the store."""
        self.buffers = weakref.WeakValueDictionary(model.named_modules(remove_duplicate=False))
        self._place(model)
        self._hook(model)
        self.store._session = weakref.proxy(self)

    # The weights and their extents.

    def _learn(self, model):
        """Makes the entries, and checks that the model can be streamed."""
        figures = {}
        for group in self.groups:
            for param in group["params"]:
                figures[id(param)] = {**self.rules.defaults, **group}
        self.entries, self.by_id = [], {}
        lens, known = [], set()
        for name, param in model.named_parameters():
            known.add(id(param))
            if param.device.type != "cpu" or param.layout != torch.strided or not _is_dense(param):
                raise ValueError(f"{name}: expected a dense weight on the processor, got {param.layout} on {param.device}")
            if id(param) not in figures and param.requires_grad:
                raise ValueError(f"{name} needs a gradient and is in none of the optimizer's groups; freeze it with requires_grad_(False), or add it")
            if param.numel() == 0:
                continue
            trained = param.requires_grad and id(param) in figures
            entry = Entry(name, param, figures[id(param)] if trained else None)
            if trained:
                entry.state_keys, entry.state_dtypes = self.rules.state_of(param.dim(), param.dtype, entry.group)
            entry.extent = len(lens)
            lens.append(entry.bytes)
            lens += [param.numel() * dtype.itemsize for dtype in entry.state_dtypes]
            self.entries.append(entry)
            self.by_id[id(param)] = entry
        strange = [id(p) for g in self.groups for p in g["params"] if id(p) not in known]
        if strange:
            raise ValueError("the optimizer's groups have parameters that are not the model's")
        self.lens, self.waiting = lens, []
        # Also if no gradient waits in this run, because another run may clip.
        for entry in self.trained():
            entry.gradient = len(lens) + len(self.waiting)
            self.waiting.append(entry.bytes)
        waits = self.clip is not None or self.accumulate > 1
        need = max((e.bytes + sum(e.param.numel() * d.itemsize for d in e.state_dtypes) + waits * e.bytes for e in self.entries), default=0)
        if self.store.memory < need + _BESIDE:
            largest = max(self.entries, key=lambda entry: entry.bytes)
            raise ValueError(
                f"a memory of {self.store.memory:,} bytes is too small: the update of {largest.name} alone takes {need:,}; "
                f"allow at least {need + _BESIDE:,}"
            )

    def _place(self, model):
        """Opens the store and restores the model from it, or creates it and writes the model
        to it."""
        manifest_here = manifest(self.entries, self.rules.name)
        if self.store.exists():
            saved = self.store._unpacked(type(self.store)._peek(self.store.path))
            compare_manifests(self.store.path, saved["manifest"], manifest_here)
        buffers = sum(buffer.nbytes for buffer in model.buffers())
        room = 2 * buffers + 2 * len(manifest_here) + 64 * len(self.entries) + _PAYLOAD_ROOM
        resumed = self.store._open(self.lens, self.waiting, room)
        self.native, self.manifest = self.store.native, manifest_here
        if resumed:
            self._restore(model, self.store._unpacked(self.native.payload()))
            for entry in self.entries:
                entry.param.data = entry.phantom
            self.store._building = None
            return
        building, progress = self.store._building, self.store._progress
        with torch.no_grad():
            for index, entry in enumerate(self.entries):
                progress.tick(lambda: f"weights and state to {self.store.path}: {index} of {len(self.entries)}")
                if building is not None:
                    building.bring(entry.param)
                    building.here.pop(id(entry.param), None)
                tensor = tensor_over(self.native.lease(entry.extent, "write"), entry.dtype, entry.size, entry.stride)
                tensor.copy_(entry.param.data)
                entry.param.data = entry.phantom
                del tensor
                for which, dtype in enumerate(entry.state_dtypes):
                    tensor_over(self.native.lease(entry.extent + 1 + which, "write"), dtype, entry.size, entry.stride).zero_()
        self.store._building = building = None
        self.commit()
        self.placed = self.native.figures()["bytes_written"]
        progress.end()

    def _restore(self, model, saved):
        """Restores what a commit has besides the extents."""
        self.store._restore(saved)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                stored = saved["buffers"].get(name)
                if stored is None or stored.size() != buffer.size():
                    raise ValueError(f"{self.store.path}: the store is of another model: it has no buffer {name} of that size")
                buffer.copy_(stored)
        for key, (present, values) in saved["small"].items():
            for entry, is_there, value in zip(self.trained(), present, values):
                if is_there:
                    entry.small = entry.small or {}
                    entry.small[key] = value.clone() if torch.is_tensor(value) else value
        for entry, is_there in zip(self.trained(), saved["begun"]):
            if is_there and entry.small is None:
                entry.small = {}
        self.late = saved["late"]
        for entry, is_late in zip(self.trained(), saved["is_late"]):
            entry.is_late = is_late
        self.committed_groups = saved["groups"]
        self.load_groups(saved["groups"])

    def trained(self):
        return [entry for entry in self.entries if entry.group is not None]

    def group_of(self, entry):
        """The index of the optimizer's group that a weight is in."""
        for index, group in enumerate(self.groups):
            if any(param is entry.param for param in group["params"]):
                return index
        raise ValueError(f"{entry.name} is in none of the optimizer's groups any more")

    def load_groups(self, groups):
        """Sets the settings of the optimizer's groups."""
        for mine, other in zip(self.groups, groups):
            for key, value in other.items():
                if key != "params":
                    if torch.is_tensor(mine.get(key)) and torch.is_tensor(value):
                        mine[key].copy_(value)
                    else:
                        mine[key] = value.clone() if torch.is_tensor(value) else value

    # Weights in memory.

    def lease(self, entry, mode, which=None, dtype=None):
        """A tensor over an extent of an entry: over its weight, or over the extent
        ``which``. Makes an update that waits first."""
        self.settle(entry)
        extent = entry.extent if which is None else which
        tensor = tensor_over(self.native.lease(extent, mode), dtype or entry.dtype, entry.size, entry.stride)
        if which is None:
            self.at[tensor.untyped_storage().data_ptr()] = entry
        return tensor

    def bring(self, entry):
        """Puts a weight into its parameter, for a module that computes with it."""
        if entry.depth == 0:
            if storage_pointer(entry.param) is not None:
                raise RuntimeError(
                    f"{entry.name} was given other memory (param.data = ...), which would be lost: set weights by "
                    "load_state_dict"
                )
            # PyTorch uses other kernels for tensors that are made in inference mode.
            with torch.inference_mode(False):
                entry.param.data = self.lease(entry, "read")
            entry.seen = entry.param._version
        entry.depth += 1

    def put_away(self, entry):
        """Takes a weight out of its parameter when no module computes with it any more."""
        entry.depth -= 1
        if entry.depth == 0:
            changed = entry.param._version != entry.seen
            entry.param.data = entry.phantom
            if changed:
                raise RuntimeError(
                    f"{entry.name} was changed in place during a forward pass, which would be lost: change weights by the "
                    "optimizer, or by load_state_dict between steps"
                )

    def absent(self, param):
        """The entry of a parameter if it is not in memory, otherwise ``None``."""
        entry = self.by_id.get(id(param))
        return entry if entry is not None and entry.param is param and entry.depth == 0 else None

    def entry_of(self, tensor):
        """The entry of the weight whose memory a tensor shares, or ``None``. The tensor keeps
        the lease, so the memory is still that of the weight."""
        entry = self.by_id.get(id(tensor if tensor._base is None else tensor._base))
        pointer = storage_pointer(tensor)
        if entry is not None and entry.param is (tensor if tensor._base is None else tensor._base):
            return entry
        return self.at.get(pointer) if pointer and self.native.holds(pointer) else None

    def cast_of(self, tensor):
        """The entry of the weight of which autocast made ``tensor``, or ``None``."""
        leaf = weight_cast(tensor)
        entry = self.by_id.get(id(leaf)) if leaf is not None else None
        return entry if entry is not None and entry.param is leaf else None

    def unpack(self, packed):
        return unpack(self, packed)

    # Modules.

    def _hook(self, model):
        inside = set()
        for module in model.modules():
            module._delayline = True
            compiled = getattr(module, "_compiled_call_impl", None)
            is_unit = compiled is not None or type(module).__name__ == "OptimizedModule"
            if id(module) in inside:
                continue
            if is_unit:
                # Compiled code must not run hooks, so all weights of the module are brought
                # before it runs.
                inside.update(id(part) for part in module.modules())
            if compiled is not None:
                module._compiled_call_impl = self._around(module, compiled)
            else:
                module.register_forward_pre_hook(self._before(is_unit), prepend=True)
                module.register_forward_hook(self._after(), always_call=True)
        me = weakref.ref(self)
        for entry in self.trained():
            entry.param.register_hook(_first(me, entry.param))
            entry.param.register_post_accumulate_grad_hook(_ready(me))
        install_copies(self, model)

    def _before(self, is_unit):
        def before(module, args):
            self.enter(module, is_unit)
        return before

    def _around(self, module, compiled):
        module = weakref.ref(module)
        def around(*args, **kwargs):
            self.enter(module(), True)
            try:
                return compiled(*args, **kwargs)
            finally:
                self.leave(module())
        return around

    def _after(self):
        def after(module, args, output):
            self.leave(module)
        return after

    def check_whole(self):
        """Raises an error between backward() and step(), when only some weights are
        updated."""
        if self.hypers is not None and torch._C._current_graph_task_id() == -1:
            raise RuntimeError(
                "the model is used between backward() and step(), when updates were made in the backward pass "
                "already: call step() first, or give stream(..., clip=...), which makes updates after step()"
            )

    def enter(self, module, is_unit=False):
        """Called before the forward pass of a module; ``is_unit`` if all of its parts are
        compiled together."""
        self.check_whole()
        frame = _Frame(module)
        self.frames.append(frame)
        if is_unit:
            if self.mode is not None:
                frame.paused = self.mode
                self.mode.__exit__(None, None, None)
        elif self.mode is None:
            self.mode = frame.mode = _Bring(self)
            frame.mode.__enter__()
        frame.pushed = SavedHooks(self).push()
        # A module with children uses its own parameters only in parts of its forward pass;
        # _Bring brings these for each function that uses them.
        if is_unit:
            params = module.parameters()
        elif any(True for _ in module.children()):
            return
        else:
            params = module._parameters.values()
        for param in params:
            entry = self.by_id.get(id(param)) if param is not None else None
            if entry is not None and entry.param is param:
                self.bring(entry)
                frame.entries.append(entry)

    def leave(self, module):
        """Called after the forward pass of a module."""
        # There is no frame if the pass failed before enter() was called.
        if not self.frames or self.frames[-1].module is not module:
            return
        frame = self.frames.pop()
        if frame.pushed:
            SavedHooks.pop()
        if frame.mode is not None:
            self.mode = None
            frame.mode.__exit__(None, None, None)
        if frame.paused is not None:
            frame.paused.__enter__()
        if frame.entries and torch.is_autocast_enabled("cpu"):
            # Otherwise autocast would keep a copy of each weight until it ends.
            torch.clear_autocast_cache()
        for entry in frame.entries:
            self.put_away(entry)

    # Gradients.

    def before_gradient(self, param):
        """Called before a gradient is accumulated."""
        entry = self.by_id[id(param)]
        if entry.updated or (not self.clip and entry.arrivals >= self.accumulate):
            raise RuntimeError(
                f"a gradient of {entry.name} came after its update was made in the backward pass: call step() after each "
                f"{'backward pass' if self.accumulate == 1 else f'{self.accumulate} backward passes'}, "
                "or give stream(..., accumulate=...) how many there are"
            )
        if param.grad is entry.gone:
            param.grad = None

    def gradient(self, param):
        """Called with a complete gradient of one backward pass: applies or keeps it."""
        entry = self.by_id[id(param)]
        grad, param.grad = param.grad, None
        if grad.layout != torch.strided:
            raise RuntimeError(f"{entry.name} has a sparse gradient; make the module with sparse=False")
        entry.arrivals += 1
        with torch.no_grad():
            if self.clip is None and entry.arrivals == self.accumulate:
                if entry.arrivals > 1:
                    # The order of the operands is that of accumulation in memory.
                    grad = self.lease(entry, "read", entry.gradient) + grad
                    self.native.forget(entry.gradient)
                self.apply(entry, grad)
            else:
                self.keep(entry, grad)
        param.grad = entry.gone
        del grad

    def keep(self, entry, grad):
        """Adds a gradient to the one that waits on the drive."""
        first = entry.arrivals == 1
        stored = self.lease(entry, "write" if first else "modify", entry.gradient)
        if first:
            stored.copy_(grad)
        else:
            stored.add_(grad)
        if self.clip is not None:
            entry.norm = torch.linalg.vector_norm(stored, 2.0)
        del stored
        if entry.arrivals >= self.accumulate:
            self.native.write_soon(entry.gradient)
        self.tick("have their gradients", sum(entry.arrivals > 0 for entry in self.entries))

    def apply(self, entry, grad):
        """Updates one weight in the backward pass."""
        if self.hypers is None:
            self.hypers = self.figures_of_groups()
        self.settle(entry)
        self.update(entry, self.groups[self.group_of(entry)], self.together(entry), grad)
        entry.version += 1
        entry.updated = True

    def settle(self, entry):
        """Makes the update of one weight if it waits since the last step."""
        if not entry.is_late:
            return
        # This may be within a forward pass, whose modes must not affect the update.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False), torch._C.DisableTorchFunction():
            *tensors, grad = self.together(entry, entry.gradient)
            group, scale = self.late["groups"][self.group_of(entry)], self.late["scale"]
            self.update(entry, group, tensors, grad, scale)
            entry.is_late = False
            del tensors, grad
            self.native.forget(entry.gradient)

    def together(self, entry, *more):
        """Tensors over a weight, its state, and the extents ``more``, leased together to be
        changed."""
        extents = [*range(entry.extent, entry.extent + 1 + len(entry.state_keys)), *more]
        types = [entry.dtype, *entry.state_dtypes, *(entry.dtype for _ in more)]
        leases = self.native.lease_together(extents, "modify")
        return [tensor_over(lease, dtype, entry.size, entry.stride) for lease, dtype in zip(leases, types)]

    def update(self, entry, group, tensors, grad, scale=None):
        """The optimizer's step on one weight; ``scale`` is the factor of the gradient."""
        self.broken = f"the update of {entry.name} failed half-way; open the store again, its last commit is intact"
        if scale is not None:
            grad.mul_(scale)
        state = dict(zip(entry.state_keys, tensors[1:]))
        entry.small = self.rules.update(group, tensors[0], grad, state, entry.small)
        self.broken = None
        self.updates += 1
        self.tick("updated")

    def tick(self, what, count=None):
        """Shows the progress of the step."""
        count = self.updates if count is None else count
        words = lambda: f"step {self.store.step + 1}: {count} of {len(self.trained())} weights {what}"
        self.store._progress.tick(words)

    def figures_of_groups(self):
        """Copies of the settings of the optimizer's groups."""
        return [
            {key: value.clone() if torch.is_tensor(value) else value for key, value in group.items() if key != "params"}
            for group in self.groups
        ]

    def step(self):
        """Ends a step. With clipping, computes the norm of all gradients and leaves the
        updates to the next use of each weight."""
        with torch.no_grad():
            if self.hypers is not None and self.hypers != self.figures_of_groups():
                raise RuntimeError(
                    "the optimizer's settings (lr, ...) were changed between backward() and step(), after updates were "
                    "made with the old ones; change them after step(), as schedulers do"
                )
            # Updates of the last step whose weights were not used since.
            for entry in self.entries:
                self.settle(entry)
            waiting = [entry for entry in self.entries if entry.arrivals and not entry.updated]
            scale = None
            if self.clip is not None and waiting:
                self.grad_norm = torch.linalg.vector_norm(torch.stack([entry.norm for entry in waiting]), 2.0)
                scale = torch.clamp(self.clip / (self.grad_norm + 1e-6), max=1.0)
            self.late = {"groups": self.figures_of_groups(), "scale": scale}
            for entry in waiting:
                entry.is_late = True
                entry.version += 1
        self._end_step()
        self.store.step += 1
        self.steps += 1
        self.native.end_step()
        if self.store.step % self.store.durable == 0:
            self.commit()

    def _end_step(self):
        for entry in self.entries:
            entry.arrivals, entry.updated, entry.norm = 0, False, None
        self.hypers, self.updates = None, 0
        self.store._progress.end()

    def zero_grad(self):
        if any(entry.updated for entry in self.entries):
            raise RuntimeError(
                "zero_grad() between backward() and step(): updates were made in the backward pass and cannot be "
                "taken back; to be able to skip a step, give stream(..., clip=...), which makes them after step()"
            )
        for entry in self.trained():
            if entry.arrivals:
                self.native.forget(entry.gradient)
            entry.param.grad = None
        self._end_step()

    # Commits.

    def commit(self):
        """Makes the extents, and the state that is in memory, durable."""
        if self.broken is not None:
            raise RuntimeError(self.broken)
        if any(entry.arrivals for entry in self.entries):
            raise RuntimeError("commit between backward() and step(): call step() first, or zero_grad()")
        self.committed_groups = self.figures_of_groups()
        trained = self.trained()
        keys = sorted({key for entry in trained for key in entry.small or ()})
        small = {}
        for key in keys:
            values = [entry.small[key] if entry.small and key in entry.small else None for entry in trained]
            present = [value is not None for value in values]
            first = next((value for value in values if value is not None), None)
            if torch.is_tensor(first) and first.dim() == 0:
                values = torch.stack([torch.zeros_like(first) if value is None else value for value in values])
            small[key] = (present, values)
        self.native.commit(self.store._packed({
            "manifest": self.manifest,
            "groups": self.committed_groups,
            "small": small,
            "begun": [entry.small is not None for entry in trained],
            "late": self.late,
            "is_late": [entry.is_late for entry in trained],
            "buffers": self.current_buffers(),
        }))

    def current_buffers(self):
        """The buffers of the model by name."""
        found = {}
        for prefix, module in list(self.buffers.items()):
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    found[f"{prefix}.{name}" if prefix else name] = buffer
        return found

    # Copies.

    def copy(self, entry):
        """A copy of a weight."""
        self.check_whole()
        with torch.no_grad():
            return self.lease(entry, "read").clone()

    def write(self, entry, value):
        """Sets a weight between steps."""
        self.check_whole()
        with torch.no_grad():
            self.lease(entry, "modify").copy_(value)
        entry.version += 1

    def optimizer_state(self):
        """Copies of the optimizer's state, by the id of the parameter."""
        found = {}
        for entry in self.trained():
            self.settle(entry)
            if entry.small is None:
                continue
            state = {key: value.clone() if torch.is_tensor(value) else value for key, value in entry.small.items()}
            for index, (key, dtype) in enumerate(zip(entry.state_keys, entry.state_dtypes)):
                state[key] = self.lease(entry, "read", entry.extent + 1 + index, dtype).clone()
            found[id(entry.param)] = state
        return found

    def load_optimizer_state(self, found):
        """Sets the optimizer's state, by the id of the parameter."""
        with torch.no_grad():
            for entry in self.trained():
                self.settle(entry)
                state = found.get(id(entry.param))
                if state is None:
                    entry.small = None
                    continue
                entry.small = {
                    key: value.clone() if torch.is_tensor(value) else value
                    for key, value in state.items() if key not in entry.state_keys
                }
                for index, (key, dtype) in enumerate(zip(entry.state_keys, entry.state_dtypes)):
                    self.lease(entry, "modify", entry.extent + 1 + index, dtype).copy_(state[key])

    def export(self, path):
        write_safetensors(self, path)

    def figures(self):
        figures = dict(self.native.figures())
        elapsed = time.monotonic() - self.since
        waited = figures["stall_s"] + figures["commit_s"]
        limit = max(elapsed - waited, figures["busy_s"])
        return {
            **figures,
            "steps": self.steps,
            "placed": self.placed,
            "trained": sum(entry.param.numel() for entry in self.trained()),
            "state_bytes": sum(self.lens),
            "elapsed_s": elapsed,
            "limit_s": limit,
            "share_of_limit": limit / elapsed if self.steps else None,
        }


class _Frame:
    """The forward pass of a module that is under way."""

    __slots__ = ("module", "entries", "pushed", "mode", "paused")

    def __init__(self, module):
        self.module, self.entries, self.pushed, self.mode, self.paused = module, [], False, None, None


class _Bring(TorchFunctionMode):
    """Brings weights that are used outside of their module, while one function of PyTorch
    runs. A view that the function returns keeps the lease."""

    def __init__(self, session):
        super().__init__()
        self.session = session

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        brought = []
        if torch.nn.Parameter in types or any(isinstance(arg, (torch.nn.Parameter, list, tuple)) for arg in args) or kwargs:
            for arg in flat([*args, *kwargs.values()]):
                entry = self.session.absent(arg) if isinstance(arg, torch.nn.Parameter) else None
                if entry is not None and not is_about_sizes(function):
                    self.session.bring(entry)
                    brought.append(entry)
        try:
            return function(*args, **kwargs)
        finally:
            for entry in brought:
                self.session.put_away(entry)


# The properties of a tensor that share its memory.
_VIEWS = ("T", "mT", "H", "mH", "data", "real", "imag")


def is_about_sizes(function):
    """Whether a function of PyTorch needs only sizes and types, not elements."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return getattr(function.__self__, "__name__", "") not in _VIEWS
    return name in ("__set__", "size", "dim", "numel", "stride", "__len__", "is_floating_point", "is_complex")


def flat(values):
    """The values, with those in nested lists and tuples."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        else:
            yield value


def _first(session, param):
    param = weakref.ref(param)
    def first(grad):
        session().before_gradient(param())
    return first


def _ready(session):
    def ready(param):
        session().gradient(param)
    return ready


def _is_dense(tensor):
    """Whether a tensor covers its memory without gaps and overlaps, in any order."""
    expected = 1
    for step, length in sorted(zip(tensor.stride(), tensor.size())):
        if length > 1 and step != expected:
            return False
        expected *= length
    return True


def _groups(model, params):
    """The groups of parameters, as an optimizer makes them of ``params``."""
    if params is None:
        params = [param for param in model.parameters() if param.requires_grad]
    params = list(params)
    if not params:
        raise ValueError("no parameter is to be trained")
    if not isinstance(params[0], dict):
        params = [{"params": params}]
    return [{**group, "params": [group["params"]] if torch.is_tensor(group["params"]) else list(group["params"])} for group in params]
