"""Tensors that have sizes but no memory; any use of their elements raises an error."""

import torch


def phantom(like, words):
    """A tensor with the sizes and strides of ``like`` but without memory. Any use of its
    elements raises an error with the message ``words``."""
    empty = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype)
    empty.untyped_storage().resize_(0)
    torch._C._set_storage_access_error_msg(empty, words)
    return empty


def storage_pointer(tensor):
    """The address of a tensor's storage; ``None`` if it has no memory."""
    try:
        # Otherwise the mode that reads weights from the drive would read it.
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None


def tensor_over(lease, dtype, size, stride):
    """A tensor over the bytes of a lease. The lease lasts until its last view is gone."""
    return torch.frombuffer(lease, dtype=dtype).as_strided(size, stride)
