"""Activations on a drive: the tensors that autograd saves for the backward pass go to a
bounded memory, and those that do not fit to a file."""

import os
import weakref

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from .._native import NativeActivations, size_of
from .allocator import give_back_freed_memory
from .saved import check_version

# Tensors with fewer bytes stay where they are.
_SMALL = 4096

# A storage is kept whole if it has at most so many times the bytes of the tensor;
# otherwise only the part of the tensor is kept.
_WHOLE = 8

# The activations of this process, by folder, bytes of memory and process.
_open = {}

# Bytes written by activations that were closed, by folder and process.
_written = {}


def written_in(path):
    """Bytes that the activations of this process have written in a folder."""
    folder, process = os.path.realpath(path), os.getpid()
    live = [native for key, native in _open.items() if key[0] == folder and key[2] == process]
    return _written.get((folder, process), 0) + sum(native.figures()["bytes_written"] for native in live)


class _Blob:
    """The bytes of an activation, shared by the tensors that are views of them."""

    __slots__ = ("activation", "start", "live", "__weakref__")

    def __init__(self, activation, start):
        self.activation, self.start, self.live = activation, start, None

    def storage(self):
        """The bytes as a tensor over a lease. All views share it while one is in use."""
        live = self.live() if self.live is not None else None
        if live is None:
            lease = self.activation.lease()
            live = torch.frombuffer(lease, dtype=torch.uint8)
            self.live = weakref.ref(live)
        return live


class _View:
    """A saved tensor whose bytes are in a blob."""

    __slots__ = ("blob", "dtype", "size", "stride", "offset", "versions", "version")

    def __init__(self, blob, tensor):
        self.blob, self.dtype = blob, tensor.dtype
        self.size, self.stride = tensor.size(), tensor.stride()
        self.offset = (tensor.storage_offset() * tensor.element_size() - blob.start) // tensor.element_size()
        # Shares the version counter with the tensor, but not its memory.
        self.versions = tensor.detach()
        self.versions.data = torch.empty(0, dtype=tensor.dtype)
        self.version = tensor._version

    def tensor(self):
        check_version(self.versions._version, self.version, self.size)
        live = self.blob.storage()
        return torch.empty(0, dtype=self.dtype).set_(live.untyped_storage(), self.offset, self.size, self.stride)


class _Kept:
    """A saved tensor that stays where it is."""

    __slots__ = ("value", "version")

    def __init__(self, tensor):
        self.value, self.version = tensor.detach(), tensor._version

    def tensor(self):
        check_version(self.value._version, self.version, self.value.size())
        return self.value


class activations:
    """A context in which the tensors that autograd saves are kept in at most ``memory``
    bytes (a size such as ``"512MiB"``). Those that do not fit go to a file in the folder
    ``path``, which is gone with the process. The backward pass may run outside of it.

    Weights, tensors under 4 KiB, and tensors on other devices stay where they are.
    """

    def __init__(self, path, memory):
        give_back_freed_memory()
        self._key = (os.path.realpath(path), size_of(memory), os.getpid())
        self._path = os.fspath(path)
        self._hooks = []

    def __enter__(self):
        native = _open.get(self._key)
        if native is None:
            folder, _, process = self._key
            _written[folder, process] = written_in(folder)
            for key in [key for key in _open if key[0] == folder]:
                del _open[key]
            native = _open[self._key] = NativeActivations(self._path, self._key[1])
        self._native = native
        context = torch.autograd.graph.saved_tensors_hooks(_Packer(native), _unpack)
        context.__enter__()
        self._hooks.append(context)
        return self

    def __exit__(self, *exception):
        self._hooks.pop().__exit__(*exception)

    def report(self):
        """The figures so far, by name."""
        return self._native.figures()


class _Packer:
    """Packs the tensors that one forward pass saves."""

    def __init__(self, native):
        self.native = native
        self.known = {}

    def __call__(self, tensor):
        bytes_ = tensor.numel() * tensor.element_size()
        base = tensor if tensor._base is None else tensor._base
        is_weight = isinstance(base, torch.nn.Parameter) or (tensor.is_leaf and tensor.requires_grad)
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and type(tensor) is torch.Tensor
        if bytes_ < _SMALL or is_weight or not plain or tensor.is_conj() or tensor.is_neg():
            return _Kept(tensor)
        storage = tensor.untyped_storage()
        span = 1 + sum((length - 1) * step for length, step in zip(tensor.size(), tensor.stride()))
        start = tensor.storage_offset() * tensor.element_size()
        end = start + span * tensor.element_size()
        if storage.nbytes() <= _WHOLE * bytes_:
            start, end = 0, storage.nbytes()
        key = (storage._cdata, start, end, tensor._version)
        known = self.known.get(key)
        if known is not None:
            blob, reference = known[0](), known[1]
            if blob is not None and not reference.expired():
                return _View(blob, tensor)
        activation, lease = self.native.push(end - start)
        with torch.no_grad():
            source = torch.empty(0, dtype=torch.uint8).set_(storage, start, (end - start,), (1,))
            torch.frombuffer(lease, dtype=torch.uint8).copy_(source)
        del lease
        blob = _Blob(activation, start)
        self.known[key] = (weakref.ref(blob), StorageWeakRef(storage))
        return _View(blob, tensor)


def _unpack(packed):
    return packed.tensor()
