"""What the C library's allocator keeps of memory that tensors have given back: between the
small ones that stay, the large ones leave gaps that others do not fit into. Giving it
back costs time, since pages are new when they are used again: so it is done when the
process has grown."""

import ctypes
import os

# Growth of the process, in bytes, after which free memory is given back.
_GROWTH = 256 << 20

# Looked at after so many modules.
_EVERY = 4


class Allocator:
    """glibc's; others are let alone."""

    _trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    _page = os.sysconf("SC_PAGE_SIZE")
    _count = 0
    # Resident bytes after the last time.
    _low = 0

    @classmethod
    def give_back(cls):
        if cls._trim is not None:
            cls._trim(ctypes.c_size_t(0))
            cls._low = cls._resident()

    @classmethod
    def keep_low(cls):
        """Gives back what is too much, now and then."""
        cls._count += 1
        if cls._count % _EVERY == 0 and cls._trim is not None:
            now = cls._resident()
            cls._low = min(cls._low, now)
            if now > cls._low + _GROWTH:
                cls.give_back()

    @classmethod
    def _resident(cls):
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * cls._page
