"""Delayline for Python: data larger than memory, read from flash just before it is used.

``Features`` gathers rows of a file of features. ``delayline.pyg`` reads them ahead for
PyTorch Geometric. ``delayline.torch`` trains models whose weights and optimizer state are
on a drive.
"""

from ._native import NativeFeatures, __version__

__all__ = ["Features", "Report", "__version__"]


class Report(dict):
    """The figures of gathering, by name. ``print`` shows them as text."""

    def __str__(self):
        rows, missed = self["rows"], self["rows_missed"]
        hits = 100 * (1 - missed / rows) if rows else 0.0
        lines = [
            f"rows     {rows:,} in {self['batches']:,} batches, {hits:.1f} % of them were in memory",
            f"drive    {self['reads']:,} reads, {_size(self['bytes_read'])}, {self['retried']:,} tried again",
            f"time     {self['elapsed_s']:.2f} s, of which {self['wait_s']:.2f} s waiting for rows",
            f"memory   {_size(self['memory'])} allowed, room for {self['rows_kept']:,} rows",
        ]
        if self["share_of_limit"] is not None:
            share = 100 * self["share_of_limit"]
            lines.append(
                f"limit    {self['limit_s']:.2f} s, the longer of the work without waiting and of these reads "
                f"at the drive's rate: {share:.0f} % of it reached"
            )
        return "\n".join(lines)


def _size(count):
    """A number of bytes as text, such as ``1.25 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "TiB"
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"


class Features(NativeFeatures):
    """The rows of a file, gathered within a bounded memory.

    ``path`` is a .npy file of two dimensions. Or it is a raw file with rows from byte
    ``offset`` on; then ``shape=(rows, columns)`` and ``dtype`` (float32, float64, float16,
    bfloat16, int8 or uint8) are required. ``memory`` is a size such as ``"4GiB"``, or a
    number of bytes, for rows that stay, arriving reads, batches ahead and tables.

    Raises ``FileNotFoundError`` or ``OSError`` if the file cannot be read, and
    ``ValueError`` if it is not such a file or the memory is too small. Only the process
    that opened the features can use them; a forked worker gets a ``RuntimeError``.
    """

    def __new__(cls, path, memory, *, shape=None, dtype=None, offset=None):
        return super().__new__(cls, path, memory, shape, dtype, offset)

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        rows, columns = self.shape
        return f"Features({str(self.path)!r}, {rows} x {columns}, {self.dtype})"

    def gather(self, ids):
        """The bytes of the rows with these ids (an array of int64), in their order.

        Nothing is read ahead; use ``delayline.pyg.ahead`` where batches are known.
        Raises ``IndexError`` if there is no such row, and ``OSError`` if it cannot be read.
        """
        array, offset = self.gather_bytes(ids)
        return memoryview(array)[offset:][: len(ids) * self._row_len()]

    def report(self):
        """The figures since the features were opened."""
        return Report(self.figures())

    def _row_len(self):
        size = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
        return self.shape[1] * size.get(self.dtype, 1)
