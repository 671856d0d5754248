"""Features that are larger than memory, read from flash just before they are used.

``Features`` is a file of rows, ``delayline.pyg`` the part for PyTorch Geometric.
``delayline.torch`` trains models whose weights and optimizer state are on a drive.
"""

from ._native import NativeFeatures, __version__

__all__ = ["Features", "Report", "__version__"]


class Report(dict):
    """Figures of what was gathered; printed, they are sentences."""

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
                f"limit    {self['limit_s']:.2f} s, the longer of the rest of the work and of these reads "
                f"at the drive's rate: {share:.0f} % of it reached"
            )
        return "\n".join(lines)


def _size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "TiB"
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"


class Features(NativeFeatures):
    """Rows of a file, within a memory that holds all they take.

    ``path`` is a .npy file of two dimensions, or raw bytes with ``shape=(rows, columns)``
    and ``dtype=`` (float32, float64, float16, bfloat16, int8 or uint8), which begin at
    ``offset``. ``memory`` is a size such as ``"4GiB"``: rows that stay, rows that
    arrive, batches ahead, and tables.

    The features belong to the process that opened them.
    """

    def __new__(cls, path, memory, *, shape=None, dtype=None, offset=None):
        return super().__new__(cls, path, memory, shape, dtype, offset)

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        rows, columns = self.shape
        return f"Features({str(self.path)!r}, {rows} x {columns}, {self.dtype})"

    def gather(self, ids):
        """The rows with these ids (64-bit integers) as bytes, at once. Who knows what
        comes next reads ahead with ``delayline.pyg.ahead``."""
        array, offset = self.gather_bytes(ids)
        return memoryview(array)[offset:][: len(ids) * self._row_len()]

    def report(self):
        """What was gathered so far."""
        return Report(self.figures())

    def _row_len(self):
        size = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
        return self.shape[1] * size.get(self.dtype, 1)
