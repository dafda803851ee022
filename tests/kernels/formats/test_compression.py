"""kernels/compression.py: every format through every implementation there is, and damage to each."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression
from hatch_bpf.support import budget
from hatch_bpf.support.budget import Budget
from tests.common import kernel_images

PLAIN = bytes(range(256)) * 9000 + b"end"
"""More than one chunk, and compressible enough to be a bomb of its own."""
assert len(PLAIN) > 2 * compression.CHUNK

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: kernel_images.compressed_by("zstd", "-c", data=data),
    "lz4": lambda data: kernel_images.compressed_by("lz4", "-c", data=data),
    "lz4 legacy": lambda data: kernel_images.compressed_by("lz4", "-l", "-c", data=data),
}
IMPLEMENTATIONS = {
    "zstd": ("command", "compression.zstd", "backports.zstd"),
    "lz4": ("command", "lz4.frame"),
    "lz4 legacy": ("command", "lz4.block"),
}
ROUTES = [(name, route) for name in COMPRESS for route in IMPLEMENTATIONS.get(name, ("standard library",))]


def unpack(data: bytes) -> bytes:
    known = compression.detect(data)
    assert known is not None
    return compression.decompress(io.BytesIO(data), known, Budget("FILE"))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave one implementation of zstd or lz4, as on a machine that has just that one."""

    def leave(route: str) -> None:
        if route == "command":
            monkeypatch.setattr(compression, "_module", lambda _name: None)
        elif route != "standard library":
            module = pytest.importorskip(route)
            monkeypatch.setattr(compression, "_module", lambda name: module if name == route else None)
            monkeypatch.setattr(compression.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]

    return leave


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_round_trip(name: str, route: str, only: Callable[[str], None]) -> None:
    data = COMPRESS[name](PLAIN)
    only(route)
    assert unpack(data) == PLAIN


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_bytes_behind_the_data_are_left_alone(name: str, route: str, only: Callable[[str], None]) -> None:
    data = COMPRESS[name](PLAIN) + struct.pack("<I", len(PLAIN)) + b"\0" * 40
    only(route)
    assert unpack(data) == PLAIN


@pytest.mark.parametrize(("name", "route"), [route for route in ROUTES if route[0] != "lz4 legacy"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_cut_off(name: str, route: str, kept: float, only: Callable[[str], None]) -> None:
    whole = COMPRESS[name](PLAIN)
    data = whole[: max(8, int(len(whole) * kept))]
    only(route)
    if route == "command":
        # it has put out what it could before it notices; whoever reads the result must notice too
        with contextlib.suppress(KernelError):
            assert unpack(data) != PLAIN
    else:
        with pytest.raises(KernelError, match=r"FILE: .*get the file anew"):
            unpack(data)


@pytest.mark.parametrize("name", ["xz", "gzip", "bzip2"])
def test_streams_back_to_back(name: str) -> None:
    assert unpack(COMPRESS[name](PLAIN) + COMPRESS[name](b"more")) == PLAIN + b"more"


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_a_bomb(name: str, route: str, only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    data = COMPRESS[name](bytes(64 << 20))
    only(route)
    monkeypatch.setattr(budget, "BYTES", 1 << 20)
    with pytest.raises(KernelError, match="FILE: unpacks to more than any real file of its size"):
        unpack(data)


@pytest.mark.parametrize("name", ["xz", "gzip", "bzip2"])
def test_thousands_of_streams(name: str) -> None:
    """Each has what was read ahead copied: a megabyte for 32 bytes."""
    with pytest.raises(KernelError, match="FILE: takes more work to read than any real file of its size"):
        unpack(COMPRESS[name](b"") * 100_000)


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    data = lzma.compress(bytes(64 << 20), preset=0)
    known = compression.detect(data)
    assert known is not None
    file = io.BytesIO(data)
    chunks = compression.read_chunks(file, known, Budget("FILE"))
    assert all(len(chunk) <= compression.CHUNK for chunk in itertools.islice(chunks, 3))
    assert file.tell() <= compression.CHUNK


@pytest.mark.parametrize("kind", ["xz", "lzma"])
def test_a_header_that_demands_4_gib(kind: str) -> None:
    data = bytearray(COMPRESS[kind](b"plain"))
    if kind == "lzma":
        data[1:5] = b"\0\0\xff\xff"
    else:
        size = (data[12] + 1) * 4
        header = data[12 : 12 + size - 4]
        header[header.index(b"\x21\x01") + 2] = 40
        data[12 : 12 + size] = header + struct.pack("<I", zlib.crc32(header))
    with pytest.raises(KernelError, match=r"FILE: its .* data is corrupt"):
        unpack(bytes(data))


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_without_module_and_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = COMPRESS[name](PLAIN)
    monkeypatch.setattr(compression, "_module", lambda _name: None)
    monkeypatch.setattr(compression.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]
    with pytest.raises(KernelError, match=rf"FILE: compressed with {name}.*install the Python module"):
        unpack(data)


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_the_command_says_what_it_does_not_like(name: str, only: Callable[[str], None]) -> None:
    only("command")
    data = COMPRESS[name](b"plain")[:4] + b"\xff" * 20
    with pytest.raises(KernelError, match=r"FILE: its .* data is corrupt"):
        unpack(data)


def test_the_real_kernels_lzma_is_told_from_other_bytes() -> None:
    assert compression.detect(b"\x5d\x00\x00\x00\x02\xff") is not None
    assert compression.detect(b"MZ\0\0") is None
    assert compression.detect(b"") is None


@settings(max_examples=200)
@given(st.sampled_from(["xz", "lzma", "gzip", "bzip2"]), st.data())
def test_damage_is_our_error_or_nothing(name: str, data: st.DataObject) -> None:
    packed = bytearray(COMPRESS[name](PLAIN[:3000]))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    known = compression.detect(bytes(packed))
    if known is None:
        return
    with contextlib.suppress(KernelError):
        compression.decompress(io.BytesIO(bytes(packed)), known, Budget("FILE"))
