"""Reading Server-Sent Events as they arrive (WHATWG HTML, section 9.2)."""

from __future__ import annotations

__all__ = ("EventReader",)


class EventReader:
    """Cut a byte stream, split anywhere, into the data of its events.

    Only ``data`` is kept: the providers put all they say into it. ``overflow`` turns true, for good, when one event is
    longer than ``limit`` bytes.
    """

    __slots__ = ("_after_cr", "_data", "_limit", "_partial", "_size", "overflow")

    def __init__(self, limit: int) -> None:
        self.overflow = False
        self._limit = limit
        self._partial: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        """Return the data of every event that ``block`` completes."""
        if self._after_cr and block:
            self._after_cr = False
            if block[0] == 0x0A:
                block = block[1:]
        if b"\r" in block:
            self._after_cr = block[-1] == 0x0D
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[bytes] = []
        if b"\n" not in block:
            self._keep(block)
            return events
        if self._partial:
            self._partial.append(block)
            block = b"".join(self._partial)
            self._partial.clear()
            self._size = sum(map(len, self._data))
        lines = block.split(b"\n")
        partial = lines.pop()
        data = self._data
        for line in lines:
            if line[:5] == b"data:":
                self._size += len(line)
                if self._size > self._limit:
                    self.overflow = True
                    return events
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._size = 0
        self._keep(partial)
        return events

    def rest(self) -> bytes:
        """Return the data of an event that the end of the stream cut off, or nothing."""
        last = b"".join(self._partial)
        if last[:5] == b"data:":
            self._data.append(last[6:] if last[5:6] == b" " else last[5:])
        return b"\n".join(self._data)

    def _keep(self, partial: bytes) -> None:
        if partial:
            self._partial.append(partial)
            self._size += len(partial)
            self.overflow = self.overflow or self._size > self._limit
