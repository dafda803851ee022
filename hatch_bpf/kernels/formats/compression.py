"""Compressed bytes -> plain bytes, for every compression that kernels and their packages come in.

Input: a file open for reading, at the start of compressed data. Output: the plain bytes in chunks, or `KernelError`.
Bytes behind the end of the compressed data are left alone: a kernel image has more of itself there.
xz, lzma, gzip and bzip2 are in the standard library. For zstd and lz4 a Python module or the command is used.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

from hatch_bpf.errors import KernelError

CHUNK = 1 << 20
"""Bytes read at a time, and the most that one step puts out, so that a bomb is noticed while it is small."""
MAX_DICTIONARY = 256 << 20
"""Memory a decompressor may ask for: above any real kernel's (128 MiB), far below what a forged header can demand."""
MAX_RATIO = 200
"""Most that data may unpack to, as a multiple of its size. Kernels, their BTF and their packages come to 4 to 10."""
FREE_OF_RATIO = 16 << 20
"""Plain bytes up to which the ratio does not matter."""
LZ4_LEGACY_BLOCK = 8 << 20
"""Plain size of every block but the last in the legacy lz4 format, which is what the kernel's build writes."""


class Decoder(Protocol):
    """What lzma, bz2, Python 3.14's zstd and lz4.frame have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclass(frozen=True)
class Format:
    """A compression: what its data starts with and how to undo it."""

    name: str
    magic: bytes
    chunks: Callable[[BinaryIO], Iterator[bytes]]


def detect(start: bytes) -> Format | None:
    """The compression of data that starts so, or None."""
    return next((fmt for fmt in FORMATS if start.startswith(fmt.magic)), None)


def decompress(file: BinaryIO, fmt: Format, *, limit: int, source: str) -> bytes:
    """All of the plain bytes. `source` names the data in errors. Raises `KernelError` beyond `limit` bytes."""
    chunks, size = [], 0
    for chunk in read_chunks(file, fmt, source=source):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise KernelError(
                f"{source}: unpacks to more than {limit >> 20} MiB, which no kernel's BTF needs; get the file anew"
            )
    return b"".join(chunks)


def read_chunks(file: BinaryIO, fmt: Format, *, source: str) -> Iterator[bytes]:
    """The plain bytes, chunk by chunk. Every fault of the data is a `KernelError` that names `source`."""
    packed, plain = _Counted(file), 0
    try:
        for chunk in fmt.chunks(cast(BinaryIO, packed)):
            plain += len(chunk)
            if plain > max(FREE_OF_RATIO, MAX_RATIO * packed.count):
                raise KernelError(f"unpacks to more than {MAX_RATIO} times its size, as no kernel does")
            yield chunk
    except EOFError:
        raise KernelError(f"{source}: cut off in the middle of its {fmt.name} data; get the file anew") from None
    except KernelError as error:
        raise KernelError(f"{source}: {error}") from None
    except Exception as error:  # each decompressor has exception classes of its own, optional modules too
        raise KernelError(f"{source}: its {fmt.name} data is corrupt ({error}); get the file anew") from error


class _Counted:
    """A file that knows how much of it was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


class PlainStream(io.RawIOBase):
    """Chunks as a file that can be read once, front to back: what tarfile's stream mode wants."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _decode(new_decoder: Callable[[], Decoder], file: BinaryIO, magic: bytes) -> Iterator[bytes]:
    """Run decoders over the data, one for each of the streams that stand back to back in it."""
    data = file.read(CHUNK)
    while True:
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


def _xz(file: BinaryIO) -> Iterator[bytes]:
    return _decode(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_DICTIONARY), file, XZ)


def _lzma(file: BinaryIO) -> Iterator[bytes]:
    return _decode(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, MAX_DICTIONARY), file, LZMA)


def _bzip2(file: BinaryIO) -> Iterator[bytes]:
    return _decode(bz2.BZ2Decompressor, file, BZIP2)


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    return _decode(_GzipDecoder, file, GZIP)


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    # Python 3.14's own module, or its twin for older Pythons
    module = _module("compression.zstd") or _module("backports.zstd")
    if module:
        return _decode(module.ZstdDecompressor, file, ZSTD)
    return _command("zstd", file, module="backports.zstd")


def _lz4(file: BinaryIO) -> Iterator[bytes]:
    module = _module("lz4.frame")
    if module:
        return _decode(module.LZ4FrameDecompressor, file, LZ4)
    return _command("lz4", file, module="lz4")


def _lz4_legacy(file: BinaryIO) -> Iterator[bytes]:
    module = _module("lz4.block")
    if module:
        return _lz4_legacy_blocks(module, file)
    return _command("lz4", file, module="lz4")


def _lz4_legacy_blocks(module: Any, file: BinaryIO) -> Iterator[bytes]:
    file.read(len(LZ4_LEGACY))
    while True:
        size = int.from_bytes(file.read(4), "little")
        block = file.read(size)
        # the format has no end mark: it ends where no whole block follows
        if not size or len(block) < size:
            return
        yield module.decompress(block, uncompressed_size=LZ4_LEGACY_BLOCK)


def _command(name: str, file: BinaryIO, *, module: str) -> Iterator[bytes]:
    """Let a command of the system decompress."""
    path = shutil.which(name)
    if path is None:
        raise KernelError(
            f"compressed with {name}, which this Python cannot read: "
            f"install the Python module {module}, or the system package {name}"
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
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


XZ = b"\xfd7zXZ\x00"
LZMA = b"\x5d\x00\x00"
BZIP2 = b"BZh"
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
LZ4 = b"\x04\x22\x4d\x18"
LZ4_LEGACY = b"\x02\x21\x4c\x18"
FORMATS = (
    Format("xz", XZ, _xz),
    Format("zstd", ZSTD, _zstd),
    Format("gzip", GZIP, _gzip),
    Format("lz4", LZ4_LEGACY, _lz4_legacy),
    Format("lz4", LZ4, _lz4),
    Format("bzip2", BZIP2, _bzip2),
    Format("lzma", LZMA, _lzma),
)
"""Every compression known, told apart by the first bytes."""
