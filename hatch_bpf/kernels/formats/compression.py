"""Compressed bytes -> plain bytes, for every compression that kernels and their packages come in.

Input: a file open for reading, at the start of compressed data, and its budget. Output: the plain bytes in chunks, or
`KernelError`. Bytes behind the end of the compressed data are left alone: a kernel image has more of itself there.
xz, lzma, gzip and bzip2 are in the standard library. For zstd and lz4 a Python module or the command is used.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Protocol

from hatch_bpf.errors import KernelError
from hatch_bpf.support.budget import Budget

CHUNK = 1 << 20
"""Bytes read at a time, and the most that one step puts out, so that a bomb is noticed while it is small."""
MAX_DICTIONARY = 130 << 20
"""Memory a decompressor may ask for: just above the 128 MiB of newer kernels, far below what a forged header can."""
STEPS_PER_STREAM = 256
"""What a stream costs of a budget: for each the input that was read ahead is copied."""
LZ4_LEGACY_BLOCK = 8 << 20
"""Plain size of every block but the last in the legacy lz4 format, which is what the kernel's build writes."""


class Decompressor(Protocol):
    """What lzma, bz2, Python 3.14's zstd and lz4.frame have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """What compressed data starts with, and how to undo it."""

    name: str
    magic: bytes
    chunks: Callable[[BinaryIO, Budget], Iterator[bytes]]


def detect(start: bytes) -> Compression | None:
    """The compression of data that starts so, or None."""
    return next((known for known in COMPRESSIONS if start.startswith(known.magic)), None)


def detect_next(file: BinaryIO) -> Compression | None:
    """The compression of what comes next in a file, which stays where it is; None for none that is known."""
    start = file.read(8)
    file.seek(-len(start), 1)
    return detect(start)


def plain_chunks(file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    """What comes next in a file, unpacked if it is compressed. Raises `KernelError`."""
    known = detect_next(file)
    return read_chunks(file, known, budget) if known else iter(partial(file.read, CHUNK), b"")


def decompress(file: BinaryIO, compression: Compression, budget: Budget) -> bytes:
    """All of the plain bytes. Raises `KernelError`."""
    return b"".join(read_chunks(file, compression, budget))


def read_chunks(file: BinaryIO, compression: Compression, budget: Budget) -> Iterator[bytes]:
    """The plain bytes, chunk by chunk. Every fault of the data is a `KernelError` that names the budget's source."""
    try:
        for chunk in compression.chunks(file, budget):
            budget.unpack(len(chunk))
            yield chunk
    except EOFError:
        raise KernelError(
            f"cut off in the middle of its {compression.name} data; get the file anew", source=budget.source
        ) from None
    except KernelError:
        raise
    except Exception as error:  # each decompressor has exception classes of its own, optional modules too
        raise KernelError(
            f"its {compression.name} data is corrupt ({error}); get the file anew", source=budget.source
        ) from error


class PlainStream:
    """Chunks of plain bytes, read once, front to back."""

    def __init__(self, chunks: Iterable[bytes], what: str, *, source: str) -> None:
        """Errors say `what` in the file `source` is broken."""
        self._chunks = iter(chunks)
        self._chunk = b""
        self._at = 0
        self._what = what
        self._source = source
        self.position = 0
        """Bytes read or passed over so far."""

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises `KernelError` at the end of the file."""
        return b"".join(self._take(count))

    def skip(self, count: int) -> None:
        """Pass over so many bytes. Raises `KernelError` at the end of the file."""
        for _ in self._take(count):
            pass

    def fault(self, why: str) -> KernelError:
        """The error for bytes that break their format's rules."""
        return KernelError(f"{self._what} is corrupt or cut off ({why}); get the file anew", source=self._source)

    def _take(self, count: int) -> Iterator[bytes]:
        while count:
            if self._at == len(self._chunk):
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise self.fault("it ends too early")
                self._chunk, self._at = chunk, 0
            piece = self._chunk[self._at : self._at + count]
            self._at += len(piece)
            self.position += len(piece)
            count -= len(piece)
            yield piece


def _decode(new_decoder: Callable[[], Decompressor], magic: bytes, file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    """Run decoders over the data, one for each of the streams that stand back to back in it."""
    data = file.read(CHUNK)
    while True:
        budget.work(STEPS_PER_STREAM)
        decoder = new_decoder()
        while not decoder.eof:
            plain = decoder.decompress(data, CHUNK)
            if plain:
                yield plain
            data = b""
            if decoder.needs_input and not decoder.eof:
                data = file.read(CHUNK)
                if not data:
                    raise EOFError
        data = decoder.unused_data or b""
        if len(data) < len(magic):
            data += file.read(CHUNK)
        if not data.startswith(magic):
            return


class _GzipDecoder:
    """zlib's decompressor with the others' interface."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        plain = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self.needs_input = not self._decoder.unconsumed_tail
        return plain


def _zstd(file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    # Python 3.14's own module, or its twin for older Pythons
    module = _module("compression.zstd") or _module("backports.zstd")
    if module:
        return _decode(module.ZstdDecompressor, ZSTD, file, budget)
    return _command("zstd", file, budget, module="backports.zstd")


def _lz4(file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    module = _module("lz4.frame")
    if module:
        return _decode(module.LZ4FrameDecompressor, LZ4, file, budget)
    return _command("lz4", file, budget, module="lz4")


def _lz4_legacy(file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    module = _module("lz4.block")
    if module:
        return _lz4_legacy_blocks(module, file, budget)
    return _command("lz4", file, budget, module="lz4")


def _lz4_legacy_blocks(module: Any, file: BinaryIO, budget: Budget) -> Iterator[bytes]:
    file.read(len(LZ4_LEGACY))
    while True:
        size = int.from_bytes(file.read(4), "little")
        block = file.read(size)
        # the format has no end mark: it ends where no whole block follows
        if not size or len(block) < size:
            return
        budget.work(STEPS_PER_STREAM)
        yield module.decompress(block, uncompressed_size=LZ4_LEGACY_BLOCK)


def _command(name: str, file: BinaryIO, budget: Budget, *, module: str) -> Iterator[bytes]:
    """Let a command of the system decompress."""
    path = shutil.which(name)
    if path is None:
        raise KernelError(
            f"compressed with {name}, which this Python cannot read: "
            f"install the Python module {module}, or the system package {name}",
            source=budget.source,
        )
    with tempfile.TemporaryFile() as compressed:
        shutil.copyfileobj(file, compressed)
        compressed.seek(0)
        with subprocess.Popen(
            [path, "-dc"], stdin=compressed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                count = 0
                while chunk := process.stdout.read(CHUNK):
                    count += len(chunk)
                    yield chunk
                # what follows the compressed data makes the command complain at the end, after all the plain bytes
                complaint = process.stderr.read().decode(errors="replace").strip()
            finally:
                process.kill()
        if not count:
            raise ValueError(complaint or f"{name} put out nothing")


def _module(name: str) -> Any:
    with suppress(ImportError):
        return importlib.import_module(name)
    return None


XZ = b"\xfd7zXZ\x00"
LZMA = b"\x5d\x00\x00"
BZIP2 = b"BZh"
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
LZ4 = b"\x04\x22\x4d\x18"
LZ4_LEGACY = b"\x02\x21\x4c\x18"
COMPRESSIONS = (
    Compression("xz", XZ, partial(_decode, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, MAX_DICTIONARY), XZ)),
    Compression("zstd", ZSTD, _zstd),
    Compression("gzip", GZIP, partial(_decode, _GzipDecoder, GZIP)),
    Compression("lz4", LZ4_LEGACY, _lz4_legacy),
    Compression("lz4", LZ4, _lz4),
    Compression("bzip2", BZIP2, partial(_decode, bz2.BZ2Decompressor, BZIP2)),
    Compression(
        "lzma", LZMA, partial(_decode, partial(lzma.LZMADecompressor, lzma.FORMAT_ALONE, MAX_DICTIONARY), LZMA)
    ),
)
"""Every compression known, told apart by the first bytes."""
