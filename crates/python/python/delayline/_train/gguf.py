"""The tensors of GGUF files."""

import os
from collections.abc import Mapping

import torch

from .._native import NativeGguf


class Gguf(Mapping):
    """The tensors of a GGUF file by name. Each is read and converted to float32 when it is
    requested; its contiguous dimension is the last. ``metadata`` has the metadata of the
    file. ``path`` of a model in several files is the first of them.

    Raises ``ValueError`` for a file that is damaged or a type that cannot be converted.
    """

    def __init__(self, path):
        self._native = NativeGguf(os.fspath(path))
        self._names = dict.fromkeys(self._native.names())
        self.metadata = self._native.metadata()

    def __getitem__(self, name):
        if name not in self._names:
            raise KeyError(name)
        numbers, shape = self._native.read(name)
        return torch.frombuffer(numbers, dtype=torch.float32).view(shape)

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)
