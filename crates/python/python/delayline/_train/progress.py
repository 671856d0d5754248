"""One line on the terminal that says how far long work is."""

import sys
import time

# Seconds between two lines.
_EVERY = 0.25


class Progress:
    """Writes to ``stream`` where that is a terminal, or always where ``wanted`` says so."""

    def __init__(self, wanted=None, stream=None):
        self._stream = stream
        self._wanted = wanted
        self._next = 0.0
        self._is_shown = False

    def tick(self, words):
        """Shows a line made by ``words()``, if it is time for one."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        stream = self._stream or sys.stderr
        wanted = self._wanted if self._wanted is not None else stream is not None and stream.isatty()
        if not wanted:
            return
        self._is_shown = True
        # Back to the start, and what is left of the last one is cleared.
        stream.write(f"\r{words()}\x1b[K")
        stream.flush()

    def end(self):
        """Takes the line away; the next work shows one at once only if it is long."""
        self._next = time.monotonic() + _EVERY
        if self._is_shown:
            self._is_shown = False
            stream = self._stream or sys.stderr
            stream.write("\r\x1b[K")
            stream.flush()
