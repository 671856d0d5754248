"""Has the C library return the memory of freed tensors to the kernel.

By default, glibc maps each large block by itself and unmaps it when it is freed. But each
time it frees one, it raises the length from which blocks are mapped, up to 32 MiB. Shorter
blocks then come from an arena, where gaps stay between those in use: they can take more
memory than the blocks in use. A length that is set explicitly does not change."""

import ctypes
import os

# From mallopt(3).
_M_MMAP_THRESHOLD = -3

# Blocks of at least so many bytes are mapped by themselves: the length that glibc begins
# with. The kernel needs about as long for their new pages as a copy of them takes.
_LARGE = 128 << 10

_is_set = False


def give_back_freed_memory():
    """From now on, freed memory of tensors in this process is returned to the kernel at
    once. Does nothing with another allocator, or if the user has set the length."""
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
