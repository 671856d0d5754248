"""Hooks for the tensors that autograd saves for the backward pass. Of a weight they save
only which one it is; all other tensors go to the hooks that were there before."""

import torch


class _Weight:
    """A saved view of a weight: which weight, its version, and the shape of the view."""

    __slots__ = ("entry", "version", "dtype", "size", "stride", "offset")

    def __init__(self, entry, tensor, dtype=None):
        self.entry, self.version, self.dtype = entry, entry.version, dtype
        self.size, self.stride, self.offset = tensor.size(), tensor.stride(), tensor.storage_offset()


class _Kept:
    """A saved tensor that stays in memory, and its version."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor):
        # Detached, because the graph would otherwise refer to itself.
        self.tensor, self.version = tensor.detach(), tensor._version


class _Other:
    """A tensor that another pair of hooks has packed."""

    __slots__ = ("unpack", "packed")

    def __init__(self, unpack, packed):
        self.unpack, self.packed = unpack, packed


def check_version(now, then, size):
    """Raises an error if a saved tensor was changed in place, as autograd does without
    hooks."""
    if now != then:
        raise RuntimeError(
            f"a tensor of shape {tuple(size)} that is needed for the backward pass was changed in place: it is at "
            f"version {now}, expected version {then}"
        )


class SavedHooks:
    """The hooks of a session, to be pushed on the hooks that are active."""

    def __init__(self, session):
        self.session = session

    def push(self):
        """Pushes the hooks unless they are the top ones. Returns whether it did."""
        top = torch._C._autograd._top_saved_tensors_default_hooks(False)
        if top is not None and getattr(top[0], "session", None) is self.session:
            return False
        pack = _Pack(self.session, top)
        torch._C._autograd._push_saved_tensors_default_hooks(pack, self.session.unpack)
        return True

    @staticmethod
    def pop():
        torch._C._autograd._pop_saved_tensors_default_hooks()


class _Pack:
    def __init__(self, session, below):
        self.session, self.below = session, below

    def __call__(self, tensor):
        entry = self.session.entry_of(tensor)
        if entry is not None and entry.dtype == tensor.dtype:
            return _Weight(entry, tensor)
        cast = self.session.cast_of(tensor)
        if cast is not None:
            return _Weight(cast, tensor, tensor.dtype)
        if self.below is None:
            return _Kept(tensor)
        pack, unpack = self.below
        return _Other(unpack, pack(tensor))


def unpack(session, packed):
    """The saved tensor."""
    if isinstance(packed, _Kept):
        check_version(packed.tensor._version, packed.version, packed.tensor.size())
        return packed.tensor
    if isinstance(packed, _Other):
        return packed.unpack(packed.packed)
    entry = packed.entry
    if entry.version != packed.version:
        raise RuntimeError(
            f"{entry.name} has changed since this forward pass: its update was made in the first backward pass. A "
            "second backward through the same forward needs the old weights; add the losses and go backward once"
        )
    weight = session.lease(entry, "read")
    if packed.dtype is not None:
        weight = weight.to(packed.dtype)
    return weight.as_strided(packed.size, packed.stride, packed.offset)


def weight_cast(tensor):
    """The parameter of which a tensor, or the base of a view, is a copy in another type
    that autocast made; ``None`` if it is not such a copy."""
    base = tensor if tensor._base is None else tensor._base
    node = base.grad_fn
    if node is None or node.name() != "ToCopyBackward0":
        return None
    source = node.next_functions[0][0]
    return getattr(source, "variable", None)

