"""What a BPF iterator writes, as a file. Input: a descriptor of bpf_iter_create(). Output: a binary file."""

from __future__ import annotations

import io
import os


class _IteratorFile(io.RawIOBase):
    """Reads a `Descriptor`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("the iterator's file is closed")
        return int(self._fd)  # not the `Descriptor`, which would stay open with whoever holds it

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            try:
                data = os.read(self.fileno(), len(buffer))
            except BlockingIOError:
                continue  # the kernel pauses after a million objects for which the program wrote nothing
            buffer[: len(data)] = data
            return len(data)

    def close(self) -> None:
        self._fd = -1
        super().close()


def open_file(fd: int) -> io.BufferedReader:
    """A binary file that reads an iterator's descriptor and closes it."""
    return io.BufferedReader(_IteratorFile(fd))
