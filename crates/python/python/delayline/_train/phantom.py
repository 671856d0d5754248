"""Tensors that keep their sizes and have no bytes: whoever touches one is told why."""

import torch


def phantom(like, words):
    """A tensor of the sizes and strides of ``like`` without memory."""
    empty = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype)
    empty.untyped_storage().resize_(0)
    torch._C._set_storage_access_error_msg(empty, words)
    return empty


def storage_pointer(tensor):
    """Where the memory of a tensor begins; ``None`` where there is none of its own."""
    try:
        # The mode that brings weights would bring it.
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None


def tensor_over(lease, dtype, size, stride):
    """A tensor over a lease, which it holds until its last view is gone."""
    return torch.frombuffer(lease, dtype=dtype).as_strided(size, stride)
