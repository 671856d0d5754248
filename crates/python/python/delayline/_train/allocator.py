"""What the C library's allocator keeps of memory that tensors have given back.

glibc takes large tensors from the kernel, each by itself, and gives them back when they
are freed; but whenever one is freed it raises the length from which on it does so, up to
32 MiB, and smaller ones then come from an arena, where those that stay leave gaps that
others do not fit into: as much again as all that is in use, and more. A length that is
set stays."""

import ctypes
import os

# From mallopt(3).
_M_MMAP_THRESHOLD = -3

# Tensors of so many bytes and more are memory only while they are there: the length that
# glibc begins with. They cost the kernel new pages, which takes about as long as to copy
# them.
_LARGE = 128 << 10

_is_set = False


def give_back_freed_memory():
    """Has memory of freed tensors given back at once, from now on, in the whole process.
    Other allocators are let alone, and so is a length that the user has set."""
    global _is_set
    if _is_set:
        return
    _is_set = True
    library = ctypes.CDLL(None)
    by_user = "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc.mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if by_user or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        return
    library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
    library.malloc_trim(ctypes.c_size_t(0))
