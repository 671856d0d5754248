"""One line on the terminal that shows the progress of long work."""

import sys
import time

# Seconds between two lines.
_EVERY = 0.25


class Progress:
    """Writes to ``stream`` (stderr by default) if it is a terminal; ``wanted`` overrides
    that."""

    def __init__(self, wanted=None, stream=None):
        self._stream = stream
        self._wanted = wanted
        self._next = 0.0
        self._is_shown = False

    def tick(self, words):
        """Shows the line that ``words()`` returns, unless one was shown just before."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        stream = self._stream or sys.stderr
        wanted = self._wanted if self._wanted is not None else stream is not None and stream.isatty()
        if not wanted:
            return
        self._is_shown = True
        # Overwrites the last line and clears the rest of it.
        stream.write(f"\r{words()}\x1b[K")
        stream.flush()

    def end(self):
        """Removes the line. The next work shows one only if it takes long."""
        self._next = time.monotonic() + _EVERY
        if self._is_shown:
            self._is_shown = False
            stream = self._stream or sys.stderr
            stream.write("\r\x1b[K")
            stream.flush()
