"""What a BPF iterator writes, as a file. Input: a descriptor of bpf_iter_create(). Output: a binary file."""

from __future__ import annotations

import io
import os


class _IteratorFile(io.RawIOBase):
    """Reads a descriptor, which it owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("the iterator's file is closed")
        return self._fd

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            try:
                data = os.read(self.fileno(), len(buffer))
            except BlockingIOError:
                continue  # the kernel pauses after a million objects for which the program wrote nothing
            buffer[: len(data)] = data
            return len(data)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        super().close()


def open_file(fd: int) -> io.BufferedReader:
    """A binary file that reads an iterator's descriptor and closes it."""
    return io.BufferedReader(_IteratorFile(fd))
